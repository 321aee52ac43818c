"""Small QDQ graphs whose borders differ: what is quantized at the edge, and what is not."""

from pathlib import Path
from typing import Any

import numpy as np

from tests.models.onnx_files import constant, node, quantize, value, write_onnx

TENSORS = (("x", 0.02, 128), ("m", 0.03, 100), ("s", 0.05, 90))


def scales(*more: tuple[str, float, int], kind: Any = np.uint8) -> list[Any]:
    made = []
    for name, scale, zero in (*TENSORS, *more):
        made += [constant(f"{name}_scale", scale), constant(f"{name}_zero", zero, kind)]
    return made


def dequantize(stored: str, tensor: str, result: str) -> Any:
    return node("DequantizeLinear", [stored, f"{tensor}_scale", f"{tensor}_zero"], [result], f"{result}_dequantize")


def requantize(source: str, tensor: str, result: str) -> Any:
    return node("QuantizeLinear", [source, f"{tensor}_scale", f"{tensor}_zero"], [result], f"{result}_quantize")


# x → LeakyRelu → y, with a pair at each end.
PLAIN = [*quantize("x"), node("LeakyRelu", ["x_dq"], ["m"], "leaky"), requantize("m", "m", "m_q")]
ENDED = [*PLAIN, dequantize("m_q", "m", "y")]


def write_integer_io_model(path: Path, nodes: list[Any], outputs: tuple[str, ...] = ("y",), inputs: Any = None) -> Path:
    """x float32[1,4] → `outputs`, through nodes that may use the scales of x, m, s and of `other`."""
    ends = [value(name, [1, 4], "FLOAT" if not name.endswith("_q") else "UINT8") for name in outputs]
    return write_onnx(path, nodes, inputs or [value("x", [1, 4])], ends, scales(("other", 0.5, 7)))


# Nodes that prevent integer I/O, their outputs, and the text of the note.
KEPT: list[tuple[str, list[Any], tuple[str, ...], str]] = [
    (
        "a reader of the floats",
        [*ENDED, node("Tanh", ["x"], ["z"], "tanh")],
        ("y", "z"),
        "input 'x' stays float32: Tanh 'tanh' reads its floats",
    ),
    (
        "two scales",
        [*ENDED, requantize("x", "other", "o_q"), dequantize("o_q", "other", "o"), node("Tanh", ["o"], ["z"], "tanh")],
        ("y", "z"),
        "input 'x' stays float32: it is not quantized per-tensor with one scale",
    ),
    (
        "a float at the end",
        [*PLAIN, dequantize("m_q", "m", "m_dq"), node("Softmax", ["m_dq"], ["y"], "softmax")],
        ("y",),
        "output 'y' stays float32: it is the output of Softmax 'softmax'",
    ),
    (
        "a reader of the output",
        [*ENDED, node("Tanh", ["y"], ["z"], "tanh")],
        ("y", "z"),
        "output 'y' stays float32: operators of the graph read its floats too",
    ),
    (
        "the input itself",
        [*ENDED, dequantize("x_q", "x", "z")],
        ("y", "z"),
        "output 'z' stays float32: its integers are 'x', which is an input, a constant or another output",
    ),
    (
        "integers that are an output",
        ENDED,
        ("y", "m_q"),
        "output 'y' stays float32: its integers are 'm_q', which is an input, a constant or another output",
    ),
]
