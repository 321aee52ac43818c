"""Functions that overflow inside of ncnn for large inputs, in forms that do not."""

from collections.abc import Sequence

import numpy as np

from edgewright.formats.neighbors import find_readers
from edgewright.formats.onnx.attributes import read_attribute
from edgewright.runtimes.ncnn.conversion.graph import Node, ObservedGraph, make_node


def expand_softplus(node: Node, graph: ObservedGraph, opset: int) -> list[Node] | None:
    """Expand to max(x, 0) + log(1 + exp(−|x|)): ncnn's is infinite from 89 on, which only a Tanh does not notice."""
    if {reader.op_type for reader in find_readers(graph.nodes).get(node.output[0], ())} == {"Tanh"}:
        return None
    x, size, minus, bell, more, tail, above = node.input[0], *(graph.fresh(node.output[0]) for _ in range(6))
    return [
        make_node("Abs", [x], size),
        make_node("Neg", [size], minus),
        make_node("Exp", [minus], bell),
        make_node("Add", [bell, graph.add(1.0, np.float32)], more),
        make_node("Log", [more], tail),
        make_node("Relu", [x], above),
        make_node("Add", [above, tail], node.output[0]),
    ]


def expand_log_softmax(node: Node, graph: ObservedGraph, opset: int) -> list[Node] | None:
    """Expand to d − log(sum(exp(d))) with the distance d to the maximum: ncnn's is NaN where a share is zero."""
    axis = int(read_attribute(node, "axis", -1)) % len(graph.shape(node.input[0]))
    total = graph.fresh(node.output[0])
    made, distance, _ = _sum_logs(node, graph, [axis], total)
    return [*made, make_node("Sub", [distance, total], node.output[0])]


def expand_log_sum(node: Node, graph: ObservedGraph, axes: Sequence[int]) -> list[Node]:
    """Return nodes for m + log(sum(exp(x − m))) with the maximum m."""
    total, wide = graph.fresh(node.output[0]), graph.fresh(node.output[0])
    made, _, most = _sum_logs(node, graph, axes, total)
    sizes = graph.integers(graph.shape(node.output[0]) or (1,))
    return [*made, make_node("Add", [total, most], wide), make_node("Reshape", [wide, sizes], node.output[0])]


def _sum_logs(node: Node, graph: ObservedGraph, axes: Sequence[int], total: str) -> tuple[list[Node], str, str]:
    """Return nodes for the logarithm of the sum of powers, with the names of x − m and of the maximum m."""
    distance, powers, mean, summed = (graph.fresh(node.output[0]) for _ in range(4))
    made, most = reduce_one_by_one(node, graph, axes, "ReduceMax")
    count = float(np.prod([graph.shape(node.input[0])[axis] for axis in axes]))
    made += [
        make_node("Sub", [node.input[0], most], distance),
        make_node("Exp", [distance], powers),
        make_node("ReduceMean", [powers], mean, axes=list(axes), keepdims=1),
        make_node("Mul", [mean, graph.add(count, np.float32)], summed),
        make_node("Log", [summed], total),
    ]
    return made, distance, most


def reduce_one_by_one(node: Node, graph: ObservedGraph, axes: Sequence[int], op: str) -> tuple[list[Node], str]:
    """Return nodes that reduce one axis after the other, which they keep, and the result: ncnn has a maximum over one
    axis only."""
    source, sizes = node.input[0], graph.shape(node.input[0])
    made = []
    for axis in reversed([axis for axis in axes if sizes[axis] != 1]):
        reduced = graph.fresh(node.output[0])
        made.append(make_node(op, [source], reduced, axes=[axis], keepdims=1))
        source = reduced
    return made, source
