"""Scale channels to similar ranges without changing the outputs, so that one scale of a tensor fits all of them.

If only other sites read a site's output, directly or through a Relu, its channel c can be divided by s and
their weights for that channel multiplied by it (Nagel et al., arXiv 1906.04721). Weights have a scale for each output
channel, so the range of a channel's activations is balanced against that of the weights that read it, as
SmoothQuant does (Xiao et al., arXiv 2211.10438). A Clip (ReLU6) bounds all channels alike, so no channel is scaled
through it.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from edgewright.formats.onnx.normalize.weights import WeightNode
from edgewright.quantization.executor import IncrementalExecutor
from edgewright.quantization.network import FloatNetwork
from edgewright.schema.arrays import Array

MAX_FACTOR = 16.0  # bounds the factor of a channel and its inverse: that of a dead channel is infinite


class EqualizationGroup(NamedTuple):
    """A site, the tensor with its output, and the sites that read it; nothing else reads the output."""

    weight_node: WeightNode
    tensor: str
    consumers: tuple[WeightNode, ...]


def equalize(network: FloatNetwork, samples: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Return the constants that change, by name; the network with them computes the same but for rounding."""
    links = _find_equalization_groups(network)
    reach = _observe_channels(network, [link.tensor for link in links], samples)
    constants = dict(network.constants)
    for link in links:
        wide = np.max(
            [_compute_weight_maxima(weight_node, constants[weight_node.weight]) for weight_node in link.consumers],
            axis=0,
        )
        scale = _compute_factors(reach[link.tensor], wide)
        constants[link.weight_node.weight] = _scale_axis(
            constants[link.weight_node.weight], link.weight_node.axis, 1 / scale
        )
        if link.weight_node.bias:
            constants[link.weight_node.bias] = (constants[link.weight_node.bias] / scale).astype(np.float32)
        for weight_node in link.consumers:
            constants[weight_node.weight] = _scale_input_channels(weight_node, constants[weight_node.weight], scale)
    return {name: array for name, array in constants.items() if array is not network.constants[name]}


def _find_equalization_groups(network: FloatNetwork) -> list[EqualizationGroup]:
    """Return groups whose weights belong to one site each."""
    owners: dict[str, int] = {}
    for weight_node in network.weight_nodes.values():
        for name in (weight_node.weight, weight_node.bias):
            owners[name] = owners.get(name, 0) + 1
    found = []
    for weight_node in network.weight_nodes.values():
        tensor = weight_node.output
        consumers = network.consumers.get(tensor, [])
        if len(consumers) == 1 and consumers[0].op_type == "Relu" and tensor not in network.outputs:
            tensor = consumers[0].output[0]
            consumers = network.consumers.get(tensor, [])
        weight_nodes = [network.weight_nodes.get(node.name) for node in consumers]
        whole = [
            one for one in weight_nodes if one is not None and one.input == tensor and _can_scale_inputs(network, one)
        ]
        alone = all(owners[one.weight] == 1 for one in (weight_node, *whole)) and (
            not weight_node.bias or owners[weight_node.bias] == 1
        )
        if (
            whole
            and len(whole) == len(weight_nodes)
            and tensor not in network.outputs
            and _can_scale_inputs(network, weight_node)
            and alone
        ):
            found.append(EqualizationGroup(weight_node, tensor, tuple(whole)))
    return found


def _can_scale_inputs(network: FloatNetwork, weight_node: WeightNode) -> bool:
    """Return whether one axis of the weights of a product or convolution counts the input channels, or its
    groups."""
    if weight_node.op == "ConvTranspose":
        return False
    return weight_node.groups == 1 or weight_node.groups == network.constants[weight_node.weight].shape[0]


def _observe_channels(
    network: FloatNetwork, tensors: Sequence[str], samples: Sequence[Mapping[str, Array]]
) -> dict[str, Array]:
    """Return the largest magnitude of each channel over all samples."""
    if not tensors:
        return {}
    reach: dict[str, Array] = {}
    executor = IncrementalExecutor(network.nodes, network.constants, samples, network.types, opset=network.opset)
    for name in tensors:
        executor.reach(name)
        for live in executor.live:
            array = np.abs(live[name])
            axis = 1 if array.ndim > 2 else array.ndim - 1
            most = array.max(axis=tuple(place for place in range(array.ndim) if place != axis))
            reach[name] = np.maximum(reach.get(name, 0.0), most)
    return reach


def _compute_weight_maxima(weight_node: WeightNode, weights: Array) -> Array:
    """Return the largest magnitude of the weights that read each input channel."""
    axis = _get_input_axis(weight_node, weights)
    return np.asarray(np.abs(weights).max(axis=tuple(place for place in range(weights.ndim) if place != axis)))


def _get_input_axis(weight_node: WeightNode, weights: Array) -> int:
    if weight_node.groups > 1:
        return 0
    return 1 - weight_node.axis if weights.ndim == 2 else 1


def _scale_input_channels(weight_node: WeightNode, weights: Array, scale: Array) -> Array:
    return _scale_axis(weights, _get_input_axis(weight_node, weights), scale)


def _scale_axis(weights: Array, axis: int, scale: Array) -> Array:
    shape = [1] * weights.ndim
    shape[axis] = -1
    return (weights * scale.reshape(shape)).astype(np.float32)


def _compute_factors(active: Array, wide: Array) -> Array:
    """Return factors with a geometric mean of one that bring each channel's activations and weights to the same
    range."""
    valid = (active > 0) & (wide > 0)
    if not valid.any():
        return np.ones(len(active))
    factors = np.ones(len(active))
    factors[valid] = np.sqrt(active[valid] / wide[valid])
    factors[valid] /= np.exp(np.mean(np.log(factors[valid])))
    return np.clip(factors, 1 / MAX_FACTOR, MAX_FACTOR)
