"""Scores, and the search for how many units each group keeps, so that its budgets are met."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgewright.errors import GateFailed, UsageError
from edgewright.formats.costs import measure_costs
from edgewright.formats.onnx.typed import read_onnx_graph
from edgewright.formats.typed_graph import TypedGraph
from edgewright.pruning.graph_pruner import prune_graph
from edgewright.pruning.groups import PruningGroup, PruningGroups, find_groups
from edgewright.pruning.importance import score_units
from edgewright.pruning.widths import (
    BudgetState,
    KeptUnits,
    PruningBudget,
    WidthTable,
    find_best_step,
    list_widths,
    measure_gain_per_unit,
    search_widths,
    select_units,
    shrink_graph,
    sum_constant_bytes,
    sum_macs,
    tabulate_losses,
)
from edgewright.schema.vocabulary import GRADIENT_CRITERIA, ImportanceCriterion
from tests.pruning.prune_graphs import Array, Net
from tests.pruning.test_groups import IMAGE, mobile, residual, stacked_heads


def arrays_of(model: onnx.ModelProto) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@pytest.fixture
def wide(tmp_path: Path) -> tuple[onnx.ModelProto, PruningGroups, TypedGraph]:
    net = Net()
    x = net.op("Relu", net.norm(net.conv("x", "a", 3, 32), "bn", 32))
    x = net.op("Relu", net.conv(net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), "b", 32, 64))
    model = net.model(IMAGE, net.conv(x, "head", 64, 4, 1))
    onnx.save(model, tmp_path / "wide.onnx")
    return model, find_groups(model, {}), read_onnx_graph(tmp_path / "wide.onnx")


@pytest.mark.parametrize("method", sorted({*get_args(ImportanceCriterion)} - {"latency"}))
def test_a_unit_of_zeros_matters_least(method: ImportanceCriterion) -> None:
    model = residual()
    arrays = {name: array.copy() for name, array in arrays_of(model).items()}
    arrays["a.weight"][7] = 0
    arrays["b.weight"][:, 7] = 0
    arrays["bn_a.weight"][7] = arrays["bn_a.bias"][7] = arrays["a.bias"][7] = 0
    arrays["bn_a.var"][7] = arrays["bn_a.mean"][7] = 0
    if method in GRADIENT_CRITERIA:
        arrays = {name: array**2 for name, array in arrays.items()}
    scores = score_units(find_groups(model, {}), arrays, method)["a"]
    assert scores.argmin() == 7
    assert scores[7] == 0


def test_exact_scores() -> None:
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
    np.testing.assert_allclose(scores["c"], score_units(groups, arrays, "l2")["c"])  # has no normalization
    with pytest.raises(UsageError, match="no batch normalization scales"):
        score_units(find_groups(mobile(), {}), arrays_of(mobile()), "bn-gamma")


def test_a_group_without_numbers() -> None:
    with pytest.raises(UsageError, match="'stem' cannot be scored"):
        score_units(find_groups(residual(), {}), {}, "l2")


def groups_of(**sizes: int) -> PruningGroups:
    made = tuple(PruningGroup(name, "channels", size, (), (), True) for name, size in sizes.items())
    return PruningGroups(made, {}, {}, {})


@pytest.mark.parametrize(
    ("size", "widths"),
    [(24, (16, 8)), (96, (88, 80, 72, 64, 56, 48, 40, 32, 24, 16)), (10, (8, 4)), (3, (2, 1)), (2, (1,)), (1, ())],
)
def test_widths_are_multiples_that_leave_an_eighth(size: int, widths: tuple[int, ...]) -> None:
    (group,) = groups_of(a=size).groups
    assert list_widths(group, 8) == widths


def test_whole_heads_by_their_channels() -> None:
    (heads,) = find_groups(stacked_heads(), {}).groups
    assert heads.kind == "heads"
    assert list_widths(heads, 9) == (3, 2, 1)


def test_gains_are_what_a_cut_graph_saves(wide: tuple[onnx.ModelProto, PruningGroups, TypedGraph]) -> None:
    _, groups, graph = wide
    assert measure_gain_per_unit(graph, groups, sum_macs) == {"a": 64 * 27 + 16 * 9 * 64, "b": 16 * 9 * 32 + 16 * 4}
    assert measure_gain_per_unit(graph, groups, sum_constant_bytes) == {
        "a": 4 * (27 + 5 + 64 * 9),
        "b": 4 * (32 * 9 + 1 + 4),
    }


def counted(
    graph: TypedGraph, groups: PruningGroups, losses: WidthTable, total: Callable[[TypedGraph], float], n: float
) -> PruningBudget:
    """An nth of what is counted."""
    gains, sizes = measure_gain_per_unit(graph, groups, total), {one.name: one.size for one in groups.groups}
    saved = {name: {width: gains[name] * (sizes[name] - width) for width in own} for name, own in losses.items()}
    return PruningBudget(
        total(graph),
        total(graph) / n,
        total(graph) / n,
        saved,
        lambda keep: total(shrink_graph(graph, groups, keep)),
        "{:,.0f}".format,
    )


@pytest.mark.parametrize("totals", [(sum_macs,), (sum_constant_bytes,), (sum_constant_bytes, sum_macs)])
def test_budgets_are_met_by_true_counts(
    totals: tuple[Callable[[TypedGraph], float], ...],
    wide: tuple[onnx.ModelProto, PruningGroups, TypedGraph],
    tmp_path: Path,
) -> None:
    model, groups, graph = wide
    scores = score_units(groups, arrays_of(model), "l1")
    losses = tabulate_losses(groups.groups, scores, 8)
    budgets = [counted(graph, groups, losses, total, 2) for total in totals]
    keep = search_widths(groups, scores, losses, budgets, lambda _: None)
    assert all(units.size % 8 == 0 for units in keep.values())
    onnx.save(prune_graph(model, groups, keep), tmp_path / "cut.onnx")
    costs = measure_costs(read_onnx_graph(tmp_path / "cut.onnx"))
    for total, budget in zip(totals, budgets, strict=True):
        assert (costs.macs if total is sum_macs else costs.weight_bytes) == budget.measure(keep) <= budget.most
    for name, units in keep.items():
        gone = np.setdiff1d(np.arange(scores[name].size), units)
        assert scores[name][gone].max() <= scores[name][units].min()
        wider = {**keep, name: np.sort(np.append(units, gone[:8]))}
        assert any(budget.measure(wider) > budget.most for budget in budgets)


def test_a_budget_that_is_met_already(wide: tuple[onnx.ModelProto, PruningGroups, TypedGraph]) -> None:
    model, groups, _ = wide
    scores = score_units(groups, arrays_of(model), "l1")
    budget = PruningBudget(5.0, 5.0, 5.0, {}, lambda _: 5.0, str)
    assert search_widths(groups, scores, tabulate_losses(groups.groups, scores, 8), [budget], lambda _: None) == {}


def test_a_budget_that_cannot_be_met(wide: tuple[onnx.ModelProto, PruningGroups, TypedGraph]) -> None:
    model, groups, graph = wide
    scores = score_units(groups, arrays_of(model), "l1")
    losses = tabulate_losses(groups.groups, scores, 8)
    budget = counted(graph, groups, losses, sum_macs, sum_macs(graph) / 10)
    with pytest.raises(GateFailed, match=r"^10 cannot be met") as caught:
        search_widths(groups, scores, losses, [budget], lambda _: None)
    assert caught.value.exit_code == 3
    assert "the best found is 23,552" in caught.value.why


def test_losses_add_up_the_least_important_first_and_grow_as_a_group_empties() -> None:
    groups = groups_of(a=4)
    scores = {"a": np.array([3.0, 1.0, 2.0, 4.0])}
    assert select_units(groups, scores, {"a": 2})["a"].tolist() == [0, 3]
    losses = tabulate_losses(groups.groups, scores, 1)["a"]
    assert losses[3] == pytest.approx(1.0 * 10 / 9)
    assert losses[2] == pytest.approx(3.0 * 10 / 7)


def way(saved: WidthTable, now: float = 1.0, most: float = 0.1) -> BudgetState:
    return BudgetState(PruningBudget(now, most, most, saved, lambda _: now, str))


def test_the_next_step_loses_least_for_what_it_saves_of_every_budget() -> None:
    losses = {"a": {1: 1.0}, "b": {1: 1.0}}
    speed, size = way({"a": {1: 0.1}, "b": {1: 0.3}}), way({"a": {1: 1.0}, "b": {1: 0.0}})
    first = {name: find_best_step(name, {"a": 2, "b": 2}, losses, [speed])[0] for name in losses}
    assert first["b"] < first["a"]
    both = {name: find_best_step(name, {"a": 2, "b": 2}, losses, [speed, size])[0] for name in losses}
    assert both["a"] < both["b"]
    assert find_best_step("a", {"a": 1, "b": 1}, losses, [speed]) == (float("inf"), 0)


def test_what_saves_nothing_is_never_cut() -> None:
    assert find_best_step("a", {"a": 2}, {"a": {1: 0.0}}, [way({"a": {1: 0.0}})]) == (float("inf"), 0)


def product(groups: PruningGroups) -> Callable[[KeptUnits], float]:
    """The time of a network whose layers lie between two groups: savings do not add up."""
    sizes = {group.name: group.size for group in groups.groups}
    return lambda keep: float(np.prod([len(keep.get(name, range(size))) / size for name, size in sizes.items()]))


def timed(groups: PruningGroups, most: float) -> PruningBudget:
    measure = product(groups)
    saved = {
        group.name: {width: 1 - measure({group.name: np.arange(width)}) for width in list_widths(group, 8)}
        for group in groups.groups
    }
    return PruningBudget(1.0, most, 0.98 * most, saved, measure, lambda share: f"{1 / share:.2f} × as fast")


def test_the_search_goes_on_until_the_measure_is_met_and_no_further_than_it_must() -> None:
    groups, lines = groups_of(a=64, b=64), list[str]()
    scores = {"a": np.full(64, 1.0), "b": np.full(64, 5.0)}
    budget = timed(groups, 0.4)
    keep = search_widths(groups, scores, tabulate_losses(groups.groups, scores, 8), [budget], lines.append)
    assert budget.measure(keep) <= budget.target
    for name, units in keep.items():
        assert budget.measure({**keep, name: np.arange(len(units) + 8)}) > budget.target
    assert len(keep["a"]) < len(keep.get("b", range(64)))
    assert lines


def test_what_one_budget_took_is_given_back_where_another_made_it_needless() -> None:
    """`a` is cheap to lose and saves bytes alone; `b` alone saves time, and more bytes than are wanted."""
    groups = groups_of(a=64, b=64)
    scores = {"a": np.full(64, 1.0), "b": np.full(64, 5.0)}
    widths = {group.name: list_widths(group, 8) for group in groups.groups}
    saved = {"a": 1.0, "b": 2.0}

    def bytes_of(keep: KeptUnits) -> float:
        return 300.0 - sum(saved[name] * (64 - len(keep.get(name, range(64)))) for name in saved)

    size = PruningBudget(
        300.0,
        270.0,
        270.0,
        {name: {w: saved[name] * (64 - w) for w in own} for name, own in widths.items()},
        bytes_of,
        str,
    )
    speed = PruningBudget(
        1.0, 0.5, 0.5, {"a": dict.fromkeys(widths["a"], 0.0), "b": {w: (64 - w) / 64 for w in widths["b"]}},
        lambda keep: len(keep.get("b", range(64))) / 64, str,
    )  # fmt: skip
    keep = search_widths(groups, scores, tabulate_losses(groups.groups, scores, 8), [size, speed], lambda _: None)
    assert {name: len(units) for name, units in keep.items()} == {"b": 32}


def test_savings_that_were_timed_too_low_are_scaled_and_the_search_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it goes too far for the time, and the bytes that are missing then keep it from going back."""
    groups = groups_of(a=64, b=64, c=64)
    scores = {"a": np.full(64, 2.0), "b": np.full(64, 3.0), "c": np.full(64, 1.0)}
    losses = tabulate_losses(groups.groups, scores, 8)
    costs = {"time": {"a": 4.0, "b": 4.0, "c": 1.0}, "bytes": {"a": 1.0, "b": 1.0, "c": 6.0}}

    def budget(kind: str, share: float, seen: float) -> PruningBudget:
        cost = costs[kind]
        now = 64 * sum(cost.values())
        saved = {one: {w: seen * cost[one] * (64 - w) for w in widths} for one, widths in losses.items()}

        def measure(keep: KeptUnits) -> float:
            return sum(cost[one] * len(keep.get(one, range(64))) for one in cost)

        return PruningBudget(now, share * now, share * now, saved, measure, str)

    def search(seen: float) -> dict[str, int]:
        budgets = [budget("bytes", 0.5, 1.0), budget("time", 0.6, seen)]
        return {one: len(kept) for one, kept in search_widths(groups, scores, losses, budgets, lambda _: None).items()}

    true = search(1.0)
    assert search(0.5) == true
    monkeypatch.setattr("edgewright.pruning.widths.MAX_RESCALES", 0)
    assert search(0.5) != true


def test_a_budget_is_met_though_the_aim_beyond_it_is_not() -> None:
    groups = groups_of(a=64)
    scores = {"a": np.full(64, 1.0)}
    budget = timed(groups, 0.1255)._replace(target=0.12)  # an eighth is the least
    keep = search_widths(groups, scores, tabulate_losses(groups.groups, scores, 8), [budget], lambda _: None)
    assert len(keep["a"]) == 8


def test_a_measured_budget_that_cannot_be_met_says_the_best() -> None:
    groups = groups_of(a=64)
    scores = {"a": np.full(64, 1.0)}
    with pytest.raises(GateFailed, match=r"^100\.00 × as fast cannot be met") as caught:
        search_widths(groups, scores, tabulate_losses(groups.groups, scores, 8), [timed(groups, 0.01)], lambda _: None)
    assert "the best found is 8.00 ×" in caught.value.why
