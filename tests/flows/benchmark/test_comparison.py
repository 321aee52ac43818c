"""Comparing runs of the record."""

from typing import Any

import pytest

from edgewright.bench.summary import make_series
from edgewright.errors import UsageError
from edgewright.flows.benchmark.comparison import compare_runs, find_differences, get_session_id
from edgewright.schema.run import Run
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
