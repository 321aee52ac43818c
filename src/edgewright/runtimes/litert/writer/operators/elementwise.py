"""Element-wise operators: arithmetic, comparison, logic, and bit operations."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgewright.runtimes.litert.writer.build import Builder
from edgewright.runtimes.litert.writer.graph import Node, OperatorRejected, Shape
from edgewright.runtimes.litert.writer.operators.align import align_inputs
from edgewright.runtimes.litert.writer.program import Tensor

# Integers that LiteRT's arithmetic supports only as quantized values: they are computed as int32.
NARROW_DTYPES = {"int8", "uint8", "int16"}
# Types of BITWISE_XOR and RIGHT_SHIFT.
_BITWISE_DTYPES = {"int8", "uint8", "int16", "int32"}


def emit_widened(
    b: Builder,
    code: str,
    inputs: Sequence[Tensor],
    shape: Shape,
    *,
    result: Any = None,
    options: dict[str, Any] | None = None,
) -> Tensor:
    """Write an operator on tensors that are not quantized; narrow integers are widened and wrap around as in ONNX."""
    first = inputs[0].dtype
    if first.name not in NARROW_DTYPES:
        return b.run(code, inputs, shape, dtype=result, options=options)
    wide = [b.cast(tensor, np.int32) for tensor in inputs]
    made = b.run(code, wide, shape, dtype=result or np.int32, options=options)
    return made if result is not None else b.cast(made, first)


def broadcast_shapes(*tensors: Tensor) -> Shape:
    return tuple(np.broadcast_shapes(*(tensor.shape for tensor in tensors)))


def arithmetic(code: str) -> Callable[[Builder, Node], None]:
    """Return a writer of ADD, SUB, MUL or DIV, whose kernels have a fused activation."""

    def write(b: Builder, node: Node) -> None:
        tensors, layout = align_inputs(b, node.inputs, node.outputs[0])
        activation = node.attributes.get("activation", "NONE")
        options: dict[str, Any] = {"fusedActivationFunction": activation}
        if code in {"ADD", "SUB"} and tensors[0].dtype == np.int16:
            options["potScaleInt16"] = False
        if tensors[0].dtype.name in NARROW_DTYPES and tensors[0].scales is None:
            b.place(
                node.outputs[0], emit_widened(b, code, tensors, broadcast_shapes(*tensors), options=options), layout
            )
        else:
            b.emit(code, tensors, [b.make(node.outputs[0], layout)], options)

    return write


def divide(b: Builder, node: Node) -> None:
    """Write DIV; for integers only as int32, rounded towards zero."""
    if b.dtype(node.outputs[0]).kind in "iu" and b.dtype(node.outputs[0]) != np.int32:
        tensors, layout = align_inputs(b, node.inputs, node.outputs[0])
        if b.dtype(node.outputs[0]).itemsize > 4:
            raise OperatorRejected("LiteRT does not divide 64-bit integers", "cast them to int32 or float32 first")
        b.place(node.outputs[0], emit_widened(b, "DIV", tensors, broadcast_shapes(*tensors)), layout)
        return
    arithmetic("DIV")(b, node)


def unary(code: str) -> Callable[[Builder, Node], None]:
    """Return a writer of an operator with one input."""

    def write(b: Builder, node: Node) -> None:
        tensors, layout = align_inputs(b, node.inputs[:1], node.outputs[0])
        if tensors[0].scales is not None:
            b.emit(code, tensors, [b.make(node.outputs[0], layout)])
        else:
            b.place(node.outputs[0], emit_widened(b, code, tensors, tensors[0].shape), layout)

    return write


def _binary(code: str) -> Callable[[Builder, Node], None]:
    """Return a writer of an operator with two inputs, without a fused activation."""

    def write(b: Builder, node: Node) -> None:
        tensors, layout = align_inputs(b, node.inputs, node.outputs[0])
        b.place(node.outputs[0], emit_widened(b, code, tensors, broadcast_shapes(*tensors)), layout)

    return write


def comparison(*codes: str) -> Callable[[Builder, Node], None]:
    """Return a writer of a comparison, whose result is bool."""

    def write(b: Builder, node: Node) -> None:
        tensors, layout = align_inputs(b, node.inputs, node.outputs[0])
        if tensors[0].dtype == np.bool_ and codes[0] not in {"EQUAL", "NOT_EQUAL"}:
            raise OperatorRejected("it compares booleans")
        made = emit_widened(b, codes[0], tensors, broadcast_shapes(*tensors), result=np.bool_)
        b.place(node.outputs[0], made, layout)

    return write


def logic(code: str) -> Callable[[Builder, Node], None]:
    def write(b: Builder, node: Node) -> None:
        tensors, layout = align_inputs(b, node.inputs, node.outputs[0])
        shape = broadcast_shapes(*tensors)
        b.place(node.outputs[0], b.run(code, tensors, shape), layout)

    return write


def variadic(code: str) -> Callable[[Builder, Node], None]:
    """Return a writer of an operator with any number of inputs, as a chain of pairs."""

    def write(b: Builder, node: Node) -> None:
        tensors, layout = align_inputs(b, node.inputs, node.outputs[0])
        total = tensors[0]
        for tensor in tensors[1:]:
            total = emit_widened(b, code, [total, tensor], broadcast_shapes(total, tensor))
        b.place(node.outputs[0], copy_if_unchanged(b, total, node), layout)

    return write


def copy_if_unchanged(b: Builder, tensor: Tensor, node: Node) -> Tensor:
    """Return a tensor of the node's own; a copy if nothing was computed."""
    if any(tensor in places.values() for places in (b.placed.get(name, {}) for name in node.inputs)):
        return copy_tensor(b, tensor)
    return tensor


def copy_tensor(b: Builder, tensor: Tensor) -> Tensor:
    options = {"newShape": list(tensor.shape)}
    return b.run("RESHAPE", [tensor, b.ints(tensor.shape)], tensor.shape, scales=tensor.scales, options=options)


def mean(b: Builder, node: Node) -> None:
    """Write the element-wise mean of the inputs."""
    tensors, layout = align_inputs(b, node.inputs, node.outputs[0])
    total = tensors[0]
    for tensor in tensors[1:]:
        total = b.run("ADD", [total, tensor], broadcast_shapes(total, tensor))
    b.place(node.outputs[0], b.run("MUL", [total, b.number(1 / len(tensors), total)], total.shape), layout)


def power(b: Builder, node: Node) -> None:
    """Write POW, or faster operators for a constant exponent: products, SQRT, RSQRT."""
    exponent = b.graph.number(node.inputs[1])
    tensors, layout = align_inputs(b, node.inputs, node.outputs[0])
    base = tensors[0]
    shape = broadcast_shapes(*tensors)
    if exponent in PRODUCTS and base.shape == shape:
        b.place(node.outputs[0], _multiply(b, base, int(exponent or 0)), layout)
        return
    if base.dtype.kind != "f":
        raise OperatorRejected("powers of integers", "cast them to float32 first")
    if exponent in ROOTS and base.shape == shape:
        b.place(node.outputs[0], b.run(ROOTS[exponent], [base], shape), layout)
        return
    made = b.run("POW", [base, b.cast(tensors[1], base.dtype)], shape)
    b.place(node.outputs[0], made, layout)


PRODUCTS = {2.0, 3.0, 4.0}
ROOTS = {0.5: "SQRT", -0.5: "RSQRT"}


def _multiply(b: Builder, base: Tensor, times: int) -> Tensor:
    square = emit_widened(b, "MUL", [base, base], base.shape)
    return square if times == 2 else emit_widened(b, "MUL", [square, base if times == 3 else square], base.shape)


def remainder(b: Builder, node: Node) -> None:
    """Write FLOOR_MOD, with the sign of the divisor; with `fmod` the sign of the dividend, by ABS and SIGN."""
    tensors, layout = align_inputs(b, node.inputs, node.outputs[0])
    shape, dtype = broadcast_shapes(*tensors), tensors[0].dtype
    if not node.attributes.get("fmod", 0):
        b.place(node.outputs[0], emit_widened(b, "FLOOR_MOD", tensors, shape), layout)
        return
    if dtype != np.float32:
        raise OperatorRejected("fmod of integers")
    left = b.run("ABS", [tensors[0]], tensors[0].shape)
    right = b.run("ABS", [tensors[1]], tensors[1].shape)
    rest = b.run("FLOOR_MOD", [left, right], shape)
    sign = b.run("SIGN", [tensors[0]], tensors[0].shape)
    b.place(node.outputs[0], b.run("MUL", [rest, sign], shape), layout)


def select(b: Builder, node: Node) -> None:
    """Write Where."""
    tensors, layout = align_inputs(b, node.inputs, node.outputs[0])
    shape = broadcast_shapes(*tensors)
    b.place(node.outputs[0], b.run("SELECT_V2", tensors, shape, dtype=tensors[1].dtype), layout)


def cast(b: Builder, node: Node) -> None:
    """Write Cast and CastLike."""
    tensors, layout = align_inputs(b, node.inputs[:1], node.outputs[0])
    wanted = b.dtype(node.outputs[0])
    if tensors[0].scales is not None:
        raise OperatorRejected("a cast of quantized values")
    if wanted.name == "float64":
        raise OperatorRejected(f"a cast from {tensors[0].dtype} to {wanted}")
    if tensors[0].dtype.kind == "f" and wanted.kind in "iu" and wanted.itemsize < 4:
        tensors[0] = b.cast(tensors[0], np.int32)  # numbers out of range wrap around, as in ONNX Runtime
    made = _to_bool(b, tensors[0]) if wanted == np.bool_ else b.cast(tensors[0], wanted)
    b.place(node.outputs[0], copy_if_unchanged(b, made, node), layout)


def _to_bool(b: Builder, tensor: Tensor) -> Tensor:
    if tensor.dtype == np.bool_:
        return tensor
    return emit_widened(b, "NOT_EQUAL", [tensor, b.number(0, tensor)], tensor.shape, result=np.bool_)


def is_nan(b: Builder, node: Node) -> None:
    """Write x ≠ x, which is true only for NaN."""
    tensors, layout = align_inputs(b, node.inputs, node.outputs[0])
    made = b.run("NOT_EQUAL", [tensors[0], tensors[0]], tensors[0].shape, dtype=np.bool_)
    b.place(node.outputs[0], made, layout)


def is_infinite(b: Builder, node: Node) -> None:
    """Write comparisons with the infinities that the attributes select."""
    tensors, layout = align_inputs(b, node.inputs, node.outputs[0])
    x = tensors[0]
    signs = [
        np.inf * sign
        for name, sign in (("detect_positive", 1), ("detect_negative", -1))
        if node.attributes.get(name, 1)
    ]
    if not signs:
        raise OperatorRejected("detect_positive and detect_negative are both 0")
    found = [b.run("EQUAL", [x, b.number(value, x)], x.shape, dtype=np.bool_) for value in signs]
    made = found[0] if len(found) == 1 else b.run("LOGICAL_OR", found, x.shape)
    b.place(node.outputs[0], made, layout)


def identity(b: Builder, node: Node) -> None:
    """Give the value a second name, for Identity and for Dropout at inference."""
    if b.constant(node.inputs[0]) is not None:
        layout = b.layout(node.inputs[0])
        b.place(node.outputs[0], copy_tensor(b, b.take(node.inputs[0], layout)), layout)
        return
    b.placed[node.outputs[0]] = dict(b.placed[node.inputs[0]])


def dropout(b: Builder, node: Node) -> None:
    training = b.graph.number(node.inputs[2]) if node.has(2) else 0.0
    if training != 0.0:
        raise OperatorRejected("it is in training mode", "export the model for inference")
    if len(node.outputs) > 1 and node.outputs[1]:
        raise OperatorRejected("its mask output is used", "export the model for inference")
    identity(b, node)


def exclusive_or(b: Builder, node: Node) -> None:
    tensors, layout = _take_bit_inputs(b, node)
    b.place(node.outputs[0], b.run("BITWISE_XOR", tensors, broadcast_shapes(*tensors)), layout)


def complement(b: Builder, node: Node) -> None:
    """Write the complement: x XOR all ones."""
    (x,), layout = _take_bit_inputs(b, node)
    ones = b.add_constant(np.asarray(-1).astype(x.dtype))
    b.place(node.outputs[0], b.run("BITWISE_XOR", [x, ones], x.shape), layout)


def both(b: Builder, node: Node) -> None:
    """Write x AND y = (x + y − (x XOR y)) / 2, in a wider type."""
    tensors, layout = _take_bit_inputs(b, node)
    b.place(node.outputs[0], _and(b, *tensors), layout)


def either(b: Builder, node: Node) -> None:
    """Write x OR y = (x XOR y) XOR (x AND y)."""
    tensors, layout = _take_bit_inputs(b, node)
    shape = broadcast_shapes(*tensors)
    exclusive = b.run("BITWISE_XOR", tensors, shape)
    b.place(node.outputs[0], b.run("BITWISE_XOR", [exclusive, _and(b, *tensors)], shape), layout)


def _and(b: Builder, x: Tensor, y: Tensor) -> Tensor:
    if x.dtype.itemsize > 2:
        raise OperatorRejected("AND and OR of 32-bit integers", "LiteRT supports only XOR")
    shape = broadcast_shapes(x, y)
    exclusive = b.cast(b.run("BITWISE_XOR", [x, y], shape), np.int32)
    total = b.run("ADD", [b.cast(x, np.int32), b.cast(y, np.int32)], shape)
    twice = b.run("SUB", [total, exclusive], shape)
    return b.cast(b.run("FLOOR_DIV", [twice, b.number(2, twice)], shape), x.dtype)


def shift(b: Builder, node: Node) -> None:
    """Write RIGHT_SHIFT, or for a left shift the product with a power of two."""
    tensors, layout = _take_bit_inputs(b, node)
    shape, by = broadcast_shapes(*tensors), b.need_constant(1, "amounts")
    if np.any(by < 0) or np.any(by >= 8 * by.dtype.itemsize):
        raise OperatorRejected(
            "a shift by a negative number or by all bits, which ONNX implementations interpret differently"
        )
    if node.attributes.get("direction") == "RIGHT":
        b.place(node.outputs[0], b.run("RIGHT_SHIFT", tensors, shape), layout)
        return
    x, amount = tensors
    wide = b.cast(amount, np.int32)
    power = b.run("POW", [b.add_constant(np.full(wide.shape, 2, np.int32)), wide], wide.shape)
    made = b.run("MUL", [b.cast(x, np.int32), power], shape)
    b.place(node.outputs[0], b.cast(made, x.dtype), layout)


def reinterpret(b: Builder, node: Node) -> None:
    """Write a BITCAST between types of equal width."""
    (x,), layout = align_inputs(b, node.inputs[:1], node.outputs[0])
    wanted = b.dtype(node.outputs[0])
    if x.dtype.itemsize != wanted.itemsize or np.bool_ in (x.dtype, wanted):
        raise OperatorRejected(f"a bit cast from {x.dtype} to {wanted}")
    b.place(node.outputs[0], b.run("BITCAST", [x], x.shape, dtype=wanted), layout)


def _take_bit_inputs(b: Builder, node: Node) -> tuple[list[Tensor], tuple[int, ...]]:
    tensors, layout = align_inputs(b, node.inputs, node.outputs[0])
    if tensors[0].dtype.name not in _BITWISE_DTYPES:
        raise OperatorRejected(f"bits of {tensors[0].dtype}", "cast to int32 first")
    if any(tensor.dtype != tensors[0].dtype for tensor in tensors):
        raise OperatorRejected("bits of two different types")
    return tensors, layout
