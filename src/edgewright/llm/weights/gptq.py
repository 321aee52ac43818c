"""Rounding of weights that keeps the outputs of a matrix product: GPTQ, with a searched range for each group.

Sources: Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers"
(arXiv:2210.17323), with columns in the order of their second moments and the groups of the original order. A group has
a scale and a minimum of its own (a zero point that need not be an integer).
"""

import numpy as np

from edgewright.llm.weights.packed import GROUP, Packed, to_half
from edgewright.schema.arrays import Array

LEVELS = 15
DAMPING = 0.01
BLOCK = 128
# Shares of a group's range that are cut at each end; the best pair is chosen for each group.
CUTS = np.linspace(0.0, 0.15, 7)
MOST_ELEMENTS = 1 << 22


def _choose_ranges(matrix: Array, moments: Array | None, *, integer: bool) -> tuple[Array, Array]:
    """Return the scale and the minimum of each group with the least error, as float32 [rows, groups].

    Args:
        matrix: float32 [rows, columns].
        moments: second moments of the inputs [columns], the weights of the errors; None for equal ones.
        integer: whether a minimum must be an integer from -15 to 0 times its scale.
    """
    rows = max(1, MOST_ELEMENTS // matrix.shape[1])
    weights = np.ones(matrix.shape[1], np.float32) if moments is None else moments.astype(np.float32)
    parts = [
        _choose_part(matrix[at : at + rows].reshape(-1, matrix.shape[1] // GROUP, GROUP), weights, integer=integer)
        for at in range(0, len(matrix), rows)
    ]
    scales, minima = zip(*parts, strict=True)
    return np.concatenate(scales), np.concatenate(minima)


def _choose_part(groups: Array, weights: Array, *, integer: bool) -> tuple[Array, Array]:
    weights = weights.reshape(-1, GROUP)
    low, high = groups.min(-1), groups.max(-1)
    if integer:
        low, high = np.minimum(low, 0), np.maximum(high, 0)
    best: tuple[Array, Array, Array] | None = None
    for cut_low in CUTS:
        for cut_high in CUTS:
            begin, end = low + (high - low) * cut_low, high - (high - low) * cut_high
            scale, minimum = _make_range(begin.astype(np.float32), end.astype(np.float32), integer=integer)
            error = _measure_error(groups, scale, minimum, weights)
            if best is None:
                best = error, scale, minimum
                continue
            better = error < best[0]
            best = (
                np.where(better, error, best[0]),
                np.where(better, scale, best[1]),
                np.where(better, minimum, best[2]),
            )
    if best is None:
        raise ValueError("there are no ranges to choose from")
    return best[1], best[2]


def _make_range(begin: Array, end: Array, *, integer: bool) -> tuple[Array, Array]:
    scale = np.maximum(to_half((end - begin) / LEVELS), np.float32(1e-6))
    if integer:
        return scale, -np.clip(np.rint(-begin / scale), 0, LEVELS) * scale
    return scale, to_half(begin)


def _measure_error(groups: Array, scale: Array, minimum: Array, weights: Array) -> Array:
    codes = (groups - minimum[..., None]) / scale[..., None]
    np.clip(np.rint(codes, out=codes), 0, LEVELS, out=codes)
    codes *= scale[..., None]
    codes += minimum[..., None]
    codes -= groups
    codes *= codes
    found: Array = np.einsum("rgc,gc->rg", codes, weights)
    return found


def round_4bit(matrix: Array, *, integer: bool = False) -> Packed:
    """Return the matrix at 4 bits, each element rounded to the nearest."""
    scales, minima = _choose_ranges(matrix, None, integer=integer)
    wide, low = np.repeat(scales, GROUP, 1), np.repeat(minima, GROUP, 1)
    return Packed(np.clip(np.rint((matrix - low) / wide), 0, LEVELS).astype(np.uint8), scales, minima, 4)


def quantize_gptq(matrix: Array, moments: Array, *, integer: bool = False) -> Packed:
    """Return the matrix at 4 bits, each column's error spread over the columns that follow.

    Args:
        matrix: float32 [rows, columns].
        moments: mean products of the inputs, [columns, columns].
        integer: whether zero points are integers.
    """
    diagonal = np.diagonal(moments).copy()
    scales, minima = _choose_ranges(matrix, diagonal, integer=integer)
    order = np.argsort(-diagonal, kind="stable")
    factors = _factorize(moments, order)
    left = matrix[:, order].astype(np.float64)
    groups = order // GROUP
    codes = np.zeros(matrix.shape, np.uint8)
    for begin in range(0, len(order), BLOCK):
        end = min(begin + BLOCK, len(order))
        errors = np.zeros((len(matrix), end - begin))
        for at in range(begin, end):
            scale, minimum = scales[:, groups[at]], minima[:, groups[at]]
            code = np.clip(np.rint((left[:, at] - minimum) / scale), 0, LEVELS)
            codes[:, order[at]] = code
            error = (left[:, at] - (code * scale + minimum)) / factors[at, at]
            left[:, at:end] -= error[:, None] * factors[at, at:end]
            errors[:, at - begin] = error
        left[:, end:] -= errors @ factors[begin:end, end:]
    return Packed(codes, scales, minima, 4)


def _factorize(moments: Array, order: Array) -> Array:
    """Return the upper factor of the inverse of the moments in this order, float64 [columns, columns]."""
    ordered = moments[np.ix_(order, order)].astype(np.float64)
    at = np.arange(len(order))
    mean = float(ordered[at, at].mean()) or 1.0
    ordered[at, at] += DAMPING * mean
    inverse = np.linalg.inv(ordered)
    return np.linalg.cholesky((inverse + inverse.T) / 2).T
