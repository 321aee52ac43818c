"""Reductions, and matrix products."""

from collections.abc import Callable

from onnx import TensorProto

from edgewright.formats.tflite.to_onnx.build import CHANNELS_FIRST, Layout, OnnxBuilder, make_plain
from edgewright.formats.tflite.to_onnx.contents import UnsupportedContent
from edgewright.formats.tflite.to_onnx.nodes import find_element_type
from edgewright.formats.tflite.to_onnx.operators.activation import activate
from edgewright.formats.tflite.to_onnx.operators.structure import resolve_axis

L2_EPSILON = 1e-6
DEFAULT_FORMAT = 0


def reduction(op: str) -> Callable[[OnnxBuilder], None]:
    """Return the function that writes a reduction; the mean of whole images as a global pool."""

    def write(b: OnnxBuilder) -> None:
        x, layout = b.take_first()
        axes = _find_axes(b, len(layout))
        if not axes:
            b.place(x, layout)
            return
        keep = bool(b.options["keep"])
        if op == "ReduceMean" and layout == CHANNELS_FIRST and axes == [1, 2]:
            result = b.emit("GlobalAveragePool", [x])
            result = result if keep else b.emit("Flatten", [result], axis=1)
        else:
            places = sorted(layout.index(axis) for axis in axes)
            result = b.emit(op, [x, b.ints(places)], keepdims=int(keep))
        b.place(result, layout if keep else _drop_axes(layout, axes))

    return write


def _find_axes(b: OnnxBuilder, rank: int) -> list[int]:
    """Return the axes of a reduction; without any, LiteRT returns the input, and ONNX reduces all."""
    return sorted({resolve_axis(axis, rank) for axis in b.numbers(1, "axes")})


def _drop_axes(layout: Layout, axes: list[int]) -> Layout:
    kept = [axis for axis in layout if axis not in axes]
    return tuple(sorted(kept).index(axis) for axis in kept)


def logical(op: str) -> Callable[[OnnxBuilder], None]:
    """Return the function that writes REDUCE_ANY or REDUCE_ALL by the largest or smallest number."""

    def write(b: OnnxBuilder) -> None:
        truth = b.take(b.input(0))
        axes = _find_axes(b, b.rank(b.input(0)))
        if not axes:
            b.place(truth)
            return
        x = b.emit("Cast", [truth], to=TensorProto.INT32)
        result = b.emit(op, [x, b.ints(axes)], keepdims=int(bool(b.options["keep"])))
        b.place(b.emit("Cast", [result], to=TensorProto.BOOL))

    return write


def arg_extreme(op: str) -> Callable[[OnnxBuilder], None]:
    """Return the function that writes ARG_MAX or ARG_MIN, the first of equal ones in both."""

    def write(b: OnnxBuilder) -> None:
        x, layout = b.take_first()
        axis = resolve_axis(b.numbers(1, "axis")[0], len(layout))
        result = b.emit(op, [x], axis=layout.index(axis), keepdims=0)
        wanted = find_element_type(b.dtype(b.outputs[0]))
        result = result if wanted == TensorProto.INT64 else b.emit("Cast", [result], to=wanted)
        b.place(result, _drop_axes(layout, [axis]))

    return write


def cumulative_sum(b: OnnxBuilder) -> None:
    x, axis = b.take(b.input(0)), resolve_axis(b.numbers(1, "axis")[0], b.rank(b.input(0)))
    exclusive, reverse = (int(bool(b.options[name])) for name in ("exclusive", "reverse"))
    b.place(b.emit("CumSum", [x, b.ints([axis])], exclusive=exclusive, reverse=reverse))


def l2_normalization(b: OnnxBuilder) -> None:
    """Write L2_NORMALIZATION along the last axis, whose norm is at least L2_EPSILON."""
    x, layout = b.take_first()
    axis = b.ints([layout.index(len(layout) - 1)])
    power = b.emit("ReduceSum", [b.emit("Mul", [x, x]), axis], keepdims=1)
    norm = b.emit("Max", [b.emit("Sqrt", [power]), b.number(L2_EPSILON)])
    b.place(activate(b, b.emit("Div", [x, norm])), layout)


def fully_connected(b: OnnxBuilder) -> None:
    """Write FULLY_CONNECTED as Gemm; as MatMul if it keeps more than two axes."""
    if b.options["layout"] != DEFAULT_FORMAT:
        raise UnsupportedContent("its weights are shuffled", "export the model with the default format of weights")
    x, weights, bias = b.take(b.input(0)), b.input(1), b.take_bias(2)
    sizes, width = b.sizes(x), b.shape(weights)[1]
    if width is None:
        raise UnsupportedContent("the sizes of its weights are unknown", "export the model with constant weights")
    if b.options["keep_dims"] and len(sizes) > 2:
        result = b.emit("MatMul", [x, b.take(weights, (1, 0))])
        result = b.emit("Add", [result, bias]) if bias else result
    else:
        if len(sizes) != 2 or sizes[1] != width:
            x = b.emit("Reshape", [x, b.ints([-1, width])])
        result = b.emit("Gemm", [x, b.take(weights), bias], transB=1)
    b.place(activate(b, result))


def batch_product(b: OnnxBuilder) -> None:
    """Write BATCH_MATMUL; an adjoint operand is taken with its last two axes exchanged."""
    operands = []
    for place, adjoint in enumerate((b.options["adjoint_x"], b.options["adjoint_y"])):
        plain = make_plain(b.rank(b.input(place)))
        operands.append(b.take(b.input(place), (*plain[:-2], plain[-1], plain[-2]) if adjoint else plain))
    b.place(b.emit("MatMul", operands))
