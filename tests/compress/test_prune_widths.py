"""Scores, and how many units each group keeps for a budget."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgewright.compress.pruning.cut import cut_graph
from edgewright.compress.pruning.groups import Groups, find_groups
from edgewright.compress.pruning.importance import score_units
from edgewright.compress.pruning.widths import (
    choose,
    gain_per_unit,
    order_chunks,
    shrink_graph,
    total_bytes,
    total_macs,
)
from edgewright.errors import GateFailed, UsageError
from edgewright.formats.costs import measure_costs
from edgewright.formats.onnx_graph import read_onnx_graph
from edgewright.formats.typed_graph import TypedGraph
from tests.compress.prune_graphs import Array, Net
from tests.compress.test_prune_groups import IMAGE, mobile, residual, stacked_heads


def arrays_of(model: onnx.ModelProto) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@pytest.fixture
def wide(tmp_path: Path) -> tuple[onnx.ModelProto, Groups, TypedGraph]:
    net = Net()
    x = net.op("Relu", net.norm(net.conv("x", "a", 3, 32), "bn", 32))
    x = net.op("Relu", net.conv(net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), "b", 32, 64))
    model = net.model(IMAGE, net.conv(x, "head", 64, 4, 1))
    onnx.save(model, tmp_path / "wide.onnx")
    return model, find_groups(model, {}), read_onnx_graph(tmp_path / "wide.onnx")


@pytest.mark.parametrize("method", ["l1", "l2", "taylor"])
def test_a_unit_of_zeros_matters_least(method: str) -> None:
    model = residual()
    arrays = {name: array.copy() for name, array in arrays_of(model).items()}
    arrays["a.weight"][7] = 0
    arrays["b.weight"][:, 7] = 0
    arrays["bn_a.weight"][7] = arrays["bn_a.bias"][7] = arrays["a.bias"][7] = 0
    arrays["bn_a.var"][7] = arrays["bn_a.mean"][7] = 0
    if method == "taylor":
        arrays = {name: array**2 for name, array in arrays.items()}
    scores = score_units(find_groups(model, {}), arrays, method)["a"]  # type: ignore[arg-type]
    assert scores.argmin() == 7
    assert scores[7] == 0


def test_scores_by_hand() -> None:
    net = Net()
    net.put("a.weight", np.array([[1.0], [-3.0]], np.float32))
    net.put("head.weight", np.array([[1.0, 0.0, 1.0], [1.0, -1.0, 2.0]], np.float32))
    x = net.op("Gemm", "x", "a.weight", transB=1, name="n_a")
    model = net.model({"x": (1, 1)}, net.op("Gemm", x, "head.weight", name="n_head"))
    groups = find_groups(model, {})
    np.testing.assert_allclose(score_units(groups, arrays_of(model), "l1")["a"], [1 / 4 + 1 / 3, 3 / 4 + 2 / 3])
    root = np.array([np.sqrt(2), np.sqrt(6)])
    np.testing.assert_allclose(score_units(groups, arrays_of(model), "l2")["a"], [0.25, 0.75] + root / root.sum())
    squares = {name: array**2 for name, array in arrays_of(model).items()}
    np.testing.assert_allclose(score_units(groups, squares, "taylor")["a"], [1 / 10 + 2 / 8, 9 / 10 + 6 / 8])


def test_gains_alone() -> None:
    model = residual()
    groups, arrays = find_groups(model, {}), arrays_of(model)
    scores = score_units(groups, arrays, "bn-gamma")
    gains = np.abs(arrays["bn_a.weight"])
    np.testing.assert_allclose(scores["a"], gains / gains.sum(), rtol=1e-6)
    np.testing.assert_allclose(scores["c"], score_units(groups, arrays, "l2")["c"])  # has no normalisation
    with pytest.raises(UsageError, match="no normalisation's gain"):
        score_units(find_groups(mobile(), {}), arrays_of(mobile()), "bn-gamma")


def test_a_group_without_numbers() -> None:
    with pytest.raises(UsageError, match="'stem' cannot be scored"):
        score_units(find_groups(residual(), {}), {}, "l2")


def test_whole_heads_by_their_channels() -> None:
    model = stacked_heads()
    groups = find_groups(model, {})
    scores = score_units(groups, arrays_of(model), "l1")
    assert [chunk.left for chunk in order_chunks(groups, scores, {"qkv": 1.0}, 9, 0.0)] == [3, 2, 1]


def test_gains_are_what_a_cut_graph_saves(wide: tuple[onnx.ModelProto, Groups, TypedGraph]) -> None:
    _, groups, graph = wide
    assert gain_per_unit(graph, groups, total_macs) == {"a": 64 * 27 + 16 * 9 * 64, "b": 16 * 9 * 32 + 16 * 4}
    assert gain_per_unit(graph, groups, total_bytes) == {"a": 4 * (27 + 5 + 64 * 9), "b": 4 * (32 * 9 + 1 + 4)}


def test_a_budget_is_met_by_true_counts(wide: tuple[onnx.ModelProto, Groups, TypedGraph], tmp_path: Path) -> None:
    model, groups, graph = wide
    scores = score_units(groups, arrays_of(model), "l1")
    for total in (total_macs, total_bytes):

        def measure(keep: dict[str, Array], total: Callable[[TypedGraph], float] = total) -> float:
            return total(shrink_graph(graph, groups, keep))

        most = total(graph) / 2
        keep = choose(groups, scores, gain_per_unit(graph, groups, total), measure, most)
        assert all(units.size % 8 == 0 for units in keep.values())
        onnx.save(cut_graph(model, groups, keep), tmp_path / "cut.onnx")
        costs = measure_costs(read_onnx_graph(tmp_path / "cut.onnx"))
        counted = costs.macs if total is total_macs else costs.weight_bytes
        assert 0.7 * most < (counted or 0) <= most
        assert counted == measure(keep)
        for name, units in keep.items():
            gone = np.setdiff1d(np.arange(scores[name].size), units)
            assert scores[name][gone].max() <= scores[name][units].min()


def test_a_budget_that_is_met_already(wide: tuple[onnx.ModelProto, Groups, TypedGraph]) -> None:
    model, groups, graph = wide
    scores = score_units(groups, arrays_of(model), "l1")
    assert choose(groups, scores, gain_per_unit(graph, groups, total_macs), lambda _: 5.0, 5.0) == {}


def test_a_budget_that_cannot_be_met(wide: tuple[onnx.ModelProto, Groups, TypedGraph]) -> None:
    model, groups, graph = wide
    scores = score_units(groups, arrays_of(model), "l1")

    def measure(keep: dict[str, Array]) -> float:
        return total_macs(shrink_graph(graph, groups, keep))

    with pytest.raises(GateFailed, match="pruning comes down to 23,552, not to 10") as caught:
        choose(groups, scores, gain_per_unit(graph, groups, total_macs), measure, 10, least=0.1)
    assert caught.value.exit_code == 3
    assert f"it was {total_macs(graph):,.0f}" in caught.value.why


def test_the_emptier_a_group_the_dearer() -> None:
    net = Net()
    for name in ("a", "b"):
        net.put(f"{name}.weight", np.ones((32, 3, 1, 1), np.float32))
    net.put("c.weight", np.ones((2, 64, 1, 1), np.float32))
    parts = [net.op("Conv", "x", f"{name}.weight", name=f"n_{name}") for name in ("a", "b")]
    model = net.model(IMAGE, net.op("Conv", net.op("Concat", *parts, axis=1), "c.weight", name="n_c"))
    groups = find_groups(model, {})
    scores = score_units(groups, arrays_of(model), "l1")
    chunks = order_chunks(groups, scores, {"a": 1.0, "b": 1.0}, 8, 0.1)
    assert [(one.group, one.left) for one in chunks] == [("a", 24), ("b", 24), ("a", 16), ("b", 16), ("a", 8), ("b", 8)]
    assert {one.group for one in order_chunks(groups, scores, {"a": 1.0, "b": 0.0}, 8, 0.1)} == {"a"}
