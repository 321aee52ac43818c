"""Round weights so that the output changes least.

The error of a row w that is stored as q is (w − q)ᵀ H (w − q), with H the second moments of what it is multiplied
with. Columns are rounded one by one, and the following columns compensate the error of each (GPTQ: Frantar et al.,
arXiv 2210.17323); then single entries change while the error falls (coordinate descent, as in QuantEase: Behdin et al.,
arXiv 2309.01885).

All arrays are stacked by group: rows [G, outputs, K], H [G, K, K]. A depthwise convolution is many small groups.
"""

from typing import NamedTuple

import numpy as np

from edgewright.schema.arrays import Array

# Share of the mean of H's diagonal. GPTQ's own 0.01 fits H's noise if a row has more weights than samples: on late
# layers it left more error on unseen samples than plain rounding.
DAMPING = 0.1
UPDATE_COLUMNS = 128
PASSES = 4
SCALE_FRACTIONS = np.linspace(1.0, 0.6, 17)


class RowQuantParams(NamedTuple):
    """Representable numbers: scale [G, outputs] × integers from `low` to `high`."""

    scale: Array
    low: int
    high: int

    def real(self, stored: Array) -> Array:
        return stored * self.scale[..., None]


def get_integer_limits(bits: int) -> tuple[int, int]:
    """Return the limits of symmetric signed integers, without the lowest: if w can be stored, so can −w."""
    return -(2 ** (bits - 1)) + 1, 2 ** (bits - 1) - 1


def compute_row_params(rows: Array, bits: int) -> RowQuantParams:
    """Return the scale of each row that represents its largest value."""
    low, high = get_integer_limits(bits)
    return RowQuantParams(np.maximum(np.abs(rows).max(axis=-1), 1e-12) / high, low, high)


def search_row_params(rows: Array, h: Array, bits: int) -> RowQuantParams:
    """Return the scale of each row with the least error of plain rounding, among fractions of the full one.

    Each entry's error is weighted by the power of the values that it is multiplied with.
    """
    whole = compute_row_params(rows, bits)
    power = np.diagonal(h, axis1=1, axis2=2)[:, None, :]
    best, least = whole.scale.copy(), np.full(whole.scale.shape, np.inf)
    for shrink in SCALE_FRACTIONS:
        row_params = whole._replace(scale=whole.scale * shrink)
        cost = ((rows - row_params.real(round_nearest(rows, row_params))) ** 2 * power).sum(axis=-1)
        better = cost < least
        best[better], least[better] = row_params.scale[better], cost[better]
    return whole._replace(scale=best)


def round_nearest(rows: Array, row_params: RowQuantParams) -> Array:
    return np.clip(np.rint(rows / row_params.scale[..., None]), row_params.low, row_params.high)


def round_rows(rows: Array, h: Array, row_params: RowQuantParams) -> Array:
    """Return integers for real rows, by GPTQ and coordinate descent under a damped H; never worse than plain
    rounding."""
    order = np.argsort(-np.diagonal(h, axis1=1, axis2=2), axis=1, kind="stable")
    turned = np.take_along_axis(rows, order[:, None, :], axis=2)
    inner = np.take_along_axis(np.take_along_axis(h, order[:, :, None], axis=1), order[:, None, :], axis=2)
    stored = _descend_coordinates(turned, inner, row_params, _apply_gptq(turned, inner, row_params))
    nearest = round_nearest(turned, row_params)
    worse = compute_cost(turned, nearest, inner, row_params) < compute_cost(turned, stored, inner, row_params)
    stored[worse] = nearest[worse]
    back = np.empty_like(stored)
    np.put_along_axis(back, np.broadcast_to(order[:, None, :], stored.shape), stored, axis=2)
    return back


def refit_scales(rows: Array, stored: Array, h: Array, row_params: RowQuantParams) -> RowQuantParams:
    """Return the scales with the least error under H for integers that are rounded already."""
    moved = stored @ h
    power = (moved * stored).sum(axis=-1)
    best = np.divide((moved * rows).sum(axis=-1), power, out=row_params.scale.copy(), where=power > 0)
    return row_params._replace(scale=np.where(best > 0, best, row_params.scale))


def damp(h: Array) -> Array:
    """Return H with a share of its mean diagonal added to the diagonal, so that it can be inverted."""
    mean = np.diagonal(h, axis1=1, axis2=2).mean(axis=1)
    damped: Array = h + np.eye(h.shape[-1]) * (DAMPING * np.maximum(mean, 1e-12))[:, None, None]
    return damped


def compute_cost(rows: Array, stored: Array, h: Array, row_params: RowQuantParams) -> Array:
    error = rows - row_params.real(stored)
    cost: Array = ((error @ h) * error).sum(axis=-1)
    return cost


def _apply_gptq(rows: Array, h: Array, row_params: RowQuantParams) -> Array:
    """Round column by column, and distribute the error of each over the following ones (GPTQ)."""
    factor = np.linalg.cholesky(np.linalg.inv(h), upper=True)
    left, stored = rows.copy(), np.empty_like(rows)
    for start in range(0, rows.shape[2], UPDATE_COLUMNS):
        stop = min(start + UPDATE_COLUMNS, rows.shape[2])
        errors = np.empty((*rows.shape[:2], stop - start))
        for column in range(start, stop):
            exact = left[:, :, column]
            stored[:, :, column] = np.clip(np.rint(exact / row_params.scale), row_params.low, row_params.high)
            error = (exact - stored[:, :, column] * row_params.scale) / factor[:, None, column, column]
            left[:, :, column:stop] -= error[:, :, None] * factor[:, None, column, column:stop]
            errors[:, :, column - start] = error
        left[:, :, stop:] -= errors @ factor[:, start:stop, stop:]
    return stored


def _descend_coordinates(rows: Array, h: Array, row_params: RowQuantParams, stored: Array) -> Array:
    """Set single entries to their best value while all others stay; the cost never grows."""
    stored = stored.copy()
    pull = (rows - row_params.real(stored)) @ h
    for _ in range(PASSES):
        moved = False
        for column in range(rows.shape[2]):
            optimum = np.rint(pull[:, :, column] / (h[:, None, column, column] * row_params.scale))
            step = np.clip(stored[:, :, column] + optimum, row_params.low, row_params.high) - stored[:, :, column]
            group, row = np.nonzero(step)
            if group.size:
                moved = True
                stored[:, :, column] += step
                change = (step * row_params.scale)[group, row]
                pull[group, row] -= change[:, None] * h[group, column]
        if not moved:
            break
    return stored
