"""Mapping of MNN's executed operators to nodes of the source graph.

MNN's converter names an operator after its output tensor, and its engine splits operators into kernels and
data movements (`Raster`), which it names after the operator whose inputs they prepare: `add_raster_0` moves data for
`add`. So a name identifies the source tensor that the kernels compute.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from edgewright.formats.neighbors import find_producers, find_readers, find_upstream
from edgewright.runtimes.mnn.graph import MnnOperator
from edgewright.schema.model import GraphNode

RASTER_SUFFIX = re.compile(r"_raster_\d+$")
CONVERTED = "__matmul_converted"
MOVE_KERNELS = ("Raster", "ConvertTensor", "FloatToInt8", "Int8ToFloat")
# ONNX operators that only move or select values; MNN's data movements for another operator compute these.
DATA_MOVEMENT_OPS = (
    *("Cast", "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "Pad"),
    *("Reshape", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
)


class MnnKernel(NamedTuple):
    """An executed kernel: its name, and MNN's operator type."""

    name: str
    op: str


def find_source_nodes(
    ran: Sequence[MnnKernel], operators: Sequence[MnnOperator], graph: Sequence[GraphNode]
) -> list[tuple[str, ...]]:
    """Return for each executed kernel the names of the source nodes that it computes, the most upstream first.

    All kernels that compute one source tensor share the nodes between it and the next such tensors upstream:
    data movements get the nodes that only move data, the others get the rest. A movement without such a node in the
    source is a change of layout and computes no source node.
    """
    producer = find_producers(graph)
    finder = SourceFinder(operators, producer)
    ends = [finder.find(RASTER_SUFFIX.sub("", kernel.name)) for kernel in ran]
    stops = {tensor for tensors in ends for tensor in tensors}
    computing = {tensors for kernel, tensors in zip(ran, ends, strict=True) if kernel.op not in MOVE_KERNELS}
    return [
        _choose(find_upstream(tensors, producer, stops), kernel.op in MOVE_KERNELS, tensors in computing)
        for kernel, tensors in zip(ran, ends, strict=True)
    ]


class SourceFinder:
    """Finds the source tensors that an operator of the file computes, by its name."""

    def __init__(self, operators: Sequence[MnnOperator], producer: Mapping[str, GraphNode]) -> None:
        self.producer = producer
        self.named = {operator.name: operator for operator in operators}
        self.readers = find_readers(operators)

    def find(self, name: str) -> tuple[str, ...]:
        """Return the source tensors that the operator computes; for one that the converter inserted, those of its
        readers."""
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
        return tuple(dict.fromkeys(tensor for tensor in tensors if tensor in self.producer))


def _choose(nodes: Sequence[GraphNode], moves: bool, computed: bool) -> tuple[str, ...]:
    """Return, of the nodes that kernels share, those of a kernel that `moves` data, or of one that computes."""
    nodes = [node for node in nodes if node.op != "Constant"]
    if not computed:
        return tuple(node.name for node in nodes)
    return tuple(node.name for node in nodes if (node.op in DATA_MOVEMENT_OPS) == moves) or (
        () if moves else tuple(node.name for node in nodes)
    )
