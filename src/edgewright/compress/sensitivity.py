"""What each tensor's range and each site's integers cost by themselves, everything else left in float."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgewright.compress.network import Network, Site
from edgewright.compress.observe import Values
from edgewright.compress.probe import Loss, Probe
from edgewright.compress.qdq import Steps, real_steps
from edgewright.compress.ranges import Range, candidates, fake
from edgewright.compress.reconstruct import Stored
from edgewright.compress.walk import Walk, open_graph

Array = NDArray[Any]
ALIKE = 0.02  # ranges nearer to each other than this share are not tried apart
CLEARLY = 0.9  # a range must leave less noise than this share of the first one's


class Sensitivity(NamedTuple):
    """Of the network's output when this site alone runs on integers: weights and input together, and each alone."""

    both: Loss
    weights: Loss
    inputs: Loss


def choose_ranges(
    network: Network,
    values: Mapping[str, Values],
    dtype: np.dtype[Any],
    samples: Sequence[Mapping[str, Array]],
    tell: Callable[[int, int], None],
) -> dict[str, Range]:
    """For each tensor the range that costs the output least on the samples, all other tensors in float."""
    probe = start_probe(network, samples)
    chosen = {}
    for position, (name, seen) in enumerate(values.items()):
        tried = distinct(candidates(seen, dtype))
        if len(tried) > 1:
            probe.walk.reach(name)
            exact = [live[name] for live in probe.walk.live]
            steps = [real_steps(one.low, one.high, dtype) for one in tried]
            losses = probe.try_changes(name, [[fake(x, one) for x in exact] for one in steps])
            noises = np.asarray([loss.noise for loss in losses])
            best = int(np.argmin(noises))
            chosen[name] = tried[best] if noises[best] < CLEARLY * noises[0] else tried[0]
        else:
            chosen[name] = tried[0]
        tell(position + 1, len(values))
    return chosen


def start_probe(network: Network, samples: Sequence[Mapping[str, Array]]) -> Probe:
    """At the beginning of the float network, to be judged by its first output."""
    output = network.outputs[0]
    whole = Walk(network.nodes, network.constants, samples, network.types, [output], opset=network.opset)
    whole.reach(output)
    exact = [live[output] for live in whole.live]
    walk = Walk(network.nodes, network.constants, samples, network.types, [output], opset=network.opset)
    return Probe(walk, output, exact)


def distinct(ranges: Sequence[Range]) -> list[Range]:
    """Without those that are nearly the same as one before."""
    found: list[Range] = []
    for one in ranges:
        width = max(one.high - one.low, 1e-12)
        if all(abs(one.low - other.low) + abs(one.high - other.high) > ALIKE * width for other in found):
            found.append(one)
    return found


def measure_sites(
    network: Network,
    steps: Mapping[str, Steps],
    stored: Mapping[str, Stored],
    samples: Sequence[Mapping[str, Array]],
    tell: Callable[[int, int], None],
) -> dict[str, Sensitivity]:
    """Sensitivity of each stored site, by node."""
    probe = start_probe(network, samples)
    found = {}
    for position, (name, one) in enumerate(stored.items()):
        site = network.sites[name]
        probe.walk.reach(site.input)
        exact = [live[site.input] for live in probe.walk.live]
        rounded = [fake(x, steps[site.input]) if site.input in steps else x for x in exact]
        runs = [run_site(network, site, weights, exact[0].dtype) for weights in (None, one)]
        changes = [
            [runs[1](x) for x in rounded],
            [runs[1](x) for x in exact],
            [runs[0](x) for x in rounded],
        ]
        probe.walk.reach(site.output)
        found[name] = Sensitivity(*probe.try_changes(site.output, changes))
        tell(position + 1, len(stored))
    return found


def run_site(network: Network, site: Site, stored: Stored | None, dtype: Any) -> Callable[[Array], Array]:
    """The site alone, with its own weights or the stored ones."""
    constants = dict(network.constants)
    if stored is not None:
        constants[site.weight] = stored.real()
        if site.bias:
            constants[site.bias] = stored.bias
    session = open_graph(
        [network.node(site.node)], [site.input], [site.output], constants, lambda _: 1, network.opset, optimise=True
    )

    def run(x: Array) -> Array:
        result: Array = session.run([site.output], {site.input: x.astype(dtype, copy=False)})[0]
        return result

    return run
