"""The interval of a median between two of the sorted values, whatever their distribution.

The number of values below the true median is binomial with p = 1/2 (Thompson, Ann. Math. Statist. 7, 1936; Conover,
Practical Nonparametric Statistics, section 3.2).
"""

from collections.abc import Sequence
from math import comb

CONFIDENCE = 0.95


def compute_median_bounds(
    values: Sequence[float], confidence: float = CONFIDENCE
) -> tuple[float, float] | tuple[None, None]:
    """The narrowest pair of the values that covers the median with at least `confidence`, if the values were drawn
    independently; (None, None) where they are too few for it, as fewer than six are for 0.95."""
    n = len(values)
    if n < 2 or compute_binomial_coverage(n, 0) < confidence:
        return None, None
    ordered, cut = sorted(values), compute_binomial_cut(n, confidence)
    return ordered[cut], ordered[n - 1 - cut]


def compute_binomial_cut(n: int, confidence: float) -> int:
    """How many values can be cut off at each end."""
    cut = 0
    while 2 * (cut + 1) < n and compute_binomial_coverage(n, cut + 1) >= confidence:
        cut += 1
    return cut


def compute_binomial_coverage(n: int, cut: int) -> float:
    """Probability that the median lies between the sorted values number `cut` and n − 1 − `cut`."""
    return 1.0 - sum(comb(n, k) for k in range(cut + 1)) / (1 << (n - 1))
