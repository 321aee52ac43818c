"""A client's update on its way: compressed, limited, and checked by the server. Pure functions on arrays."""

from collections.abc import Sequence
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.federated.job import RoundSettings

Floats = NDArray[np.float32]
Arrays = list[NDArray[np.float32]]
Wire = list[NDArray[Any]]
LEVELS = 127
MAX_SAMPLES = 1 << 31  # of a client


def _compute_norm(update: Sequence[Floats]) -> float:
    """Return the Euclidean norm of all values."""
    return sqrt(sum(float(np.square(one, dtype=np.float64).sum()) for one in update))


def clip_update(update: Arrays, most: float) -> Arrays:
    """Return the update scaled down to the norm `most`; 0 does not limit it."""
    norm = _compute_norm(update)
    if not most or norm <= most:
        return update
    return [(one * (most / norm)).astype(np.float32) for one in update]


def encode_update(update: Arrays, settings: RoundSettings) -> Wire:
    """Return the arrays that travel: one for each tensor, or with `int8` its scale too, with `topk` its indices too."""
    made: Wire = []
    for one in update:
        if settings.compression == "int8":
            scale = np.float32(np.abs(one).max(initial=0) / LEVELS) or np.float32(1)
            made += [np.round(one / scale).astype(np.int8), np.array([scale], np.float32)]
        elif settings.compression == "topk":
            flat = one.ravel()
            count = max(1, round(settings.top * flat.size))
            chosen = np.sort(np.argpartition(np.abs(flat), flat.size - count)[-count:]).astype(np.int32)
            made += [chosen, flat[chosen]]
        else:
            made.append(one)
    return made


def check_answer(answered: object, current: int, weight: int) -> None:
    """Raise ValueError for an answer of another round, as a repeated one, or with a weight that is no number of
    samples."""
    if answered != current:
        raise ValueError(f"it is for round {answered}, this is round {current}")
    if not 0 < weight <= MAX_SAMPLES:
        raise ValueError(f"its number of samples is {weight}")


def decode_update(wire: Wire, shapes: Sequence[tuple[int, ...]], settings: RoundSettings) -> Arrays:
    """Return the update of `encode_update`. Raises ValueError for arrays that are not one of these shapes."""
    parts = 1 if settings.compression == "none" else 2
    if len(wire) != parts * len(shapes):
        raise ValueError(f"it has {len(wire)} arrays, {parts * len(shapes)} are expected")
    groups = [wire[at : at + parts] for at in range(0, len(wire), parts)]
    update = [_decode(group, shape, settings) for group, shape in zip(groups, shapes, strict=True)]
    if not all(np.isfinite(one).all() for one in update):
        raise ValueError("it has values that are not finite")
    return update


def _decode(group: Wire, shape: tuple[int, ...], settings: RoundSettings) -> Floats:
    if settings.compression == "topk":
        indices, values = group
        size = int(np.prod(shape))
        whole = indices.dtype == np.int32 and values.dtype == np.float32 and indices.shape == values.shape
        if not whole or indices.ndim != 1 or not ((indices >= 0) & (indices < size)).all():
            raise ValueError(f"its indices do not fit a tensor of {list(shape)}")
        made = np.zeros(size, np.float32)
        made[indices] = values
        return made.reshape(shape)
    expected = np.int8 if settings.compression == "int8" else np.float32
    if group[0].shape != shape or group[0].dtype != expected:
        raise ValueError(f"a tensor is {group[0].dtype} {list(group[0].shape)}, {list(shape)} is expected")
    if settings.compression == "none":
        return group[0].astype(np.float32)
    if group[1].shape != (1,) or group[1].dtype != np.float32:
        raise ValueError("a scale is not one number")
    scaled: Floats = group[0].astype(np.float32) * group[1]
    return scaled


def divide_samples(
    labels: NDArray[np.int64], clients: int, alpha: float, random: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Divide samples among clients: each class by shares from a Dirichlet distribution (Hsu et al. 2019).

    Every client has at least one sample.

    Args:
        labels: the class of each sample, [n]; n is at least `clients`.
    """
    parts: list[list[int]] = [[] for _ in range(clients)]
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        ends = np.round(np.cumsum(random.dirichlet(np.full(clients, alpha))) * len(rows)).astype(int)
        for part, own in zip(parts, np.split(rows, ends[:-1]), strict=True):
            part += own.tolist()
    for part in parts:
        if not part:
            part.append(max(parts, key=len).pop())
    return [np.array(sorted(part), np.int64) for part in parts]
