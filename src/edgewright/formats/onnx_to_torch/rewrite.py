"""Fusion of operators that exporters expand and runtimes have a kernel for."""

from collections import Counter
from collections.abc import Mapping
from math import sqrt
from typing import NamedTuple

from edgewright.formats.neighbors import find_producers
from edgewright.formats.onnx_to_torch.read import SourceGraph, SourceNode

CLOSE = 1e-4


class GraphIndex(NamedTuple):
    """Producer of each tensor, its number of readers, and its value if it is one known number."""

    producer: Mapping[str, SourceNode]
    reads: Mapping[str, int]
    numbers: Mapping[str, float]


def fuse_gelus(graph: SourceGraph) -> SourceGraph:
    """Return the graph with exact GELU as one node."""
    index = _index_graph(graph)
    gone: set[str] = set()
    made: dict[str, SourceNode] = {}
    for node in graph.nodes:
        if found := _find_gelu(node, index):
            made[node.name] = found
            gone.update(found.sources)
    nodes = [made.get(node.name, node) for node in graph.nodes if node.name in made or node.name not in gone]
    return graph._replace(nodes=nodes)


def _index_graph(graph: SourceGraph) -> GraphIndex:
    reads = Counter(name for node in graph.nodes for name in node.inputs)
    reads.update(spec.name for spec in graph.signature.outputs)
    numbers = {name: float(array.reshape(-1)[0]) for name, array in graph.constants.items() if array.size == 1}
    for node in graph.nodes:
        value = node.attributes.get("value") if node.op == "Constant" else None
        if value is not None and getattr(value, "size", 0) == 1:
            numbers[node.outputs[0]] = float(value.reshape(-1)[0])
    return GraphIndex(find_producers(graph.nodes), reads, numbers)


def _find_gelu(node: SourceNode, index: GraphIndex) -> SourceNode | None:
    """Match x · 0.5 · (1 + erf(x / √2)), with the factors in any order, from its last multiplication."""
    factors = _flatten_product(node, index) if node.op == "Mul" else None
    if factors is None:
        return None
    names, used = factors
    for name in names:
        rest = [other for other in names if other != name and not _close(index.numbers.get(other), 0.5)]
        adder = index.producer.get(name)
        fits = len(rest) == 1 and len(names) == 3 and adder and adder.op == "Add" and _once(name, index)
        if adder and fits and (inner := _match_one_plus_erf(adder, rest[0], index)):
            sources = tuple(part.name for part in (*inner, *used))
            return SourceNode(node.name, "Gelu", (rest[0],), node.outputs, {}, sources)
    return None


def _flatten_product(node: SourceNode, index: GraphIndex) -> tuple[list[str], list[SourceNode]] | None:
    """Return the three factors of two multiplications, and both nodes."""
    for i, name in enumerate(node.inputs):
        inner = index.producer.get(name)
        if inner and inner.op == "Mul" and _once(name, index):
            return [*inner.inputs, node.inputs[1 - i]], [inner, node]
    return None


def _match_one_plus_erf(add: SourceNode, source: str, index: GraphIndex) -> list[SourceNode] | None:
    erf = _other_maker(add, 1.0, index)
    if erf is None or erf.op != "Erf" or not _once(erf.outputs[0], index):
        return None
    scale = index.producer.get(erf.inputs[0])
    if scale is None or not _once(erf.inputs[0], index) or source not in scale.inputs:
        return None
    rest = [name for name in scale.inputs if name != source]
    number = index.numbers.get(rest[0]) if len(rest) == 1 else None
    divided = scale.op == "Div" and scale.inputs[0] == source and _close(number, sqrt(2))
    scaled = scale.op == "Mul" and _close(number, 1 / sqrt(2))
    return [scale, erf, add] if divided or scaled else None


def _other_maker(node: SourceNode, number: float, index: GraphIndex) -> SourceNode | None:
    """Return the producer of the input beside the one that is this number."""
    others = [name for name in node.inputs if not _close(index.numbers.get(name), number)]
    return index.producer.get(others[0]) if len(others) == 1 else None


def _once(name: str, index: GraphIndex) -> bool:
    return index.reads.get(name, 0) == 1


def _close(value: float | None, wanted: float) -> bool:
    return value is not None and abs(value - wanted) < CLOSE
