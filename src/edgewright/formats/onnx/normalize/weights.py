"""Constants and weights of a float graph in one form: what is constant becomes an initializer, biases are rows, and
normalization with constant statistics is folded into the weights before it (Jacob et al., arXiv 1712.05877).
"""

from collections.abc import Collection, Mapping
from math import prod
from typing import Any, NamedTuple

import numpy as np

from edgewright.formats.neighbors import find_readers, list_distinct_inputs
from edgewright.formats.onnx.attributes import OWN_DOMAINS, list_all_inputs, read_attribute, read_attributes
from edgewright.formats.onnx.constants import fold_batch_norm, make_tensor
from edgewright.formats.onnx.editable import EditableGraph
from edgewright.formats.onnx.fold import run_node
from edgewright.schema.arrays import Array

# Operators that exporters put between a constant and its reader.
ARITHMETIC = ("Add", "Sub", "Mul", "Div")
FOLDED = ("Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", *ARITHMETIC)
MOST_GROWTH = 2  # a broadcast that makes more elements than this factor is left to the runtime
LAYERS = ("Conv", "ConvTranspose", "Gemm")


class WeightNode(NamedTuple):
    """An operator with constant weights: Conv, ConvTranspose, Gemm or MatMul.

    Attributes:
        node: its name.
        input: the tensor that the weights multiply.
        weight: name of the constant weights.
        bias: name of the constant bias; empty if there is none.
        output: the output tensor.
        axis: axis of the weights for the output channels.
        groups: of a convolution; 1 for a matrix product.
    """

    node: str
    op: str
    input: str
    weight: str
    bias: str
    output: str
    axis: int
    groups: int


def find_weight_node(node: Any, constants: Mapping[str, Array]) -> WeightNode | None:
    """Return the weights of an operator; None if it has none, or not plain ones of float32."""
    if node.op_type not in (*LAYERS, "MatMul") or node.domain not in OWN_DOMAINS:
        return None
    weight = constants.get(node.input[1])
    if weight is None or weight.dtype != np.float32 or node.input[0] in constants:
        return None
    bias = node.input[2] if len(node.input) > 2 else ""
    if bias and (bias not in constants or constants[bias].ndim != 1):
        return None
    attributes = read_attributes(node)
    if node.op_type == "MatMul" and weight.ndim != 2:
        return None
    if node.op_type == "Gemm" and (
        attributes.get("transA", 0) or attributes.get("alpha", 1.0) != 1.0 or attributes.get("beta", 1.0) != 1.0
    ):
        return None
    axis = 0 if node.op_type == "Conv" or (node.op_type == "Gemm" and attributes.get("transB", 0)) else 1
    groups = int(attributes.get("group", 1))
    if node.op_type == "ConvTranspose" and groups != 1:
        return None
    return WeightNode(node.name, node.op_type, node.input[0], node.input[1], bias, node.output[0], axis, groups)


def fold(graph: EditableGraph) -> None:
    """Fold what is constant, then each BatchNormalization, in place."""
    fold_constants(graph)
    flatten_biases(graph)
    fold_batch_norms(graph)


def fold_constants(graph: EditableGraph) -> None:
    """Replace Constant nodes, and operators of `FOLDED` with constant inputs, by initializers, in place.

    Exporters write weights as Constant nodes, or reshape, transpose, scale or cast them at run time.
    """
    fixed = {one.name for one in (*graph.model.graph.input, *graph.model.graph.output)}
    opset = {entry.domain: entry.version for entry in graph.model.opset_import}
    kept = []
    for node in graph.nodes:
        is_ours = node.domain in OWN_DOMAINS and len(node.output) == 1 and node.output[0] not in fixed
        tensor = _compute_constant(node, opset, graph.constants) if is_ours else None
        if tensor is None:
            kept.append(node)
        else:
            tensor.name = node.output[0]
            graph.constants.put(tensor)
    if len(kept) == len(graph.nodes):
        return
    read = {name for node in kept for name in list_all_inputs(node)}
    graph.nodes = kept
    for name in [name for name in graph.constants if name not in read and name not in fixed]:
        del graph.constants[name]


def _compute_constant(node: Any, opset: Mapping[str, int], constants: Mapping[str, Array]) -> Any:
    """Return the output as a tensor; None for what is not constant, grows, or cannot be computed."""
    if node.op_type == "Constant":
        return read_attribute(node, "value")
    if node.op_type not in FOLDED or not all(name in constants for name in node.input):
        return None
    feeds = {name: constants[name] for name in node.input}
    try:
        largest = max(array.size for array in feeds.values())
        shapes = [array.shape for array in feeds.values()]
        if node.op_type in ARITHMETIC and prod(np.broadcast_shapes(*shapes)) > MOST_GROWTH * largest:
            return None
        (result,) = run_node(node, opset, feeds)
    except Exception:  # it stays as it is: whether it is valid is decided elsewhere
        return None
    return make_tensor(node.output[0], np.ascontiguousarray(result))


def flatten_biases(graph: EditableGraph) -> None:
    """Reshape the constant bias of each Gemm to [outputs] if it is a scalar or a one-row matrix, in place."""
    constants = graph.constants
    for node in graph.nodes:
        if node.op_type != "Gemm" or len(node.input) < 3 or not {node.input[1], node.input[2]} <= constants.keys():
            continue
        outputs = constants[node.input[1]].shape[0 if read_attribute(node, "transB", 0) else 1]
        bias = constants[node.input[2]]
        if bias.shape != (outputs,) and bias.shape in ((), (1,), (1, 1), (1, outputs)):
            node.input[2] = f"{node.name}/bias-row"
            constants[node.input[2]] = np.ascontiguousarray(np.broadcast_to(bias.reshape(-1), (outputs,)))


def fold_batch_norms(graph: EditableGraph, ops: Collection[str] = LAYERS) -> int:
    """Fold every BatchNormalization that alone reads one of these layers into it, in place; return their number.

    New weights and biases are added under the layer's name, and its readers read the layer.
    """
    layers = {one.output[0]: one for one in graph.nodes if one.op_type in ops}
    readers = find_readers(graph.nodes, list_distinct_inputs)
    folded = []
    for node in graph.nodes:
        layer: Any = layers.get(node.input[0]) if node.op_type == "BatchNormalization" else None
        weight_node = None if layer is None else find_weight_node(layer, graph.constants)
        alone = weight_node is not None and len(readers[node.input[0]]) == 1 and node.input[0] not in graph.outputs
        if weight_node is None or not alone or not _has_constant_statistics(node, graph.constants):
            continue
        names = f"{weight_node.node}/folded", f"{weight_node.node}/folded-bias"
        graph.constants.update(zip(names, _fold_batch_norm(node, weight_node, graph.constants), strict=True))
        layer.input[1:] = names
        layer.output[0] = node.output[0]
        folded.append(id(node))
    graph.nodes = [node for node in graph.nodes if id(node) not in folded]
    return len(folded)


def _has_constant_statistics(node: Any, constants: Mapping[str, Array]) -> bool:
    known = all(name in constants for name in node.input[1:5])
    return known and not read_attribute(node, "training_mode") and not any(node.output[1:])


def _fold_batch_norm(node: Any, weight_node: WeightNode, constants: Mapping[str, Array]) -> tuple[Array, Array]:
    """Return weights and bias of the layer that computes both."""
    bias = constants[weight_node.bias] if weight_node.bias else None
    statistics = [constants[name] for name in node.input[1:5]]
    epsilon = read_attribute(node, "epsilon", 1e-5)
    return fold_batch_norm(constants[weight_node.weight], bias, statistics, epsilon, weight_node.axis)
