"""Output error that each tensor's range and each site's integers cause alone, with everything else in float."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from edgewright.formats.onnx.normalize.weights import WeightNode
from edgewright.quantization.executor import GraphPart, IncrementalExecutor, open_graph
from edgewright.quantization.network import FloatNetwork
from edgewright.quantization.observe import TensorValues
from edgewright.quantization.probe import OutputLoss, Probe, find_compared_outputs
from edgewright.quantization.static.qdq import TensorQuantParams, compute_quant_params
from edgewright.quantization.static.ranges import ValueRange, fake_quantize, find_flat_end, list_candidates
from edgewright.quantization.static.reconstruct import QuantizedWeights
from edgewright.schema.arrays import Array

SAME_RANGE_TOLERANCE = 0.02  # ranges that differ by less than this share are not both tried
MAX_NOISE_RATIO = 0.9  # a range must leave less noise than this share of the first range's


class Sensitivity(NamedTuple):
    """SQNR of the network's output if only this site is quantized: weights and input together, and each alone."""

    both: OutputLoss
    weights: OutputLoss
    inputs: OutputLoss


def choose_ranges(
    network: FloatNetwork,
    values: Mapping[str, TensorValues],
    dtype: np.dtype[Any],
    samples: Sequence[Mapping[str, Array]],
    progress: Callable[[int, int], None],
) -> dict[str, ValueRange]:
    """Return for each tensor the range with the least output error on the samples, with all other tensors in float."""
    probe = _make_probe(network, samples)
    chosen = {}
    for position, (name, seen) in enumerate(values.items()):
        tried = _remove_similar_ranges(list_candidates(seen, dtype, find_flat_end(network, name)))
        if len(tried) > 1:
            probe.executor.reach(name)
            exact = [live[name] for live in probe.executor.live]
            tensor_params = [compute_quant_params(one.low, one.high, dtype) for one in tried]
            losses = probe.try_changes(name, [[fake_quantize(x, one) for x in exact] for one in tensor_params])
            noises = np.asarray([loss.noise for loss in losses])
            best = int(np.argmin(noises))
            chosen[name] = tried[best] if noises[best] < MAX_NOISE_RATIO * noises[0] else tried[0]
        else:
            chosen[name] = tried[0]
        progress(position + 1, len(values))
    return chosen


def _make_probe(network: FloatNetwork, samples: Sequence[Mapping[str, Array]]) -> Probe:
    """Return a probe at the start of the float network."""
    outputs = find_compared_outputs(network)
    executor = IncrementalExecutor(
        network.nodes, network.constants, samples, network.types, outputs.names, opset=network.opset
    )
    run = executor.make_remaining(outputs.names)
    return Probe(executor, outputs, [run(live) for live in executor.live])


def _remove_similar_ranges(ranges: Sequence[ValueRange]) -> list[ValueRange]:
    """Return the ranges without those that are nearly the same as an earlier one."""
    found: list[ValueRange] = []
    for one in ranges:
        width = max(one.high - one.low, 1e-12)
        if all(abs(one.low - other.low) + abs(one.high - other.high) > SAME_RANGE_TOLERANCE * width for other in found):
            found.append(one)
    return found


def measure_sensitivity(
    network: FloatNetwork,
    tensor_params: Mapping[str, TensorQuantParams],
    stored: Mapping[str, QuantizedWeights],
    samples: Sequence[Mapping[str, Array]],
    progress: Callable[[int, int], None],
) -> dict[str, Sensitivity]:
    """Return the sensitivity of each quantized site, by node."""
    probe = _make_probe(network, samples)
    found = {}
    for position, (name, one) in enumerate(stored.items()):
        weight_node = network.weight_nodes[name]
        probe.executor.reach(weight_node.input)
        exact = [live[weight_node.input] for live in probe.executor.live]
        rounded = [
            fake_quantize(x, tensor_params[weight_node.input]) if weight_node.input in tensor_params else x
            for x in exact
        ]
        runs = [_make_node_runner(network, weight_node, weights, exact[0].dtype) for weights in (None, one)]
        changes = [
            [runs[1](x) for x in rounded],
            [runs[1](x) for x in exact],
            [runs[0](x) for x in rounded],
        ]
        probe.executor.reach(weight_node.output)
        found[name] = Sensitivity(*probe.try_changes(weight_node.output, changes))
        progress(position + 1, len(stored))
    return found


def _make_node_runner(
    network: FloatNetwork, weight_node: WeightNode, stored: QuantizedWeights | None, dtype: Any
) -> Callable[[Array], Array]:
    """Return a function that runs the site alone, with its own weights or the quantized ones."""
    constants = dict(network.constants)
    if stored is not None:
        constants[weight_node.weight] = stored.real()
        if weight_node.bias:
            constants[weight_node.bias] = stored.bias
    session = open_graph(
        GraphPart([network.node(weight_node.node)], [weight_node.input], [weight_node.output]),
        constants,
        lambda _: 1,
        network.opset,
        optimize=True,
    )

    def run(x: Array) -> Array:
        result: Array = session.run([weight_node.output], {weight_node.input: x.astype(dtype, copy=False)})[0]
        return result

    return run
