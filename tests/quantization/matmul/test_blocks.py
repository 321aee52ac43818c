"""Rounding in blocks: what the grid can hold, and that the product's error only ever shrinks."""

import numpy as np
import pytest

from edgewright.quantization.matmul.blocks import (
    Array,
    apply_gptq,
    compute_block_params,
    compute_cost,
    damp,
    descend_coordinates,
    fit_scales,
    get_integer_limits,
    round_blocks,
    round_nearest,
    search_block_params,
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
    plain = compute_block_params(rows, bits, size)
    nearest = compute_cost(rows, round_nearest(rows, plain), h, plain)
    stored, blocks = round_blocks(rows, h, search_block_params(rows, h, bits, size))
    low, high = get_integer_limits(bits)
    assert stored.min() >= low and stored.max() <= high and np.array_equal(stored, np.rint(stored))
    assert 10 * np.log10(nearest.sum() / compute_cost(rows, stored, h, blocks).sum()) > 2


def test_the_last_block_may_have_fewer_columns() -> None:
    rows, h = make_rows(depth=80)
    blocks = search_block_params(rows, h, 4, 32)
    assert blocks.scale.shape == (12, 3)
    entry_scales = blocks.entry_scales(80)
    assert entry_scales.shape == (12, 80)
    assert np.array_equal(entry_scales[:, 64:], np.repeat(blocks.scale[:, 2:], 16, axis=1))


def test_plain_rounding_clips_nothing_but_by_the_rounding_of_the_scale() -> None:
    rows, _ = make_rows()
    for bits, size in ((4, 32), (8, 80)):
        blocks = compute_block_params(rows, bits, size)
        error = np.abs(rows - blocks.real(round_nearest(rows, blocks)))
        assert (error <= 0.51 * blocks.entry_scales(80)).all()


def test_scales_of_blocks_are_numbers_of_float16() -> None:
    rows, h = make_rows()
    _, blocks = round_blocks(rows, h, search_block_params(rows, h, 4, 16))
    assert np.array_equal(blocks.scale, blocks.scale.astype(np.float16).astype(np.float64))


def test_scales_too_small_for_float16_stay_float32() -> None:
    rows, _ = make_rows()
    blocks = compute_block_params(rows * 1e-6, 4, 16)
    assert (blocks.scale > 0).all()
    assert np.allclose(blocks.scale, compute_block_params(rows, 4, 16).scale * 1e-6, rtol=1e-3)


def test_moving_entries_and_fitting_scales_never_adds_error() -> None:
    rows, h = make_rows()
    h = damp(h)
    blocks = compute_block_params(rows, 4, 32)
    swept = apply_gptq(rows, h, blocks)
    moved = descend_coordinates(rows, h, blocks, swept)
    assert (compute_cost(rows, moved, h, blocks) <= compute_cost(rows, swept, h, blocks) + 1e-12).all()
    fitted = fit_scales(rows, moved, h, blocks)
    # The fit is the best there is before its scales are rounded to float16.
    assert compute_cost(rows, moved, h, fitted).sum() < 1.001 * compute_cost(rows, moved, h, blocks).sum()


def test_a_row_of_zeros_and_columns_that_are_never_fed_are_rounded_too() -> None:
    rows, h = make_rows()
    rows[3] = 0
    h[:, 5] = h[5] = 0
    stored, blocks = round_blocks(rows, h, search_block_params(rows, h, 4, 32))
    assert np.isfinite(stored).all() and np.isfinite(blocks.scale).all() and not stored[3].any()
