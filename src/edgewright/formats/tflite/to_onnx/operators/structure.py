"""Operators that move, cut and join values without computing."""

from collections.abc import Sequence
from math import prod

import numpy as np
from onnx import TensorProto

from edgewright.formats.tflite.to_onnx.build import Layout, OnnxBuilder, make_channels_first
from edgewright.formats.tflite.to_onnx.contents import UnsupportedContent
from edgewright.formats.tflite.to_onnx.nodes import Sizes
from edgewright.formats.tflite.to_onnx.operators.activation import activate

TO_END = np.iinfo(np.int64).max
TO_START = np.iinfo(np.int64).min
REFLECT = 0


def resolve_axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise UnsupportedContent(f"its axis {axis} does not exist: it has {rank} axes", "export the model again")
    return axis % rank


def reshape(b: OnnxBuilder) -> None:
    """Write RESHAPE, whose sizes may be computed."""
    known = b.known(1) if b.has(1) else np.asarray(b.options["shape"], np.int64)
    if known is None:
        b.place(b.emit("Reshape", [b.take(b.input(0)), _take_int64(b, 1)]))
        return
    wanted, own = [int(size) for size in known.reshape(-1)], b.shape(b.input(0))
    if wanted.count(-1) == 1 and None not in own:
        rest = prod(size for size in wanted if size != -1)
        wanted[wanted.index(-1)] = prod(size or 0 for size in own) // max(1, rest)
    _reshape_first(b, wanted)


def squeeze(b: OnnxBuilder) -> None:
    sizes = b.shape(b.input(0))
    axes = {resolve_axis(axis, len(sizes)) for axis in b.options["axes"]}
    axes = axes or {axis for axis, size in enumerate(sizes) if size == 1}
    _reshape_first(b, [-1 if size is None else size for axis, size in enumerate(sizes) if axis not in axes])


def expand_dims(b: OnnxBuilder) -> None:
    sizes = [-1 if size is None else size for size in b.shape(b.input(0))]
    sizes.insert(resolve_axis(b.numbers(1, "axis")[0], len(sizes) + 1), 1)
    _reshape_first(b, sizes)


def _reshape_first(b: OnnxBuilder, wanted: Sequence[int]) -> None:
    """Write the first input with other sizes, of which one may be -1. Without a transposition, if only sizes of 1 are
    added or removed, or the stored order of the others is the file's."""
    if wanted.count(-1) > 1:
        raise UnsupportedContent("several sizes of its result are unknown", "set all sizes of the inputs with --shape")
    own, (x, layout) = b.shape(b.input(0)), b.take_first()
    order = [axis for axis in layout if own[axis] != 1]
    if order == sorted(order):
        b.place(b.emit("Reshape", [x, b.ints(wanted)]))
    elif target := _find_layout(own, order, wanted):
        b.place(b.emit("Reshape", [x, b.ints(wanted[axis] for axis in target)]), target)
    else:
        b.place(b.emit("Reshape", [b.take(b.input(0)), b.ints(wanted)]))


def _find_layout(own: Sizes, order: Sequence[int], wanted: Sequence[int]) -> Layout | None:
    """Return the layout of the result if it has the same sizes apart from ones, whose stored order is `order`."""
    before = [axis for axis, size in enumerate(own) if size != 1]
    after = [axis for axis, size in enumerate(wanted) if size != 1]
    if [-1 if own[axis] is None else own[axis] for axis in before] != [wanted[axis] for axis in after]:
        return None
    stored = [after[before.index(axis)] for axis in order]
    first = make_channels_first(len(wanted))
    if [axis for axis in first if wanted[axis] != 1] == stored:
        return first
    return (*(axis for axis, size in enumerate(wanted) if size == 1), *stored)


def transpose(b: OnnxBuilder) -> None:
    """Write TRANSPOSE as another layout of the same values."""
    order = tuple(b.numbers(1, "order of axes"))
    if sorted(order) != list(range(b.rank(b.input(0)))):
        raise UnsupportedContent(f"its order of axes {list(order)} is impossible", "export the model again")
    b.place_same(order)


def concat(b: OnnxBuilder) -> None:
    operands, layout = b.take_alike(b.inputs)
    axis = layout.index(resolve_axis(b.options["axis"], len(layout)))
    b.place(activate(b, b.emit("Concat", operands, axis=axis)), layout)


def split(b: OnnxBuilder) -> None:
    """Write SPLIT into equal parts."""
    axis = resolve_axis(b.numbers(0, "axis")[0], b.rank(b.input(1)))
    size, count = b.shape(b.input(1))[axis], len(b.outputs)
    if size is None or size % count:
        raise UnsupportedContent("the size that it divides is unknown", "set all sizes of the inputs with --shape")
    _write_split(b, b.input(1), axis, [size // count] * count)


def split_by_sizes(b: OnnxBuilder) -> None:
    axis = resolve_axis(b.numbers(2, "axis")[0], b.rank(b.input(0)))
    sizes, whole = b.numbers(1, "sizes"), b.shape(b.input(0))[axis]
    if -1 in sizes and whole is None:
        raise UnsupportedContent("the size that it divides is unknown", "set all sizes of the inputs with --shape")
    sizes = [(whole or 0) - sum(sizes) - 1 if size == -1 else size for size in sizes]
    _write_split(b, b.input(0), axis, sizes)


def _write_split(b: OnnxBuilder, index: int, axis: int, sizes: Sequence[int]) -> None:
    layout = b.layout(index)
    x = b.take(index, layout)
    parts = b.emit_all("Split", [x, b.ints(sizes)], len(sizes), axis=layout.index(axis))
    for place, part in enumerate(parts):
        b.place(part, layout, place)


def slice_sizes(b: OnnxBuilder) -> None:
    """Write SLICE by begins and sizes, of which -1 goes to the end."""
    begins, sizes = b.numbers(1, "begins"), b.numbers(2, "sizes")
    ends = [TO_END if size < 0 else begin + size for begin, size in zip(begins, sizes, strict=True)]
    x, layout = b.take_first()
    b.place(_slice(b, x, begins, ends, [1] * len(begins), layout), layout)


def _slice(
    b: OnnxBuilder, x: str, begins: Sequence[int], ends: Sequence[int], steps: Sequence[int], layout: Layout
) -> str:
    """Return the part of a value; axes that are taken whole are left out."""
    cut = [axis for axis in range(len(begins)) if (begins[axis], ends[axis], steps[axis]) != (0, TO_END, 1)]
    if not cut:
        return x
    axes = [layout.index(axis) for axis in cut]
    return b.emit(
        "Slice",
        [
            x,
            b.ints(begins[axis] for axis in cut),
            b.ints(ends[axis] for axis in cut),
            b.ints(axes),
            b.ints(steps[axis] for axis in cut),
        ],
    )


def strided_slice(b: OnnxBuilder) -> None:
    """Write STRIDED_SLICE; axes of its shrink mask are removed behind it."""
    o, rank = b.options, b.rank(b.input(0))
    if o["ellipsis_mask"] or o["new_axis_mask"] or o["offset"]:
        raise UnsupportedContent("it has an ellipsis, new axes or ends that are offsets", "write them as a reshape")
    begins, ends, steps = (b.numbers(place, "range") for place in (1, 2, 3))
    shrunk = []
    for axis in range(len(begins)):
        if o["shrink_mask"] >> axis & 1:
            shrunk.append(axis)
            ends[axis], steps[axis] = begins[axis] + 1 or TO_END, 1
            continue
        if o["begin_mask"] >> axis & 1:
            begins[axis] = 0 if steps[axis] > 0 else TO_END
        if o["end_mask"] >> axis & 1:
            ends[axis] = TO_END if steps[axis] > 0 else TO_START
    if not len(begins) == len(ends) == len(steps) <= rank or 0 in steps:
        raise UnsupportedContent("its range does not fit its input", "export the model again")
    x, layout = b.take_first()
    x = _slice(b, x, begins, ends, steps, layout)
    if not shrunk:
        b.place(x, layout)
        return
    kept = [axis for axis in layout if axis not in shrunk]
    squeezed = b.emit("Squeeze", [x, b.ints(sorted(layout.index(axis) for axis in shrunk))])
    b.place(squeezed, tuple(sorted(kept).index(axis) for axis in kept))


def pad(b: OnnxBuilder) -> None:
    """Write PAD and PADV2; quantized values are padded with the value of their zero point."""
    x, layout = b.take_first()
    kind = b.dtype(b.input(0))
    value = b.take(b.input(2)) if b.has(2) else b.constant(np.zeros((), kind))
    value = b.emit("Reshape", [value, b.ints([])]) if b.sizes(value) else value
    b.place(b.emit("Pad", [x, _read_pads(b, layout), value]), layout)


def _read_pads(b: OnnxBuilder, layout: Layout) -> str:
    pairs = np.reshape(b.numbers(1, "padding"), (-1, 2))
    if len(pairs) != len(layout):
        raise UnsupportedContent("its padding does not fit its input", "export the model again")
    return b.ints([*(int(pairs[axis][0]) for axis in layout), *(int(pairs[axis][1]) for axis in layout)])


def mirror_pad(b: OnnxBuilder) -> None:
    if b.options["mode"] != REFLECT:
        raise UnsupportedContent("it repeats the edge itself (SYMMETRIC)", "pad with REFLECT instead")
    x, layout = b.take_first()
    b.place(b.emit("Pad", [x, _read_pads(b, layout)], mode="reflect"), layout)


def tile(b: OnnxBuilder) -> None:
    x, layout = b.take_first()
    repeats = b.numbers(1, "repeats")
    b.place(b.emit("Tile", [x, b.ints(repeats[axis] for axis in layout)]), layout)


def _take_int64(b: OnnxBuilder, place: int) -> str:
    value = b.take(b.input(place))
    return value if b.dtype(b.input(place)) == "int64" else b.emit("Cast", [value], to=TensorProto.INT64)


def broadcast_to(b: OnnxBuilder) -> None:
    b.place(b.emit("Expand", [b.take(b.input(0)), _take_int64(b, 1)]))


def fill(b: OnnxBuilder) -> None:
    b.place(b.emit("Expand", [b.take(b.input(1)), _take_int64(b, 0)]))


def pack(b: OnnxBuilder) -> None:
    axis = resolve_axis(b.options["axis"], b.rank(b.input(0)) + 1)
    parts = [b.emit("Unsqueeze", [b.take(index), b.ints([axis])]) for index in b.inputs]
    b.place(b.emit("Concat", parts, axis=axis))


def unpack(b: OnnxBuilder) -> None:
    axis, count = resolve_axis(b.options["axis"], b.rank(b.input(0))), len(b.outputs)
    parts = b.emit_all("Split", [b.take(b.input(0)), b.ints([1] * count)], count, axis=axis)
    for place, part in enumerate(parts):
        b.place(b.emit("Squeeze", [part, b.ints([axis])]), output=place)


def shape(b: OnnxBuilder) -> None:
    """Write SHAPE; as a constant if all sizes are known."""
    sizes, kind = b.shape(b.input(0)), b.dtype(b.outputs[0])
    if None not in sizes:
        b.place(b.constant(np.asarray(sizes, kind)))
        return
    value = b.emit("Shape", [b.take(b.input(0))])
    b.place(value if kind == "int64" else b.emit("Cast", [value], to=TensorProto.INT32))


def reverse(b: OnnxBuilder) -> None:
    x, layout = b.take_first()
    axes = [resolve_axis(axis, len(layout)) for axis in b.numbers(1, "axes")]
    places = [layout.index(axis) for axis in axes]
    ends = [b.ints([number] * len(axes)) for number in (TO_END, TO_START, -1)]
    b.place(b.emit("Slice", [x, ends[0], ends[1], b.ints(places), ends[2]]), layout)


def count_up(b: OnnxBuilder) -> None:
    """Write RANGE of constants."""
    start, limit, step = (b.known(place) for place in range(3))
    if start is None or limit is None or step is None:
        raise UnsupportedContent("its limits are computed", "set all sizes of the inputs with --shape")
    size = max(0, int(np.ceil((float(limit.item()) - float(start.item())) / float(step.item()))))
    if size > 1 << 24:
        raise UnsupportedContent(f"it counts to {size}", "export the model again")
    b.place(b.constant(np.arange(size, dtype=start.dtype) * step + start))
