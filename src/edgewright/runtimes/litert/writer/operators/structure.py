"""Operators that change a value's shape or select parts of it."""

from collections.abc import Sequence

import numpy as np

from edgewright.runtimes.litert.writer.build import Builder
from edgewright.runtimes.litert.writer.graph import Node, OperatorRejected, Shape
from edgewright.runtimes.litert.writer.operators.align import choose_layout
from edgewright.runtimes.litert.writer.operators.elementwise import copy_tensor
from edgewright.runtimes.litert.writer.passes.layout import (
    Layout,
    carry_reshape,
    gather_groups,
    make_channels_last,
    make_plain,
    permute_layout,
    permute_shape,
)
from edgewright.runtimes.litert.writer.program import Tensor


def reshape(b: Builder, node: Node) -> None:
    """Write Reshape, Flatten, Squeeze or Unsqueeze on the stored bytes if the layout allows, else on the plain
    layout."""
    source, target = node.inputs[0], node.outputs[0]
    old, new = b.shape(source), b.shape(target)
    for have in b.layouts(source) or (make_plain(len(old)),):
        layout = carry_reshape(old, new, have)
        if layout is not None:
            break
    else:
        have, layout = _choose(old, new, have)
    tensor = b.take(source, have)
    made = b.reshape(tensor, permute_shape(new, layout))
    b.place(target, copy_tensor(b, made) if made is tensor and made.data is not None else made, layout)


def _choose(old: Shape, new: Shape, have: Layout) -> tuple[Layout, Layout]:
    """Return the layouts before and after a reshape that must move bytes: channels last for an image, else plain."""
    near = gather_groups(old, new, have)
    layout = carry_reshape(old, new, near)
    if layout is not None and len(new) >= 4 and layout == make_channels_last(len(new)):
        return near, layout
    return make_plain(len(old)), make_plain(len(new))


def transpose(b: Builder, node: Node) -> None:
    """Write no operator: every stored tensor of the value is recorded with permuted axes."""
    source, target = node.inputs[0], node.outputs[0]
    permutation = node.attributes.get("perm") or list(make_plain(b.rank(source)))[::-1]
    if not b.layouts(source):
        b.take(source)
    for have in b.layouts(source):
        b.place(target, b.take(source, have), permute_layout(have, permutation))


def concat(b: Builder, node: Node) -> None:
    """Write CONCATENATION along the stored axis."""
    target = node.outputs[0]
    rank = b.rank(target)
    axis = int(node.attributes["axis"]) % rank
    names = [name for name in node.inputs if 0 not in b.shape(name)]
    layout = choose_layout(b, names, rank)
    tensors = [b.take(name, layout) for name in names]
    options = {"axis": layout.index(axis), "fusedActivationFunction": "NONE"}
    if len(tensors) == 1:
        b.place(target, copy_tensor(b, tensors[0]), layout)
        return
    b.emit("CONCATENATION", tensors, [b.make(target, layout)], options)


def split(b: Builder, node: Node) -> None:
    """Write SPLIT, or a SLICE for each part if they differ in size: XNNPACK has no SPLIT_V."""
    source = node.inputs[0]
    axis = int(node.attributes.get("axis", 0)) % b.rank(source)
    layout = b.layout(source)
    x = b.take(source, layout)
    if not all(node.outputs):
        raise OperatorRejected("one of its outputs has no name")
    names = [name for name in node.outputs if 0 not in b.shape(name)]
    sizes = [b.shape(name)[axis] for name in names]
    if len(sizes) == 1:
        b.place(names[0], copy_tensor(b, x), layout)
        return
    results = [b.make(name, layout) for name in names]
    at = layout.index(axis)
    if len(set(sizes)) == 1 and (len(sizes) <= MAX_PARTS or len(x.shape) > MOST_SLICED):
        place = b.add_constant(np.asarray(at, np.int32))
        b.emit("SPLIT", [place, x], results, {"numSplits": len(sizes)})
    elif len(x.shape) > MOST_SLICED:
        place = b.add_constant(np.asarray(at, np.int32))
        b.emit("SPLIT_V", [x, b.ints(sizes), place], results, {"numSplits": len(sizes)})
    else:
        for result, start in zip(results, np.cumsum([0, *sizes[:-1]]), strict=True):
            begin = [int(start) if place == at else 0 for place in range(len(layout))]
            b.emit("SLICE", [x, b.ints(begin), b.ints(result.shape)], [result])


MAX_PARTS = 4  # of XNNPACK's SPLIT
MOST_SLICED = 5  # axes of LiteRT's SLICE


def slice_axes(b: Builder, node: Node) -> None:
    """Write SLICE if all steps are 1, else STRIDED_SLICE; axes with negative steps are reversed first."""
    source, target = node.inputs[0], node.outputs[0]
    shape, rank = b.shape(source), b.rank(source)
    starts, ends = b.read_ints("starts", 1) or [], b.read_ints("ends", 2) or []
    axes = b.read_ints("axes", 3) or list(range(len(starts)))
    steps = b.read_ints("steps", 4) or [1] * len(starts)
    begin, step, stop = [0] * rank, [1] * rank, list(shape)
    for start, end, axis, stride in zip(starts, ends, axes, steps, strict=True):
        at = axis % rank
        begin[at], stop[at], step[at] = slice(start, end, stride).indices(shape[at])
        if stride < 0 and stop[at] < 0:
            stop[at] = -1
    layout = b.layout(source)
    made = slice_tensor(b, b.take(source, layout), *(permute_shape(v, layout) for v in (begin, stop, step)))
    b.place(target, copy_tensor(b, made) if made in b.placed[source].values() else made, layout)


def slice_tensor(b: Builder, x: Tensor, begin: Sequence[int], stop: Sequence[int], step: Sequence[int]) -> Tensor:
    """Write a slice of a tensor by start, stop and step of each axis, as in `range`."""
    backwards = [axis for axis, stride in enumerate(step) if stride < 0]
    if backwards:
        for axis in backwards:  # the kernel reverses only neighboring axes
            x = b.run("REVERSE_V2", [x, b.ints([axis])], x.shape, scales=x.scales)
        begin = [x.shape[a] - 1 - v if a in backwards else v for a, v in enumerate(begin)]
        stop = [x.shape[a] - 1 - v if a in backwards else v for a, v in enumerate(stop)]
        step = [abs(v) for v in step]
    shape = tuple(len(range(*bounds)) for bounds in zip(begin, stop, step, strict=True))
    if shape == x.shape and all(s == 1 for s in step):
        return x
    if all(s == 1 for s in step):
        return b.run("SLICE", [x, b.ints(begin), b.ints(shape)], shape, scales=x.scales)
    if (made := _leap(b, x, begin, shape, step)) is not None:
        return made
    options = dict.fromkeys(("beginMask", "endMask", "ellipsisMask", "newAxisMask", "shrinkAxisMask"), 0)
    operands = [x, b.ints(begin), b.ints(stop), b.ints(step)]
    return b.run("STRIDED_SLICE", operands, shape, scales=x.scales, options=options)


def _leap(b: Builder, x: Tensor, begin: Sequence[int], shape: Shape, step: Sequence[int]) -> Tensor | None:
    """Write a strided slice as RESHAPE and SLICE, axis by axis, which XNNPACK supports; return None if an axis does not
    divide.
    """
    starts = [min(at, size - count * s) for at, size, count, s in zip(begin, x.shape, shape, step, strict=True)]
    if any(low < 0 or at - low >= s for low, at, s in zip(starts, begin, step, strict=True)) or len(x.shape) > 5:
        return None
    whole = tuple(count * s for count, s in zip(shape, step, strict=True))
    if whole != x.shape:
        x = b.run("SLICE", [x, b.ints(starts), b.ints(whole)], whole, scales=x.scales)
    for axis in reversed(range(len(shape))):
        if step[axis] != 1:
            inner = int(np.prod(x.shape[axis + 1 :]))
            rows = b.reshape(x, (int(np.prod(x.shape[:axis])) * shape[axis], step[axis] * inner))
            size = (rows.shape[0], inner)
            place = b.ints((0, (begin[axis] - starts[axis]) * inner))
            part = b.run("SLICE", [rows, place, b.ints(size)], size, scales=x.scales)
            x = b.reshape(part, (*x.shape[:axis], shape[axis], *x.shape[axis + 1 :]))
    return x


def pad_axes(b: Builder, node: Node) -> None:
    """Write PAD, PADV2 with a constant, or MIRROR_PAD; negative amounts cut."""
    source, target = node.inputs[0], node.outputs[0]
    rank, mode = b.rank(source), node.attributes.get("mode", "constant")
    given = b.read_ints("pads", 1) or []
    axes = b.read_ints("axes", 3) or list(range(rank))
    low, high = [0] * rank, [0] * rank
    for at, axis in enumerate(axes):
        low[axis % rank], high[axis % rank] = given[at], given[at + len(axes)]
    layout = b.layout(source)
    x = b.take(source, layout)
    if min((*low, *high), default=0) < 0:
        if mode != "constant":
            raise OperatorRejected("a padding that both crops and mirrors")
        begin = [max(-v, 0) for v in low]
        stop = [size - max(-v, 0) for size, v in zip(b.shape(source), high, strict=True)]
        x = slice_tensor(b, x, permute_shape(begin, layout), permute_shape(stop, layout), [1] * rank)
        low, high = [max(v, 0) for v in low], [max(v, 0) for v in high]
    made = _pad(b, node, x, permute_shape(low, layout), permute_shape(high, layout), mode)
    b.place(target, copy_tensor(b, made) if made in b.placed[source].values() else made, layout)


def _pad(b: Builder, node: Node, x: Tensor, low: Sequence[int], high: Sequence[int], mode: str) -> Tensor:
    shape = tuple(size + i + j for size, i, j in zip(x.shape, low, high, strict=True))
    amounts = b.add_constant(np.asarray(list(zip(low, high, strict=True)), np.int32).reshape(-1, 2))
    if shape == x.shape:
        return x
    if mode == "constant":
        return _pad_constant(b, node, x, amounts, shape)
    if mode == "reflect" and all(max(i, j) < size for i, j, size in zip(low, high, x.shape, strict=True)):
        return b.run("MIRROR_PAD", [x, amounts], shape, scales=x.scales, options={"mode": 0})
    for axis, (i, j) in enumerate(zip(low, high, strict=True)):
        if i or j:
            places = np.pad(np.arange(x.shape[axis]), (i, j), mode=mode)  # type: ignore[call-overload] # a str to mypy
            options = {"axis": axis, "batchDims": 0}
            part = (*x.shape[:axis], len(places), *x.shape[axis + 1 :])
            x = b.run("GATHER", [x, b.ints(places.tolist())], part, scales=x.scales, options=options)
    return x


def _pad_constant(b: Builder, node: Node, x: Tensor, amounts: Tensor, shape: tuple[int, ...]) -> Tensor:
    value = 0.0
    if node.has(2):
        value = float(b.need_constant(2, "fill values").reshape(-1)[0])
    value = float(node.attributes.get("value", value))
    if value == 0.0:
        return b.run("PAD", [x, amounts], shape, scales=x.scales)
    if x.scales is not None:
        raise OperatorRejected("a quantized padding with a value other than zero")
    return b.run("PADV2", [x, amounts, b.number(value, x)], shape)


def expand(b: Builder, node: Node) -> None:
    """Write BROADCAST_TO."""
    source, target = node.inputs[0], node.outputs[0]
    shape = b.shape(target)
    x = b.take(source)
    if x.shape == shape:
        b.place(target, copy_tensor(b, x))
        return
    b.emit("BROADCAST_TO", [x, b.ints(shape)], [b.make(target)])


def tile(b: Builder, node: Node) -> None:
    source = node.inputs[0]
    layout = b.layout(source)
    repeats = [n // o for n, o in zip(b.shape(node.outputs[0]), b.shape(source), strict=True)]
    b.need_constant(1, "repeats")
    b.emit("TILE", [b.take(source, layout), b.ints(permute_shape(repeats, layout))], [b.make(node.outputs[0], layout)])


def depth_to_space(b: Builder, node: Node) -> None:
    """Write DEPTH_TO_SPACE for the DCR order; for the CRD order reshape, transpose and reshape."""
    size = int(node.attributes["blocksize"])
    batch, channels, height, width = b.shape(node.inputs[0])
    depth = channels // (size * size)
    layout: Layout = (0, 2, 3, 1)
    x = b.take(node.inputs[0], layout)
    if node.attributes.get("mode", "DCR") == "DCR":
        b.emit("DEPTH_TO_SPACE", [x], [b.make(node.outputs[0], layout)], {"blockSize": size})
        return
    parts = b.reshape(x, (batch, height, width, depth, size, size))
    moved = b.transpose(parts, (0, 1, 4, 2, 5, 3))
    b.place(node.outputs[0], b.reshape(moved, (batch, height * size, width * size, depth)), layout)


def space_to_depth(b: Builder, node: Node) -> None:
    size = int(node.attributes["blocksize"])
    if node.attributes.get("mode", "DCR") != "DCR":
        raise OperatorRejected("mode other than DCR")
    x = b.take(node.inputs[0], (0, 2, 3, 1))
    b.emit("SPACE_TO_DEPTH", [x], [b.make(node.outputs[0], (0, 2, 3, 1))], {"blockSize": size})
