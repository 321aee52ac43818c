"""Rewrites of data movement operators: Slice, Pad, Tile, DepthToSpace and similar ones."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from edgewright.formats.onnx.attributes import read_attributes
from edgewright.formats.onnx.editable import NodeReplacement
from edgewright.runtimes.contract import NotConvertible
from edgewright.runtimes.ncnn.conversion.graph import Node, ObservedGraph, make_node
from edgewright.runtimes.windows import crop_negative_pads
from edgewright.schema.arrays import Array

SCALES = 2  # the input of Resize with the scales
RESIZE_ATTRIBUTES = (
    "coordinate_transformation_mode",
    "cubic_coeff_a",
    "exclude_outside",
    "extrapolation_value",
    "mode",
    "nearest_mode",
)
SAMPLED_OTHERWISE = (b"half_pixel_symmetric", b"tf_crop_and_resize")
ROUNDED_OTHERWISE = (b"ceil", b"round_prefer_ceil")
INNER_AXES = 2  # ncnn pads the last two axes only


def _slice_by_reshape(node: Node, graph: ObservedGraph, opset: int) -> list[Node] | None:
    """Select every step-th element by a reshape to rows of `step`: ncnn's Crop has no steps."""
    parts = [graph.constant(node, position) for position in (1, 2, 3, 4)]
    steps = parts[3]
    if steps is None or parts[0] is None or bool((steps == 1).all()):
        return None
    shape = graph.shape(node.input[0])
    axes = range(len(shape)) if parts[2] is None else [int(axis) % len(shape) for axis in parts[2]]
    made, source, left = [], node.input[0], len(steps)
    sizes, result = list(shape), graph.shape(node.output[0])
    for start, axis, step in zip(parts[0].tolist(), axes, steps.tolist(), strict=True):
        left -= 1
        if step < 1:
            raise NotConvertible(f"Slice '{node.name}': ncnn does not support negative steps")
        start = min(start % sizes[axis] if start < 0 else start, sizes[axis])
        output = graph.fresh(node.output[0]) if left else node.output[0]
        made += _step_along(graph, SizedAxis(source, sizes, axis), start, step, result[axis], output)
        sizes[axis], source = result[axis], output
    return made


class SizedAxis(NamedTuple):
    """An axis of a tensor with these sizes."""

    tensor: str
    sizes: list[int]
    axis: int


def _step_along(graph: ObservedGraph, along: SizedAxis, start: int, step: int, count: int, output: str) -> list[Node]:
    """Return `count` entries of one axis from `start` on, every `step`-th."""
    source, sizes, axis = along
    end = start + count * step
    made, shape = [], list(sizes)
    if end > sizes[axis]:
        padded = graph.fresh(output)
        made += _pad_axis(graph, along, (0, end - sizes[axis]), 0.0, padded)
        source, shape[axis] = padded, end
    if (start, end) != (0, shape[axis]):
        cut = graph.fresh(output)
        made.append(_slice_axis(graph, source, axis, start, end, cut))
        source = cut
    if step == 1:
        return [
            *made,
            make_node("Reshape", [source, graph.integers([*shape[:axis], count, *shape[axis + 1 :]])], output),
        ]
    batch, before, after = _split_sizes(shape, axis)
    rows, first = graph.fresh(output), graph.fresh(output)
    final = [*shape[:axis], count, *shape[axis + 1 :]]
    return [
        *made,
        make_node("Reshape", [source, graph.integers([*batch, before * count, step * after])], rows),
        _slice_axis(graph, rows, len(batch) + 1, 0, after, first),
        make_node("Reshape", [first, graph.integers(final)], output),
    ]


def _split_sizes(shape: list[int], axis: int) -> tuple[list[int], int, int]:
    """Return the batch of one if there is one, and the number of entries before and after the axis."""
    batch = shape[:1] if axis > 0 and shape[0] == 1 else []
    return batch, int(np.prod(shape[len(batch) : axis])), int(np.prod(shape[axis + 1 :]))


def _slice_axis(graph: ObservedGraph, source: str, axis: int, start: int, end: int, output: str) -> Node:
    bounds = [graph.integers([number]) for number in (start, end, axis)]
    return make_node("Slice", [source, *bounds], output)


def _pad_axis(graph: ObservedGraph, along: SizedAxis, sides: tuple[int, int], fill: float, output: str) -> list[Node]:
    """Concatenate constants before and after along an axis."""
    source, shape, axis = along
    first, last = (
        graph.add(np.full([*shape[:axis], size, *shape[axis + 1 :]], fill), np.float32) if size else ""
        for size in sides
    )
    return [make_node("Concat", [name for name in (first, source, last) if name], output, axis=axis)]


def _pad_in_full(node: Node, graph: ObservedGraph, opset: int) -> list[Node] | None:
    """Pad all axes, since `axes` requires opset 18; channels, which ncnn does not pad, are concatenated."""
    pads, axes, fill = (graph.constant(node, position) for position in (1, 3, 2))
    if pads is None:
        return None
    shape = list(graph.shape(node.input[0]))
    sides = _pads_of_all_axes(pads, axes, len(shape))
    constant = read_attributes(node).get("mode", b"constant") == b"constant"
    value = 0.0 if fill is None else float(fill.reshape(-1)[0])
    if constant and min(min(side) for side in sides) < 0:
        every = [side[end] for end in (0, 1) for side in sides]
        inputs = [node.input[0], "", *([node.input[2]] if fill is not None else [])]
        cropped = crop_negative_pads(make_node("Pad", inputs, node.output[0]), every)
        return add_separated(cropped, graph) if cropped else None
    outer = [axis for axis in range(len(shape) - INNER_AXES) if sides[axis] != (0, 0)]
    if outer and not constant:
        return None
    made, source = [], node.input[0]
    for axis in outer:
        output = graph.fresh(node.output[0])
        made += _pad_axis(graph, SizedAxis(source, shape, axis), sides[axis], value, output)
        source, shape[axis], sides[axis] = output, shape[axis] + sum(sides[axis]), (0, 0)
    rest = graph.integers([*(side[0] for side in sides), *(side[1] for side in sides)])
    if all(side == (0, 0) for side in sides):
        return [*made, make_node("Identity", [source], node.output[0])]
    inputs = [source, rest, graph.add(value, np.float32)] if constant else [source, rest]
    return [*made, make_node("Pad", inputs, node.output[0], mode=read_attributes(node).get("mode", b"constant"))]


def add_separated(made: NodeReplacement, graph: ObservedGraph) -> list[Node]:
    """Return the nodes, and add their constants to the graph."""
    graph.constants.update(made.constants)
    return made.nodes


def _pads_of_all_axes(pads: Array, axes: Array | None, rank: int) -> list[tuple[int, int]]:
    chosen = range(rank) if axes is None else [int(axis) % rank for axis in axes]
    sides, half = [(0, 0)] * rank, len(pads) // 2
    for position, axis in enumerate(chosen):
        sides[axis] = (int(pads[position]), int(pads[position + half]))
    return sides


def _tile_by_concat(node: Node, graph: ObservedGraph, opset: int) -> list[Node] | None:
    """Replace Tile by Concat: ncnn's loader does not support pnnx's torch.tile."""
    repeats = graph.constant(node, 1)
    if repeats is None:
        return None
    left = [axis for axis, count in enumerate(repeats.tolist()) if count != 1]
    source, made = node.input[0], []
    for axis in left:
        output = node.output[0] if axis == left[-1] else graph.fresh(node.output[0])
        made.append(make_node("Concat", [source] * int(repeats[axis]), output, axis=axis))
        source = output
    return made or [make_node("Identity", [source], node.output[0])]


def _depth_to_space_by_channel(node: Node, graph: ObservedGraph, opset: int) -> list[Node] | None:
    """Reorder the channels by a 1×1 convolution: pnnx supports only the channel order of torch's pixel shuffle."""
    attributes = read_attributes(node)
    if attributes.get("mode", b"DCR") != b"DCR":
        return None
    block, channels = int(attributes["blocksize"]), graph.shape(node.input[0])[1]
    order = np.arange(channels).reshape(block, block, -1).transpose(2, 0, 1).reshape(-1)
    weight = np.eye(channels)[order][:, :, None, None]
    sorted_channels = graph.fresh(node.output[0])
    return [
        make_node("Conv", [node.input[0], graph.add(weight, np.float32)], sorted_channels, kernel_shape=[1, 1]),
        make_node("DepthToSpace", [sorted_channels], node.output[0], blocksize=block, mode="CRD"),
    ]


def _space_to_depth_by_conv(node: Node, graph: ObservedGraph, opset: int) -> list[Node] | None:
    """Extract each position by a convolution of ones: pnnx silently writes another channel order than ONNX."""
    block, channels = int(read_attributes(node)["blocksize"]), graph.shape(node.input[0])[1]
    weight = np.zeros((block, block, channels, channels, block, block))
    for y, x, channel in np.ndindex(block, block, channels):
        weight[y, x, channel, channel, y, x] = 1
    kernel = graph.add(weight.reshape(-1, channels, block, block), np.float32)
    sizes = [block, block]
    return [make_node("Conv", [node.input[0], kernel], node.output[0], kernel_shape=sizes, strides=sizes)]


def _resize_in_full(node: Node, graph: ObservedGraph, opset: int) -> list[Node] | None:
    """Write all sizes, from the output's shape: `axes`, `antialias` and `keep_aspect_ratio_policy` require opset 18."""
    attributes = read_attributes(node)
    if attributes.get("antialias"):
        raise NotConvertible(f"Resize '{node.name}': ncnn resizes without antialiasing")
    if attributes.get("coordinate_transformation_mode") in SAMPLED_OTHERWISE:
        raise NotConvertible(f"Resize '{node.name}': ncnn does not support this coordinate transformation")
    if attributes.get("mode", b"nearest") == b"nearest" and attributes.get("nearest_mode") in ROUNDED_OTHERWISE:
        raise NotConvertible(f"Resize '{node.name}': ncnn rounds down here")
    if node.output[0] not in graph.values:
        return None
    kept = {name: text for name, text in attributes.items() if name in RESIZE_ATTRIBUTES}
    before, after = graph.shape(node.input[0]), graph.shape(node.output[0])
    scales = graph.constant(node, SCALES)
    if scales is None or not scales.size:
        return [make_node("Resize", [node.input[0], "", "", graph.integers(after)], node.output[0], **kept)]
    full = [1.0] * len(before)
    for axis, scale in zip(attributes.get("axes", range(len(before))), scales.tolist(), strict=True):
        full[axis] = scale
    return [make_node("Resize", [node.input[0], "", graph.add(full, np.float32)], node.output[0], **kept)]


MOVE_REWRITES: dict[str, Callable[[Node, ObservedGraph, int], list[Node] | None]] = {
    "Slice": _slice_by_reshape,
    "Pad": _pad_in_full,
    "Resize": _resize_in_full,
    "Tile": _tile_by_concat,
    "DepthToSpace": _depth_to_space_by_channel,
    "SpaceToDepth": _space_to_depth_by_conv,
}
