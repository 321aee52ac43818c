"""Rounding in blocks: what the grid can hold, and that the product's error only ever shrinks."""

import numpy as np
import pytest

from edgewright.quantization.matmul import blocks as blockwise
from edgewright.quantization.matmul.blocks import (
    MAX_FLOAT16,
    MIN_FLOAT16,
    BlockQuantParams,
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
from edgewright.schema.arrays import Array


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


def test_integers_and_scales_have_the_limits_of_their_types() -> None:
    assert get_integer_limits(4) == (-8, 7)
    assert get_integer_limits(8) == (-127, 127)
    half = np.finfo(np.float16)
    assert (float(half.smallest_normal), float(half.max)) == (MIN_FLOAT16, MAX_FLOAT16)


def test_the_scale_of_a_whole_row_is_float32() -> None:
    rows, _ = make_rows()
    scale = compute_block_params(rows, 8, 80).scale
    assert np.array_equal(scale, (np.abs(rows).max(axis=1, keepdims=True) / 127).astype(np.float32))


@pytest.mark.parametrize(("bits", "size"), [(4, 80), (4, 16), (8, 80)])
def test_searched_scales_are_not_larger_and_leave_less_error(bits: int, size: int) -> None:
    rows, h = make_rows()
    plain, found = compute_block_params(rows, bits, size), search_block_params(rows, h, bits, size)
    assert (found.scale <= plain.scale).all()
    assert bits == 8 or (found.scale < plain.scale).any()  # 8 bits clip too little to gain
    for number, start in enumerate(range(0, 80, size)):
        part, inner = rows[:, start : start + size], h[start : start + size, start : start + size]
        before, after = (one._replace(scale=one.scale[:, number : number + 1]) for one in (plain, found))
        least = compute_cost(part, round_nearest(part, before), inner, before)
        assert (compute_cost(part, round_nearest(part, after), inner, after) <= least).all()


def test_strips_of_columns_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, h = make_rows()
    blocks = compute_block_params(rows, 4, 16)
    whole = apply_gptq(rows, damp(h), blocks)
    monkeypatch.setattr(blockwise, "UPDATE_COLUMNS", 7)
    assert np.array_equal(apply_gptq(rows, damp(h), blocks), whole)


def test_no_single_entry_can_be_improved_after_the_last_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blockwise, "PASSES", 100)
    rows, h = make_rows()
    blocks = compute_block_params(rows, 4, 16)
    stored = descend_coordinates(rows, damp(h), blocks, round_nearest(rows, blocks))
    least = compute_cost(rows, stored, damp(h), blocks)
    for column in range(80):
        for step in (-1, 1):
            other = stored.copy()
            other[:, column] = np.clip(other[:, column] + step, blocks.low, blocks.high)
            assert (compute_cost(rows, other, damp(h), blocks) >= least - 1e-12).all()


@pytest.mark.parametrize(("factor", "fits"), [(0.4, False), (0.75, True), (1.5, True), (2.5, False)])
def test_a_fit_finds_the_scales_of_the_rows_unless_they_are_far_away(factor: float, *, fits: bool) -> None:
    rng = np.random.default_rng(1)
    stored = rng.integers(-8, 8, (5, 20)).astype(np.float64)
    stored[2, 10:] = 0  # determines no scale
    true = BlockQuantParams(np.array([[0.125, 0.25]] * 5), 10, -8, 7)
    start = true._replace(scale=true.scale / factor)
    found = fit_scales(true.real(stored), stored, damp(make_rows(depth=20)[1]), start).scale
    expected = np.where(fits, true.scale, start.scale)
    expected[2, 1] = start.scale[2, 1]
    np.testing.assert_allclose(found, expected, rtol=1e-3)
