"""Normalisation with constant statistics folded into the weights in front of it (Jacob et al., arXiv 1712.05877)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.compress.network import Network, Site, attributes_of

Array = NDArray[Any]


def fold_batch_norms(model: Any) -> int:
    """Fold every BatchNormalization that alone reads a Conv, ConvTranspose or Gemm; the number of those that went.

    The model is changed in place: new weights and biases are added under the layer's name, the node goes, and what
    read it reads the layer.
    """
    from onnx import numpy_helper

    network = Network(model)
    makers = {site.output: site for site in network.sites.values() if site.op != "MatMul"}
    gone = []
    for node in network.nodes:
        site = makers.get(node.input[0]) if node.op_type == "BatchNormalization" else None
        if site is None or not can_fold(network, node, site):
            continue
        weights, bias = fold(network, node, site)
        layer = network.node(site.node)
        for name, array in ((f"{site.node}/folded", weights), (f"{site.node}/folded-bias", bias)):
            model.graph.initializer.append(numpy_helper.from_array(array, name))
        layer.input[1] = f"{site.node}/folded"
        del layer.input[2:]
        layer.input.append(f"{site.node}/folded-bias")
        layer.output[0] = node.output[0]
        gone.append(node)
    for node in gone:
        model.graph.node.remove(node)
    return len(gone)


def can_fold(network: Network, node: Any, site: Site) -> bool:
    constants = all(name in network.constants for name in node.input[1:5])
    training = attributes_of(node).get("training_mode", 0)
    alone = len(network.readers[site.output]) == 1 and site.output not in network.outputs
    return constants and not training and alone and not any(node.output[1:])


def fold(network: Network, node: Any, site: Site) -> tuple[Array, Array]:
    """Weights and bias of the layer that computes both."""
    scale, shift, mean, variance = (network.constants[name].astype(np.float64) for name in node.input[1:5])
    factor = scale / np.sqrt(variance + attributes_of(node).get("epsilon", 1e-5))
    weights = network.constants[site.weight].astype(np.float64)
    shape = [1] * weights.ndim
    shape[site.axis] = -1
    bias = network.constants[site.bias].astype(np.float64) if site.bias else np.zeros_like(mean)
    folded = (weights * factor.reshape(shape)).astype(np.float32)
    return folded, ((bias - mean) * factor + shift).astype(np.float32)
