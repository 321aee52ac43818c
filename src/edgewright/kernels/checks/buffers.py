"""Buffers for checks: unaligned, read-only, with strides beyond their rows, overlapping others."""

from typing import Any

import numpy as np

from edgewright.schema.arrays import Array

Rng = np.random.Generator


def make_frame(rng: Rng, height: int, width: int, channels: int = 3) -> Array:
    """Return uint8 [height, width, channels]: any of contiguous, unaligned, padded rows, reversed rows, read-only."""
    kind = rng.integers(5)
    spare = int(rng.integers(1, 9)) if kind == 1 else 0
    start = int(rng.integers(1, 64))
    row = width * channels + spare
    flat = rng.integers(0, 256, start + height * row, np.uint8)
    if rng.random() < 0.3:
        flat = np.where(flat > 127, np.uint8(255), np.uint8(0))  # the filters overshoot at edges
    rows = flat[start:].reshape(height, row)[:, : width * channels].reshape(height, width, channels)
    if kind == 2:
        rows = rows[::-1]
    if kind == 3:
        rows.flags.writeable = False
    return rows


def pick_side(rng: Rng, most: int) -> int:
    """Return a length with a preference for the smallest."""
    return int(rng.choice([1, 2, 3, *rng.integers(1, most + 1, 3)]))


def describe_difference(want: Any, got: Any) -> str:
    """Return where two arrays differ in their bytes; empty if they do not."""
    if want.shape != got.shape or want.dtype != got.dtype:
        return f"{got.dtype} {list(got.shape)} instead of {want.dtype} {list(want.shape)}"
    if want.tobytes() == got.tobytes():
        return ""
    places = np.argwhere(_to_bits(want) != _to_bits(got))
    place = tuple(int(i) for i in places[0])
    return (
        f"{len(places)} of {want.size} values differ, the first at {list(place)}: {got[place]} instead of {want[place]}"
    )


def _to_bits(array: Array) -> Array:
    return np.ascontiguousarray(array).view(f"u{array.itemsize}")
