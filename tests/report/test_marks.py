"""When a figure is called better or worse than the reference's."""

import pytest

from edgewright.report.marks import Pair, choose_mark
from edgewright.schema.run import Comparison, Metric
from edgewright.schema.vocabulary import Verdict


def make_metric(name: str, low: float | None, high: float | None, n: int = 8) -> Metric:
    value = 5.0 if low is None or high is None else (low + high) / 2
    return Metric(name=name, unit="us", value=value, low=low, high=high, n=n)


def make_pair(*, together: bool = True, verdict: Verdict | None = None, confidence: float = 0.96) -> Pair:
    one = None
    if verdict:
        one = Comparison(a="a", b="b", ratio=1.5, low=1.2, high=1.8, confidence=0.99, verdict=verdict)
    return Pair(verdict=one, one_session=together, confidence={"latency.p50": 0.96, "cpu.p50": confidence})


@pytest.mark.parametrize(
    ("name", "bounds", "reference", "pair", "n", "expected"),
    [
        ("cold_start", (90.0, 95.0), (100.0, 110.0), make_pair(), 8, "faster"),
        ("cold_start", (120.0, 130.0), (100.0, 110.0), make_pair(), 8, "slower"),
        ("cold_start", (105.0, 130.0), (100.0, 110.0), make_pair(), 8, ""),
        # Two processes: the interval has 50 % confidence, so that nothing is claimed.
        ("cold_start", (120.0, 130.0), (100.0, 110.0), make_pair(), 2, "unsure"),
        ("cpu.p50", (120.0, 130.0), (100.0, 110.0), make_pair(confidence=0.5), 300, "unsure"),
        ("cpu.p50", (120.0, 130.0), (100.0, 110.0), make_pair(), 300, "slower"),
        # Of two sessions: 113 is less than 5 % above 110, 120 is more.
        ("cold_start", (113.0, 114.0), (100.0, 110.0), make_pair(together=False), 8, ""),
        ("cold_start", (120.0, 121.0), (100.0, 110.0), make_pair(together=False), 8, "slower"),
        # A metric of a task has an interval over samples, which does not drift.
        ("top1", (0.80, 0.82), (0.84, 0.86), make_pair(together=False), 1, "slower"),
        # Agreement and SQNR are those with another run, the first of their evaluation.
        ("agreement", (0.99, 1.0), (0.97, 0.98), make_pair(), 500, ""),
        ("model.file", (None, None), (None, None), make_pair(), 1, ""),
        ("energy", (None, None), (1.0, 2.0), make_pair(), 1, ""),
    ],
)
def test_mark(
    name: str, bounds: tuple[float | None, float | None], reference: tuple[float | None, float | None], pair: Pair,
    n: int, expected: str,
) -> None:  # fmt: skip
    assert choose_mark(make_metric(name, *bounds, n), make_metric(name, *reference, n), pair) == expected


@pytest.mark.parametrize(
    ("verdict", "expected"), [("slower", "slower"), ("faster", "faster"), ("inconclusive", ""), ("no difference", "")]
)
def test_the_latency_has_the_mark_of_its_verdict(verdict: Verdict, expected: str) -> None:
    """The verdict is paired by round: it can differ from what the intervals alone show, both ways."""
    apart, near = make_metric("latency.p50", 200.0, 210.0), make_metric("latency.p50", 100.0, 220.0)
    reference = make_metric("latency.p50", 100.0, 110.0)
    assert choose_mark(apart, reference, make_pair(verdict=verdict)) == expected
    assert choose_mark(near, reference, make_pair(verdict=verdict)) == expected


BOUNDS = ((10.0, 9.0, 11.0), (20.0, 19.0, 21.0))


def test_a_size_needs_no_interval() -> None:
    small, large = (Metric(name="model.file", unit="bytes", value=value) for value in (80.0, 271.0))
    assert choose_mark(large, small, make_pair()) == "slower"
    assert choose_mark(small, large, make_pair(together=False)) == "faster"


def test_the_reference_has_no_mark() -> None:
    one = make_metric("cold_start", 1.0, 2.0)
    assert choose_mark(one, one, make_pair()) == ""
    assert choose_mark(one, None, make_pair()) == ""


def test_a_figure_of_a_billion_samples_is_marked_at_once() -> None:
    """Counting the ranks of all samples takes time without end."""
    pair = Pair(verdict=None, one_session=True, confidence={})
    many = [Metric(name="latency.p90", unit="us", value=us, low=low, high=high, n=10**9) for us, low, high in BOUNDS]
    assert choose_mark(many[1], many[0], pair) == "slower"
    bare = [Metric(name="latency.p90", unit="us", value=us, n=10**9) for us, _, _ in BOUNDS]
    assert choose_mark(bare[1], bare[0], pair) == ""
