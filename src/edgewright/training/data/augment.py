"""Views of samples: augmentations that depend only on the view's number and the sample's index.

A teacher's outputs for a view of a sample are therefore valid for any epoch and any seed. Every choice is a hash of
both numbers (SplitMix64, Steele et al. 2014), so that there is no generator state.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.schema.arrays import Array
from edgewright.tasks.spec.task import AudioInput, Augment, ImageInput, Task

Numbers = NDArray[np.uint64]

NOISE = 1 << 16  # number of start positions in the noise table
FLIP, ROWS, COLUMNS, TOP, LEFT, BRIGHTNESS, CONTRAST, TIME, LEVEL, START = range(10)


def hash_integers(*parts: Any) -> Numbers:
    """Return elementwise hashes of integers, with the broadcast shape."""
    state: Any = np.zeros((1,), np.uint64)
    for part in parts:
        state = state ^ np.asarray(part).astype(np.uint64)
        state = state + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    whole: Numbers = state
    return whole


def choose_views(seed: int, epoch: int, places: Array, views: int) -> Numbers:
    """Return the view of each sample in an epoch: one of `views`, each once before any repeats; with 0 views a new one
    for every epoch."""
    if not views:
        return np.broadcast_to(hash_integers(seed, epoch), places.shape)
    return (hash_integers(seed, places) % np.uint64(views) + np.uint64(epoch)) % np.uint64(views)


def augment(task: Task, inputs: Mapping[str, Array], views: Numbers, places: Array) -> dict[str, Array]:
    """Return the views of a batch.

    Args:
        inputs: [n, …] by name of the model input; they are not changed.
        views, places: [n].
    """
    if task.augment is None:
        return dict(inputs)
    kinds = {one.name: one for one in task.inputs}
    return {name: _augment_input(task.augment, kinds.get(name), array, views, places) for name, array in inputs.items()}


def _augment_input(wanted: Augment, kind: Any, array: Array, views: Numbers, places: Array) -> Array:
    if not isinstance(kind, ImageInput | AudioInput):
        return array

    def draw(what: int) -> NDArray[np.float64]:
        """Draw a uniform number from 0 to 1 for each sample."""
        return (hash_integers(views, places, what) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def whole(what: int, most: int) -> NDArray[np.int64]:
        """Draw a uniform integer from −most to most for each sample."""
        return np.floor(draw(what) * (2 * most + 1)).astype(np.int64) - most

    if isinstance(kind, AudioInput):
        return _augment_audio(wanted, kind, array, draw, whole)
    rows, columns = (2, 3) if kind.layout == "NCHW" else (1, 2)
    if wanted.brightness or wanted.contrast:
        array = _jitter_brightness(wanted, kind, array, draw)
    if wanted.flip:
        chosen = draw(FLIP) < 0.5
        array = array.copy()
        array[chosen] = np.flip(array[chosen], columns)
    if wanted.shift:
        array = _move(array, rows, whole(ROWS, wanted.shift))
        array = _move(array, columns, whole(COLUMNS, wanted.shift))
    return _erase(array, wanted.erase, rows, draw(TOP), draw(LEFT)) if wanted.erase else array


def _move(array: Array, axis: int, by: NDArray[np.int64]) -> Array:
    """Shift each sample along the axis by its own number of positions, and fill with 0."""
    moved = np.zeros_like(array)
    size = array.shape[axis]
    for step in np.unique(by):
        to = slice(max(step, 0), min(size + step, size))
        came = slice(max(-step, 0), min(size - step, size))
        front = (np.flatnonzero(by == step),) + (slice(None),) * (axis - 1)
        moved[(*front, to)] = array[(*front, came)]
    return moved


def _jitter_brightness(wanted: Augment, kind: ImageInput, array: Array, draw: Any) -> Array:
    """Scale pixels by 1 ± brightness and their distance from the image's mean by 1 ± contrast, without clipping."""
    channel = 1 if kind.layout == "NCHW" else 3
    wide = [1, 1, 1, 1]
    wide[channel] = -1
    zero = np.broadcast_to(np.divide(kind.mean, kind.std, dtype=np.float32), (kind.channels,)).reshape(wide)
    light = ((2 * draw(BRIGHTNESS) - 1) * wanted.brightness).astype(np.float32).reshape(-1, 1, 1, 1)
    width = (1 + (2 * draw(CONTRAST) - 1) * wanted.contrast).astype(np.float32).reshape(-1, 1, 1, 1)
    axes = tuple(axis for axis in (1, 2, 3) if axis != channel)
    means = array.mean(axis=axes, keepdims=True)
    lit: Array = (means + (array - means) * width) * (1 + light) + zero * light
    return lit.astype(array.dtype, copy=False)


def _erase(array: Array, share: float, rows: int, top: Array, left: Array) -> Array:
    """Set a random square with this share of the sides to 0 (cutout, DeVries and Taylor 2017)."""
    height, width = array.shape[rows : rows + 2]
    inside = [
        _mark_interval(size, max(1, round(share * size)), at) for size, at in ((height, top), (width, left))
    ]  # [n, height], [n, width]
    kept = ~(inside[0][:, :, None] & inside[1][:, None, :])
    return array * np.expand_dims(kept, 1 if rows == 2 else 3)


def _mark_interval(size: int, length: int, at: Array) -> NDArray[np.bool_]:
    first = np.floor(at * (size - length + 1)).astype(np.int64)[:, None]
    places = np.arange(size)
    inside: NDArray[np.bool_] = (places >= first) & (places < first + length)
    return inside


def _augment_audio(wanted: Augment, kind: AudioInput, array: Array, draw: Any, whole: Any) -> Array:
    """Shift audio in time, and add white noise up to the given level."""
    flat = array.reshape(len(array), -1)
    if wanted.shift:
        flat = _move(flat, 1, whole(TIME, wanted.shift))
    if wanted.noise:
        length = flat.shape[1]
        table = np.random.default_rng(0).standard_normal(length + NOISE, np.float32)
        starts = np.floor(draw(START) * NOISE).astype(np.int64)
        noise = np.lib.stride_tricks.sliding_window_view(table, length)[starts]
        level = draw(LEVEL) * (wanted.noise * kind.scale / kind.std)
        flat = flat + noise * level.astype(np.float32)[:, None]
    return flat.reshape(array.shape)
