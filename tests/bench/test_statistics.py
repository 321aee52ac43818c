"""Intervals against full enumeration, and what must hold for any samples."""

from itertools import combinations, product
from math import isclose

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.bench.statistics import (
    Interval,
    _rank_sum_counts,
    _signed_rank_counts,
    median_interval,
    paired_interval,
    shift_interval,
)
from edgewright.schema.ranks import compute_binomial_coverage, compute_median_bounds

# Distinct, and no sum or difference of some of them is zero.
GENERIC = (1.0, 2.1, 4.3, 8.7, 17.9, 35.3, 71.1, 143.9, 290.3)
CONFIDENCES = (0.5, 0.8, 0.9, 0.95, 0.99)
some_floats = st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=25)


def holds_zero(interval: Interval) -> bool:
    return interval.low is not None and interval.high is not None and interval.low <= 0 <= interval.high


@pytest.mark.parametrize("n", range(1, 10))
def test_signed_rank_distribution(n: int) -> None:
    counts = [0] * (n * (n + 1) // 2 + 1)
    for signs in product((0, 1), repeat=n):
        counts[sum(rank * sign for rank, sign in enumerate(signs, 1))] += 1
    assert _signed_rank_counts(n) == tuple(counts)


@pytest.mark.parametrize(("m", "n"), [(1, 1), (1, 6), (2, 3), (3, 3), (4, 5), (6, 2), (5, 5)])
def test_rank_sum_distribution(m: int, n: int) -> None:
    counts = [0] * (m * n + 1)
    for ranks in combinations(range(m + n), m):
        counts[sum(ranks) - m * (m - 1) // 2] += 1
    assert _rank_sum_counts(m, n) == tuple(counts)


@pytest.mark.parametrize("confidence", CONFIDENCES)
@pytest.mark.parametrize("n", range(2, 10))
def test_paired_interval_covers_exactly_as_said(n: int, confidence: float) -> None:
    """Under symmetry every pattern of signs is equally likely: count those whose interval holds the center."""
    found = [
        paired_interval([sign * size for sign, size in zip(signs, GENERIC, strict=False)], confidence)
        for signs in product((-1, 1), repeat=n)
    ]
    assert isclose(sum(map(holds_zero, found)) / len(found), found[0].confidence, abs_tol=1e-12)


@pytest.mark.parametrize("confidence", CONFIDENCES)
@pytest.mark.parametrize(("m", "n"), [(2, 2), (3, 3), (2, 5), (4, 4), (5, 4)])
def test_shift_interval_covers_exactly_as_said(m: int, n: int, confidence: float) -> None:
    """Without a shift every split of the values is equally likely."""
    pool = GENERIC[: m + n]
    found = [
        shift_interval(chosen, [value for value in pool if value not in chosen], confidence)
        for chosen in combinations(pool, m)
    ]
    assert isclose(sum(map(holds_zero, found)) / len(found), found[0].confidence, abs_tol=1e-12)


@pytest.mark.parametrize("confidence", CONFIDENCES)
@pytest.mark.parametrize("n", range(2, 12))
def test_median_interval_covers_exactly_as_said(n: int, confidence: float) -> None:
    """Each value lies below or above the true median with the same probability."""
    found = [
        median_interval([side * (place + 1) for place, side in enumerate(sides)], confidence)
        for sides in product((-1, 1), repeat=n)
    ]
    assert isclose(sum(map(holds_zero, found)) / len(found), found[0].confidence, abs_tol=1e-12)


@pytest.mark.parametrize("n", range(6, 40))
def test_median_interval_is_the_narrowest_that_suffices(n: int) -> None:
    interval = median_interval(range(n), 0.95)
    assert interval.low is not None
    cut = int(interval.low)  # the values are their own places
    assert compute_binomial_coverage(n, cut) == interval.confidence >= 0.95
    assert 2 * (cut + 1) >= n or compute_binomial_coverage(n, cut + 1) < 0.95


@pytest.mark.parametrize("n", range(40))
def test_bounds_of_a_median_are_those_of_the_interval_or_unknown(n: int) -> None:
    values = [float(place * 7919 % 101) for place in range(n)]
    if n < 6:  # the whole range of five covers with 0.9375
        assert compute_median_bounds(values) == (None, None)
        return
    interval = median_interval(values, 0.95)
    assert compute_median_bounds(values) == (interval.low, interval.high)


@pytest.mark.parametrize(
    ("n", "confidence"), [(2, 0.5), (5, 0.9375), (6, 0.96875), (10, 0.978515625), (20, 0.958610534667969)]
)
def test_known_coverages_of_the_median(n: int, confidence: float) -> None:
    """The tables of confidence intervals for a median (Conover, table A3)."""
    assert isclose(median_interval(range(n)).confidence, confidence)


def test_few_values() -> None:
    assert median_interval([3.0]) == Interval(value=3.0, low=None, high=None, confidence=0.0)
    assert median_interval([3.0, 5.0]) == Interval(value=4.0, low=3.0, high=5.0, confidence=0.5)
    assert paired_interval([0.1]) == Interval(value=0.1, low=None, high=None, confidence=0.0)
    assert paired_interval([1.0, 2.0]).confidence == 0.5
    assert paired_interval([1.0] * 5).confidence == 1 - 2 / 32
    assert shift_interval([1.0], [3.0]) == Interval(value=2.0, low=None, high=None, confidence=0.0)
    assert isclose(shift_interval([1.0, 2.0], [3.0, 4.0]).confidence, 1 - 2 / 6)


def test_no_values() -> None:
    for make in (median_interval, paired_interval):
        with pytest.raises(ValueError, match="no"):
            make([])
    with pytest.raises(ValueError, match="no values"):
        shift_interval([], [1.0])
    with pytest.raises(ValueError, match="no values"):
        shift_interval([1.0], [])


def test_many_values() -> None:
    values = np.random.default_rng(1).normal(0.0, 1.0, 200)
    for interval in (median_interval(values.tolist()), paired_interval(values.tolist())):
        assert interval.low is not None
        assert interval.high is not None
        assert interval.low < 0.3 < interval.high + 0.6
        assert 0.95 <= interval.confidence < 1
    unpaired = shift_interval(values[:100].tolist(), (values[100:] + 5).tolist())
    assert unpaired.low is not None
    assert unpaired.high is not None
    assert 4 < unpaired.low < 5.5 < unpaired.high + 1
    assert 0.99 <= unpaired.confidence < 0.995


def test_hodges_lehmann_estimates() -> None:
    assert paired_interval([1.0, 2.0, 6.0]).value == 2.75  # Walsh averages 1, 1.5, 2, 3.5, 4, 6
    assert shift_interval([1.0, 2.0], [4.0, 8.0]).value == 4.5  # differences 2, 3, 6, 7


@given(some_floats, st.randoms(use_true_random=False), st.sampled_from((median_interval, paired_interval)))
def test_order_does_not_matter(values: list[float], random: np.random.Generator, make: object) -> None:
    assert callable(make)
    shuffled = list(values)
    random.shuffle(shuffled)
    assert make(shuffled) == make(values)


@given(some_floats, st.sampled_from((0.5, 2.0, 1024.0)), st.sampled_from((median_interval, paired_interval)))
def test_scale_carries_over(values: list[float], factor: float, make: object) -> None:
    assert callable(make)
    plain, scaled = make(values), make([value * factor for value in values])
    assert scaled.value == plain.value * factor
    assert scaled.low == (None if plain.low is None else plain.low * factor)
    assert scaled.high == (None if plain.high is None else plain.high * factor)


@given(some_floats, some_floats, st.floats(0.5, 0.999))
def test_the_estimate_lies_within(a: list[float], b: list[float], confidence: float) -> None:
    for found in (median_interval(a, confidence), paired_interval(a, confidence), shift_interval(a, b, confidence)):
        assert 0.0 <= found.confidence < 1.0
        if found.low is not None and found.high is not None:
            assert found.low <= found.value <= found.high


@given(some_floats, some_floats)
def test_the_shift_changes_its_sign_with_the_sides(a: list[float], b: list[float]) -> None:
    there, back = shift_interval(a, b), shift_interval(b, a)
    assert there.value == -back.value
    assert there.confidence == back.confidence
    if there.low is not None and back.high is not None:
        assert there.low == -back.high
