"""Verdicts: every branch, and how often they are wrong in simulated sessions."""

from math import isnan

import numpy as np
import pytest
from numpy.typing import NDArray

from edgewright.bench.statistics import Interval, make_exact
from edgewright.bench.verdict import (
    SESSION_DRIFT,
    Difference,
    compare_paired,
    compare_sessions,
    decide_verdict,
    find_difference,
)
from edgewright.schema.vocabulary import Verdict

Floats = NDArray[np.float64]
PROCESSES = 10


@pytest.mark.parametrize(
    ("ratio", "low", "high", "verdict"),
    [
        (1.10, 1.05, 1.15, "slower"),
        (1.03, 1.001, 1.06, "slower"),
        (0.90, 0.85, 0.95, "faster"),
        (0.97, 0.95, 0.999, "faster"),
        (1.00, 0.99, 1.01, "no difference"),
        (1.01, 1.005, 1.015, "no difference"),  # real, and too small to count
        (0.99, 0.985, 0.995, "no difference"),
        (1.015, 1.001, 1.03, "inconclusive"),  # excludes 1, and may or may not count
        (1.10, 0.99, 1.20, "inconclusive"),
        (0.90, 0.80, 1.01, "inconclusive"),
        (1.00, 0.90, 1.10, "inconclusive"),
        (1.50, None, None, "inconclusive"),
        (1.50, 1.4, None, "inconclusive"),
        (float("nan"), None, None, "inconclusive"),
    ],
)
def test_decide_verdict(ratio: float, low: float | None, high: float | None, verdict: Verdict) -> None:
    assert decide_verdict(ratio, low, high, 0.02) == verdict


@pytest.mark.parametrize(("ratio", "low", "high"), [(1.1, 1.05, 1.2), (1.0, 0.99, 1.01), (1.03, 0.9, 1.3)])
def test_swapping_the_sides_swaps_the_verdict(ratio: float, low: float, high: float) -> None:
    other: dict[Verdict, Verdict] = {"slower": "faster", "faster": "slower"}
    there, back = decide_verdict(ratio, low, high, 0.02), decide_verdict(1 / ratio, 1 / high, 1 / low, 0.02)
    assert back == other.get(there, there)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_too_few_processes_give_no_verdict(n: int) -> None:
    found = compare_paired("a", "b", [[100.0]] * n, [[200.0]] * n, 0.02)
    assert found.verdict == "inconclusive"
    assert found.ratio == pytest.approx(2.0)


def test_six_processes_give_one() -> None:
    assert compare_paired("a", "b", [[100.0]] * 6, [[200.0]] * 6, 0.02).verdict == "slower"


def make_interval(low: float, high: float, confidence: float = 0.96) -> Interval:
    return Interval(value=(low + high) / 2, low=low, high=high, confidence=confidence)


@pytest.mark.parametrize(
    ("a", "b", "drift", "expected"),
    [
        (make_interval(100, 110), make_interval(90, 95), 0.0, "lower"),
        (make_interval(100, 110), make_interval(112, 115), 0.0, "higher"),
        (make_interval(100, 110), make_interval(112, 115), SESSION_DRIFT, ""),
        (make_interval(100, 110), make_interval(120, 122), SESSION_DRIFT, "higher"),
        (make_interval(100, 110), make_interval(105, 120), 0.0, ""),
        (make_interval(100, 110), make_interval(120, 122, 0.5), 0.0, "unsure"),
        # Metrics may be zero or negative: the difference counts.
        (make_interval(-0.01, 0.01), make_interval(0.2, 0.3), 0.0, "higher"),
        (make_interval(0.2, 0.3), make_interval(0.0, 0.1), 0.0, "lower"),
        (make_exact(80.0), make_exact(81.0), 0.0, "higher"),
        (make_exact(80.0), make_exact(80.0), 0.0, ""),
        (make_exact(80.0), Interval(value=90.0, low=None, high=None, confidence=0.0), 0.0, ""),
    ],
)
def test_a_difference_of_intervals(a: Interval, b: Interval, drift: float, expected: Difference) -> None:
    assert find_difference(a, b, drift) == expected
    other: dict[Difference, Difference] = {"higher": "lower", "lower": "higher"}
    assert find_difference(b, a, drift) == other.get(expected, expected)


def test_no_samples_give_no_ratio() -> None:
    for found in (compare_paired("a", "b", [], [[1.0]], 0.02), compare_sessions("a", "b", [[1.0]], [], 0.02)):
        assert isnan(found.ratio)
        assert (found.low, found.high, found.verdict) == (None, None, "inconclusive")


def test_an_uneven_last_round_is_left_out() -> None:
    even = compare_paired("a", "b", [[100.0]] * 6, [[120.0]] * 6, 0.02)
    assert compare_paired("a", "b", [[100.0]] * 7, [[120.0]] * 6, 0.02) == even


def test_pairs_cancel_a_drift_that_unpaired_medians_do_not() -> None:
    drift = np.linspace(100.0, 200.0, PROCESSES)
    a, b = one_chunk(drift), one_chunk(drift * 1.05)
    assert compare_paired("a", "b", a, b, 0.02).verdict == "slower"
    assert compare_sessions("a", "b", a, b, 0.02).verdict == "inconclusive"


def test_other_sessions_need_a_larger_difference() -> None:
    times = np.array([100.0 + k / 10 for k in range(PROCESSES)])
    a, small, large = (one_chunk(times * factor) for factor in (1, 1 + SESSION_DRIFT / 2, 1 + SESSION_DRIFT * 2))
    assert compare_paired("a", "b", a, small, 0.02).verdict == "slower"
    assert compare_sessions("a", "b", a, small, 0.02).verdict == "no difference"
    assert compare_sessions("a", "b", a, large, 0.02).verdict == "slower"
    assert compare_sessions("a", "b", a, large, 0.5).verdict == "no difference"  # the user's own threshold is larger


def test_a_burst_in_one_chunk_does_not_decide() -> None:
    a = [[100.0, 100.0, 100.0, 100.0, 100.0]] * PROCESSES
    disturbed = [[100.0, 100.0, 900.0, 100.0, 100.0]] * PROCESSES
    assert compare_paired("a", "b", a, disturbed, 0.02).verdict == "no difference"


def test_chunks_cancel_a_drift_within_the_processes() -> None:
    drift = np.linspace(100.0, 200.0, 8)
    a, b = [drift.tolist()] * PROCESSES, [(drift * 1.05).tolist()] * PROCESSES
    found = compare_paired("a", "b", a, b, 0.02)
    assert found.ratio == pytest.approx(1.05)
    assert found.verdict == "slower"


def one_chunk(medians: Floats) -> list[list[float]]:
    return [[value] for value in medians.tolist()]


def simulate(random: np.random.Generator, factor: float, spread: float) -> tuple[list[list[float]], list[list[float]]]:
    """Medians of two candidates: each process has its own luck, and the machine drifts under both."""
    drift: Floats = np.cumsum(random.normal(0, 0.01, PROCESSES))
    luck = random.standard_t(4, (2, PROCESSES)) * spread  # heavy tails, as on a busy machine
    a, b = np.exp(drift + luck[0]) * 1000, np.exp(drift + luck[1]) * 1000 * factor
    return one_chunk(a), one_chunk(b)


def count_verdicts(factor: float, spread: float, sessions: int) -> dict[str, int]:
    random = np.random.default_rng(20)
    counts: dict[str, int] = {}
    for _ in range(sessions):
        verdict = compare_paired("a", "b", *simulate(random, factor, spread), 0.02).verdict
        counts[verdict] = counts.get(verdict, 0) + 1
    return counts


@pytest.mark.parametrize("spread", [0.005, 0.02, 0.05])
def test_a_model_against_itself_does_not_cry_wolf(spread: float) -> None:
    counts = count_verdicts(1.0, spread, 2000)
    assert counts.get("slower", 0) + counts.get("faster", 0) <= 30


def test_ten_percent_are_found() -> None:
    assert count_verdicts(1.1, 0.015, 1000)["slower"] >= 970
    assert count_verdicts(1 / 1.1, 0.015, 1000)["faster"] >= 970
