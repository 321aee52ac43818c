"""Propagation of labels through Reshape: split and merged axes."""

from itertools import accumulate, pairwise
from math import prod
from operator import mul
from typing import Any

import numpy as np

from edgewright.formats.onnx.attributes import read_attributes
from edgewright.pruning.coupling import Axes, Labels
from edgewright.pruning.propagation import LabelPropagation, ReshapeSplit, make_fixed_labels


def propagate_reshape(propagation: LabelPropagation, node: Any) -> list[Axes]:
    """Propagate labels through factors: both shapes are factored so that each axis is a product of factors.

    One factor of a split axis carries its labels: of heads × d it is heads, so that only whole heads are removed.
        Factors
    are tried from the outermost; if the labels of one are fixed, the next one is tried (`find_groups`). In a channel
    shuffle the inner factor carries them. One of several merged factors may carry labels, for example channels that are
    flattened together with pixels.
    """
    axes, after = propagation.input_labels(node, 0), propagation.made(node)
    before = tuple(axis.size for axis in axes)
    if 0 in before or prod(before) != prod(after):
        propagation.require_all(node, *axes)
        return [tuple(map(make_fixed_labels, after))]
    inner, outer = list(accumulate(before, mul)), list(accumulate(after, mul))
    bounds = sorted({1, *inner, *outer})
    pieces = [high // low if high % low == 0 else 0 for low, high in pairwise(bounds)]
    carried: list[Labels | None] = [None] * len(pieces)
    for axis, own in zip(axes, _find_piece_spans(inner, bounds), strict=True):
        if axis.size == 1 or not all(pieces[own]):
            propagation.require_all(node, axis)
        elif axis.any():
            place, labels = _split_axis(propagation, node, axis, pieces[own])
            carried[own.start + place] = labels
    parts = zip(after, _find_piece_spans(outer, bounds), strict=True)
    return [tuple(_merge(propagation, node, size, pieces[own], carried[own]) for size, own in parts)]


def _find_piece_spans(ends: list[int], bounds: list[int]) -> list[slice]:
    """Return the factors of each axis."""
    places = [bounds.index(end) for end in ends]
    return [slice(start, end) for start, end in zip([0, *places], places, strict=False)]


def _split_axis(propagation: LabelPropagation, node: Any, axis: Labels, sizes: list[int]) -> tuple[int, Labels]:
    """Return the factor that carries the labels, and its labels."""
    if len(sizes) == 1:
        return 0, axis
    order = list(range(len(sizes)))
    if _is_channel_shuffle(propagation, node):
        order.reverse()
    place = order[propagation.choices.get(node.name, 0) % len(order)]
    table = np.moveaxis(axis.reshape(sizes), place, 0).reshape(sizes[place], -1)
    propagation.couple(node, table[:, 1:].ravel(), np.repeat(table[:, 0], table.shape[1] - 1))
    propagation.splits.append(ReshapeSplit(node.name, table[:, 0], len(order)))
    return place, table[:, 0]


def _is_channel_shuffle(propagation: LabelPropagation, node: Any) -> bool:
    """Return whether Reshape, Transpose, Reshape end with the initial shape."""
    name, waited = node.output[0], ["Transpose", "Reshape"]
    while waited:
        consumers = propagation.static_graph.consumers.get(name, [])
        if len(consumers) != 1 or consumers[0].op_type not in (waited[0], "Identity"):
            return False
        name = consumers[0].output[0]
        waited = waited[consumers[0].op_type == waited[0] :]
    return propagation.static_graph.shapes.get(name) == propagation.static_graph.shapes.get(node.input[0])


def _merge(
    propagation: LabelPropagation, node: Any, size: int, sizes: list[int], carried: list[Labels | None]
) -> Labels:
    held = [(place, labels) for place, labels in enumerate(carried) if labels is not None and labels.any()]
    if not held or not all(sizes):
        propagation.require_all(node, *(labels for _, labels in held))
        return make_fixed_labels(size)
    (place, first), *others = held
    propagation.require_all(node, *(labels for _, labels in others))
    shape = [1] * len(sizes)
    shape[place] = -1
    return np.broadcast_to(first.reshape(shape), sizes).ravel()


def propagate_transpose(propagation: LabelPropagation, node: Any) -> list[Axes]:
    axes = propagation.input_labels(node, 0)
    order = read_attributes(node).get("perm") or range(len(axes))[::-1]
    return [tuple(axes[place] for place in order)]


def propagate_squeeze(propagation: LabelPropagation, node: Any) -> list[Axes]:
    axes = propagation.input_labels(node, 0)
    chosen = propagation.read_ints(node, 1, "axes")
    gone = {i % len(axes) for i in chosen} if chosen else {i for i, axis in enumerate(axes) if axis.size == 1}
    propagation.require_all(node, *(axes[i] for i in gone))
    return [tuple(axis for i, axis in enumerate(axes) if i not in gone)]


def propagate_unsqueeze(propagation: LabelPropagation, node: Any) -> list[Axes]:
    axes = list(propagation.input_labels(node, 0))
    chosen = propagation.read_ints(node, 1, "axes") or []
    for place in sorted(i % (len(axes) + len(chosen)) for i in chosen):
        axes.insert(place, make_fixed_labels(1))
    return [tuple(axes)]


def propagate_expand(propagation: LabelPropagation, node: Any) -> list[Axes]:
    """Propagate Expand: copies of one element can be removed independently."""
    after = propagation.made(node)
    axes = [make_fixed_labels(1)] * (len(after) - len(propagation.input_labels(node, 0))) + list(
        propagation.input_labels(node, 0)
    )
    return [
        tuple(
            a if a.size == size else propagation.coupling_builder.make(size)
            for a, size in zip(axes, after, strict=True)
        )
    ]


def propagate_fill(propagation: LabelPropagation, node: Any) -> list[Axes]:
    return [tuple(map(propagation.coupling_builder.make, propagation.made(node)))]


def propagate_tile(propagation: LabelPropagation, node: Any) -> list[Axes]:
    axes, times = propagation.input_labels(node, 0), propagation.read_ints(node, 1, "repeats") or []
    return [tuple(np.tile(axis, count) for axis, count in zip(axes, times, strict=True))]


def propagate_depth_to_space(propagation: LabelPropagation, node: Any) -> list[Axes]:
    """Propagate DepthToSpace: a channel is removed with all channels of its block."""
    attributes, axes, after = read_attributes(node), propagation.input_labels(node, 0), propagation.made(node)
    block = int(attributes["blocksize"]) ** 2
    inner = attributes.get("mode", b"DCR") == b"CRD"
    table = axes[1].reshape(-1, block) if inner else axes[1].reshape(block, -1).T
    propagation.couple(node, table[:, 1:].ravel(), np.repeat(table[:, 0], block - 1))
    propagation.require_all(node, *axes[2:])
    return [(axes[0], table[:, 0], *map(make_fixed_labels, after[2:]))]


def propagate_space_to_depth(propagation: LabelPropagation, node: Any) -> list[Axes]:
    axes, after = propagation.input_labels(node, 0), propagation.made(node)
    propagation.require_all(node, *axes[2:])
    return [
        (axes[0], np.tile(axes[1], int(read_attributes(node)["blocksize"]) ** 2), *map(make_fixed_labels, after[2:]))
    ]
