"""Ranges that a tensor's integers cover, chosen from its observed values."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgewright.quantization.observe import TensorValues
from edgewright.quantization.static.qdq import TensorQuantParams, compute_quant_params

Array = NDArray[Any]

RANGE_FRACTIONS = np.linspace(1.0, 0.3, 36)
PERCENTILE = 99.99
BINS, LEVELS = 2048, 128


class ValueRange(NamedTuple):
    """Lowest and highest value that is covered, and the method that found them."""

    low: float
    high: float
    method: str


def compute_minmax_range(values: TensorValues) -> ValueRange:
    return ValueRange(values.low, values.high, "minmax")


def compute_percentile_range(values: TensorValues, share: float = PERCENTILE) -> ValueRange:
    """Return the range without the same share at both ends; an end at zero stays."""
    low, high = np.percentile(values.some, [100 - share, share]) if values.some.size else (0.0, 0.0)
    return ValueRange(
        low=0.0 if values.low >= 0 else float(low),
        high=0.0 if values.high <= 0 else float(high),
        method="percentile",
    )


def compute_mse_range(values: TensorValues, dtype: np.dtype[Any]) -> ValueRange:
    """Return the share of the whole range that gives the least mean squared error."""
    costs = [
        compute_mean_squared_error(values.some, compute_quant_params(values.low * k, values.high * k, dtype))
        for k in RANGE_FRACTIONS
    ]
    best = float(RANGE_FRACTIONS[int(np.argmin(costs))])
    return ValueRange(values.low * best, values.high * best, "mse")


def compute_entropy_range(values: TensorValues) -> ValueRange:
    """Return the range whose 128 levels have the smallest Kullback-Leibler divergence.

    Migacz, 8-bit inference with TensorRT, GTC 2017; on a histogram of the observed magnitudes.
    """
    reach = max(abs(values.low), abs(values.high))
    if not reach or not values.some.size:
        return ValueRange(values.low, values.high, "entropy")
    counts, edges = np.histogram(np.abs(values.some), bins=BINS, range=(0.0, reach))
    best, least = BINS, np.inf
    for cut in range(LEVELS, BINS + 1, 16):
        divergence = compute_divergence(counts, cut)
        if divergence < least:
            best, least = cut, divergence
    limit = float(edges[best])
    return ValueRange(max(values.low, -limit), min(values.high, limit), "entropy")


def compute_divergence(counts: Array, cut: int) -> float:
    """Return the divergence of the histogram, cut at `cut` bins, from its version in LEVELS levels."""
    kept = counts[:cut].astype(np.float64)
    true = kept.copy()
    true[-1] += counts[cut:].sum()
    edges = np.linspace(0, cut, LEVELS + 1).astype(int)
    sums = np.add.reduceat(kept, edges[:-1])
    filled = np.add.reduceat((kept > 0).astype(np.float64), edges[:-1])
    each = np.divide(sums, filled, out=np.zeros_like(sums), where=filled > 0)
    quantized = np.repeat(each, np.diff(edges)) * (kept > 0)
    p, q = true / true.sum(), quantized / max(quantized.sum(), 1e-12)
    some = p > 0
    return float(np.sum(p[some] * np.log(p[some] / np.maximum(q[some], 1e-12))))


def compute_mean_squared_error(some: Array, tensor_params: TensorQuantParams) -> float:
    return float(np.mean((some - fake_quantize(some, tensor_params)) ** 2)) if some.size else 0.0


def fake_quantize(values: Array, tensor_params: TensorQuantParams) -> Array:
    """Return the values after a Q/DQ pair."""
    limits = np.iinfo(tensor_params.zero.dtype)
    zero = float(tensor_params.zero)
    stored = np.clip(np.rint(values / tensor_params.scale) + zero, limits.min, limits.max)
    return ((stored - zero) * tensor_params.scale).astype(np.float32)


def list_candidates(values: TensorValues, dtype: np.dtype[Any]) -> list[ValueRange]:
    """Return the candidate ranges, the least-squares one first."""
    return [
        compute_mse_range(values, dtype),
        compute_minmax_range(values),
        compute_percentile_range(values),
        compute_entropy_range(values),
    ]


METHODS: dict[str, Callable[[TensorValues, np.dtype[Any]], ValueRange]] = {
    "mse": compute_mse_range,
    "minmax": lambda values, _: compute_minmax_range(values),
    "percentile": lambda values, _: compute_percentile_range(values),
    "entropy": lambda values, _: compute_entropy_range(values),
}
