"""QuantizeLinear and DequantizeLinear as torch's own operators of quantised programs, which compilers know.

A pair around a tensor becomes `quantize_per_tensor` and `dequantize_per_tensor` on int8, one of the latter for each
reader, since partitioners take a reader with its own. Weights stay integers behind `dequantize_per_channel`. A tensor
rounded to sixteen bits stays float within its grid's bounds. What does not fit (weights with zero points, integers that
something else reads) is computed in floats as it stands.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from edgewright.formats.onnx_to_torch.call import Array
from edgewright.formats.onnx_to_torch.read import Graph, Node

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
# Operators of this house; ONNX's names hold no dot.
ROUND, UNROUND, UNROUND_WEIGHTS, LINEAR = (
    "edgewright.Round",
    "edgewright.Unround",
    "edgewright.Weights",
    "edgewright.Linear",
)
BOUND = "edgewright.Bound"
# Ends of what is stored in sixteen bits; uint16 has been read as int32, for which ONNX rounds nothing.
WIDE = {np.dtype(np.int16): (-(2**15), 2**15 - 1), np.dtype(np.int32): (0, 2**16 - 1)}
MIDDLE = 128  # from uint8 to int8
MOVES = (
    *("Concat", "MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Pad"),
    *("DepthToSpace", "SpaceToDepth", "Expand"),
)
FUSED = ("Relu", "Clip")
CONVOLUTIONS = ("Conv", "ConvTranspose")


def mark_rounding(graph: Graph) -> Graph:
    """The graph with the nodes that torch has quantised operators for written as such."""
    return Marker(graph).mark()


class Marker:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.constants = dict(graph.constants)
        self.maker = {name: node for node in graph.nodes for name in node.outputs}
        self.readers: dict[str, list[Node]] = {spec.name: [] for spec in graph.signature.outputs}
        for node in graph.nodes:
            for name in node.inputs:
                self.readers.setdefault(name, []).append(node)
        self.handed_out = {spec.name for spec in graph.signature.outputs}
        self.used: set[str] = set()

    def mark(self) -> Graph:
        nodes = [made for node in self.graph.nodes for made in self.take(node)]
        return self.graph._replace(nodes=nodes, constants=self.constants)

    def take(self, node: Node) -> Iterator[Node]:
        if node.op == QUANTIZE and self.is_paired(node):
            grid = self.read_grid(node)
            yield node._replace(op=ROUND if "scale" in grid else BOUND, inputs=node.inputs[:1], attributes=grid)
        elif node.op == DEQUANTIZE and self.is_behind_pair(node):
            yield self.unround(node, node.outputs[0])
        else:
            yield from self.read_weights(node)

    def is_paired(self, node: Node) -> bool:
        """Whether it rounds to eight bits with one scale, and only DequantizeLinear of the same scale read it."""
        name = node.outputs[0]
        readers = self.readers.get(name, [])
        alike = all(one.op == DEQUANTIZE and self.same_grid(node, one) for one in readers)
        return bool(readers) and alike and name not in self.handed_out and bool(self.read_grid(node))

    def is_behind_pair(self, node: Node) -> bool:
        rounder = self.maker.get(node.inputs[0])
        return rounder is not None and rounder.op == QUANTIZE and self.is_paired(rounder)

    def same_grid(self, one: Node, other: Node) -> bool:
        return self.read_grid(one) == self.read_grid(other)

    def read_grid(self, node: Node) -> Mapping[str, Any]:
        """Scale and zero point on int8, or the two ends of a grid of sixteen bits; empty where these are not known."""
        scale, zero = self.read_scales(node)
        if scale is None or scale.size != 1 or zero is None or zero.size != 1:
            return {}
        if zero.dtype in WIDE:
            numbers = (float(end) - float(zero.reshape(-1)[0]) for end in WIDE[zero.dtype])
            return dict(zip(("floor", "ceiling"), (one * float(scale.reshape(-1)[0]) for one in numbers), strict=True))
        if zero.dtype not in (np.uint8, np.int8):
            return {}
        middle = MIDDLE if zero.dtype == np.uint8 else 0
        return {"scale": float(scale.reshape(-1)[0]), "zero": int(zero.reshape(-1)[0]) - middle}

    def read_scales(self, node: Node) -> tuple[Array | None, Array | None]:
        scale = self.constants.get(node.inputs[1])
        if len(node.inputs) > 2 and node.inputs[2]:
            return scale, self.constants.get(node.inputs[2])
        stored = self.constants.get(node.inputs[0])
        return scale, np.zeros((), np.uint8 if stored is None else stored.dtype)

    def unround(self, node: Node, output: str) -> Node:
        grid = self.read_grid(node)
        kind = UNROUND if "scale" in grid else "Identity"
        return Node(self.free(node.name), kind, node.inputs[:1], (output,), grid, node.sources)

    def free(self, name: str) -> str:
        made = name
        while made in self.used:
            made += "'"
        self.used.add(made)
        return made

    def read_weights(self, node: Node) -> Iterator[Node]:
        """The node with a DequantizeLinear of its own for each rounded input, and with its weights as integers."""
        inputs = list(node.inputs)
        wanted = self.find_wanted(node)
        for position, name in enumerate(node.inputs):
            rounder = self.maker.get(name)
            if rounder is None or rounder.op != DEQUANTIZE:
                continue
            if wanted and self.is_behind_pair(rounder) and self.read_grid(rounder) != wanted:
                names = [f"{name}__{node.name}_{position}{mark}" for mark in ("", "i", "w")]
                yield self.unround(rounder, names[0])
                yield Node(self.free(node.name), ROUND, (names[0],), (names[1],), wanted, node.sources)
                yield Node(self.free(node.name), UNROUND, (names[1],), (names[2],), wanted, node.sources)
                inputs[position] = names[2]
            elif self.is_behind_pair(rounder) and self.readers[name][0] is not node:
                inputs[position] = f"{name}__{node.name}_{position}"
                yield self.unround(rounder, inputs[position])
            elif position == 1 and (weights := self.integers_of(node, rounder)):
                inputs[position] = f"{name}__{node.name}"
                yield self.keep_integers(node, rounder, weights, inputs[position])
                node = self.as_linear(node)
        yield node._replace(inputs=tuple(inputs))

    def find_wanted(self, node: Node) -> Mapping[str, Any]:
        """The grid that a node which only moves values has to be given them on: XNNPACK moves integers as they are.

        Rounding before it is moved gives what rounding behind would.
        """
        rounder = next((one for one in self.readers.get(node.outputs[0], []) if one.op == QUANTIZE), None)
        moves = node.op in MOVES and rounder is not None and self.is_paired(rounder)
        grid = self.read_grid(rounder) if moves and rounder is not None else {}
        return grid if "scale" in grid else {}

    def integers_of(self, node: Node, rounder: Node) -> tuple[Array, Array, int] | None:
        """The weights as int8 in the order of torch's layers, their scales and the axis of these."""
        stored = self.constants.get(rounder.inputs[0])
        scale, zero = self.read_scales(rounder)
        if not self.is_rounded_behind(node) or not self.is_rounded_before(node):
            return None
        if stored is None or scale is None or zero is None or stored.dtype not in (np.int8, np.uint8):
            return None
        middle = MIDDLE if stored.dtype == np.uint8 else 0
        if not bool((zero == middle).all()):
            return None
        values = np.asarray(stored.astype(np.int16) - middle, np.int8)
        axis = int(rounder.attributes.get("axis", 1)) % stored.ndim if scale.size > 1 else -1
        if node.op in CONVOLUTIONS:
            wanted = 0 if node.op == "Conv" else 1
            return (values, scale, wanted) if axis in (-1, wanted) else None
        if not self.is_linear(node, stored):
            return None
        turned = node.op == "MatMul" or not node.attributes.get("transB", 0)
        if axis not in (-1, 1 if turned else 0):
            return None
        return (np.ascontiguousarray(values.T) if turned else values), scale, 0

    def is_rounded_before(self, node: Node) -> bool:
        rounder = self.maker.get(node.inputs[0])
        return rounder is not None and rounder.op == DEQUANTIZE and self.is_behind_pair(rounder)

    def is_rounded_behind(self, node: Node) -> bool:
        """Whether what it makes is rounded to eight bits, at once or behind one activation that XNNPACK fuses.

        XNNPACK takes no integer layer that gives floats, and nothing else could compute its weights.
        """
        readers = self.readers.get(node.outputs[0], [])
        if node.outputs[0] in self.handed_out or len(readers) != 1:
            return False
        behind = readers[0]
        if behind.op in FUSED and node.op not in FUSED:
            return self.is_rounded_behind(behind)
        return behind.op == QUANTIZE and self.is_paired(behind) and "scale" in self.read_grid(behind)

    def is_linear(self, node: Node, stored: Array) -> bool:
        """Whether it is a product with a matrix and the sum with one bias for each column, as a linear layer is."""
        if node.op == "MatMul":
            return stored.ndim == 2
        plain = {"alpha": 1.0, "beta": 1.0, "transA": 0}
        if node.op != "Gemm" or any(node.attributes.get(name, value) != value for name, value in plain.items()):
            return False
        return len(node.inputs) < 3 or self.is_row(
            node.inputs[2], stored.shape[0 if node.attributes.get("transB") else 1]
        )

    def is_row(self, bias: str, size: int) -> bool:
        rounder = self.maker.get(bias)
        held = self.constants.get(rounder.inputs[0] if rounder is not None and rounder.op == DEQUANTIZE else bias)
        return held is not None and held.shape == (size,)

    def keep_integers(self, node: Node, rounder: Node, weights: tuple[Array, Array, int], output: str) -> Node:
        values, scale, axis = weights
        scales = np.ascontiguousarray(np.broadcast_to(scale.reshape(-1), values.shape[axis]), np.float32)
        names = tuple(f"{output}/{part}" for part in ("integers", "scales", "zeros"))
        arrays = (values, scales, np.zeros(scales.shape, np.int64))
        self.constants.update(zip(names, arrays, strict=True))
        return Node(
            self.free(f"{rounder.name}__{node.name}"),
            UNROUND_WEIGHTS,
            names,
            (output,),
            {"axis": axis},
            rounder.sources,
        )

    def as_linear(self, node: Node) -> Node:
        return node if node.op in CONVOLUTIONS else node._replace(op=LINEAR)
