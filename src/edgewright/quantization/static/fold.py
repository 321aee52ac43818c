"""What is constant in a float model becomes an initializer; normalization with constant statistics is folded into the
weights before it (Jacob et al., arXiv 1712.05877).
"""

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from edgewright.formats.onnx.attributes import OWN_DOMAINS, keep_only, list_all_inputs, read_attribute
from edgewright.formats.onnx.constants import add_initializers, fold_batch_norm, make_tensor, read_array
from edgewright.formats.onnx.fold import run_node
from edgewright.quantization.network import FloatNetwork, WeightNode
from edgewright.schema.arrays import Array

# Operators that exporters put between a constant and its reader.
ARITHMETIC = ("Add", "Sub", "Mul", "Div")
FOLDED = ("Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", *ARITHMETIC)
MOST_GROWTH = 2  # a broadcast that makes more elements than this factor is left to the runtime


def fold(model: Any) -> None:
    """Fold what is constant, then each BatchNormalization, in place."""
    fold_constants(model)
    fold_batch_norms(model)


def fold_constants(model: Any) -> None:
    """Replace Constant nodes, and operators of `FOLDED` with constant inputs, by initializers, in place.

    Exporters write weights as Constant nodes, or reshape, transpose, scale or cast them at run time.
    """
    graph = model.graph
    known = {one.name: one for one in graph.initializer}
    fixed = {one.name for one in (*graph.input, *graph.output)}
    kept = []
    for node in graph.node:
        is_ours = node.domain in OWN_DOMAINS and len(node.output) == 1 and node.output[0] not in fixed
        tensor = _compute_constant(model, node, known) if is_ours else None
        if tensor is None:
            kept.append(node)
        else:
            tensor.name = node.output[0]
            known[tensor.name] = tensor
    if len(kept) == len(graph.node):
        return
    read = {name for node in kept for name in list_all_inputs(node)}
    keep_only(graph.node, kept)
    keep_only(graph.initializer, [one for name, one in known.items() if name in read or name in fixed])


def _compute_constant(model: Any, node: Any, known: Mapping[str, Any]) -> Any:
    """Return the output as a tensor; None for what is not constant, grows, or cannot be computed."""
    if node.op_type == "Constant":
        return read_attribute(node, "value")
    if node.op_type not in FOLDED or not all(name in known for name in node.input):
        return None
    feeds = {name: read_array(known[name]) for name in node.input}
    opset = {entry.domain: entry.version for entry in model.opset_import}
    try:
        largest = max(array.size for array in feeds.values())
        shapes = [array.shape for array in feeds.values()]
        if node.op_type in ARITHMETIC and prod(np.broadcast_shapes(*shapes)) > MOST_GROWTH * largest:
            return None
        (result,) = run_node(node, opset, feeds)
    except Exception:  # it stays as it is: whether it is valid is decided elsewhere
        return None
    return make_tensor(node.output[0], np.ascontiguousarray(result))


def fold_batch_norms(model: Any) -> int:
    """Fold every BatchNormalization that alone reads a Conv, ConvTranspose or Gemm; return their number.

    The model is changed in place: new weights and biases are added under the layer's name, the node is removed, and its
    readers read the layer.
    """
    network = FloatNetwork(model)
    producers = {
        weight_node.output: weight_node for weight_node in network.weight_nodes.values() if weight_node.op != "MatMul"
    }
    gone = []
    for node in network.nodes:
        weight_node = producers.get(node.input[0]) if node.op_type == "BatchNormalization" else None
        if weight_node is None or not _can_fold(network, node, weight_node):
            continue
        weights, bias = _fold(network, node, weight_node)
        layer = network.node(weight_node.node)
        names = f"{weight_node.node}/folded", f"{weight_node.node}/folded-bias"
        add_initializers(model.graph, dict(zip(names, (weights, bias), strict=True)))
        layer.input[1:] = names
        layer.output[0] = node.output[0]
        gone.append(node)
    for node in gone:
        model.graph.node.remove(node)
    return len(gone)


def _can_fold(network: FloatNetwork, node: Any, weight_node: WeightNode) -> bool:
    constants = all(name in network.constants for name in node.input[1:5])
    training = read_attribute(node, "training_mode")
    alone = len(network.consumers.get(weight_node.output, ())) == 1 and weight_node.output not in network.outputs
    return constants and not training and alone and not any(node.output[1:])


def _fold(network: FloatNetwork, node: Any, weight_node: WeightNode) -> tuple[Array, Array]:
    """Return weights and bias of the layer that computes both."""
    bias = network.constants[weight_node.bias] if weight_node.bias else None
    statistics = [network.constants[name] for name in node.input[1:5]]
    epsilon = read_attribute(node, "epsilon", 1e-5)
    return fold_batch_norm(network.constants[weight_node.weight], bias, statistics, epsilon, weight_node.axis)
