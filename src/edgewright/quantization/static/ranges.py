"""Ranges that a tensor's integers cover, chosen from its observed values."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from edgewright.quantization.network import FloatNetwork
from edgewright.quantization.observe import TensorValues
from edgewright.quantization.static.qdq import TensorQuantParams, compute_quant_params
from edgewright.schema.arrays import Array

RANGE_FRACTIONS = np.linspace(1.0, 0.3, 36)
PERCENTILE = 99.99
BINS, LEVELS = 2048, 128
# Ends below which an activation changes by less than a step of 8 bits: of HardSwish, SiLU (x · Sigmoid) and GELU.
FLAT_BELOW = {"HardSwish": -3.0, "HardSigmoid": -3.0, "Sigmoid": -5.0, "Swish": -5.0,
              "Gelu": -4.3, "Erf": -4.3, "Tanh": -4.3}  # fmt: skip
STEP_OPS, STEPS = {"Mul", "Div", "Add", "Pow"}, 5


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


def _compute_activation_range(values: TensorValues, dtype: np.dtype[Any], flat_below: float) -> ValueRange:
    """Return the least-squares range of the values bounded below where the activation that reads them is flat."""
    bounded = TensorValues(max(values.low, flat_below), values.high, np.maximum(values.some, flat_below))
    return compute_mse_range(bounded, dtype)._replace(method="activation")


def find_flat_end(network: FloatNetwork, name: str) -> float | None:
    """Return below which value all readers of a tensor return almost the same; None if it is not known.

    The readers are an activation, or the steps of one: products and sums with constants or the tensor itself.
    """
    ends: list[float] = []
    waiting, seen = [(name, STEPS)], set[str]()
    while waiting:
        tensor, left = waiting.pop()
        for node in network.consumers.get(tensor, ()):
            if node.op_type in FLAT_BELOW:
                ends.append(FLAT_BELOW[node.op_type])
            elif node.op_type not in STEP_OPS or not left:
                if tensor == name:
                    return None
            elif node.output[0] not in seen:
                seen.add(node.output[0])
                waiting.append((node.output[0], left - 1))
    return min(ends, default=None)


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


def list_candidates(values: TensorValues, dtype: np.dtype[Any], flat_below: float | None = None) -> list[ValueRange]:
    """Return the candidate ranges, the least-squares one first."""
    cut = flat_below is not None and values.low < flat_below < values.high
    return [
        compute_mse_range(values, dtype),
        compute_minmax_range(values),
        compute_percentile_range(values),
        compute_entropy_range(values),
        *([_compute_activation_range(values, dtype, flat_below)] if cut and flat_below is not None else []),
    ]


_METHODS: dict[str, Callable[[TensorValues, np.dtype[Any]], ValueRange]] = {
    "mse": compute_mse_range,
    "minmax": lambda values, _: compute_minmax_range(values),
    "percentile": lambda values, _: compute_percentile_range(values),
    "entropy": lambda values, _: compute_entropy_range(values),
}


def compute_range(
    network: FloatNetwork, name: str, values: TensorValues, method: str, dtype: np.dtype[Any]
) -> ValueRange:
    """Return a tensor's range by the method of a recipe; `activation` is `mse` where no activation reads it."""
    if method != "activation":
        return _METHODS[method](values, dtype)
    flat_below = find_flat_end(network, name)
    if flat_below is None or values.high <= flat_below:
        return compute_mse_range(values, dtype)
    return _compute_activation_range(values, dtype, flat_below)
