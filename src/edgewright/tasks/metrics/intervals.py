"""Confidence intervals and tests of proportions and means, with their sources."""

from collections.abc import Callable
from math import comb, sqrt
from typing import NamedTuple

import numpy as np

from edgewright.schema.arrays import Array

Z_95 = 1.959963984540054  # 97.5 % quantile of the normal distribution
RESAMPLES = 2000
SEED = 20_261


class ConfidenceInterval(NamedTuple):
    low: float
    high: float


class PairedDifference(NamedTuple):
    """Second minus first on the same samples, between `low` and `high` (95 %); `p` of no difference by `test`:
    `mcnemar`, `random signs` or `bootstrap`."""

    value: float
    low: float
    high: float
    p: float
    n: int
    test: str


def wilson(hits: int, n: int) -> ConfidenceInterval:
    """Compute Wilson's score interval of a proportion (JASA 22, 1927), which is also valid near 0 and 1."""
    share, z2 = hits / n, Z_95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    # Rounding must not put a share of 0 or 1 outside of its own interval.
    return ConfidenceInterval(max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half)))


def mcnemar(correct_a: Array, correct_b: Array) -> PairedDifference:
    """Apply McNemar's exact test (binomial, two-sided) to the difference of the proportions, b − a.

    The interval is method 10 of Newcombe (Statistics in Medicine 17, 1998, 2635): Wilson's intervals of both shares,
    combined by their correlation.

    Args:
        correct_a, correct_b: booleans [n], of the same samples.
    """
    a, b = np.asarray(correct_a, bool), np.asarray(correct_b, bool)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"{a.shape} and {b.shape} are not results of the same samples")
    both, only_a, only_b = (int(np.sum(x)) for x in (a & b, a & ~b, ~a & b))
    low, high = newcombe(both, only_b, only_a, len(a) - both - only_a - only_b)
    value = (only_b - only_a) / len(a)
    return PairedDifference(value, low, high, sign_test(only_a, only_b), len(a), "mcnemar")


def sign_test(less: int, more: int) -> float:
    """Return the two-sided probability of a split at least as uneven, if both sides are equally likely."""
    n, k = less + more, min(less, more)
    return min(1.0, 2 * sum(comb(n, i) for i in range(k + 1)) / (1 << n))


def newcombe(both: int, first: int, second: int, neither: int) -> ConfidenceInterval:
    """Compute the interval of share(first or both) − share(second or both)."""
    n = both + first + second + neither
    p1, p2 = (both + first) / n, (both + second) / n
    (l1, u1), (l2, u2) = wilson(both + first, n), wilson(both + second, n)
    margins = (both + first) * (second + neither) * (both + second) * (first + neither)
    excess = both * neither - first * second
    phi = 0.0
    if margins:
        phi = (max(excess - n / 2, 0.0) if excess > 0 else float(excess)) / sqrt(margins)
    below = (p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2
    above = (u1 - p1) ** 2 - 2 * phi * (u1 - p1) * (p2 - l2) + (p2 - l2) ** 2
    return ConfidenceInterval(max(-1.0, p1 - p2 - sqrt(max(0.0, below))), min(1.0, p1 - p2 + sqrt(max(0.0, above))))


def bootstrap(n: int, statistic: Callable[[Array], float], resamples: int = RESAMPLES) -> ConfidenceInterval:
    """Compute the bootstrap percentile interval (Efron, Ann. Statist. 7, 1979) of a statistic, with a fixed seed.

    Args:
        statistic: of sample indices [n], with repetitions. NaN (an undefined resample) is ignored.
    """
    return _compute_percentile_interval(_draw_resamples(n, statistic, resamples))


def _draw_resamples(n: int, statistic: Callable[[Array], float], resamples: int) -> Array:
    """Return the finite values of a statistic over seeded resamples."""
    random = np.random.default_rng(SEED)
    values = np.array([statistic(random.integers(0, n, n)) for _ in range(resamples)])
    finite: Array = values[np.isfinite(values)]
    return finite


def _compute_percentile_interval(values: Array) -> ConfidenceInterval:
    """Return the bounds of the central 95 % of the values."""
    if not len(values):
        return ConfidenceInterval(float("nan"), float("nan"))
    low, high = np.percentile(values, (2.5, 97.5))
    return ConfidenceInterval(float(low), float(high))


def bootstrap_difference(
    n: int, a: Callable[[Array], float], b: Callable[[Array], float], resamples: int
) -> PairedDifference:
    """Return b − a of two statistics of the same samples; p is twice the smaller share of resamples on one side of 0.

    Efron and Tibshirani, An Introduction to the Bootstrap, chapter 15: the level at which the interval reaches 0.
    """
    values = _draw_resamples(n, lambda chosen: b(chosen) - a(chosen), resamples)
    bounds = _compute_percentile_interval(values)
    sides = (int((values <= 0).sum()), int((values >= 0).sum()))
    p = min(1.0, 2 * (min(sides) + 1) / (len(values) + 1)) if len(values) else float("nan")
    everything = np.arange(n)
    return PairedDifference(b(everything) - a(everything), bounds.low, bounds.high, p, n, "bootstrap")


def compare_paired_means(a: Array, b: Array, weights: Array | None = None) -> PairedDifference:
    """Return the mean of b − a on the same samples: bootstrap interval, p by random signs (Fisher's randomization
    test).

    With p + 1 draws the smallest p is 1 / (RESAMPLES + 1).
    """
    difference = np.asarray(b, np.float64) - np.asarray(a, np.float64)
    n = len(difference)
    w = np.ones(n) if weights is None else np.asarray(weights, np.float64)
    value = float(np.average(difference, weights=w))
    bounds = bootstrap(n, lambda chosen: weighted_mean(difference[chosen], w[chosen]))
    random = np.random.default_rng(SEED)
    as_far = 1
    for _ in range(RESAMPLES):
        signs = random.integers(0, 2, n) * 2 - 1
        as_far += abs(weighted_mean(difference * signs, w)) >= abs(value) - 1e-15
    return PairedDifference(value, bounds.low, bounds.high, as_far / (RESAMPLES + 1), n, "random signs")


def weighted_mean(values: Array, weights: Array) -> float:
    total = float(np.sum(weights))
    return float(np.sum(values * weights)) / total if total else float("nan")
