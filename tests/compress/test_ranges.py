"""Ranges against values made by hand."""

import numpy as np
import pytest

from edgewright.compress.features import Array
from edgewright.compress.observe import Values
from edgewright.compress.qdq import real_steps
from edgewright.compress.ranges import (
    METHODS,
    candidates,
    divergence_at,
    entropy,
    fake,
    least_squares,
    mean_error,
    minmax,
    percentile,
)

UINT8, INT16 = np.dtype(np.uint8), np.dtype(np.int16)


def seen(values: Array) -> Values:
    values = np.asarray(values, np.float32)
    return Values(float(values.min()), float(values.max()), values)


def bell_with_a_stray(stray: float = 50.0) -> Values:
    values = np.random.default_rng(3).standard_normal(20_000)
    values[7] = stray
    return seen(values)


def test_minmax_takes_all() -> None:
    assert minmax(seen(np.array([-1.0, 0.5, 7.0])))[:2] == (-1.0, 7.0)


def test_a_percentile_cuts_the_same_share_off_both_ends() -> None:
    found = percentile(seen(np.linspace(-100, 100, 10_001)), 99.0)
    assert found.low == pytest.approx(-98)
    assert found.high == pytest.approx(98)
    positive = percentile(seen(np.linspace(0, 100, 10_001)), 99.0)
    assert positive.low == 0.0
    assert positive.high == pytest.approx(99)
    assert percentile(Values(0.0, 0.0, np.zeros(0, np.float32)))[:2] == (0.0, 0.0)


def test_least_squares_is_the_best_of_its_own_tries() -> None:
    values = bell_with_a_stray()
    found = least_squares(values, UINT8)
    assert found.high < 50.0
    whole = mean_error(values.some, real_steps(values.low, values.high, UINT8))
    assert mean_error(values.some, real_steps(found.low, found.high, UINT8)) < whole
    even = seen(np.linspace(0, 1, 256))
    assert least_squares(even, UINT8)[:2] == (0.0, 1.0)


def test_entropy_leaves_the_stray_out_and_an_even_spread_whole() -> None:
    assert entropy(bell_with_a_stray(500.0)).high < 250.0
    even = entropy(seen(np.linspace(0, 1, 100_000)))
    assert even.low == 0.0
    assert even.high == pytest.approx(1.0)
    assert entropy(seen(np.zeros(5)))[:2] == (0.0, 0.0)


def test_the_divergence_of_what_the_levels_can_tell_is_nought() -> None:
    assert divergence_at(np.ones(2048), 2048) == pytest.approx(0)
    cut = np.ones(2048)
    assert divergence_at(cut, 1024) > 0.1  # half of all in one bin


def test_a_pair_in_numpy_is_a_pair_in_onnx_runtime() -> None:
    from onnx import TensorProto, helper, numpy_helper

    from edgewright.compress.walk import open_session

    x = np.random.default_rng(0).standard_normal(999).astype(np.float32) * 3
    for dtype, symmetric in ((UINT8, False), (INT16, True)):
        steps = real_steps(-2.0, 4.0, dtype, symmetric=symmetric)
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
        ]
        start, end = ([helper.make_tensor_value_info(name, TensorProto.FLOAT, [999])] for name in "xy")
        constants = [numpy_helper.from_array(steps.scale, "s"), numpy_helper.from_array(steps.zero, "z")]
        graph = helper.make_graph(nodes, "pair", start, end, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        assert np.array_equal(open_session(model.SerializeToString()).run(None, {"x": x})[0], fake(x, steps))


@pytest.mark.parametrize("dtype", [UINT8, INT16])
def test_zero_is_always_held_exactly(dtype: "np.dtype[np.integer]") -> None:
    for low, high in ((0.0, 0.0), (3.0, 5.0), (-5.0, -3.0), (-1.0, 1e-30), (0.0, 1e-30)):
        steps = real_steps(low, high, dtype)
        assert float(fake(np.zeros(1), steps)[0]) == 0.0
        assert float(steps.scale) > 0


def test_constant_values_have_a_range_by_every_method() -> None:
    for value in (0.0, 5.0, -5.0):
        values = seen(np.full(100, value))
        for name, method in METHODS.items():
            found = method(values, UINT8)
            assert found.method == name
            steps = real_steps(found.low, found.high, UINT8)
            assert np.isfinite(float(steps.scale))
            if name in ("minmax", "mse"):
                assert float(fake(np.full(1, value), steps)[0]) == pytest.approx(value, rel=1e-3)
        assert [one.method for one in candidates(values, UINT8)] == ["mse", "minmax", "percentile", "entropy"]
