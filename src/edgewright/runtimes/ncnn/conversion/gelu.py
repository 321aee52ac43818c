"""Gelu in the only order of operators that pnnx fuses into one layer: x · (1 + erf(x / √2)) · ½."""

from collections.abc import Mapping, Sequence

import numpy as np

from edgewright.formats.neighbors import find_producers, find_readers
from edgewright.runtimes.ncnn.conversion.graph import Node, ObservedGraph, make_node

ROOT, HALF, TOLERANCE = float(np.sqrt(2.0)), 0.5, 1e-4


def expand_gelu(graph: ObservedGraph, x: str, output: str) -> list[Node]:
    """Return the nodes of Gelu from `x` to `output`."""
    scaled, erf, one, product = (graph.fresh(output) for _ in range(4))
    return [
        make_node("Div", [x, graph.add(ROOT, np.float32)], scaled),
        make_node("Erf", [scaled], erf),
        make_node("Add", [erf, graph.add(1.0, np.float32)], one),
        make_node("Mul", [x, one], product),
        make_node("Mul", [product, graph.add(HALF, np.float32)], output),
    ]


def normalize_gelus(graph: ObservedGraph) -> None:
    """Write every Gelu in that order; dynamo's exporter halves 1 + erf first, which results in six layers."""
    producers = find_producers(graph.nodes)
    readers = find_readers(graph.nodes)
    for erf in [node for node in graph.nodes if node.op_type == "Erf"]:
        x = _scaled_by(graph, producers.get(erf.input[0]), ROOT)
        last = _find_end(graph, erf, x, readers) if x else None
        if x and last:
            place = graph.nodes.index(last)
            graph.nodes[place : place + 1] = expand_gelu(graph, x, last.output[0])
    graph.drop_unused()


def _scaled_by(graph: ObservedGraph, node: Node | None, divisor: float) -> str | None:
    """Return the value that the node divides by the number or multiplies by its inverse; else None."""
    if node is None or node.op_type not in ("Div", "Mul"):
        return None
    wanted = divisor if node.op_type == "Div" else 1 / divisor
    for place in (1, 0) if node.op_type == "Mul" else (1,):
        array = graph.constant(node, place)
        if array is not None and array.size == 1 and abs(float(array.reshape(-1)[0]) - wanted) < TOLERANCE:
            return str(node.input[1 - place])
    return None


def _find_end(graph: ObservedGraph, erf: Node, x: str, readers: Mapping[str, Sequence[Node]]) -> Node | None:
    """Return the last node of x · (1 + erf) · ½ in any order; None for other formulas."""
    one = _only_reader(erf, readers)
    if one is None or one.op_type != "Add" or not any(_is_one(graph, name) for name in one.input):
        return None
    first = _only_reader(one, readers)
    second = _only_reader(first, readers) if first is not None else None
    if first is None or second is None or first.op_type != "Mul" or second.op_type not in ("Mul", "Div"):
        return None
    halved_first = _scaled_by(graph, first, 1 / HALF) == one.output[0] and x in second.input and second.op_type == "Mul"
    halved_last = x in first.input and _scaled_by(graph, second, 1 / HALF) == first.output[0]
    return second if halved_first or halved_last else None


def _only_reader(node: Node, readers: Mapping[str, Sequence[Node]]) -> Node | None:
    found = readers.get(node.output[0], ())
    return found[0] if len(found) == 1 else None


def _is_one(graph: ObservedGraph, tensor: str) -> bool:
    array = graph.constants.get(tensor)
    return array is not None and array.size == 1 and float(array.reshape(-1)[0]) == 1.0
