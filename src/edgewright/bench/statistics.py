"""Summaries and intervals that account for the variation between processes.

Samples of one process share its memory layout and its time, so they are not independent: an interval made only from
them is far too narrow (Kalibera and Jones, "Rigorous Benchmarking in Reasonable Time", ISMM 2013; Georges, Buytaert and
Eeckhout, "Statistically Rigorous Java Performance Evaluation", OOPSLA 2007). Every interval here therefore uses one
number per process, with rank methods that assume no distribution, since the times of a busy machine are skewed and have
outliers.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import hypot

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from edgewright.schema.ranks import compute_binomial_coverage, compute_binomial_cut

Floats = NDArray[np.float64]


class Interval(Struct, frozen=True, kw_only=True):
    """An estimate between `low` and `high`, which cover the true value with probability `confidence`.

    `low` and `high` are None if there are too few samples for an interval.
    """

    value: float
    low: float | None
    high: float | None
    confidence: float


def make_exact(value: float) -> Interval:
    """Return the interval of a value that is known without error."""
    return Interval(value=value, low=value, high=value, confidence=1.0)


def median_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Return the median with an interval between two of the sorted values.

    This is the narrowest pair with the requested confidence (`schema/ranks.py`); with too few values the whole range,
    with its own confidence.
    """
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    n, middle = len(ordered), float(np.median(ordered))
    if n < 2:
        return Interval(value=middle, low=None, high=None, confidence=0.0)
    cut = compute_binomial_cut(n, confidence)
    return Interval(
        value=middle, low=ordered[cut], high=ordered[n - 1 - cut], confidence=compute_binomial_coverage(n, cut)
    )


def paired_interval(differences: Sequence[float], confidence: float = 0.99) -> Interval:
    """Return the shift of paired values: Hodges–Lehmann estimate with the exact interval of Wilcoxon's signed ranks.

    Hollander and Wolfe, Nonparametric Statistical Methods, sections 3.2 and 3.3: the estimate is the median of the
    Walsh averages (d_i + d_j) / 2 with i ≤ j, and the interval lies between two of them.
    """
    d = np.asarray(differences, dtype=np.float64)
    n = len(d)
    if n == 0:
        raise ValueError("no pairs")
    walsh = np.sort(((d[:, None] + d[None, :]) / 2)[np.triu_indices(n)])
    return _rank_interval(walsh, _signed_rank_counts(n), confidence)


def shift_interval(a: Sequence[float], b: Sequence[float], confidence: float = 0.99) -> Interval:
    """Return the shift from unpaired `a` to `b`: Hodges–Lehmann estimate with the exact interval of Wilcoxon's rank
    sum.

    Hollander and Wolfe, sections 4.2 and 4.3: the estimate is the median of all differences b_j − a_i.
    """
    if not a or not b:
        raise ValueError("no values")
    differences = np.sort(np.subtract.outer(np.asarray(b, float), np.asarray(a, float)).ravel())
    return _rank_interval(differences, _rank_sum_counts(len(a), len(b)), confidence)


def combine_intervals(a: Interval, b: Interval) -> Interval:
    """Return the difference b − a of two independent estimates, with an interval from theirs.

    Zou and Donner (Statistics in Medicine 27, 2008): the distances of the estimates from their bounds are added as
    squares. The confidence is that of the less certain estimate.
    """
    value = b.value - a.value
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return Interval(value=value, low=None, high=None, confidence=0.0)
    low = value - hypot(b.value - b.low, a.high - a.value)
    high = value + hypot(b.high - b.value, a.value - a.low)
    return Interval(value=value, low=low, high=high, confidence=min(a.confidence, b.confidence))


def map_interval(interval: Interval, change: Callable[[float], float]) -> Interval:
    """Return the interval of an increasing function of the estimate."""
    low = None if interval.low is None else change(interval.low)
    high = None if interval.high is None else change(interval.high)
    return Interval(value=change(interval.value), low=low, high=high, confidence=interval.confidence)


def _rank_interval(ordered: Floats, counts: tuple[int, ...], confidence: float) -> Interval:
    """Return the interval between two of the ordered averages or differences.

    `counts[k]` is the number of equally likely arrangements in which the test's statistic is k.
    """
    total = sum(counts)
    cut, tail = 0, counts[0]
    while cut + 1 < len(ordered) // 2 and 1 - 2 * (tail + counts[cut + 1]) / total >= confidence:
        cut += 1
        tail += counts[cut]
    sure = max(0.0, 1 - 2 * tail / total)
    low, high = float(ordered[cut]), float(ordered[-1 - cut])
    value = float(np.median(ordered))
    if sure == 0.0:
        return Interval(value=value, low=None, high=None, confidence=0.0)
    return Interval(value=value, low=low, high=high, confidence=sure)


@lru_cache(maxsize=64)
def _signed_rank_counts(n: int) -> tuple[int, ...]:
    """Return the ways to choose ranks from 1..n with each sum: the null distribution of the signed-rank statistic."""
    ways = [1] + [0] * (n * (n + 1) // 2)
    for rank in range(1, n + 1):
        for total in range(len(ways) - 1, rank - 1, -1):
            ways[total] += ways[total - rank]
    return tuple(ways)


@lru_cache(maxsize=64)
def _rank_sum_counts(m: int, n: int) -> tuple[int, ...]:
    """Return the coefficients of the Gaussian binomial (m + n over m): the null distribution of the Mann–Whitney U."""
    ways = [1] + [0] * (m * n)
    for i in range(1, m + 1):
        for total in range(m * n, n + i - 1, -1):
            ways[total] -= ways[total - n - i]
        for total in range(i, m * n + 1):
            ways[total] += ways[total - i]
    return tuple(ways)
