"""QuantizeLinear and DequantizeLinear as torch's own operators of quantized programs, which compilers support.

A pair around a tensor becomes `quantize_per_tensor` and `dequantize_per_tensor` on int8, one of the latter for each
reader, since partitioners require a separate one. Weights stay integers with `dequantize_per_channel`. A tensor
quantized to sixteen bits stays float, bounded to its range. Others (weights with zero points, integers
with other readers) are computed in floats.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from edgewright.formats.neighbors import find_producers, find_readers
from edgewright.formats.onnx_to_torch.read import SourceGraph, SourceNode
from edgewright.schema.arrays import Array

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
# Operators of Edgewright; ONNX's names have no dot.
QUANTIZE_NODE, DEQUANTIZE_NODE, DEQUANTIZE_WEIGHTS_NODE, LINEAR_NODE = (
    "edgewright.Round",
    "edgewright.Unround",
    "edgewright.Weights",
    "edgewright.Linear",
)
CLAMP_NODE = "edgewright.Bound"
# Limits of sixteen bits; uint16 was read as int32, which ONNX does not round.
SIXTEEN_BIT_LIMITS = {np.dtype(np.int16): (-(2**15), 2**15 - 1), np.dtype(np.int32): (0, 2**16 - 1)}
UINT8_OFFSET = 128  # from uint8 to int8
DATA_MOVEMENT_OPS = (
    *("Concat", "MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Pad"),
    *("DepthToSpace", "SpaceToDepth", "Expand"),
)
FUSED_ACTIVATIONS = ("Relu", "Clip")
CONVOLUTIONS = ("Conv", "ConvTranspose")


def mark_quantized_nodes(graph: SourceGraph) -> SourceGraph:
    """Return the graph with torch's quantized operators for nodes that have one."""
    return QuantizedNodeMarker(graph).mark()


class QuantizedNodeMarker:
    def __init__(self, graph: SourceGraph) -> None:
        self.graph = graph
        self.constants = dict(graph.constants)
        self.producer = find_producers(graph.nodes)
        self.readers = find_readers(graph.nodes)
        self.graph_outputs = {spec.name for spec in graph.signature.outputs}
        self.used: set[str] = set()

    def mark(self) -> SourceGraph:
        nodes = [made for node in self.graph.nodes for made in self.take(node)]
        return self.graph._replace(nodes=nodes, constants=self.constants)

    def take(self, node: SourceNode) -> Iterator[SourceNode]:
        if node.op == QUANTIZE and self.is_paired(node):
            quant_params = self.read_quant_params(node)
            yield node._replace(
                op=QUANTIZE_NODE if "scale" in quant_params else CLAMP_NODE,
                inputs=node.inputs[:1],
                attributes=quant_params,
            )
        elif node.op == DEQUANTIZE and self.is_dequantized_pair(node):
            yield self.make_dequantize(node, node.outputs[0])
        else:
            yield from self.read_weights(node)

    def is_paired(self, node: SourceNode) -> bool:
        """Return whether it quantizes to eight bits with one scale, and only DequantizeLinear nodes of the same scale
        read it.
        """
        name = node.outputs[0]
        readers = self.readers.get(name, [])
        alike = all(one.op == DEQUANTIZE and self.has_same_quant_params(node, one) for one in readers)
        return bool(readers) and alike and name not in self.graph_outputs and bool(self.read_quant_params(node))

    def is_dequantized_pair(self, node: SourceNode) -> bool:
        qdq_node = self.producer.get(node.inputs[0])
        return qdq_node is not None and qdq_node.op == QUANTIZE and self.is_paired(qdq_node)

    def has_same_quant_params(self, one: SourceNode, other: SourceNode) -> bool:
        return self.read_quant_params(one) == self.read_quant_params(other)

    def read_quant_params(self, node: SourceNode) -> Mapping[str, Any]:
        """Return scale and zero point for int8, or the bounds of a 16-bit range; empty if they are unknown."""
        scale, zero = self.read_scales(node)
        if scale is None or scale.size != 1 or zero is None or zero.size != 1:
            return {}
        if zero.dtype in SIXTEEN_BIT_LIMITS:
            numbers = (float(end) - float(zero.reshape(-1)[0]) for end in SIXTEEN_BIT_LIMITS[zero.dtype])
            return dict(zip(("floor", "ceiling"), (one * float(scale.reshape(-1)[0]) for one in numbers), strict=True))
        if zero.dtype not in (np.uint8, np.int8):
            return {}
        middle = UINT8_OFFSET if zero.dtype == np.uint8 else 0
        return {"scale": float(scale.reshape(-1)[0]), "zero": int(zero.reshape(-1)[0]) - middle}

    def read_scales(self, node: SourceNode) -> tuple[Array | None, Array | None]:
        scale = self.constants.get(node.inputs[1])
        if len(node.inputs) > 2 and node.inputs[2]:
            return scale, self.constants.get(node.inputs[2])
        stored = self.constants.get(node.inputs[0])
        return scale, np.zeros((), np.uint8 if stored is None else stored.dtype)

    def make_dequantize(self, node: SourceNode, output: str) -> SourceNode:
        quant_params = self.read_quant_params(node)
        kind = DEQUANTIZE_NODE if "scale" in quant_params else "Identity"
        return SourceNode(
            self.make_unique_name(node.name), kind, node.inputs[:1], (output,), quant_params, node.sources
        )

    def make_unique_name(self, name: str) -> str:
        made = name
        while made in self.used:
            made += "'"
        self.used.add(made)
        return made

    def read_weights(self, node: SourceNode) -> Iterator[SourceNode]:
        """Yield the node with a separate DequantizeLinear for each quantized input, and with its weights as
        integers."""
        inputs = list(node.inputs)
        wanted = self.find_required_params(node)
        for position, name in enumerate(node.inputs):
            qdq_node = self.producer.get(name)
            if qdq_node is None or qdq_node.op != DEQUANTIZE:
                continue
            if wanted and self.is_dequantized_pair(qdq_node) and self.read_quant_params(qdq_node) != wanted:
                names = [f"{name}__{node.name}_{position}{mark}" for mark in ("", "i", "w")]
                yield self.make_dequantize(qdq_node, names[0])
                yield SourceNode(
                    self.make_unique_name(node.name), QUANTIZE_NODE, (names[0],), (names[1],), wanted, node.sources
                )
                yield SourceNode(
                    self.make_unique_name(node.name), DEQUANTIZE_NODE, (names[1],), (names[2],), wanted, node.sources
                )
                inputs[position] = names[2]
            elif self.is_dequantized_pair(qdq_node) and self.readers[name][0] is not node:
                inputs[position] = f"{name}__{node.name}_{position}"
                yield self.make_dequantize(qdq_node, inputs[position])
            elif position == 1 and (weights := self.read_integer_weights(node, qdq_node)):
                inputs[position] = f"{name}__{node.name}"
                yield self.store_integer_weights(node, qdq_node, weights, inputs[position])
                node = self.to_linear(node)
        yield node._replace(inputs=tuple(inputs))

    def find_required_params(self, node: SourceNode) -> Mapping[str, Any]:
        """Return the quantization parameters that a data movement node requires for its input: XNNPACK moves
        integers as they are.

        Quantizing before the movement is equal to quantizing after it.
        """
        qdq_node = next((one for one in self.readers.get(node.outputs[0], []) if one.op == QUANTIZE), None)
        moves = node.op in DATA_MOVEMENT_OPS and qdq_node is not None and self.is_paired(qdq_node)
        quant_params = self.read_quant_params(qdq_node) if moves and qdq_node is not None else {}
        return quant_params if "scale" in quant_params else {}

    def read_integer_weights(self, node: SourceNode, qdq_node: SourceNode) -> tuple[Array, Array, int] | None:
        """Return the weights as int8 in the order of torch's layers, their scales and the axis of these."""
        stored = self.constants.get(qdq_node.inputs[0])
        scale, zero = self.read_scales(qdq_node)
        if not self.has_quantized_output(node) or not self.has_quantized_input(node):
            return None
        if stored is None or scale is None or zero is None or stored.dtype not in (np.int8, np.uint8):
            return None
        middle = UINT8_OFFSET if stored.dtype == np.uint8 else 0
        if not bool((zero == middle).all()):
            return None
        values = np.asarray(stored.astype(np.int16) - middle, np.int8)
        axis = int(qdq_node.attributes.get("axis", 1)) % stored.ndim if scale.size > 1 else -1
        if node.op in CONVOLUTIONS:
            wanted = 0 if node.op == "Conv" else 1
            return (values, scale, wanted) if axis in (-1, wanted) else None
        if not self.is_linear(node, stored):
            return None
        transposed = node.op == "MatMul" or not node.attributes.get("transB", 0)
        if axis not in (-1, 1 if transposed else 0):
            return None
        return (np.ascontiguousarray(values.T) if transposed else values), scale, 0

    def has_quantized_input(self, node: SourceNode) -> bool:
        qdq_node = self.producer.get(node.inputs[0])
        return qdq_node is not None and qdq_node.op == DEQUANTIZE and self.is_dequantized_pair(qdq_node)

    def has_quantized_output(self, node: SourceNode) -> bool:
        """Return whether its output is quantized to eight bits, directly or after one activation that XNNPACK fuses.

        XNNPACK does not support an integer layer with a float output.
        """
        readers = self.readers.get(node.outputs[0], [])
        if node.outputs[0] in self.graph_outputs or len(readers) != 1:
            return False
        behind = readers[0]
        if behind.op in FUSED_ACTIVATIONS and node.op not in FUSED_ACTIVATIONS:
            return self.has_quantized_output(behind)
        return behind.op == QUANTIZE and self.is_paired(behind) and "scale" in self.read_quant_params(behind)

    def is_linear(self, node: SourceNode, stored: Array) -> bool:
        """Return whether it is a product with a matrix and the sum with one bias for each column, as a linear layer
        is.
        """
        if node.op == "MatMul":
            return stored.ndim == 2
        plain = {"alpha": 1.0, "beta": 1.0, "transA": 0}
        if node.op != "Gemm" or any(node.attributes.get(name, value) != value for name, value in plain.items()):
            return False
        return len(node.inputs) < 3 or self.is_row(
            node.inputs[2], stored.shape[0 if node.attributes.get("transB") else 1]
        )

    def is_row(self, bias: str, size: int) -> bool:
        qdq_node = self.producer.get(bias)
        held = self.constants.get(qdq_node.inputs[0] if qdq_node is not None and qdq_node.op == DEQUANTIZE else bias)
        return held is not None and held.shape == (size,)

    def store_integer_weights(
        self, node: SourceNode, qdq_node: SourceNode, weights: tuple[Array, Array, int], output: str
    ) -> SourceNode:
        values, scale, axis = weights
        scales = np.ascontiguousarray(np.broadcast_to(scale.reshape(-1), values.shape[axis]), np.float32)
        names = tuple(f"{output}/{part}" for part in ("integers", "scales", "zeros"))
        arrays = (values, scales, np.zeros(scales.shape, np.int64))
        self.constants.update(zip(names, arrays, strict=True))
        return SourceNode(
            self.make_unique_name(f"{qdq_node.name}__{node.name}"),
            DEQUANTIZE_WEIGHTS_NODE,
            names,
            (output,),
            {"axis": axis},
            qdq_node.sources,
        )

    def to_linear(self, node: SourceNode) -> SourceNode:
        return node if node.op in CONVOLUTIONS else node._replace(op=LINEAR_NODE)
