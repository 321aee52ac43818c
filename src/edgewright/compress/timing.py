"""What a site costs in time, in float and on integers, each run by itself in ONNX Runtime on one thread."""

from collections.abc import Mapping
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.compress.network import Network, Site
from edgewright.compress.qdq import Steps, real_steps
from edgewright.compress.reconstruct import Stored
from edgewright.compress.walk import open_graph, open_session
from edgewright.compress.write import write_qdq

Array = NDArray[Any]
RUNS = 15
LEAST_SHARE = 0.01


def time_gains(
    network: Network, steps: Mapping[str, Steps], stored: Mapping[str, Stored], inputs: Mapping[str, Array]
) -> dict[str, float]:
    """Microseconds that each site takes longer in float than on integers; at least a hundredth of its float time.

    Args:
        inputs: what each site reads, by node, for one sample.
    """
    gains = {}
    for name, x in inputs.items():
        site = network.sites[name]
        alone, y = cut_out(network, site, x)
        dtype = steps[site.input].zero.dtype if site.input in steps else np.dtype(np.uint8)
        ends = {site.input: steps.get(site.input) or cover(x, dtype), site.output: cover(y, dtype)}
        exact = median_us(alone.model, site, x)
        integers = median_us(write_qdq(alone, ends, {name: stored[name]}, {}), site, x)
        gains[name] = max(exact - integers, LEAST_SHARE * exact)
    return gains


def cut_out(network: Network, site: Site, x: Array) -> tuple[Network, Array]:
    """The site as a network of its own, and what it makes of `x`."""
    from onnx import helper, numpy_helper

    node = network.node(site.node)
    session = open_graph([node], [site.input], [site.output], network.constants, lambda _: 1, network.opset)
    y: Array = session.run(None, {site.input: x})[0]
    constants = [numpy_helper.from_array(network.constants[one], one) for one in (site.weight, site.bias) if one]
    graph = helper.make_graph(
        [node],
        "site",
        [helper.make_tensor_value_info(site.input, 1, x.shape)],
        [helper.make_tensor_value_info(site.output, 1, y.shape)],
        constants,
    )
    opset = [helper.make_opsetid("", network.opset)]
    return Network(helper.make_model(graph, opset_imports=opset, ir_version=network.model.ir_version)), y


def cover(x: Array, dtype: np.dtype[Any]) -> Steps:
    return real_steps(float(x.min(initial=0.0)), float(x.max(initial=0.0)), dtype)


def median_us(model: Any, site: Site, x: Array) -> float:
    session = open_session(model.SerializeToString(), optimise=True, threads=1)
    times = []
    for _ in range(RUNS + 2):
        began = perf_counter()
        session.run(None, {site.input: x})
        times.append(perf_counter() - began)
    return float(np.median(times[2:])) * 1e6
