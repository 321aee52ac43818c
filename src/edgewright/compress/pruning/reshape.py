"""Labels through a Reshape: axes that are split and axes that are merged."""

from itertools import accumulate
from math import prod
from operator import mul
from typing import Any

import numpy as np

from edgewright.compress.network import attributes_of
from edgewright.compress.pruning.atoms import Axes, Places
from edgewright.compress.pruning.flow import Flow, Split, stay


def reshape(flow: Flow, node: Any) -> list[Axes]:
    """Both shapes are cut at every boundary of either, so that each axis is a product of pieces.

    Of an axis that is split one piece carries its labels: E into heads × d the heads, so that only whole heads go.
    Pieces are tried from the outside; where the labels of one have to stay, the next one is tried (`find_groups`).
    Two channels between which a Transpose shuffles them carry the inner piece. Of pieces that are merged one may
    carry labels, as channels do where they are flattened together with pixels.
    """
    axes, after = flow.take(node, 0), flow.made(node)
    before = tuple(axis.size for axis in axes)
    if 0 in before or prod(before) != prod(after):
        flow.hold(node, *axes)
        return [tuple(map(stay, after))]
    inner, outer = list(accumulate(before, mul)), list(accumulate(after, mul))
    bounds = sorted({1, *inner, *outer})
    pieces = [high // low if high % low == 0 else 0 for low, high in zip(bounds, bounds[1:], strict=False)]
    carried: list[Places | None] = [None] * len(pieces)
    for axis, own in zip(axes, spans(inner, bounds), strict=True):
        if axis.size == 1 or not all(pieces[own]):
            flow.hold(node, axis)
        elif axis.any():
            place, labels = split(flow, node, axis, pieces[own])
            carried[own.start + place] = labels
    parts = zip(after, spans(outer, bounds), strict=True)
    return [tuple(merge(flow, node, size, pieces[own], carried[own]) for size, own in parts)]


def spans(ends: list[int], bounds: list[int]) -> list[slice]:
    """Which pieces each axis is made of."""
    places = [bounds.index(end) for end in ends]
    return [slice(start, end) for start, end in zip([0, *places], places, strict=False)]


def split(flow: Flow, node: Any, axis: Places, sizes: list[int]) -> tuple[int, Places]:
    """The piece that carries the labels, and its labels."""
    if len(sizes) == 1:
        return 0, axis
    order = list(range(len(sizes)))
    if shuffles(flow, node):
        order.reverse()
    place = order[flow.choices.get(node.name, 0) % len(order)]
    table = np.moveaxis(axis.reshape(sizes), place, 0).reshape(sizes[place], -1)
    flow.tie(node, table[:, 1:].ravel(), np.repeat(table[:, 0], table.shape[1] - 1))
    flow.splits.append(Split(node.name, table[:, 0], len(order)))
    return place, table[:, 0]


def shuffles(flow: Flow, node: Any) -> bool:
    """Whether Reshape, Transpose, Reshape end in the shape that they began with."""
    name = node.output[0]
    for op in ("Transpose", "Reshape"):
        readers = flow.outline.readers.get(name, [])
        if len(readers) != 1 or readers[0].op_type != op:
            return False
        name = readers[0].output[0]
    return flow.outline.shapes.get(name) == flow.outline.shapes.get(node.input[0])


def merge(flow: Flow, node: Any, size: int, sizes: list[int], carried: list[Places | None]) -> Places:
    held = [(place, labels) for place, labels in enumerate(carried) if labels is not None and labels.any()]
    if not held or not all(sizes):
        flow.hold(node, *(labels for _, labels in held))
        return stay(size)
    (place, first), *others = held
    flow.hold(node, *(labels for _, labels in others))
    shape = [1] * len(sizes)
    shape[place] = -1
    return np.broadcast_to(first.reshape(shape), sizes).ravel()


def transpose(flow: Flow, node: Any) -> list[Axes]:
    axes = flow.take(node, 0)
    order = attributes_of(node).get("perm") or range(len(axes))[::-1]
    return [tuple(axes[place] for place in order)]


def squeeze(flow: Flow, node: Any) -> list[Axes]:
    axes = flow.take(node, 0)
    chosen = flow.ints(node, 1, "axes")
    gone = {i % len(axes) for i in chosen} if chosen else {i for i, axis in enumerate(axes) if axis.size == 1}
    flow.hold(node, *(axes[i] for i in gone))
    return [tuple(axis for i, axis in enumerate(axes) if i not in gone)]


def unsqueeze(flow: Flow, node: Any) -> list[Axes]:
    axes = list(flow.take(node, 0))
    chosen = flow.ints(node, 1, "axes") or []
    for place in sorted(i % (len(axes) + len(chosen)) for i in chosen):
        axes.insert(place, stay(1))
    return [tuple(axes)]


def expand(flow: Flow, node: Any) -> list[Axes]:
    axes, after = flow.take(node, 0), flow.made(node)
    return [repeat(axes, after)]


def repeat(axes: Axes, after: tuple[int, ...]) -> Axes:
    padded = [stay(1)] * (len(after) - len(axes)) + list(axes)
    return tuple(axis if axis.size == size else stay(size) for axis, size in zip(padded, after, strict=True))


def tile(flow: Flow, node: Any) -> list[Axes]:
    axes, times = flow.take(node, 0), flow.ints(node, 1, "repeats") or []
    return [tuple(np.tile(axis, count) for axis, count in zip(axes, times, strict=True))]


def depth_to_space(flow: Flow, node: Any) -> list[Axes]:
    """One channel gives way with the whole of the block that it fills."""
    attributes, axes, after = attributes_of(node), flow.take(node, 0), flow.made(node)
    block = int(attributes["blocksize"]) ** 2
    inner = attributes.get("mode", b"DCR") == b"CRD"
    table = axes[1].reshape(-1, block) if inner else axes[1].reshape(block, -1).T
    flow.tie(node, table[:, 1:].ravel(), np.repeat(table[:, 0], block - 1))
    flow.hold(node, *axes[2:])
    return [(axes[0], table[:, 0], *map(stay, after[2:]))]


def space_to_depth(flow: Flow, node: Any) -> list[Axes]:
    axes, after = flow.take(node, 0), flow.made(node)
    flow.hold(node, *axes[2:])
    return [(axes[0], np.tile(axes[1], int(attributes_of(node)["blocksize"]) ** 2), *map(stay, after[2:]))]
