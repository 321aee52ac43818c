"""Round weights so that the output changes least, not the weights.

The error of a row w that is stored as q is (w − q)ᵀ H (w − q) with H the second moments of what it is multiplied
with. Columns are rounded one after the other and what rounding broke is mended in the columns that follow (optimal
brain quantisation as GPTQ orders it: Frantar et al., arXiv 2210.17323); then single entries are moved while that
helps (coordinate descent, as in QuantEase: Behdin et al., arXiv 2309.01885).
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

DAMPING = 0.01  # of the mean of H's diagonal: GPTQ's own
BLOCK = 128
PASSES = 3
SHRINKS = np.linspace(1.0, 0.6, 17)


class Grid(NamedTuple):
    """Numbers that can be stored: scale [outputs] × integers from `low` to `high`."""

    scale: Array
    low: int
    high: int


def limits(bits: int) -> tuple[int, int]:
    """Symmetric signed integers; the lowest is left out, so that −w can be stored whenever w can."""
    return -(2 ** (bits - 1)) + 1, 2 ** (bits - 1) - 1


def choose_grid(rows: Array, h: Array | None, bits: int, shrinks: Array = SHRINKS) -> Grid:
    """A scale for each row [outputs, K], by the least error among fractions of the largest value."""
    low, high = limits(bits)
    whole = np.maximum(np.abs(rows).max(axis=1), 1e-12) / high
    best, least = whole.copy(), np.full(len(rows), np.inf)
    for shrink in shrinks:
        scale = whole * shrink
        error = rows - np.clip(np.rint(rows / scale[:, None]), low, high) * scale[:, None]
        cost = ((error @ h) * error).sum(axis=1) if h is not None else (error**2).sum(axis=1)
        better = cost < least
        best[better], least[better] = scale[better], cost[better]
    return Grid(best, low, high)


def round_nearest(rows: Array, grid: Grid) -> Array:
    return np.clip(np.rint(rows / grid.scale[:, None]), grid.low, grid.high)


def round_rows(rows: Array, h: Array, grid: Grid, passes: int = PASSES) -> Array:
    """Integers [outputs, K] for real rows, by GPTQ and coordinate descent under H [K, K]."""
    h = damp(h)
    order = np.argsort(-np.diag(h), kind="stable")
    turned = rows[:, order]
    inner = h[np.ix_(order, order)]
    stored = sweep(turned, inner, grid)
    stored = descend(turned, inner, grid, stored, passes)
    nearest = round_nearest(turned, grid)
    worse = cost_of(turned, nearest, inner, grid) < cost_of(turned, stored, inner, grid)
    stored[worse] = nearest[worse]
    back = np.empty_like(stored)
    back[:, order] = stored
    return back


def damp(h: Array) -> Array:
    diagonal = np.diag(h)
    least = DAMPING * max(float(diagonal.mean()), 1e-12)
    return h + np.eye(len(h)) * least


def cost_of(rows: Array, stored: Array, h: Array, grid: Grid) -> Array:
    error = rows - stored * grid.scale[:, None]
    return ((error @ h) * error).sum(axis=1)


def sweep(rows: Array, h: Array, grid: Grid) -> Array:
    """GPTQ: round column by column, and spread each one's error over those to come."""
    factor = np.linalg.cholesky(np.linalg.inv(h), upper=True)
    left, stored = rows.copy(), np.empty_like(rows)
    for start in range(0, rows.shape[1], BLOCK):
        stop = min(start + BLOCK, rows.shape[1])
        errors = np.empty((len(rows), stop - start))
        for column in range(start, stop):
            exact = left[:, column]
            stored[:, column] = np.clip(np.rint(exact / grid.scale), grid.low, grid.high)
            error = (exact - stored[:, column] * grid.scale) / factor[column, column]
            left[:, column:stop] -= error[:, None] * factor[column, column:stop]
            errors[:, column - start] = error
        left[:, stop:] -= errors @ factor[start:stop, stop:]
    return stored


def descend(rows: Array, h: Array, grid: Grid, stored: Array, passes: int) -> Array:
    """Move single entries to their best place while all others stay; the cost never grows."""
    stored = stored.copy()
    pull = (rows - stored * grid.scale[:, None]) @ h
    for _ in range(passes):
        moved = False
        for column in range(rows.shape[1]):
            wish = np.rint(pull[:, column] / (h[column, column] * grid.scale))
            step = np.clip(stored[:, column] + wish, grid.low, grid.high) - stored[:, column]
            if step.any():
                moved = True
                stored[:, column] += step
                pull -= (step * grid.scale)[:, None] * h[column]
        if not moved:
            break
    return stored
