"""Operators on single elements of one or several tensors."""

from collections.abc import Callable
from math import pi

import numpy as np

from edgewright.formats.tflite.to_onnx.build import OnnxBuilder
from edgewright.formats.tflite.to_onnx.contents import UnsupportedContent
from edgewright.formats.tflite.to_onnx.nodes import find_element_type
from edgewright.formats.tflite.to_onnx.operators.activation import activate


def binary(op: str) -> Callable[[OnnxBuilder], None]:
    """Return the function that writes an operator on two tensors, with its fused activation."""

    def write(b: OnnxBuilder) -> None:
        operands, layout = b.take_alike([b.input(0), b.input(1)])
        b.place(activate(b, b.emit(op, operands)), layout)

    return write


def variadic(op: str) -> Callable[[OnnxBuilder], None]:
    """Return the function that writes an operator on any number of tensors."""

    def write(b: OnnxBuilder) -> None:
        operands, layout = b.take_alike(b.inputs)
        b.place(b.emit(op, operands), layout)

    return write


def not_equal(b: OnnxBuilder) -> None:
    operands, layout = b.take_alike([b.input(0), b.input(1)])
    b.place(b.emit("Not", [b.emit("Equal", operands)]), layout)


def squared_difference(b: OnnxBuilder) -> None:
    operands, layout = b.take_alike([b.input(0), b.input(1)])
    difference = b.emit("Sub", operands)
    b.place(b.emit("Mul", [difference, difference]), layout)


def square(b: OnnxBuilder) -> None:
    x, layout = b.take_first()
    b.place(b.emit("Mul", [x, x]), layout)


def inverse_root(b: OnnxBuilder) -> None:
    x, layout = b.take_first()
    b.place(b.emit("Reciprocal", [b.emit("Sqrt", [x])]), layout)


def _is_float(b: OnnxBuilder) -> bool:
    return b.dtype(b.input(0)).startswith("float")


def floor_divide(b: OnnxBuilder) -> None:
    """Write FLOOR_DIV; of integers by the remainder, since ONNX's division of integers rounds toward zero."""
    (x, y), layout = b.take_alike([b.input(0), b.input(1)])
    if _is_float(b):
        result = b.emit("Floor", [b.emit("Div", [x, y])])
    else:
        result = b.emit("Div", [b.emit("Sub", [x, b.emit("Mod", [x, y])]), y])
    b.place(result, layout)


def floor_remainder(b: OnnxBuilder) -> None:
    """Write FLOOR_MOD, whose result has the sign of the divisor; ONNX's Mod of floats has that of the dividend."""
    (x, y), layout = b.take_alike([b.input(0), b.input(1)])
    if _is_float(b):
        whole = b.emit("Floor", [b.emit("Div", [x, y])])
        result = b.emit("Sub", [x, b.emit("Mul", [whole, y])])
    else:
        result = b.emit("Mod", [x, y])
    b.place(result, layout)


def arc_tangent(b: OnnxBuilder) -> None:
    """Write ATAN2 by the arc tangent of the quotient, corrected in the left half plane and on the axis."""
    (y, x), layout = b.take_alike([b.input(0), b.input(1)])
    zero = b.number(0.0)
    plain = b.emit("Atan", [b.emit("Div", [y, x])])
    sign = b.emit("Min", [y, b.emit("Reciprocal", [y])])  # negative also for -0.0
    turn = b.emit("Where", [b.emit("Less", [sign, zero]), b.number(-pi), b.number(pi)])
    left = b.emit("Where", [b.emit("Less", [x, zero]), b.emit("Add", [plain, turn]), plain])
    upright = b.emit("Mul", [b.emit("Sign", [y]), b.number(pi / 2)])
    b.place(b.emit("Where", [b.emit("Equal", [x, zero]), upright, left]), layout)


def select(b: OnnxBuilder) -> None:
    """Write SELECT_V2, and SELECT unless its condition selects whole rows."""
    ranks = [b.rank(index) for index in b.inputs]
    if b.origin.startswith("SELECT#") and ranks[0] == 1 < ranks[1]:
        raise UnsupportedContent("its condition selects whole rows", "write it as SELECT_V2")
    operands, layout = b.take_alike([b.input(0), b.input(1), b.input(2)])
    b.place(b.emit("Where", operands), layout)


def cast(b: OnnxBuilder) -> None:
    """Write CAST, which reads the stored integers of quantized values."""
    if b.steps(b.outputs[0]) is not None:
        raise UnsupportedContent("its result is quantized", "use QUANTIZE instead")
    layout = b.layout(b.input(0))
    wanted = find_element_type(b.dtype(b.outputs[0]))
    b.place(b.emit("Cast", [b.take_stored(b.input(0), layout)], to=wanted), layout)


def quantize(b: OnnxBuilder) -> None:
    """Write QUANTIZE, also of quantized values: their real values are quantized again."""
    x, layout = b.take_first()
    b.place(x, layout)


def dequantize(b: OnnxBuilder) -> None:
    """Write DEQUANTIZE: the graph has the real values of every tensor already."""
    b.place_same()


def zeros(b: OnnxBuilder) -> None:
    x, layout = b.take_first()
    b.place(b.emit("Mul", [x, b.constant(np.zeros((), b.dtype(b.input(0))))]), layout)
