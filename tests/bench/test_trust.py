"""The trust mark of a latency."""

import pytest

from edgewright.bench.trust import CAUSES, judge_trust
from edgewright.bench.warnings import RULES
from edgewright.schema.run import Metric


def make_metrics(half: float | None, processes: int = 8, confidence: float = 0.96) -> dict[str, Metric]:
    low, high = (None, None) if half is None else (100 * (1 - half), 100 * (1 + half))
    p50 = Metric(name="latency.p50", unit="us", value=100.0, low=low, high=high, n=500)
    known = Metric(name="latency.p50_confidence", unit="1", value=confidence, n=processes)
    return {"latency.p50": p50, "latency.p50_confidence": known}


@pytest.mark.parametrize(
    ("half", "warnings", "level", "cause"),
    [
        (0.02, (), "high", ""),
        (0.02, ("layer-sum", "fallback"), "high", ""),  # of the layers, not of the times
        (0.02, ("background-load",), "medium", "busy"),
        (0.05, (), "medium", "±5%"),
        (0.25, (), "low", "±25%"),
        (0.02, ("drift",), "low", "drifted"),
    ],
)
def test_level_and_cause(half: float, warnings: tuple[str, ...], level: str, cause: str) -> None:
    trust = judge_trust(make_metrics(half), warnings)
    assert trust is not None
    assert trust.level == level
    assert trust.spread == pytest.approx(half)
    assert cause in " ".join(trust.causes)
    assert bool(trust.causes) == bool(cause)


@pytest.mark.parametrize(("processes", "words"), [(1, "only 1 process"), (4, "only 4 processes")])
def test_few_processes_are_low(processes: int, words: str) -> None:
    trust = judge_trust(make_metrics(0.01, processes, 0.875), ())
    assert trust is not None
    assert (trust.level, trust.spread, trust.causes) == ("low", None, (words,))


def test_without_a_latency_there_is_no_mark() -> None:
    assert judge_trust({}, ()) is None


def test_every_warning_with_a_cause_exists() -> None:
    assert CAUSES.keys() <= RULES.keys()
