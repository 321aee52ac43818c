"""Round a network's weights site by site, each for the inputs that it gets in the network quantized so far."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple

import numpy as np

from edgewright.formats.onnx.attributes import read_attributes
from edgewright.formats.onnx.normalize.weights import WeightNode
from edgewright.quantization.executor import IncrementalExecutor
from edgewright.quantization.features import Moments, find_moments, from_matrices, to_columns, to_matrices
from edgewright.quantization.network import FloatNetwork
from edgewright.quantization.static.qdq import TensorQuantParams, get_dequantized_name, insert_qdq_pairs
from edgewright.quantization.static.rounding import (
    RowQuantParams,
    compute_row_params,
    damp,
    refit_scales,
    round_nearest,
    round_rows,
    search_row_params,
)
from edgewright.schema.arrays import Array

Feeds = Mapping[str, Array]

COLUMNS_PER_WEIGHT = 8  # observed columns per weight of a row, for a good estimate of H
MIN_COLUMNS = 8_192
MAX_BIAS = 2**28  # of an int32 with room for the sums that kernels add to it


class QuantizedWeights(NamedTuple):
    """A site's weights as integers.

    Attributes:
        values: of the weights' own shape.
        scale: [outputs].
        axis: of the weights that counts the outputs.
        bits: of each weight.
        bias: [outputs] real, with the mean shift caused by rounding the weights subtracted.
    """

    values: Array
    scale: Array
    axis: int
    bits: int
    bias: Array

    def real(self) -> Array:
        shape = [1] * self.values.ndim
        shape[self.axis] = -1
        return (self.values.astype(np.float64) * self.scale.reshape(shape)).astype(np.float32)


class RoundingSettings(NamedTuple):
    """Settings by which a site's weights are rounded."""

    bits: int
    adaptive: bool


def compute_site_keys(
    network: FloatNetwork, tensor_params: Mapping[str, TensorQuantParams], treatments: Mapping[str, RoundingSettings]
) -> dict[str, str]:
    """Return a key for each node of `treatments` that changes with whatever its rounding depends on.

    That is everything before the node: a search that changes a later one finds what it has rounded.
    """
    hashed, keys = sha256(), dict[str, str]()

    def add_params(names: Iterable[str]) -> None:
        for name in names:
            if (one := tensor_params.get(name)) is not None:
                hashed.update(repr((name, float(one.scale), int(one.zero))).encode())

    add_params(network.inputs)
    for node in network.nodes:
        if node.name in network.weight_nodes:
            hashed.update(repr((node.name, treatments.get(node.name))).encode())
        if node.name in treatments:
            keys[node.name] = f"site-{hashed.hexdigest()[:16]}"
        add_params(node.output)
    return keys


def reconstruct(
    network: FloatNetwork,
    tensor_params: Mapping[str, TensorQuantParams],
    treatments: Mapping[str, RoundingSettings],
    samples: Sequence[Feeds],
    known: Callable[[WeightNode], QuantizedWeights | None],
    done: Callable[[WeightNode, QuantizedWeights], None],
) -> dict[str, QuantizedWeights]:
    """Return the quantized weights of every site in `treatments`, by node.

    Args:
        tensor_params: parameters of the quantized activations.
        samples: feeds, run through the network quantized so far.
        known: returns the result of an earlier attempt for a site, or None.
        done: called after each site.
    """
    nodes, pairs = insert_qdq_pairs(network.nodes, network.inputs, tensor_params, network.outputs)
    constants = {**network.constants, **pairs}
    executor = IncrementalExecutor(nodes, constants, samples, network.types, opset=network.opset)
    found: dict[str, QuantizedWeights] = {}
    for weight_node in network.weight_nodes.values():
        if weight_node.node not in treatments:
            continue
        stored = known(weight_node)
        if stored is None:
            treatment, source = treatments[weight_node.node], tensor_params.get(weight_node.input)
            if treatment.adaptive:
                read = get_dequantized_name(weight_node.input, tensor_params, network.outputs)
                executor.reach(read)
                moments = _gather(network, weight_node, [sample[read] for sample in executor.live])
                stored = _round_adaptively(network, weight_node, moments, treatment.bits, source)
            else:
                stored = _round_weights_to_nearest(network, weight_node, treatment.bits, source)
        found[weight_node.node] = stored
        constants[weight_node.weight] = stored.real()
        if weight_node.bias:
            constants[weight_node.bias] = stored.bias
        done(weight_node, stored)
    return found


def _gather(network: FloatNetwork, weight_node: WeightNode, inputs: Sequence[Array]) -> Moments:
    """Return the moments of a site's inputs, at some positions of each sample."""
    weights = network.constants[weight_node.weight]
    size = to_matrices(weight_node, weights).shape[2]
    attributes = read_attributes(network.node(weight_node.node))
    places = max(MIN_COLUMNS, COLUMNS_PER_WEIGHT * size) // len(inputs) + 1
    return find_moments(
        [to_columns(weight_node, attributes, x, weights.shape[2:], places, seed) for seed, x in enumerate(inputs)]
    )


def _round_adaptively(
    network: FloatNetwork, weight_node: WeightNode, moments: Moments, bits: int, source: TensorQuantParams | None
) -> QuantizedWeights:
    """Round one site's weights, and correct its bias for the mean shift.

    The shift caused by rounding before the site is not corrected: that costs about half a decibel on unseen samples,
    since the means of few samples are noise themselves.
    """
    rows = to_matrices(weight_node, network.constants[weight_node.weight]).astype(np.float64)
    h = damp(moments.square)
    row_params = _raise_scale_for_bias(network, weight_node, search_row_params(rows, h, bits), source)
    integers = round_rows(rows, h, row_params)
    row_params = _raise_scale_for_bias(network, weight_node, refit_scales(rows, integers, h, row_params), source)
    shift = ((rows - row_params.real(integers)) @ moments.mean[:, :, None]).reshape(-1)
    return _make_quantized_weights(network, weight_node, integers, row_params, bits, shift)


def _round_weights_to_nearest(
    network: FloatNetwork, weight_node: WeightNode, bits: int, source: TensorQuantParams | None
) -> QuantizedWeights:
    """Round one site's weights to the nearest integers, with scales that represent the largest."""
    rows = to_matrices(weight_node, network.constants[weight_node.weight]).astype(np.float64)
    row_params = _raise_scale_for_bias(network, weight_node, compute_row_params(rows, bits), source)
    return _make_quantized_weights(
        network, weight_node, round_nearest(rows, row_params), row_params, bits, np.zeros(row_params.scale.size)
    )


def _make_quantized_weights(
    network: FloatNetwork, weight_node: WeightNode, integers: Array, row_params: RowQuantParams, bits: int, shift: Array
) -> QuantizedWeights:
    bias = network.constants[weight_node.bias] if weight_node.bias else np.zeros(row_params.scale.size)
    return QuantizedWeights(
        values=from_matrices(weight_node, integers, network.constants[weight_node.weight].shape).astype(np.int8),
        scale=row_params.scale.reshape(-1).astype(np.float32),
        axis=weight_node.axis,
        bits=bits,
        bias=(bias + shift).astype(np.float32),
    )


def _raise_scale_for_bias(
    network: FloatNetwork, weight_node: WeightNode, row_params: RowQuantParams, source: TensorQuantParams | None
) -> RowQuantParams:
    """Return scales no finer than the bias allows: it is an int32 with the scale of input × weights.

    A channel of weights near zero would otherwise lose its bias.
    """
    if not weight_node.bias or source is None:
        return row_params
    bias = np.abs(network.constants[weight_node.bias].astype(np.float64)).reshape(row_params.scale.shape)
    return row_params._replace(scale=np.maximum(row_params.scale, bias / (MAX_BIAS * float(source.scale))))
