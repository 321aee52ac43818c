"""Which weight nodes ONNX Runtime computes faster in integers, each alone between floats, on one thread.

Nodes of one class (operator, kernel, activation) are decided together, from the sum of their times: a single node
takes microseconds, whose noise would decide differently in each run.
"""

from collections.abc import Mapping
from math import prod
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from edgewright.formats.onnx.constants import make_tensor
from edgewright.formats.onnx.normalize.weights import WeightNode
from edgewright.quantization.executor import GraphPart, open_graph, open_session
from edgewright.quantization.network import FloatNetwork
from edgewright.quantization.static.qdq import TensorQuantParams, compute_quant_params
from edgewright.quantization.static.reconstruct import QuantizedWeights
from edgewright.quantization.static.scope import FUSED_OPS
from edgewright.quantization.static.write import write_qdq
from edgewright.schema.arrays import Array

RUNS = 30
WORK_PER_VALUE = 8  # multiplications that take as long as reading or writing a value
MIN_GAIN = 0.1  # share of the float time that integers must save
ACTIVATIONS = {*FUSED_OPS, "HardSwish", "HardSigmoid", "Sigmoid", "LeakyRelu"}


def estimate_work(network: FloatNetwork, name: str) -> float:
    """Return what integers save of a node's work, in multiplications; a measured time would differ in each run."""
    weight_node = network.weight_nodes[name]
    read, written = (prod(network.shapes.get(one, ())) for one in (weight_node.input, weight_node.output))
    outputs = network.constants[weight_node.weight].shape[weight_node.axis]
    return float(network.constants[weight_node.weight].size * written / outputs + WORK_PER_VALUE * (read + written))


class _ExtractedNode(NamedTuple):
    """A weight node with the activation that alone reads it, as a network; its output before and after that."""

    network: FloatNetwork
    output: str
    activation: Any | None
    values: dict[str, Array]


def find_slow_nodes(
    network: FloatNetwork, stored: Mapping[str, QuantizedWeights], inputs: Mapping[str, Array]
) -> list[str]:
    """Return the weight nodes whose class does not save a tenth of its float time in integers.

    The time includes the conversion of the node's input and output.

    Args:
        inputs: the input of each weight node, by node, for one sample.
    """
    times: dict[tuple[str, ...], Array] = {}
    members: dict[tuple[str, ...], list[str]] = {}
    for name, x in inputs.items():
        weight_node = network.weight_nodes[name]
        alone = _extract_node(network, weight_node, x)
        one = _classify(network, weight_node, alone)
        times[one] = times.get(one, np.zeros(2)) + _measure(alone, weight_node, stored[name], x)
        members.setdefault(one, []).append(name)
    slow = {
        name for one, (exact, integers) in times.items() if integers > (1 - MIN_GAIN) * exact for name in members[one]
    }
    return [name for name in inputs if name in slow]


def _classify(network: FloatNetwork, weight_node: WeightNode, alone: _ExtractedNode) -> tuple[str, ...]:
    kernel = network.constants[weight_node.weight].shape[2:]
    kind = "grouped" if weight_node.groups > 1 else "pointwise" if prod(kernel) == 1 else "spatial"
    return weight_node.op, kind, alone.activation.op_type if alone.activation is not None else ""


def _extract_node(network: FloatNetwork, weight_node: WeightNode, x: Array) -> _ExtractedNode:
    from onnx import helper

    node = network.node(weight_node.node)
    consumers = network.consumers.get(weight_node.output, [])
    activation = consumers[0] if len(consumers) == 1 and consumers[0].op_type in ACTIVATIONS else None
    if activation is not None and any(name not in network.constants for name in activation.input[1:] if name):
        activation = None
    nodes = [node] if activation is None else [node, activation]
    read = [name for one in nodes for name in one.input if name in network.constants]
    names = [one.output[0] for one in nodes]
    session = open_graph(GraphPart(nodes, [weight_node.input], names), network.constants, lambda _: 1, network.opset)
    values = dict(zip(names, session.run(names, {weight_node.input: x}), strict=True))
    graph = helper.make_graph(
        nodes,
        "node",
        [helper.make_tensor_value_info(weight_node.input, 1, x.shape)],
        [helper.make_tensor_value_info(names[-1], 1, values[names[-1]].shape)],
        [make_tensor(name, network.constants[name]) for name in dict.fromkeys(read)],
    )
    opset = [helper.make_opsetid("", network.opset)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=network.graph.model.ir_version)
    return _ExtractedNode(FloatNetwork(model), names[-1], activation, values)


def _measure(alone: _ExtractedNode, weight_node: WeightNode, stored: QuantizedWeights, x: Array) -> Array:
    """Return the shortest times in float and in integers, in seconds, from runs that alternate."""
    fused = alone.activation is not None and alone.activation.op_type in FUSED_OPS
    end = alone.output if fused else weight_node.output
    dtype = np.dtype(np.uint8)
    ends = {
        weight_node.input: _compute_covering_params(x, dtype),
        end: _compute_covering_params(alone.values[end], dtype),
    }
    integers = write_qdq(alone.network, ends, {weight_node.node: stored}, {})
    sessions = [
        open_session(model.SerializeToString(), optimize=True, threads=1)
        for model in (alone.network.graph.to_message(), integers)
    ]
    times = np.full((RUNS, 2), np.inf)
    for turn in range(RUNS):
        for place, session in enumerate(sessions):
            began = perf_counter()
            session.run(None, {weight_node.input: x})
            times[turn, place] = perf_counter() - began
    return np.asarray(times.min(axis=0))


def _compute_covering_params(x: Array, dtype: np.dtype[Any]) -> TensorQuantParams:
    return compute_quant_params(float(x.min(initial=0.0)), float(x.max(initial=0.0)), dtype)
