"""Conversion of raw samples to model inputs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgewright.schema.arrays import Array
from edgewright.tasks.data.audio import read_audio
from edgewright.tasks.data.entries import parse_array, read_sample
from edgewright.tasks.data.images import (
    TimedFile,
    UnreadableSample,
    apply_exif_orientation,
    decode,
    prepare_image,
    store_values,
    to_image,
    to_mode,
)
from edgewright.tasks.data.labels import Label
from edgewright.tasks.data.resize import Placement
from edgewright.tasks.spec.task import AudioInput, Boxes, ImageInput, NextToken, Task, TensorInput, TokensInput

Prepare = Callable[[Image.Image, ImageInput], tuple[Array, Placement]]  # as `prepare_image`


def make_feeds(item: Any, task: Task, prepare: Prepare = prepare_image) -> tuple[dict[str, Array], Placement | None]:
    """Return an array for each input with a batch of 1, and the placement of an image. Raises UnreadableSample."""
    if isinstance(item, Path | str):
        item = read_sample(Path(item))
    given = item if isinstance(item, dict) else {task.inputs[0].name: item}
    feeds: dict[str, Array] = {}
    placement = None
    for one in task.inputs:
        if one.name not in given:
            raise UnreadableSample(f"the input '{one.name}' is missing; the sample has {', '.join(given)}")
        value = given[one.name]
        match one:
            case ImageInput():
                feeds[one.name], placement = _feed_image(value, one, prepare)
            case TensorInput():
                feeds[one.name] = _feed_tensor(_as_array(value), one)
            case AudioInput():
                feeds[one.name] = _feed_audio(value, one)
            case TokensInput():
                feeds.update(_feed_tokens(_as_array(value), given, one))
    return feeds, placement


def _as_array(value: Any) -> Array:
    return parse_array(value) if isinstance(value, bytes) else np.asarray(value)


def _feed_image(value: Any, spec: ImageInput, prepare: Prepare) -> tuple[Array, Placement | None]:
    """Preprocess an image; a float array of the model's shape is used unchanged."""
    if isinstance(value, bytes):
        image = decode(value, spec)
    elif isinstance(value, np.ndarray):
        if value.dtype != np.uint8:
            return _convert_array(value, spec.shape, spec.dtype), None
        image = to_mode(to_image(value), spec)
    else:
        image = to_mode(apply_exif_orientation(value), spec)
    return prepare(image, spec)


def _convert_array(value: Array, shape: tuple[int, ...], dtype: str) -> Array:
    """Return an array with a batch of 1. Raises UnreadableSample."""
    if shape and value.shape not in (shape, shape[1:]):
        raise UnreadableSample(f"its shape is {list(value.shape)}, the task requires {list(shape)}")
    if not np.can_cast(value.dtype, dtype, "same_kind") and not (
        value.dtype.kind in "iu" and np.dtype(dtype).kind in "iu"
    ):
        raise UnreadableSample(f"its dtype is {value.dtype}, the task requires {dtype}")
    stored = value.astype(dtype)
    if stored.dtype.kind in "iu" and not np.array_equal(stored, value):
        raise UnreadableSample(f"its values do not fit into {dtype}")
    if stored.dtype.kind == "f" and not np.isfinite(stored).all():
        raise UnreadableSample("it has NaN or infinite values")
    return np.ascontiguousarray(stored.reshape(shape) if shape else stored[np.newaxis])


def _feed_tensor(value: Array, spec: TensorInput) -> Array:
    return _convert_array(value, spec.shape, spec.dtype)


def _feed_audio(value: Any, spec: AudioInput) -> Array:
    """Return a window of audio. Arrays are [samples]: int16, or floats from −1 to 1."""
    if isinstance(value, bytes) and value[:4] == b"RIFF":
        audio = read_audio(TimedFile(value), spec.sample_rate)
    else:
        audio = _as_array(value)
        audio = audio / 32768.0 if audio.dtype == np.int16 else audio
    audio = np.atleast_1d(np.squeeze(audio)).astype(np.float64)
    if audio.ndim != 1 or not len(audio) or not np.isfinite(audio).all():
        raise UnreadableSample(f"audio must be one row of finite numbers; its shape is {list(audio.shape)}")
    window = _cut_or_fill(audio, spec.window, align=spec.align)
    values = store_values((window * spec.scale - spec.mean) / spec.std, spec.dtype)
    return values.reshape(spec.shape or (1, spec.window))


def _cut_or_fill(audio: Array, window: int, *, align: str) -> Array:
    spare = len(audio) - window
    start = spare // 2 if align == "center" and spare > 0 else 0
    cut = audio[start : start + window]
    before = (window - len(cut)) // 2 if align == "center" else 0
    return np.pad(cut, (before, window - len(cut) - before))


def _feed_tokens(ids: Array, given: dict[str, Any], spec: TokensInput) -> dict[str, Array]:
    """Truncate or pad ids to `length`, and compute missing masks and segments."""
    ids = np.atleast_1d(np.squeeze(ids))
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise UnreadableSample(f"token ids must be one row of integers; the sample is {ids.dtype} {list(ids.shape)}")
    ids = ids[: spec.length]
    feeds = {spec.name: _fill(ids, spec.pad, spec)}
    if spec.mask:
        mask = given.get(spec.mask, np.ones(len(ids)))
        feeds[spec.mask] = _fill(np.atleast_1d(np.squeeze(mask))[: spec.length], 0, spec)
    if spec.segments:
        segments = given.get(spec.segments, np.zeros(len(ids)))
        feeds[spec.segments] = _fill(np.atleast_1d(np.squeeze(segments))[: spec.length], 0, spec)
    return feeds


def _fill(row: Array, value: int, spec: TokensInput) -> Array:
    missing = spec.length - len(row)
    sides = (0, missing) if spec.pad_side == "right" else (missing, 0)
    return np.pad(row, sides, constant_values=value).astype(spec.dtype)[np.newaxis]


def move_label(label: Label, placement: Placement | None, task: Task) -> Label:
    """Convert boxes to pixels of the model's input, clipped to it; boxes outside are removed."""
    if not isinstance(task.output, Boxes) or placement is None or not isinstance(label, np.ndarray):
        return label
    spec = next(one for one in task.inputs if isinstance(one, ImageInput))
    moved = label.astype(np.float64)
    limits = (spec.size[1], spec.size[0])
    for axis, (scale, start) in enumerate(((placement.scale_x, placement.left), (placement.scale_y, placement.top))):
        for column in (1 + axis, 3 + axis):
            moved[:, column] = np.clip(moved[:, column] * scale - start, 0, limits[axis])
    return moved[(moved[:, 1] < moved[:, 3]) & (moved[:, 2] < moved[:, 4])]


def make_next_token_labels(feeds: dict[str, Array], task: Task) -> Label:
    """Return the ids shifted by one as labels of next-token models; None for other tasks.

    The last position and padding are ignored.
    """
    spec = next((one for one in task.inputs if isinstance(one, TokensInput)), None)
    if not isinstance(task.output, NextToken) or spec is None:
        return None
    ids = feeds[spec.name][0]
    real = feeds[spec.mask][0] != 0 if spec.mask else ids != spec.pad
    following = np.full(len(ids), task.output.ignore, np.int64)
    following[:-1] = np.where(real[1:] & real[:-1], ids[1:], task.output.ignore)
    return following
