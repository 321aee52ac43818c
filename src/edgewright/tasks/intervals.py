"""Intervals and tests for what is counted or averaged over samples, with their sources."""

from collections.abc import Callable
from math import comb, sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

Z_95 = 1.959963984540054  # the normal distribution's 97.5 % point
RESAMPLES = 2000
SEED = 20_261


class Bounds(NamedTuple):
    low: float
    high: float


class Difference(NamedTuple):
    """Second minus first on the same samples, between `low` and `high` (95 %); `p` of no difference at all."""

    value: float
    low: float
    high: float
    p: float
    n: int


def wilson(hits: int, n: int) -> Bounds:
    """Wilson's score interval of a share (JASA 22, 1927), which holds near 0 and 1 too."""
    share, z2 = hits / n, Z_95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return Bounds(max(0.0, middle - half), min(1.0, middle + half))


def mcnemar(correct_a: Array, correct_b: Array) -> Difference:
    """McNemar's test in its exact form (binomial, two-sided), and the difference of the shares, b − a.

    The interval is method 10 of Newcombe (Statistics in Medicine 17, 1998, 2635): Wilson's intervals of both shares,
    joined by their correlation.

    Args:
        correct_a, correct_b: booleans [n], of the same samples.
    """
    a, b = np.asarray(correct_a, bool), np.asarray(correct_b, bool)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"{a.shape} and {b.shape} are not results of the same samples")
    both, only_a, only_b = (int(np.sum(x)) for x in (a & b, a & ~b, ~a & b))
    low, high = newcombe(both, only_b, only_a, len(a) - both - only_a - only_b)
    value = (only_b - only_a) / len(a)
    return Difference(value, low, high, sign_test(only_a, only_b), len(a))


def sign_test(less: int, more: int) -> float:
    """Two-sided probability of a split at least as uneven, if both were equally likely."""
    n, k = less + more, min(less, more)
    return min(1.0, 2 * sum(comb(n, i) for i in range(k + 1)) / (1 << n))


def newcombe(both: int, first: int, second: int, neither: int) -> Bounds:
    """Of share(first or both) − share(second or both)."""
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
    return Bounds(max(-1.0, p1 - p2 - sqrt(max(0.0, below))), min(1.0, p1 - p2 + sqrt(max(0.0, above))))


def bootstrap(n: int, statistic: Callable[[Array], float], resamples: int = RESAMPLES) -> Bounds:
    """Percentile interval (Efron, Ann. Statist. 7, 1979) of a statistic of sample numbers, drawn with a fixed seed.

    Args:
        statistic: of indices [n] into the samples, some of them twice. NaN (a draw that has no value) is left out.
    """
    random = np.random.default_rng(SEED)
    values = np.array([statistic(random.integers(0, n, n)) for _ in range(resamples)])
    values = values[np.isfinite(values)]
    if not len(values):
        return Bounds(float("nan"), float("nan"))
    low, high = np.percentile(values, (2.5, 97.5))
    return Bounds(float(low), float(high))


def paired_means(a: Array, b: Array, weights: Array | None = None) -> Difference:
    """Mean of b − a on the same samples: bootstrap interval, and p by random signs (Fisher's randomisation test).

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
    return Difference(value, bounds.low, bounds.high, as_far / (RESAMPLES + 1), n)


def weighted_mean(values: Array, weights: Array) -> float:
    total = float(np.sum(weights))
    return float(np.sum(values * weights)) / total if total else float("nan")
