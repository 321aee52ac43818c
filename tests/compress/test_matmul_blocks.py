"""Rounding in blocks: what the grid can hold, and that the product's error only ever shrinks."""

import numpy as np
import pytest

from edgewright.compress.blocks import (
    Array,
    choose_blocks,
    cost_of,
    damp,
    descend,
    fit_scales,
    full_blocks,
    limits,
    round_blocks,
    round_nearest,
    sweep,
)


def make_rows(outputs: int = 12, depth: int = 80) -> tuple[Array, Array]:
    """Rows, and the moments of columns that hang together."""
    rng = np.random.default_rng(3)
    rows = rng.uniform(-1, 1, (outputs, depth))
    x = rng.standard_normal((400, depth)) @ (rng.standard_normal((depth, depth)) / 4 + np.eye(depth))
    return rows, x.T @ x / len(x)


@pytest.mark.parametrize(("bits", "size"), [(4, 32), (4, 16), (8, 80)])
def test_adaptive_rounding_leaves_less_error_than_the_nearest(bits: int, size: int) -> None:
    rows, h = make_rows()
    plain = full_blocks(rows, bits, size)
    nearest = cost_of(rows, round_nearest(rows, plain), h, plain)
    stored, blocks = round_blocks(rows, h, choose_blocks(rows, h, bits, size))
    low, high = limits(bits)
    assert stored.min() >= low and stored.max() <= high and np.array_equal(stored, np.rint(stored))
    assert 10 * np.log10(nearest.sum() / cost_of(rows, stored, h, blocks).sum()) > 2


def test_the_last_block_may_have_fewer_columns() -> None:
    rows, h = make_rows(depth=80)
    blocks = choose_blocks(rows, h, 4, 32)
    assert blocks.scale.shape == (12, 3)
    steps = blocks.steps(80)
    assert steps.shape == (12, 80)
    assert np.array_equal(steps[:, 64:], np.repeat(blocks.scale[:, 2:], 16, axis=1))


def test_plain_rounding_clips_nothing_but_by_the_rounding_of_the_scale() -> None:
    rows, _ = make_rows()
    for bits, size in ((4, 32), (8, 80)):
        blocks = full_blocks(rows, bits, size)
        error = np.abs(rows - blocks.real(round_nearest(rows, blocks)))
        assert (error <= 0.51 * blocks.steps(80)).all()


def test_scales_of_blocks_are_numbers_of_float16() -> None:
    rows, h = make_rows()
    _, blocks = round_blocks(rows, h, choose_blocks(rows, h, 4, 16))
    assert np.array_equal(blocks.scale, blocks.scale.astype(np.float16).astype(np.float64))


def test_scales_too_small_for_float16_stay_float32() -> None:
    rows, _ = make_rows()
    blocks = full_blocks(rows * 1e-6, 4, 16)
    assert (blocks.scale > 0).all()
    assert np.allclose(blocks.scale, full_blocks(rows, 4, 16).scale * 1e-6, rtol=1e-3)


def test_moving_entries_and_fitting_scales_never_adds_error() -> None:
    rows, h = make_rows()
    h = damp(h)
    blocks = full_blocks(rows, 4, 32)
    swept = sweep(rows, h, blocks)
    moved = descend(rows, h, blocks, swept)
    assert (cost_of(rows, moved, h, blocks) <= cost_of(rows, swept, h, blocks) + 1e-12).all()
    fitted = fit_scales(rows, moved, h, blocks)
    # The fit is the best there is before its scales are rounded to float16.
    assert cost_of(rows, moved, h, fitted).sum() < 1.001 * cost_of(rows, moved, h, blocks).sum()


def test_a_row_of_zeros_and_columns_that_are_never_fed_are_rounded_too() -> None:
    rows, h = make_rows()
    rows[3] = 0
    h[:, 5] = h[5] = 0
    stored, blocks = round_blocks(rows, h, choose_blocks(rows, h, 4, 32))
    assert np.isfinite(stored).all() and np.isfinite(blocks.scale).all() and not stored[3].any()
