"""Kernels in numpy: what the compiled ones are checked against, and used without them."""

import math

import numpy as np

from edgewright.schema.arrays import Array

_erf = np.frompyfunc(math.erf, 1, 1)


def relu6(values: Array) -> Array:
    return np.clip(values, np.float32(0), np.float32(6))


def hardswish(values: Array) -> Array:
    with np.errstate(invalid="ignore"):
        wide = values.astype(np.float64)
        return (wide * (np.clip(wide + 3, 0, 6) / 6)).astype(np.float32)


def gelu(values: Array) -> Array:
    wide = values.astype(np.float64)
    share = 0.5 * (1 + np.asarray(_erf(wide / math.sqrt(2)), np.float64))
    with np.errstate(invalid="ignore"):
        done = np.where(np.isneginf(wide), 0.0, wide * share)
    return done.astype(np.float32)


def softmax(values: Array) -> Array:
    """Softmax over the last axis."""
    with np.errstate(invalid="ignore"):
        powers = np.exp(values.astype(np.float64) - values.max(axis=-1, keepdims=True))
        shares: Array = (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)
    return shares


def dequantize(values: Array, scale: float, zero_point: int) -> Array:
    return (values.astype(np.int32) - zero_point).astype(np.float32) * np.float32(scale)


def quantize(values: Array, scale: float, zero_point: int) -> Array:
    """Return int8 values, rounded half to even and clipped; NaN is the zero point."""
    with np.errstate(invalid="ignore", over="ignore"):
        steps = np.rint(values / np.float32(scale)) + np.float32(zero_point)
    steps = np.where(np.isnan(steps), np.float32(zero_point), steps)
    return np.clip(steps, -128, 127).astype(np.int8)


def unpack_int4(packed: Array, count: int) -> Array:
    """Return int8 values of two signed 4-bit values per byte, the low half first."""
    pairs = np.stack([packed & 15, packed >> 4], axis=-1).reshape(-1)[:count].astype(np.int8)
    return np.where(pairs > 7, pairs - 16, pairs).astype(np.int8)


def argmax(values: Array) -> int:
    """Return the index of the largest value, -1 without values; NaN counts as the largest."""
    return int(np.argmax(values)) if values.size else -1


def topk(values: Array, k: int) -> Array:
    """Return the indices of the k largest values in descending order, equal ones by index; NaN first."""
    return np.argsort(-values, kind="stable")[_nan_first(values)][:k] if np.isnan(values).any() else _sort(values)[:k]


def _sort(values: Array) -> Array:
    return np.argsort(-values, kind="stable")


def _nan_first(values: Array) -> Array:
    """numpy sorts NaN last."""
    count = int(np.isnan(values).sum())
    return np.roll(np.arange(values.size), count)


def nms(boxes: Array, scores: Array, limit: float, least: float, most: int) -> Array:
    """Return the indices of the kept boxes [n, 4] (left, top, right, bottom) by descending score.

    A box is removed if its intersection over union with a kept box is over `limit`, if its score is below `least`, or
    if it has a NaN.
    """
    valid = (scores >= np.float32(least)) & ~np.isnan(boxes).any(axis=1)
    left_over = np.flatnonzero(valid)
    left_over = left_over[np.argsort(-scores[left_over], kind="stable")]
    with np.errstate(invalid="ignore", over="ignore"):
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        kept: list[int] = []
        while left_over.size and len(kept) < most:
            best, left_over = left_over[0], left_over[1:]
            kept.append(int(best))
            low = np.maximum(boxes[best, :2], boxes[left_over, :2])
            size = np.maximum(np.minimum(boxes[best, 2:], boxes[left_over, 2:]) - low, 0)
            both = size[:, 0] * size[:, 1]
            left_over = left_over[~(both > np.float32(limit) * ((area[left_over] + area[best]) - both))]
    return np.array(kept, np.int32)


def matvec_int8(matrix: Array, vector: Array) -> Array:
    """Return int32 [rows] of int8 [rows, n] times int8 [n]."""
    return matrix.astype(np.int32) @ vector.astype(np.int32)


def plan_pool(sizes: Array, first: Array, last: Array, align: int) -> tuple[Array, int]:
    """Return the offset of each block and the size of the pool: largest blocks first, each at the first free place."""
    rounded = (sizes + align - 1) // align * align
    offsets = np.zeros(len(sizes), np.int64)
    placed: list[int] = []
    for one in np.argsort(-rounded, kind="stable"):
        alive = [other for other in placed if not (last[other] < first[one] or last[one] < first[other])]
        at = 0
        for other in sorted(alive, key=lambda other: int(offsets[other])):
            if at + rounded[one] <= offsets[other]:
                break
            at = max(at, int(offsets[other] + rounded[other]))
        offsets[one] = at
        placed.append(int(one))
    return offsets, int((offsets + rounded).max(initial=0))
