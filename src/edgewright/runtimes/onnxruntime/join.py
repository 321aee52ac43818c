"""Mapping of nodes of ONNX Runtime's optimized graph to nodes of the source graph."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Self

from edgewright.formats.neighbors import find_producers, find_readers, find_upstream
from edgewright.runtimes.onnxruntime.profiler import ExecutedNode
from edgewright.schema.model import GraphNode

ADDEND = 3  # position of the tensor that a fused convolution adds to its result
NCHWC = re.compile(r"_nchwc(_token_\d+|_\d+)?$")
TOKEN = re.compile(r"_token_\d+$")  # suffix by which ONNX Runtime makes names unique
# Operators that ONNX Runtime drops between a quantized operator and the QuantizeLinear after it.
ABSORBED = ("Relu", "Clip", "Identity")


class SourceIndex(NamedTuple):
    """The source graph with indices: producers and readers of tensors, nodes by name."""

    producer: Mapping[str, GraphNode]
    readers: Mapping[str, Sequence[GraphNode]]
    named: Mapping[str, GraphNode]

    @classmethod
    def of(cls, graph: Sequence[GraphNode]) -> Self:
        return cls(find_producers(graph), find_readers(graph), {node.name: node for node in graph})


def find_source_nodes(ran: Sequence[ExecutedNode], graph: Sequence[GraphNode]) -> list[tuple[str, ...]]:
    """Return for each executed node the names of the source nodes that it computes, the most upstream first.

    An executed node computes a tensor of the source graph: under its own name, or under one that ONNX Runtime
    made from that tensor's or its node's name when it changed the layout. Everything between that tensor and the
    next such tensors upstream was fused into the node. A change of layout computes nothing of the source.
    """
    source = SourceIndex.of(graph)
    ends = [_find_end_tensors(node, source) for node in ran]
    stops = {tensor for tensors in ends for tensor in tensors}
    chains = [find_upstream(tensors, source.producer, stops) for tensors in ends]
    return [tuple(node.name for node in chain) for chain in chains]


def _find_end_tensors(node: ExecutedNode, source: SourceIndex) -> list[str]:
    """Return the source tensors that the node computes, including those before an addition that is fused into it."""
    if _is_layout_change(node, source):
        return []
    ends = [tensor for tensor in (*node.outputs, NCHWC.sub("", node.name)) if tensor in source.producer]
    if node.op in ("Conv", "FusedConv") and len(node.inputs) > ADDEND and node.inputs[ADDEND]:
        return [_follow(_follow(tensor, "Add", source), node.activation, source) for tensor in ends]
    return list(dict.fromkeys(ends)) or _find_ends_by_name(node, source)


def _is_layout_change(node: ExecutedNode, source: SourceIndex) -> bool:
    """Return whether ONNX Runtime inserted the node to change the layout; a Transpose may also be the source's own."""
    if node.op.startswith("Reorder"):
        return True
    producers = [source.producer[tensor].op for tensor in node.outputs if tensor in source.producer]
    return node.op == "Transpose" and "Transpose" not in producers and TOKEN.sub("", node.name) not in source.named


def _find_ends_by_name(node: ExecutedNode, source: SourceIndex) -> list[str]:
    """Return the outputs of the source node with this node's name; for a quantized one, those of its QuantizeLinear."""
    named = source.named.get(TOKEN.sub("", node.name))
    if named is None:
        return []
    ends = [tensor for tensor in named.outputs if tensor]
    return [_follow_to_quantize(tensor, source) for tensor in ends] if node.op.startswith("Q") else ends


def _follow(tensor: str, op: str, source: SourceIndex) -> str:
    """Return the output of the only `op` that reads the tensor, or the tensor itself."""
    found = [node for node in source.readers.get(tensor, ()) if node.op == op]
    return found[0].outputs[0] if len(found) == 1 else tensor


def _follow_to_quantize(tensor: str, source: SourceIndex) -> str:
    """Return the output of the QuantizeLinear that the tensor's only readers lead to, or the tensor itself."""
    end = tensor
    for _ in range(len(ABSORBED) + 1):
        readers = source.readers.get(end, ())
        if len(readers) != 1 or readers[0].op not in (*ABSORBED, "QuantizeLinear"):
            break
        end = readers[0].outputs[0]
        if readers[0].op == "QuantizeLinear":
            return end
    return tensor


def index_by_name(
    ran: Sequence[ExecutedNode], sources: Iterable[tuple[str, ...]]
) -> dict[tuple[str, str], tuple[str, ...]]:
    """Return the sources by name and operator, like in the trace, without ambiguous ones.

    A node without a name, made by a fusion, has the empty name.
    """
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    shared = set()
    for node, names in zip(ran, sources, strict=True):
        key = (node.name, node.op)
        if key in found:
            shared.add(key)
        found[key] = names
    return {key: names for key, names in found.items() if key not in shared}
