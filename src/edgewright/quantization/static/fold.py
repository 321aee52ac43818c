"""Normalization with constant statistics, folded into the weights before it (Jacob et al., arXiv 1712.05877)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.formats.onnx.attributes import read_attributes
from edgewright.formats.onnx.constants import add_initializers
from edgewright.quantization.network import FloatNetwork, WeightNode

Array = NDArray[Any]


def fold_batch_norms(model: Any) -> int:
    """Fold every BatchNormalization that alone reads a Conv, ConvTranspose or Gemm; return their number.

    The model is changed in place: new weights and biases are added under the layer's name, and the node is removed. Its
    read it reads the layer.
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
    training = read_attributes(node).get("training_mode", 0)
    alone = len(network.consumers.get(weight_node.output, ())) == 1 and weight_node.output not in network.outputs
    return constants and not training and alone and not any(node.output[1:])


def _fold(network: FloatNetwork, node: Any, weight_node: WeightNode) -> tuple[Array, Array]:
    """Return weights and bias of the layer that computes both."""
    scale, shift, mean, variance = (network.constants[name].astype(np.float64) for name in node.input[1:5])
    factor = scale / np.sqrt(variance + read_attributes(node).get("epsilon", 1e-5))
    weights = network.constants[weight_node.weight].astype(np.float64)
    shape = [1] * weights.ndim
    shape[weight_node.axis] = -1
    bias = network.constants[weight_node.bias].astype(np.float64) if weight_node.bias else np.zeros_like(mean)
    folded = (weights * factor.reshape(shape)).astype(np.float32)
    return folded, ((bias - mean) * factor + shift).astype(np.float32)
