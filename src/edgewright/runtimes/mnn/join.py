"""Which nodes of the source graph each operator that MNN ran computes.

MNN's converter names an operator after the tensor that it makes, and its engine splits operators into kernels and
moves of data (`Raster`), which it names after the operator whose inputs they prepare: `add_raster_0` moves data for
`add`. So a name leads back to the tensor of the source that the work ends in.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from edgewright.facts.model import GraphNode
from edgewright.runtimes.mnn.graph import Operator

PART = re.compile(r"_raster_\d+$")
CONVERTED = "__matmul_converted"
MOVES = ("Raster", "ConvertTensor", "FloatToInt8", "Int8ToFloat")
# Operators of ONNX that only move or choose values: where MNN moves data for another operator, it is these.
MOVING = (
    *("Cast", "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "Pad"),
    *("Reshape", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
)


class Kernel(NamedTuple):
    """What ran: its name, and the type of operator that MNN says it is."""

    name: str
    op: str


def source_nodes(
    ran: Sequence[Kernel], operators: Sequence[Operator], graph: Sequence[GraphNode]
) -> list[tuple[str, ...]]:
    """For each kernel that ran, the names of the source nodes that it computes, the most upstream first.

    All kernels that end in one tensor of the source share the nodes between it and the next such tensors upstream:
    the moves of data take the nodes that only move data, the others take the rest. A move where the source has none
    is a change of layout and computes nothing of the source.
    """
    maker = {tensor: node for node in graph for tensor in node.outputs if tensor}
    finder = Finder(operators, maker)
    ends = [finder.find(PART.sub("", kernel.name)) for kernel in ran]
    stops = {tensor for tensors in ends for tensor in tensors}
    computing = {tensors for kernel, tensors in zip(ran, ends, strict=True) if kernel.op not in MOVES}
    return [
        choose(walk_back(tensors, stops, maker), kernel.op in MOVES, tensors in computing)
        for kernel, tensors in zip(ran, ends, strict=True)
    ]


class Finder:
    """From the name of an operator of the file to the tensors of the source that its work ends in."""

    def __init__(self, operators: Sequence[Operator], maker: Mapping[str, GraphNode]) -> None:
        self.maker = maker
        self.named = {operator.name: operator for operator in operators}
        self.readers: dict[str, list[Operator]] = {}
        for operator in operators:
            for tensor in operator.inputs:
                self.readers.setdefault(tensor, []).append(operator)

    def find(self, name: str) -> tuple[str, ...]:
        """The source's tensors that the operator makes; of one that the converter put in, those of what reads it."""
        left, seen = [name], {name}
        while left:
            current = left.pop(0)
            if ends := self.own_ends(current):
                return ends
            operator = self.named.get(current)
            readers = [one for tensor in (operator.outputs if operator else ()) for one in self.readers.get(tensor, ())]
            left += [one.name for one in readers if one.name not in seen]
            seen.update(one.name for one in readers)
        return ()

    def own_ends(self, name: str) -> tuple[str, ...]:
        operator = self.named.get(name)
        tensors = (name.removesuffix(CONVERTED), *(operator.outputs if operator else ()))
        return tuple(dict.fromkeys(tensor for tensor in tensors if tensor in self.maker))


def walk_back(ends: Sequence[str], stops: set[str], maker: Mapping[str, GraphNode]) -> list[GraphNode]:
    """The source nodes from `ends` upstream to the next stops, the most upstream first; constants are left out."""
    found: dict[str, GraphNode] = {}
    left = list(ends)
    while left:
        node = maker.get(left.pop())
        if node is None or node.name in found or node.op == "Constant":
            continue
        found[node.name] = node
        left.extend(tensor for tensor in node.inputs if tensor not in stops)
    return list(reversed(found.values()))


def choose(nodes: Sequence[GraphNode], moves: bool, computed: bool) -> tuple[str, ...]:
    """Of the nodes that kernels share, those of a kernel that `moves` data, or of one that computes."""
    if not computed:
        return tuple(node.name for node in nodes)
    return tuple(node.name for node in nodes if (node.op in MOVING) == moves) or (
        () if moves else tuple(node.name for node in nodes)
    )
