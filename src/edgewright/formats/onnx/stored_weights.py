"""Constant weights stored as 8-bit integers beside a float graph."""

from typing import Any

import numpy as np

from edgewright.formats.onnx.attributes import OWN_DOMAINS, keep_only, read_attribute
from edgewright.formats.onnx.constants import add_initializers, read_array

EIGHT_BITS = (2, 3)  # TensorProto.UINT8, INT8


def cast_weights(model: Any) -> int:
    """Replace each DequantizeLinear of constant 8-bit integers by Cast and Mul, in place; return their number.

    ONNX Runtime computes these once, when it loads the model, but a DequantizeLinear in every inference. Nothing
    changes in a graph with activations in integers, whose kernels need the DequantizeLinear.
    """
    from onnx import helper

    graph = model.graph
    if any(node.op_type == "QuantizeLinear" for node in graph.node):
        return 0
    known = {one.name: one for one in graph.initializer}
    nodes: list[Any] = []
    scales: dict[str, Any] = {}
    for node in graph.node:
        scale = _find_scale(node, known)
        if scale is None:
            nodes.append(node)
            continue
        output = node.output[0]
        scales[f"{output}/factor"] = scale
        nodes.append(helper.make_node("Cast", [node.input[0]], [f"{output}/cast"], name=f"{node.name}/cast", to=1))
        nodes.append(helper.make_node("Mul", [f"{output}/cast", f"{output}/factor"], [output], name=node.name))
    if scales:
        keep_only(graph.node, nodes)
        add_initializers(graph, scales)
        read = {name for node in nodes for name in node.input} | {one.name for one in graph.output}
        keep_only(graph.initializer, [one for one in graph.initializer if one.name in read])
    return len(scales)


def _find_scale(node: Any, known: dict[str, Any]) -> Any:
    """Return the scale in the shape that multiplies the integers; None for another node, or a zero point but zero."""
    if node.op_type != "DequantizeLinear" or node.domain not in OWN_DOMAINS:
        return None
    if any(name not in known for name in node.input if name) or read_attribute(node, "block_size", 0):
        return None
    integers = known[node.input[0]]
    zeros = read_array(known[node.input[2]]) if len(node.input) > 2 and node.input[2] else np.zeros(1)
    scale = read_array(known[node.input[1]])
    if integers.data_type not in EIGHT_BITS or zeros.any() or scale.dtype != np.float32:
        return None
    if scale.ndim == 0:
        return scale
    shape = [1] * len(integers.dims)
    shape[read_attribute(node, "axis", 1)] = -1
    return scale.reshape(shape)


def has_cast_weights(graph: Any) -> bool:
    """Return whether most constant weights of a float graph are 8-bit integers that a Cast reads."""
    cast = {node.input[0] for node in graph.node if node.op_type == "Cast"}
    sizes = {True: 0, False: 0}
    for one in graph.initializer:
        stored = one.data_type in EIGHT_BITS and one.name in cast
        if stored or one.data_type == 1:
            sizes[stored] += int(np.prod(one.dims, dtype=np.int64))
    return sizes[True] > sizes[False]
