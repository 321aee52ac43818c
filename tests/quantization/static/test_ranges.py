"""Ranges against values made by hand."""

import numpy as np
import pytest
from onnx import helper

from edgewright.quantization.network import FloatNetwork
from edgewright.quantization.observe import TensorValues
from edgewright.quantization.static.qdq import compute_quant_params
from edgewright.quantization.static.ranges import (
    compute_divergence,
    compute_entropy_range,
    compute_mean_squared_error,
    compute_minmax_range,
    compute_mse_range,
    compute_percentile_range,
    compute_range,
    fake_quantize,
    find_flat_end,
    list_candidates,
)
from edgewright.schema.arrays import Array
from tests.models.onnx_files import constant, node, value

UINT8, INT16 = np.dtype(np.uint8), np.dtype(np.int16)


def activated(*ops: str) -> FloatNetwork:
    """A network in which these operators, one after the other, read x, and the last multiplies x."""
    steps = [node(op, [f"t{at}" if at else "x", *(["k"] if op == "Mul" else [])], [f"t{at + 1}"], f"n{at}")
             for at, op in enumerate(ops)]  # fmt: skip
    nodes = [*steps, node("Mul", ["x", f"t{len(ops)}"], ["y"], "last")]
    graph = helper.make_graph(nodes, "g", [value("x", [1, 4])], [value("y", [1, 4])], [constant("k", np.ones(1))])
    return FloatNetwork(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]))


@pytest.mark.parametrize(
    ("ops", "end"),
    [
        (["HardSwish"], -3.0),
        (["Sigmoid"], -5.0),
        (["Mul", "Erf"], -4.3),
        (["Mul", "Mul", "Tanh"], -4.3),
        (["Relu"], None),
    ],
)
def test_a_range_ends_where_the_next_activation_is_flat(ops: list[str], end: float | None) -> None:
    network, values = activated(*ops), seen(np.linspace(-20, 10, 1001))
    assert find_flat_end(network, "x") == end
    methods = {one.method: one for one in list_candidates(values, UINT8, end)}
    assert ("activation" in methods) == (end is not None)
    found = compute_range(network, "x", values, "activation", UINT8)
    if end is not None:
        assert end <= found.low < 0.9 * end
        assert found == methods["activation"]
    else:
        assert found.method == "mse"


def seen(values: Array) -> TensorValues:
    values = np.asarray(values, np.float32)
    return TensorValues(float(values.min()), float(values.max()), values)


def bell_with_a_stray(stray: float = 50.0) -> TensorValues:
    values = np.random.default_rng(3).standard_normal(20_000)
    values[7] = stray
    return seen(values)


def test_minmax_takes_all() -> None:
    assert compute_minmax_range(seen(np.array([-1.0, 0.5, 7.0])))[:2] == (-1.0, 7.0)


def test_a_percentile_cuts_the_same_share_off_both_ends() -> None:
    found = compute_percentile_range(seen(np.linspace(-100, 100, 10_001)), 99.0)
    assert found.low == pytest.approx(-98)
    assert found.high == pytest.approx(98)
    positive = compute_percentile_range(seen(np.linspace(0, 100, 10_001)), 99.0)
    assert positive.low == 0.0
    assert positive.high == pytest.approx(99)
    negative = compute_percentile_range(seen(np.linspace(-100, 0, 10_001)), 99.0)
    assert negative.low == pytest.approx(-99)
    assert negative.high == 0.0
    assert compute_percentile_range(TensorValues(0.0, 0.0, np.zeros(0, np.float32)))[:2] == (0.0, 0.0)


def test_least_squares_is_the_best_of_its_own_tries() -> None:
    values = bell_with_a_stray()
    found = compute_mse_range(values, UINT8)
    assert found.high < 50.0
    assert compute_mse_range(seen(-values.some), UINT8).low > -50.0
    assert found.low / values.low == pytest.approx(found.high / values.high)  # the same share of both ends
    whole = compute_mean_squared_error(values.some, compute_quant_params(values.low, values.high, UINT8))
    assert compute_mean_squared_error(values.some, compute_quant_params(found.low, found.high, UINT8)) < whole
    even = seen(np.linspace(0, 1, 256))
    assert compute_mse_range(even, UINT8)[:2] == (0.0, 1.0)


def test_entropy_leaves_the_stray_out_and_an_even_spread_whole() -> None:
    assert compute_entropy_range(bell_with_a_stray(500.0)).high < 250.0
    even = compute_entropy_range(seen(np.linspace(0, 1, 100_000)))
    assert even.low == 0.0
    assert even.high == pytest.approx(1.0)
    assert compute_entropy_range(seen(np.zeros(5)))[:2] == (0.0, 0.0)


def test_entropy_takes_the_cut_with_the_least_divergence() -> None:
    values = bell_with_a_stray()
    counts, edges = np.histogram(np.abs(values.some), bins=2048, range=(0.0, values.high))
    best = min(range(128, 2049, 16), key=lambda cut: compute_divergence(counts, cut))
    assert compute_entropy_range(values)[:2] == (values.low, edges[best])


@pytest.mark.parametrize("cut", [128, 144, 1000, 2048])
def test_the_divergence_is_that_of_a_loop_over_the_levels(cut: int) -> None:
    counts = np.random.default_rng(5).poisson(1.0, 2048)
    true, quantized = [float(count) for count in counts[:cut]], [0.0] * cut
    for level in range(128):
        bins = range(level * cut // 128, (level + 1) * cut // 128)
        filled = [place for place in bins if counts[place]]
        for place in filled:
            quantized[place] = sum(int(counts[one]) for one in bins) / len(filled)
    true[-1] += float(counts[cut:].sum())
    p, q = np.array(true) / sum(true), np.array(quantized) / sum(quantized)
    expected = sum(a * np.log(a / max(b, 1e-12)) for a, b in zip(p, q, strict=True) if a > 0)
    assert compute_divergence(counts, cut) == pytest.approx(expected)


def test_no_values_have_no_error() -> None:
    assert compute_mean_squared_error(np.zeros(0), compute_quant_params(0.0, 1.0, UINT8)) == 0.0


def test_the_divergence_of_what_the_levels_represent_is_zero() -> None:
    assert compute_divergence(np.ones(2048), 2048) == pytest.approx(0)
    cut = np.ones(2048)
    assert compute_divergence(cut, 1024) > 0.1  # half of all in one bin


def test_a_pair_in_numpy_is_a_pair_in_onnx_runtime() -> None:
    from onnx import TensorProto, numpy_helper

    from edgewright.quantization.executor import open_session

    x = np.random.default_rng(0).standard_normal(999).astype(np.float32) * 3
    for dtype, symmetric in ((UINT8, False), (INT16, True)):
        tensor_params = compute_quant_params(-2.0, 4.0, dtype, symmetric=symmetric)
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
        ]
        start, end = ([helper.make_tensor_value_info(name, TensorProto.FLOAT, [999])] for name in "xy")
        constants = [
            numpy_helper.from_array(tensor_params.scale, "s"),
            numpy_helper.from_array(tensor_params.zero, "z"),
        ]
        graph = helper.make_graph(nodes, "pair", start, end, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        assert np.array_equal(
            open_session(model.SerializeToString()).run(None, {"x": x})[0], fake_quantize(x, tensor_params)
        )


@pytest.mark.parametrize("dtype", [UINT8, INT16])
def test_zero_is_always_held_exactly(dtype: "np.dtype[np.integer]") -> None:
    for low, high in ((0.0, 0.0), (3.0, 5.0), (-5.0, -3.0), (-1.0, 1e-30), (0.0, 1e-30)):
        tensor_params = compute_quant_params(low, high, dtype)
        assert float(fake_quantize(np.zeros(1), tensor_params)[0]) == 0.0
        assert float(tensor_params.scale) > 0


def test_constant_values_have_a_range_by_every_method() -> None:
    for held in (0.0, 5.0, -5.0):
        values = seen(np.full(100, held))
        for name in ("mse", "minmax", "percentile", "entropy"):
            found = compute_range(activated("HardSwish"), "x", values, name, UINT8)
            assert found.method == name
            tensor_params = compute_quant_params(found.low, found.high, UINT8)
            assert np.isfinite(float(tensor_params.scale))
            if name in ("minmax", "mse"):
                assert float(fake_quantize(np.full(1, held), tensor_params)[0]) == pytest.approx(held, rel=1e-3)
        assert [one.method for one in list_candidates(values, UINT8)] == ["mse", "minmax", "percentile", "entropy"]
