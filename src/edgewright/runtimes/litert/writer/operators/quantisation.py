"""QUANTIZE and DEQUANTIZE where numbers really change their kind."""

import numpy as np

from edgewright.runtimes.litert.writer.build import Builder
from edgewright.runtimes.litert.writer.graph import Node, Refusal

STORED = {"int8", "uint8", "int16"}


def quantise(b: Builder, node: Node) -> None:
    """QuantizeLinear, and the change from one scale to another that the writer itself puts in."""
    target = node.outputs[0]
    scales = b.scales(target)
    if scales is None or scales.scale.size != 1 or b.dtype(target).name not in STORED:
        raise Refusal(
            "its scales are computed, along an axis, in blocks, or of a type that LiteRT does not quantise to"
        )
    if b.dtype(target) == np.int16 and np.any(scales.zero_point):
        raise Refusal("int16 with a zero point", "quantise 16-bit activations symmetrically")
    layout = b.layout(node.inputs[0])
    b.emit("QUANTIZE", [b.take(node.inputs[0], layout)], [b.make(target, layout)])


def dequantise(b: Builder, node: Node) -> None:
    source, target = node.inputs[0], node.outputs[0]
    scales = b.scales(source)
    if scales is None or scales.scale.size != 1 or b.dtype(source).name not in STORED:
        raise Refusal("its scales are computed, along an axis, in blocks, or of a type that LiteRT does not dequantise")
    if b.dtype(target) != np.float32:
        raise Refusal(f"it gives {b.dtype(target)}")
    layout = b.layout(source)
    b.emit("DEQUANTIZE", [b.take(source, layout)], [b.make(target, layout)])
