"""Comparing runs of the record."""

from typing import Any

import numpy as np
import pytest

from edgewright.bench.summary import make_series
from edgewright.errors import UsageError
from edgewright.flows.benchmark.comparison import (
    are_evaluations,
    compare_evaluations,
    compare_runs,
    find_differences,
    get_options,
    get_session_id,
)
from edgewright.schema.run import Run, Series
from edgewright.tasks.metrics.intervals import compare_paired_means, mcnemar
from tests.bench.quick import make_samples


def run_of(name: str, medians: list[float], parent: str | None = None, **changes: Any) -> Run:
    processes = [make_samples([value, value, value]) for value in medians]
    plain: dict[str, Any] = {"kind": "benchmark", "state": "done", "started_at": "2026-11-20T00:00:00Z"}
    return Run(id=name, parent_id=parent, series=make_series(processes), **{**plain, **changes})


STEADY = [100.0 + k / 10 for k in range(10)]
SLOWER = [x * 1.04 for x in STEADY]


def test_runs_of_one_session_are_paired() -> None:
    a, b = run_of("a", STEADY), run_of("b", SLOWER, parent="a")
    (found,) = compare_runs([a, b], 0.02)
    assert (found.a, found.b, found.verdict) == ("a", "b", "slower")
    assert found.ratio == pytest.approx(1.04)


def test_siblings_are_of_one_session_too() -> None:
    b, c = run_of("b", STEADY, parent="a"), run_of("c", SLOWER, parent="a")
    assert get_session_id(b) == get_session_id(c) == "a"
    assert compare_runs([b, c], 0.02)[0].verdict == "slower"


def test_other_sessions_need_more() -> None:
    (found,) = compare_runs([run_of("a", STEADY), run_of("b", SLOWER)], 0.02)
    assert found.verdict == "no difference"


def test_everything_is_compared_with_the_first() -> None:
    found = compare_runs([run_of("a", STEADY), run_of("b", STEADY), run_of("a", STEADY)], 0.02)
    assert [(one.a, one.b, one.verdict) for one in found] == [("a", "b", "no difference"), ("a", "a", "no difference")]


def test_a_run_without_samples() -> None:
    with pytest.raises(UsageError, match="no samples") as caught:
        compare_runs([run_of("a", STEADY), run_of("b", [], state="failed")], 0.02)
    assert "failed" in caught.value.why


@pytest.mark.parametrize("threshold", [-1.0, float("nan"), float("inf"), 11.0])
def test_thresholds_out_of_bounds(threshold: float) -> None:
    with pytest.raises(UsageError, match="--threshold"):
        compare_runs([run_of("a", STEADY), run_of("b", STEADY)], threshold)


def test_differences() -> None:
    a = run_of("a", STEADY, plan={"threads": 1, "inputs": "a", "seed": 0}, environment={"kernel": "6.1"})
    b = run_of("b", STEADY, plan={"threads": 2, "inputs": "b", "seed": 0}, environment={"kernel": "6.2", "smt": True})
    assert find_differences(a, b) == {
        "plan.threads": (1, 2),
        "environment.kernel": ("6.1", "6.2"),
        "environment.smt": (None, True),
    }
    assert find_differences(a, a) == {}


@pytest.mark.parametrize("plan", [{}, {"candidates": 5}, {"candidates": []}, {"candidates": ["x"]}])
def test_a_plan_without_options(plan: dict[str, Any]) -> None:
    assert get_options(run_of("a", STEADY, plan=plan)) == {}
    assert get_options(run_of("a", STEADY, plan={"candidates": [{"options": "x"}]})) == {}


def test_options_of_the_runtime_are_a_difference() -> None:
    a, b = (run_of("a", STEADY, plan={"candidates": [{"options": {"tuning": word}}, {}]}) for word in ("1", "2"))
    assert get_options(a) == {"tuning": "1"}
    assert find_differences(a, b) == {"plan.options": ({"tuning": "1"}, {"tuning": "2"})}


def make_evaluated(name: str, values: dict[int, float], metric: str = "top1", data: str | None = "d") -> Run:
    series = (
        Series(name="sample.index", unit="", data=tuple(map(float, values))),
        Series(name="sample.value", unit="", data=tuple(values.values())),
    )
    plan = {"task": {"metric": metric}, "data_fingerprint": data}
    return Run(id=name, kind="evaluate", state="done", started_at="2026-11-20T00:00:00Z", plan=plan, series=series)


def test_right_and_wrong_answers_are_compared_on_shared_samples() -> None:
    a = make_evaluated("a", {k: float(k % 2) for k in range(20)})
    b = make_evaluated("b", {k: float(k % 4 > 0) for k in range(2, 30)})
    c = make_evaluated("c", dict.fromkeys(range(20), 1.0))
    assert are_evaluations([a, b]) and not are_evaluations([a, run_of("x", STEADY)])
    first, second = compare_evaluations([a, b, c])
    shared = np.arange(2, 20)
    assert first.test == mcnemar(shared % 2 > 0, shared % 4 > 0).test
    assert (first.a, first.b, first.metric, first.n) == ("a", "b", "top1", 18)
    assert first.difference == pytest.approx(5 / 18)  # 2, 6, 10, 14 and 18
    assert (second.b, second.n, second.difference) == ("c", 20, 0.5)


def test_other_values_are_compared_by_their_means() -> None:
    x, y = [0.1, 0.5, 0.9, 0.3], [0.2, 0.5, 1.4, 0.5]
    runs = [make_evaluated(name, dict(enumerate(values)), "mae") for name, values in (("a", x), ("b", y))]
    (found,) = compare_evaluations(runs)
    expected = compare_paired_means(np.array(x), np.array(y))
    assert (found.difference, found.low, found.high) == (expected.value, expected.low, expected.high)
    assert (found.p, found.test, found.metric) == (expected.p, expected.test, "mae")


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ({"metric": "auc"}, {}, "auc of two runs cannot be compared sample by sample"),
        ({}, {"metric": "top5"}, "metric: top1 and top5"),
        ({}, {"data": "e"}, "data: d and e"),
        ({"data": None}, {"data": None}, "data: unknown and unknown"),
        ({}, {"values": {9: 1.0}}, "share no sample"),
    ],
)
def test_evaluations_of_something_else(a: dict[str, Any], b: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        compare_evaluations([make_evaluated(name, **{"values": {0: 1.0}, **one}) for name, one in (("a", a), ("b", b))])
    assert words in f"{caught.value.what}: {caught.value.why}"


def test_the_threshold_of_the_session_is_kept() -> None:
    """A comparison of stored runs repeats the verdict that `benchmark --threshold 0.1` printed."""
    plan = {"threshold": 0.1}
    a, b = run_of("a", STEADY, plan=plan), run_of("b", SLOWER, parent="a", plan=plan)
    assert compare_runs([a, b])[0].verdict == "no difference"
    assert compare_runs([a, b], 0.02)[0].verdict == "slower"
    assert compare_runs([run_of("a", STEADY, plan={"threshold": "?"}), b])[0].verdict == "slower"
