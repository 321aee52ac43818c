"""From the values a tensor takes to the range that its integers cover."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgewright.compress.observe import Values
from edgewright.compress.qdq import Steps, real_steps

Array = NDArray[Any]

SHRINKS = np.linspace(1.0, 0.3, 36)
PERCENTILE = 99.99
BINS, LEVELS = 2048, 128


class Range(NamedTuple):
    """Lowest and highest value that is covered, and how it was found."""

    low: float
    high: float
    method: str


def minmax(values: Values) -> Range:
    return Range(values.low, values.high, "minmax")


def percentile(values: Values, share: float = PERCENTILE) -> Range:
    """Cut the same share off both ends; an end at zero stays."""
    low, high = np.percentile(values.some, [100 - share, share]) if values.some.size else (0.0, 0.0)
    return Range(
        low=0.0 if values.low >= 0 else float(low),
        high=0.0 if values.high <= 0 else float(high),
        method="percentile",
    )


def least_squares(values: Values, dtype: np.dtype[Any]) -> Range:
    """The share of the whole range that gives the least mean squared error."""
    costs = [mean_error(values.some, real_steps(values.low * k, values.high * k, dtype)) for k in SHRINKS]
    best = float(SHRINKS[int(np.argmin(costs))])
    return Range(values.low * best, values.high * best, "mse")


def entropy(values: Values) -> Range:
    """The range whose 128 levels lose least information, as Kullback and Leibler measure it.

    Migacz, 8-bit inference with TensorRT, GTC 2017; over the magnitudes, on a histogram of the values seen.
    """
    reach = max(abs(values.low), abs(values.high))
    if not reach or not values.some.size:
        return Range(values.low, values.high, "entropy")
    counts, edges = np.histogram(np.abs(values.some), bins=BINS, range=(0.0, reach))
    best, least = BINS, np.inf
    for cut in range(LEVELS, BINS + 1, 16):
        divergence = divergence_at(counts, cut)
        if divergence < least:
            best, least = cut, divergence
    limit = float(edges[best])
    return Range(max(values.low, -limit), min(values.high, limit), "entropy")


def divergence_at(counts: Array, cut: int) -> float:
    """Of the histogram cut at `cut` bins from itself told in LEVELS levels."""
    kept = counts[:cut].astype(np.float64)
    true = kept.copy()
    true[-1] += counts[cut:].sum()
    edges = np.linspace(0, cut, LEVELS + 1).astype(int)
    sums = np.add.reduceat(kept, edges[:-1])
    filled = np.add.reduceat((kept > 0).astype(np.float64), edges[:-1])
    each = np.divide(sums, filled, out=np.zeros_like(sums), where=filled > 0)
    told = np.repeat(each, np.diff(edges)) * (kept > 0)
    p, q = true / true.sum(), told / max(told.sum(), 1e-12)
    some = p > 0
    return float(np.sum(p[some] * np.log(p[some] / np.maximum(q[some], 1e-12))))


def mean_error(some: Array, steps: Steps) -> float:
    return float(np.mean((some - fake(some, steps)) ** 2)) if some.size else 0.0


def fake(values: Array, steps: Steps) -> Array:
    """What a pair makes of values."""
    limits = np.iinfo(steps.zero.dtype)
    zero = float(steps.zero)
    stored = np.clip(np.rint(values / steps.scale) + zero, limits.min, limits.max)
    return ((stored - zero) * steps.scale).astype(np.float32)


def candidates(values: Values, dtype: np.dtype[Any]) -> list[Range]:
    """The ranges worth trying, the least-squares one first."""
    return [least_squares(values, dtype), minmax(values), percentile(values), entropy(values)]


METHODS: dict[str, Callable[[Values, np.dtype[Any]], Range]] = {
    "mse": least_squares,
    "minmax": lambda values, _: minmax(values),
    "percentile": lambda values, _: percentile(values),
    "entropy": lambda values, _: entropy(values),
}
