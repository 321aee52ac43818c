"""Time of each site in float and in integer arithmetic, each run alone in ONNX Runtime on one thread."""

from collections.abc import Mapping
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.formats.onnx.constants import make_tensor
from edgewright.quantization.executor import open_graph, open_session
from edgewright.quantization.network import FloatNetwork, WeightNode
from edgewright.quantization.static.qdq import TensorQuantParams, compute_quant_params
from edgewright.quantization.static.reconstruct import QuantizedWeights
from edgewright.quantization.static.write import write_qdq

Array = NDArray[Any]
RUNS = 15
MIN_GAIN_SHARE = 0.01


def measure_time_gains(
    network: FloatNetwork,
    tensor_params: Mapping[str, TensorQuantParams],
    stored: Mapping[str, QuantizedWeights],
    inputs: Mapping[str, Array],
) -> dict[str, float]:
    """Return how many microseconds longer each site takes in float than in integer arithmetic.

    It is at least a hundredth of its float time.

    Args:
        inputs: the input of each site, by node, for one sample.
    """
    gains = {}
    for name, x in inputs.items():
        weight_node = network.weight_nodes[name]
        alone, y = _extract_node(network, weight_node, x)
        dtype = (
            tensor_params[weight_node.input].zero.dtype if weight_node.input in tensor_params else np.dtype(np.uint8)
        )
        ends = {
            weight_node.input: tensor_params.get(weight_node.input) or _compute_covering_params(x, dtype),
            weight_node.output: _compute_covering_params(y, dtype),
        }
        exact = _measure_median_us(alone.model, weight_node, x)
        integers = _measure_median_us(write_qdq(alone, ends, {name: stored[name]}, {}), weight_node, x)
        gains[name] = max(exact - integers, MIN_GAIN_SHARE * exact)
    return gains


def _extract_node(network: FloatNetwork, weight_node: WeightNode, x: Array) -> tuple[FloatNetwork, Array]:
    """Return the site as a network of its own, and its outputs for `x`."""
    from onnx import helper

    node = network.node(weight_node.node)
    session = open_graph(
        [node], [weight_node.input], [weight_node.output], network.constants, lambda _: 1, network.opset
    )
    y: Array = session.run(None, {weight_node.input: x})[0]
    constants = [make_tensor(one, network.constants[one]) for one in (weight_node.weight, weight_node.bias) if one]
    graph = helper.make_graph(
        [node],
        "site",
        [helper.make_tensor_value_info(weight_node.input, 1, x.shape)],
        [helper.make_tensor_value_info(weight_node.output, 1, y.shape)],
        constants,
    )
    opset = [helper.make_opsetid("", network.opset)]
    return FloatNetwork(helper.make_model(graph, opset_imports=opset, ir_version=network.model.ir_version)), y


def _compute_covering_params(x: Array, dtype: np.dtype[Any]) -> TensorQuantParams:
    return compute_quant_params(float(x.min(initial=0.0)), float(x.max(initial=0.0)), dtype)


def _measure_median_us(model: Any, weight_node: WeightNode, x: Array) -> float:
    session = open_session(model.SerializeToString(), optimize=True, threads=1)
    times = []
    for _ in range(RUNS + 2):
        began = perf_counter()
        session.run(None, {weight_node.input: x})
        times.append(perf_counter() - began)
    return float(np.median(times[2:])) * 1e6
