"""Activations, alone or fused into another operator."""

from collections.abc import Callable
from math import sqrt

import numpy as np

from edgewright.formats.tflite.to_onnx.build import OnnxBuilder
from edgewright.formats.tflite.to_onnx.contents import UnsupportedContent

NONE, RELU, RELU_N1_TO_1, RELU6, TANH = range(5)
RANGES = {RELU_N1_TO_1: (-1.0, 1.0), RELU6: (0.0, 6.0)}


def activate(b: OnnxBuilder, value: str) -> str:
    """Return the value behind the operator's fused activation."""
    match kind := b.options.get("activation", NONE):
        case 0:
            return value
        case 1:
            return b.emit("Relu", [value])
        case 2 | 3:
            return _clip(b, value, *RANGES[kind])
        case 4:
            return b.emit("Tanh", [value])
    raise UnsupportedContent(f"its fused activation {kind} is unknown", "export the model without it")


def _clip(b: OnnxBuilder, value: str, low: float, high: float) -> str:
    return b.emit("Clip", [value, b.number(low), b.number(high)])


def unary(op: str) -> Callable[[OnnxBuilder], None]:
    """Return the function that writes an operator on single elements."""

    def write(b: OnnxBuilder) -> None:
        x, layout = b.take_first()
        b.place(b.emit(op, [x]), layout)

    return write


def clip(low: float, high: float) -> Callable[[OnnxBuilder], None]:
    """Return the function that writes a limit to a range."""

    def write(b: OnnxBuilder) -> None:
        x, layout = b.take_first()
        b.place(_clip(b, x, low, high), layout)

    return write


def leaky_relu(b: OnnxBuilder) -> None:
    x, layout = b.take_first()
    b.place(b.emit("LeakyRelu", [x], alpha=b.options["alpha"]), layout)


def gelu(b: OnnxBuilder) -> None:
    """Write GELU by its definition, with the error function or the hyperbolic tangent."""
    x, layout = b.take_first()
    if b.options["approximate"]:
        cube = b.emit("Mul", [b.emit("Mul", [x, x]), x])
        inner = b.emit("Add", [x, b.emit("Mul", [cube, b.number(0.044715)])])
        part = b.emit("Tanh", [b.emit("Mul", [inner, b.number(sqrt(2 / np.pi))])])
    else:
        part = b.emit("Erf", [b.emit("Div", [x, b.number(sqrt(2.0))])])
    half = b.emit("Mul", [x, b.emit("Add", [part, b.number(1.0)])])
    b.place(b.emit("Mul", [half, b.number(0.5)]), layout)


def prelu(b: OnnxBuilder) -> None:
    """Write PRELU, whose slopes have the axes of one element of the batch."""
    x, layout = b.take_first()
    b.place(b.emit("PRelu", [x, b.take_operand(b.input(1), layout)]), layout)


def softmax(op: str) -> Callable[[OnnxBuilder], None]:
    """Return the function that writes SOFTMAX or LOG_SOFTMAX along the last axis."""

    def write(b: OnnxBuilder) -> None:
        x, layout = b.take_first()
        if (beta := b.options.get("beta", 1.0)) != 1.0:
            x = b.emit("Mul", [x, b.number(beta)])
        b.place(b.emit(op, [x], axis=layout.index(len(layout) - 1)), layout)

    return write
