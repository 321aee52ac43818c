"""Intervals and tests against published and exact values."""

from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.tasks.metrics.intervals import (
    bootstrap,
    compare_paired_means,
    mcnemar,
    newcombe,
    sign_test,
    weighted_mean,
    wilson,
)


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_as_newcombe_printed_it(hits: int, n: int, low: float, high: float) -> None:
    """Newcombe, Statistics in Medicine 17, 1998, 857, table I, method 3."""
    assert wilson(hits, n) == pytest.approx((low, high), abs=6e-5)


def test_wilson_contains_its_own_share() -> None:
    shares = [(hits, n, *wilson(hits, n)) for n in range(1, 300) for hits in (0, n)]
    outside = [(hits, n) for hits, n, low, high in shares if not low <= hits / n <= high]
    assert outside == []


@pytest.mark.parametrize(("table", "low", "high"), [((36, 12, 2, 0), 0.0569, 0.3404), ((0, 0, 0, 54), -0.0664, 0.0664)])
def test_newcombe_as_he_printed_it(table: tuple[int, int, int, int], low: float, high: float) -> None:
    """Newcombe, Statistics in Medicine 17, 1998, 2635, method 10."""
    assert newcombe(*table) == pytest.approx((low, high), abs=6e-5)


@given(st.tuples(*[st.integers(0, 40)] * 4).filter(any))
def test_newcombe_holds_the_difference_and_turns_with_its_sides(table: tuple[int, int, int, int]) -> None:
    both, first, second, neither = table
    there, back = newcombe(both, first, second, neither), newcombe(both, second, first, neither)
    assert there.low <= (first - second) / sum(table) + 1e-12
    assert there.high >= (first - second) / sum(table) - 1e-12
    assert there == pytest.approx((-back.high, -back.low), abs=1e-12)


@given(less=st.integers(0, 30), more=st.integers(0, 30))
def test_the_sign_test_is_exact(less: int, more: int) -> None:
    n = less + more
    tail = sum(Fraction(comb(n, i), 2**n) for i in range(min(less, more) + 1))
    assert sign_test(less, more) == pytest.approx(float(min(Fraction(1), 2 * tail)))


def test_mcnemar() -> None:
    a = np.array([1] * 50 + [1] * 2 + [0] * 12 + [0] * 6, bool)
    b = np.array([1] * 50 + [0] * 2 + [1] * 12 + [0] * 6, bool)
    found = mcnemar(a, b)
    assert found.value == pytest.approx(10 / 70)
    assert found.p == pytest.approx(2 * sum(comb(14, i) for i in range(3)) / 2**14)
    assert found.low < 10 / 70 < found.high
    assert found.low > 0
    same = mcnemar(a, a)
    assert (same.value, same.p) == (0.0, 1.0)
    assert same.low < 0 < same.high
    with pytest.raises(ValueError, match="not results of the same samples"):
        mcnemar(a, b[:-1])


def test_the_bootstrap_is_seeded_and_near_the_normal_interval() -> None:
    values = np.random.default_rng(1).standard_normal(400)
    found = bootstrap(400, lambda chosen: float(values[chosen].mean()))
    assert found == bootstrap(400, lambda chosen: float(values[chosen].mean()))
    half = 1.96 * values.std() / 20
    assert found == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)


def test_the_intervals_cover_as_often_as_they_say() -> None:
    random = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        both = random.random((300, 2)) < 0.5
        shared = random.random(300) < 0.8
        a, b = both[:, 0], np.where(shared, both[:, 0], both[:, 1])
        found = mcnemar(a, b)
        covered += found.low <= 0 <= found.high
    assert covered >= 184  # of 200 at 95 %


def test_paired_means() -> None:
    random = np.random.default_rng(5)
    a = random.standard_normal(200)
    found = compare_paired_means(a, a + 0.3 + 0.1 * random.standard_normal(200))
    assert found.low < 0.3 < found.high
    assert found.p == pytest.approx(1 / 2001)
    none = compare_paired_means(a, a + 0.5 * random.standard_normal(200))
    assert none.p > 0.05
    assert compare_paired_means(a, a).p == 1.0


def test_weights() -> None:
    assert weighted_mean(np.array([1.0, 3.0]), np.array([3.0, 1.0])) == 1.5
    assert np.isnan(weighted_mean(np.zeros(0), np.zeros(0)))
