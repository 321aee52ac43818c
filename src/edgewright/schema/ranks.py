"""Confidence interval of a median from the sorted values, without an assumed distribution.

The number of values below the true median is binomial with p = 1/2 (Thompson, Ann. Math. Statist. 7, 1936; Conover,
Practical Nonparametric Statistics, section 3.2).
"""

from collections.abc import Sequence
from math import comb

CONFIDENCE = 0.95


def compute_median_bounds(
    values: Sequence[float], confidence: float = CONFIDENCE
) -> tuple[float, float] | tuple[None, None]:
    """Return the narrowest pair of values that covers the median with at least `confidence`.

    The values must be independent. Returns (None, None) if there are too few, which is fewer than six for 0.95.
    """
    n = len(values)
    if n < 2 or compute_binomial_coverage(n, 0) < confidence:
        return None, None
    ordered, cut = sorted(values), compute_binomial_cut(n, confidence)
    return ordered[cut], ordered[n - 1 - cut]


def compute_binomial_cut(n: int, confidence: float) -> int:
    """Return how many values can be dropped at each end."""
    cut = 0
    while 2 * (cut + 1) < n and compute_binomial_coverage(n, cut + 1) >= confidence:
        cut += 1
    return cut


def compute_binomial_coverage(n: int, cut: int) -> float:
    """Return the probability that the median lies between the sorted values `cut` and n − 1 − `cut`."""
    return 1.0 - sum(comb(n, k) for k in range(cut + 1)) / (1 << (n - 1))
