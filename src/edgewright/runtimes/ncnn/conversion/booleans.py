"""Comparisons, logic and Where as arithmetic on 0 and 1, since ncnn computes only with floats."""

from collections.abc import Callable

import numpy as np

from edgewright.formats.onnx.attributes import read_attributes
from edgewright.runtimes.contract import NotConvertible
from edgewright.runtimes.ncnn.conversion.graph import Node, ObservedGraph, make_node

FAR = 1e30  # represents infinity, whose product with 0 is NaN
LARGEST_EXACT = 2**24  # float32 represents integers up to here exactly
INDEX_INPUTS = {"Gather": 0, "Reshape": 0, "Squeeze": 0, "Unsqueeze": 0, "Slice": 0, "Split": 0, "Expand": 0, "Pad": 0}
COUNTS = ("Resize", "TopK", "OneHot", "Tile", "CumSum", "Trilu")  # their integers are indices or sizes


def _greater(node: Node, graph: ObservedGraph, opset: int) -> list[Node] | None:
    return [*_sign_of(graph, node.input[0], node.input[1], node), *_clipped(graph, node)]


def _less(node: Node, graph: ObservedGraph, opset: int) -> list[Node] | None:
    return [*_sign_of(graph, node.input[1], node.input[0], node), *_clipped(graph, node)]


def _sign_of(graph: ObservedGraph, left: str, right: str, node: Node) -> list[Node]:
    """Return nodes that compute -1, 0 or 1 in the tensor `OUTPUT_sign`."""
    difference = graph.fresh(node.output[0])
    return [make_node("Sub", [left, right], difference), make_node("Sign", [difference], f"{node.output[0]}_sign")]


def _clipped(graph: ObservedGraph, node: Node) -> list[Node]:
    return [make_node("Relu", [f"{node.output[0]}_sign"], node.output[0])]


def _greater_or_equal(node: Node, graph: ObservedGraph, opset: int) -> list[Node] | None:
    return [*_sign_of(graph, node.input[1], node.input[0], node), *_one_less(graph, node)]


def _less_or_equal(node: Node, graph: ObservedGraph, opset: int) -> list[Node] | None:
    return [*_sign_of(graph, node.input[0], node.input[1], node), *_one_less(graph, node)]


def _one_less(graph: ObservedGraph, node: Node) -> list[Node]:
    over = graph.fresh(node.output[0])
    return [make_node("Relu", [f"{node.output[0]}_sign"], over), _complement(graph, over, node.output[0])]


def _complement(graph: ObservedGraph, source: str, output: str) -> Node:
    return make_node("Sub", [graph.add(1.0, np.float32), source], output)


def _equal(node: Node, graph: ObservedGraph, opset: int) -> list[Node] | None:
    apart = graph.fresh(node.output[0])
    signs = _sign_of(graph, node.input[0], node.input[1], node)
    return [*signs, make_node("Abs", [f"{node.output[0]}_sign"], apart), _complement(graph, apart, node.output[0])]


def _negation(node: Node, graph: ObservedGraph, opset: int) -> list[Node] | None:
    return [_complement(graph, node.input[0], node.output[0])]


def _conjunction(node: Node, graph: ObservedGraph, opset: int) -> list[Node] | None:
    return [make_node("Mul", node.input, node.output[0])]


def _disjunction(node: Node, graph: ObservedGraph, opset: int) -> list[Node] | None:
    return [make_node("Max", node.input, node.output[0])]


def _choice(node: Node, graph: ObservedGraph, opset: int) -> list[Node] | None:
    """Return nodes for a·c + b·(1−c), which is exact if c is 0 or 1 and a and b are finite."""
    condition, *sides = node.input
    finite = [_finite_constant(graph, side) for side in sides]
    kept, other, taken = (graph.fresh(node.output[0]) for _ in range(3))
    return [
        make_node("Mul", [finite[0], condition], taken),
        _complement(graph, condition, other),
        make_node("Mul", [finite[1], other], kept),
        make_node("Add", [taken, kept], node.output[0]),
    ]


def _finite_constant(graph: ObservedGraph, tensor: str) -> str:
    array = graph.constants.get(tensor)
    if array is None or array.dtype.kind != "f" or bool(np.isfinite(array).all()):
        return tensor
    return graph.add(np.clip(array, -FAR, FAR), np.float32)


def _conversion(node: Node, graph: ObservedGraph, opset: int) -> list[Node] | None:
    """Replace a cast that rounds or makes booleans; all other casts are dropped, since all values are floats."""
    from onnx import TensorProto

    to = read_attributes(node)["to"]
    whole = to in (TensorProto.INT64, TensorProto.INT32, TensorProto.INT16, TensorProto.INT8, TensorProto.UINT8)
    if whole and graph.is_float(node.input[0]):
        sign, size, floor = (graph.fresh(node.output[0]) for _ in range(3))
        return [
            make_node("Sign", node.input[:1], sign),
            make_node("Abs", node.input[:1], size),
            make_node("Floor", [size], floor),
            make_node("Mul", [sign, floor], node.output[0]),
        ]
    if to == TensorProto.BOOL and graph.values[node.input[0]].dtype.kind != "b":
        sign = graph.fresh(node.output[0])
        return [make_node("Sign", node.input[:1], sign), make_node("Abs", [sign], node.output[0])]
    return [make_node("Identity", node.input[:1], node.output[0])]


def _integer_division(node: Node, graph: ObservedGraph, opset: int) -> list[Node] | None:
    """Return a division that rounds integers toward zero; operands must not be negative."""
    if graph.is_float(node.output[0]):
        return None
    quotient = graph.fresh(node.output[0])
    return [make_node("Div", node.input, quotient), make_node("Floor", [quotient], node.output[0])]


def convert_to_floats(graph: ObservedGraph, indices: set[str]) -> None:
    """Convert inputs and the constants in arithmetic to float32, except the `indices` of tables."""
    for name in graph.inputs:
        if name not in indices:
            graph.values = {**graph.values, name: graph.values[name].astype(np.float32)}
    for name in graph.inputs:
        if name in indices:
            graph.values = {**graph.values, name: graph.values[name].astype(np.int64)}
    for node in graph.nodes:
        if node.op_type in COUNTS:
            continue
        last = INDEX_INPUTS.get(node.op_type, len(node.input) - 1)
        for position in range(last + 1):
            _convert_input(graph, node, position)


def _convert_input(graph: ObservedGraph, node: Node, position: int) -> None:
    array = graph.constant(node, position)
    if array is None or array.dtype.kind not in "fiub":
        return
    if array.dtype.kind == "f" and np.isinf(array).any():  # pnnx crashes on one in a Max
        array = np.clip(array, np.finfo(np.float32).min, np.finfo(np.float32).max)
    elif array.dtype == np.float32:
        return
    if array.dtype.kind in "iu" and array.size and int(np.abs(array).max()) > LARGEST_EXACT:
        raise NotConvertible(
            f"{node.op_type} '{node.name}': an integer over 2^24 cannot be stored exactly in "
            "float32, ncnn's only type here"
        )
    node.input[position] = graph.add(array, np.float32)


BOOLEANS: dict[str, Callable[[Node, ObservedGraph, int], list[Node] | None]] = {
    "Greater": _greater,
    "Less": _less,
    "GreaterOrEqual": _greater_or_equal,
    "LessOrEqual": _less_or_equal,
    "Equal": _equal,
    "Not": _negation,
    "And": _conjunction,
    "Or": _disjunction,
    "Where": _choice,
    "Cast": _conversion,
    "Div": _integer_division,
}
