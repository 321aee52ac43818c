"""Operators that pick elements by computed indices."""

import numpy as np
from onnx import TensorProto

from edgewright.formats.tflite.to_onnx.build import OnnxBuilder
from edgewright.formats.tflite.to_onnx.contents import UnsupportedContent
from edgewright.formats.tflite.to_onnx.operators.structure import resolve_axis


def gather(b: OnnxBuilder) -> None:
    if b.options["batch_dims"]:
        raise UnsupportedContent("it has batch dimensions", "export the model without them: use GatherND")
    x, indices = b.take(b.input(0)), b.take(b.input(1))
    b.place(b.emit("Gather", [x, indices], axis=resolve_axis(b.options["axis"], b.rank(b.input(0)))))


def embedding(b: OnnxBuilder) -> None:
    b.place(b.emit("Gather", [b.take(b.input(1)), b.take(b.input(0))], axis=0))


def _take_int64(b: OnnxBuilder, place: int) -> str:
    return b.emit("Cast", [b.take(b.input(place))], to=TensorProto.INT64)


def gather_nd(b: OnnxBuilder) -> None:
    b.place(b.emit("GatherND", [b.take(b.input(0)), _take_int64(b, 1)]))


def scatter_nd(b: OnnxBuilder) -> None:
    """Write SCATTER_ND into zeros; values of equal indices are added."""
    updates = b.take(b.input(1))
    zero = b.constant(np.zeros((), b.dtype(b.input(1))))
    zeros = b.emit("Expand", [zero, _take_int64(b, 2)])
    b.place(b.emit("ScatterND", [zeros, _take_int64(b, 0), updates], reduction="add"))


def top_k(b: OnnxBuilder) -> None:
    k = b.numbers(1, "number of elements")[:1]
    values, places = b.emit_all("TopK", [b.take(b.input(0)), b.ints(k)], 2, axis=-1)
    b.place(values)
    b.place(b.emit("Cast", [places], to=TensorProto.INT32), output=1)


def one_hot(b: OnnxBuilder) -> None:
    """Write ONE_HOT by comparisons: it has no place for a negative index, which ONNX's OneHot counts from the end."""
    depth, rank = b.numbers(1, "depth")[0], b.rank(b.input(0))
    axis = resolve_axis(b.options["axis"], rank + 1)
    numbers = b.emit("Range", [b.number(value, "int64") for value in (0, depth, 1)])
    places = b.emit("Reshape", [numbers, b.ints([-1, *[1] * (rank - axis)])])
    chosen = b.emit("Equal", [b.emit("Unsqueeze", [_take_int64(b, 0), b.ints([axis])]), places])
    b.place(b.emit("Where", [chosen, b.take(b.input(2)), b.take(b.input(3))]))


def reverse_sequence(b: OnnxBuilder) -> None:
    axes = {"time_axis": b.options["sequence_axis"], "batch_axis": b.options["batch_axis"]}
    if sorted(axes.values()) != [0, 1]:
        raise UnsupportedContent("its axes are not the first two", "export the model with these axes first")
    b.place(b.emit("ReverseSequence", [b.take(b.input(0)), _take_int64(b, 1)], **axes))
