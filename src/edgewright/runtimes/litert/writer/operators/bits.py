"""Operators on the bits of whole numbers."""

import numpy as np

from edgewright.runtimes.litert.writer.build import Builder
from edgewright.runtimes.litert.writer.graph import Node, OperatorRejected
from edgewright.runtimes.litert.writer.operators.align import align_inputs
from edgewright.runtimes.litert.writer.operators.elementwise import broadcast_shapes
from edgewright.runtimes.litert.writer.program import Tensor

KERNEL = {"int8", "uint8", "int16", "int32"}  # what BITWISE_XOR and RIGHT_SHIFT take


def exclusive_or(b: Builder, node: Node) -> None:
    tensors, layout = _take_inputs(b, node)
    b.place(node.outputs[0], b.run("BITWISE_XOR", tensors, broadcast_shapes(*tensors)), layout)


def complement(b: Builder, node: Node) -> None:
    """The bits that are not set: x XOR all ones."""
    (x,), layout = _take_inputs(b, node)
    ones = b.add_constant(np.asarray(-1).astype(x.dtype))
    b.place(node.outputs[0], b.run("BITWISE_XOR", [x, ones], x.shape), layout)


def both(b: Builder, node: Node) -> None:
    """x AND y = (x + y − (x XOR y)) / 2, in a wider type."""
    tensors, layout = _take_inputs(b, node)
    b.place(node.outputs[0], _and(b, *tensors), layout)


def either(b: Builder, node: Node) -> None:
    """x OR y = (x XOR y) XOR (x AND y)."""
    tensors, layout = _take_inputs(b, node)
    shape = broadcast_shapes(*tensors)
    exclusive = b.run("BITWISE_XOR", tensors, shape)
    b.place(node.outputs[0], b.run("BITWISE_XOR", [exclusive, _and(b, *tensors)], shape), layout)


def _and(b: Builder, x: Tensor, y: Tensor) -> Tensor:
    if x.dtype.itemsize > 2:
        raise OperatorRejected("AND and OR of 32-bit integers", "LiteRT has XOR alone")
    shape = broadcast_shapes(x, y)
    exclusive = b.cast(b.run("BITWISE_XOR", [x, y], shape), np.int32)
    total = b.run("ADD", [b.cast(x, np.int32), b.cast(y, np.int32)], shape)
    twice = b.run("SUB", [total, exclusive], shape)
    return b.cast(b.run("FLOOR_DIV", [twice, b.number(2, twice)], shape), x.dtype)


def shift(b: Builder, node: Node) -> None:
    """RIGHT_SHIFT, or to the left the product with a power of two."""
    tensors, layout = _take_inputs(b, node)
    shape, by = broadcast_shapes(*tensors), b.need_constant(1, "amounts")
    if np.any(by < 0) or np.any(by >= 8 * by.dtype.itemsize):
        raise OperatorRejected("a shift by less than nothing or by all bits, where readers of ONNX disagree")
    if node.attributes.get("direction") == "RIGHT":
        b.place(node.outputs[0], b.run("RIGHT_SHIFT", tensors, shape), layout)
        return
    x, amount = tensors
    wide = b.cast(amount, np.int32)
    power = b.run("POW", [b.add_constant(np.full(wide.shape, 2, np.int32)), wide], wide.shape)
    made = b.run("MUL", [b.cast(x, np.int32), power], shape)
    b.place(node.outputs[0], b.cast(made, x.dtype), layout)


def reinterpret(b: Builder, node: Node) -> None:
    """BITCAST between types of one width."""
    (x,), layout = align_inputs(b, node.inputs[:1], node.outputs[0])
    wanted = b.dtype(node.outputs[0])
    if x.dtype.itemsize != wanted.itemsize or np.bool_ in (x.dtype, wanted):
        raise OperatorRejected(f"the bits of {x.dtype} taken for {wanted}")
    b.place(node.outputs[0], b.run("BITCAST", [x], x.shape, dtype=wanted), layout)


def _take_inputs(b: Builder, node: Node) -> tuple[list[Tensor], tuple[int, ...]]:
    tensors, layout = align_inputs(b, node.inputs, node.outputs[0])
    if tensors[0].dtype.name not in KERNEL:
        raise OperatorRejected(f"bits of {tensors[0].dtype}", "cast to int32 before")
    if any(tensor.dtype != tensors[0].dtype for tensor in tensors):
        raise OperatorRejected("bits of two types")
    return tensors, layout
