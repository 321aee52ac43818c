"""QUANTIZE and DEQUANTIZE, or arithmetic if LiteRT has no tensors with such parameters."""

import numpy as np

from edgewright.runtimes.litert.writer.build import Builder
from edgewright.runtimes.litert.writer.graph import Node, OperatorRejected, Scales
from edgewright.runtimes.litert.writer.operators.elementwise import broadcast_shapes
from edgewright.runtimes.litert.writer.passes.layout import Layout, make_plain
from edgewright.runtimes.litert.writer.program import Tensor

STORED = {"int8", "uint8", "int16"}


def quantize(b: Builder, node: Node) -> None:
    """Write QuantizeLinear, or a requantization that the writer inserted."""
    source, target = node.inputs[0], node.outputs[0]
    if b.dtype(target).name not in STORED:
        raise OperatorRejected(f"LiteRT does not quantize to {b.dtype(target)}")
    if not _is_plain(b.scales(target), b.dtype(target)):
        _quantize_in_steps(b, node)
        return
    layout = b.layout(source)
    b.emit("QUANTIZE", [b.take(source, layout)], [b.make(target, layout)])


def dequantize(b: Builder, node: Node) -> None:
    source, target = node.inputs[0], node.outputs[0]
    if b.dtype(target) != np.float32:
        raise OperatorRejected(f"its output type is {b.dtype(target)}")
    if b.dtype(source).name not in STORED or not _is_plain(b.scales(source), b.dtype(source)):
        _dequantize_in_steps(b, node)
        return
    layout = b.layout(source)
    b.emit("DEQUANTIZE", [b.take(source, layout)], [b.make(target, layout)])


def _is_plain(scales: Scales | None, dtype: np.dtype[np.generic]) -> bool:
    """Return one scale for the tensor and, in 16 bits, no zero point, as LiteRT requires."""
    return scales is not None and scales.scale.size == 1 and not (dtype == np.int16 and np.any(scales.zero_point))


def _quantize_in_steps(b: Builder, node: Node) -> None:
    """Write clamp(round(x / scale) + zero point)."""
    dtype = b.dtype(node.outputs[0])
    layout = _find_layout(b, node)
    x, scale = b.take(node.inputs[0], layout), _broadcast_parameter(b, node, 1)
    if x.dtype != np.float32:
        raise OperatorRejected(f"it quantizes {x.dtype}")
    shape, limits = broadcast_shapes(x, scale), np.iinfo(dtype)
    made = b.run("ROUND", [b.run("DIV", [x, scale], shape)], shape)
    if node.has(2):
        made = b.run("ADD", [made, _broadcast_parameter(b, node, 2)], shape)
    made = b.run("MAXIMUM", [made, b.number(limits.min, made)], shape)
    made = b.run("MINIMUM", [made, b.number(limits.max, made)], shape)
    b.place(node.outputs[0], b.cast(b.cast(made, np.int32), dtype), layout)


def _dequantize_in_steps(b: Builder, node: Node) -> None:
    """Write (x − zero point) × scale."""
    layout = _find_layout(b, node)
    x = b.cast(b.take(node.inputs[0], layout), np.float32)
    if node.has(2):
        x = b.run("SUB", [x, _broadcast_parameter(b, node, 2)], x.shape)
    b.place(node.outputs[0], b.run("MUL", [x, _broadcast_parameter(b, node, 1)], x.shape), layout)


def _find_layout(b: Builder, node: Node) -> Layout:
    """Return any layout for one scale, else the plain one, to which the scales are broadcast."""
    single = all(int(np.prod(b.shape(name))) == 1 for name in node.inputs[1:] if name)
    return b.layout(node.inputs[0]) if single else make_plain(b.rank(node.inputs[0]))


def _broadcast_parameter(b: Builder, node: Node, position: int) -> Tensor:
    """Return a scale or zero point as float32, in a shape that broadcasts to the value's."""
    name, shape = node.inputs[position], b.shape(node.inputs[0])
    own = b.shape(name)
    if int(np.prod(own)) == 1:
        return b.reshape(b.cast(b.take(name), np.float32), ())
    axis, block = int(node.attributes.get("axis", 1)) % len(shape), int(node.attributes.get("block_size", 0))
    if block:
        data = np.repeat(b.need_constant(position, "blockwise scales"), block, axis)
        return b.add_constant(np.take(data, np.arange(shape[axis]), axis).astype(np.float32))
    along = tuple(size if at == axis else 1 for at, size in enumerate(shape))
    return b.reshape(b.cast(b.take(name), np.float32), along)
