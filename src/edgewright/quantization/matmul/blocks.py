"""Block-wise rounding of matrix rows to integers with the least error of the product.

The error of a row w that is stored as q is (w − q)ᵀ H (w − q), with H the second moments of its inputs.
Scales are chosen first, by the error of nearest rounding under H's own block. Then columns are rounded one after
the other, and later columns compensate its error (GPTQ: Frantar et al., arXiv 2210.17323), single entries
change while the error decreases (coordinate descent, as in QuantEase: Behdin et al., arXiv 2309.01885), and between two
such rounds the scales of a row are refitted by least squares under H. One block as wide as the row is a scale per row.
"""

from typing import NamedTuple

import numpy as np

from edgewright.schema.arrays import Array

DAMPING = 0.01  # of the mean of H's diagonal, as in GPTQ
UPDATE_COLUMNS = 128  # columns between two updates of all later ones
PASSES = 4
SCALE_FIT_ROUNDS = {4: 2, 8: 0}  # scales of 8 bits need no search
SCALE_FRACTIONS = {4: np.linspace(1.0, 0.55, 19), 8: np.linspace(1.0, 0.8, 9)}
# XNNPACK stores block scales as float16, so scales within its range are chosen as float16 values.
MIN_FLOAT16, MAX_FLOAT16 = 2.0**-14, 65504.0


class BlockQuantParams(NamedTuple):
    """Quantization parameters of blocks: scale [outputs, blocks] × integers from `low` to `high`.

    Attributes:
        size: columns of a block; the last block may have fewer.
    """

    scale: Array
    size: int
    low: int
    high: int

    def entry_scales(self, columns: int) -> Array:
        """Return the scale of every entry, [outputs, columns]."""
        return np.repeat(self.scale, self.size, axis=1)[:, :columns]

    def real(self, stored: Array) -> Array:
        return stored * self.entry_scales(stored.shape[1])


def get_integer_limits(bits: int) -> tuple[int, int]:
    """Return all integers of 4 bits, or those of 8 bits without −128, which LiteRT's weights do not support."""
    return (-8, 7) if bits == 4 else (-(2 ** (bits - 1)) + 1, 2 ** (bits - 1) - 1)


def compute_block_params(rows: Array, bits: int, size: int) -> BlockQuantParams:
    """Return the smallest scale of each block that clips none of its values."""
    low, high = get_integer_limits(bits)
    starts = np.arange(0, rows.shape[1], size)
    most = np.maximum.reduceat(rows, starts, axis=1) / high
    least = np.minimum.reduceat(rows, starts, axis=1) / low
    scale = np.maximum(np.maximum(most, least), 1e-12)
    return BlockQuantParams(_to_storable_scales(scale, blocks=len(starts)), size, low, high)


def _to_storable_scales(scale: Array, *, blocks: int) -> Array:
    """Return the scales as stored: float32, or for several blocks per row float16 values if they are in range."""
    single = scale.astype(np.float32)
    if blocks > 1:
        half = np.clip(scale, MIN_FLOAT16, MAX_FLOAT16).astype(np.float16).astype(np.float32)
        single = np.where((scale >= MIN_FLOAT16) & (scale <= MAX_FLOAT16), half, single)
    return single.astype(np.float64)


def search_block_params(rows: Array, h: Array, bits: int, size: int) -> BlockQuantParams:
    """Return the scale of each block with the least error of nearest rounding, among fractions of the full scale."""
    whole = compute_block_params(rows, bits, size)
    best = whole.scale.copy()
    for number, start in enumerate(range(0, rows.shape[1], size)):
        part, inner = rows[:, start : start + size], h[start : start + size, start : start + size]
        least = np.full(len(rows), np.inf)
        for shrink in SCALE_FRACTIONS[bits]:
            scale = _to_storable_scales(whole.scale[:, number] * shrink, blocks=whole.scale.shape[1])
            error = part - np.clip(np.rint(part / scale[:, None]), whole.low, whole.high) * scale[:, None]
            cost = ((error @ inner) * error).sum(axis=1)
            better = cost < least
            best[better, number], least[better] = scale[better], cost[better]
    return whole._replace(scale=best)


def round_nearest(rows: Array, blocks: BlockQuantParams) -> Array:
    return np.clip(np.rint(rows / blocks.entry_scales(rows.shape[1])), blocks.low, blocks.high)


def round_blocks(rows: Array, h: Array, blocks: BlockQuantParams) -> tuple[Array, BlockQuantParams]:
    """Return integers [outputs, K] for real rows and refitted scales; no row is worse than nearest rounding.

    `h` is [K, K], symmetric, and is damped here.
    """
    h = damp(h)
    best, kept = round_nearest(rows, blocks), blocks
    least = compute_cost(rows, best, h, blocks)
    stored = descend_coordinates(rows, h, blocks, apply_gptq(rows, h, blocks))
    fits = SCALE_FIT_ROUNDS[8 if blocks.high > 7 else 4]
    for turn in range(fits + 1):
        cost = compute_cost(rows, stored, h, blocks)
        better = cost < least
        best = np.where(better[:, None], stored, best)
        kept = kept._replace(scale=np.where(better[:, None], blocks.scale, kept.scale))
        least = np.minimum(cost, least)
        if turn < fits:
            blocks = fit_scales(rows, best, h, kept)
            stored = descend_coordinates(rows, h, blocks, best)
    return best, kept


def damp(h: Array) -> Array:
    """Return H plus a fraction of its mean diagonal, so that it is invertible."""
    return h + np.eye(len(h)) * (DAMPING * max(float(np.diag(h).mean()), 1e-12))


def compute_cost(rows: Array, stored: Array, h: Array, blocks: BlockQuantParams) -> Array:
    error = rows - blocks.real(stored)
    cost: Array = ((error @ h) * error).sum(axis=1)
    return cost


def apply_gptq(rows: Array, h: Array, blocks: BlockQuantParams) -> Array:
    """Apply GPTQ, columns with the largest moments first: later columns compensate each column's error."""
    order = np.argsort(-np.diag(h), kind="stable")
    left, entry_scales = rows[:, order], blocks.entry_scales(rows.shape[1])[:, order]
    factor = np.linalg.cholesky(np.linalg.inv(h[np.ix_(order, order)]), upper=True)
    stored = np.empty_like(left)
    for start in range(0, rows.shape[1], UPDATE_COLUMNS):
        stop = min(start + UPDATE_COLUMNS, rows.shape[1])
        strip = np.ascontiguousarray(left[:, start:stop].T)  # columns are read and written contiguously
        errors = np.empty_like(strip)
        for place in range(stop - start):
            column, step = start + place, entry_scales[:, start + place]
            stored[:, column] = np.clip(np.rint(strip[place] / step), blocks.low, blocks.high)
            errors[place] = (strip[place] - stored[:, column] * step) / factor[column, column]
            strip[place:] -= factor[column, column:stop, None] * errors[place]
        left[:, stop:] -= errors.T @ factor[start:stop, stop:]
    back = np.empty_like(stored)
    back[:, order] = stored
    return back


def descend_coordinates(rows: Array, h: Array, blocks: BlockQuantParams, stored: Array) -> Array:
    """Change single entries to their best value with all others fixed; the error never increases."""
    stored, entry_scales = stored.copy(), blocks.entry_scales(rows.shape[1])
    pull = (rows - stored * entry_scales) @ h
    for _ in range(PASSES):
        moved = False
        for column in range(rows.shape[1]):
            optimum = np.rint(pull[:, column] / (h[column, column] * entry_scales[:, column]))
            move = np.clip(stored[:, column] + optimum, blocks.low, blocks.high) - stored[:, column]
            (changed,) = np.nonzero(move)
            if len(changed):
                moved = True
                stored[changed, column] += move[changed]
                pull[changed] -= (move * entry_scales[:, column])[changed, None] * h[column]
        if not moved:
            break
    return stored


def fit_scales(rows: Array, stored: Array, h: Array, blocks: BlockQuantParams) -> BlockQuantParams:
    """Return the scales with the least error of the stored integers under H, or the old scales if the fit fails."""
    count, starts = blocks.scale.shape[1], np.arange(0, rows.shape[1], blocks.size)
    normal, right = np.empty((len(rows), count, count)), np.empty((len(rows), count))
    for number, start in enumerate(starts):
        columns = slice(start, start + blocks.size)
        pushed = stored[:, columns] @ h[columns]
        normal[:, number] = np.add.reduceat(pushed * stored, starts, axis=1)
        right[:, number] = (pushed * rows).sum(axis=1)
    empty = np.einsum("rbb->rb", normal) <= 0  # a block of zeros determines no scale
    normal += np.eye(count) * np.where(empty, 1.0, 0.0)[:, :, None]
    try:
        fitted = np.linalg.solve(normal, right[:, :, None])[:, :, 0]
    except np.linalg.LinAlgError:
        return blocks
    sane = (fitted > 0.5 * blocks.scale) & (fitted < 2.0 * blocks.scale) & ~empty
    return blocks._replace(scale=_to_storable_scales(np.where(sane, fitted, blocks.scale), blocks=count))
