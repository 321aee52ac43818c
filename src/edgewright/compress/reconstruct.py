"""Round a network's weights site by site, each one for the inputs that the quantised network in front of it gives."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgewright.compress.features import Moments, find_moments, from_matrices, to_columns, to_matrices
from edgewright.compress.network import Network, Site, attributes_of
from edgewright.compress.qdq import Steps, pair_activations, read_as
from edgewright.compress.rounding import Grid, choose_grid, damp, full_grid, refit, round_nearest, round_rows
from edgewright.compress.walk import Walk

Array = NDArray[Any]
Feeds = Mapping[str, Array]

PLACES_PER_WEIGHT = 8  # columns seen for each weight of a row, so that H is well known
LEAST_PLACES = 8_192
MOST_BIAS = 2**28  # of an int32: what the kernels add to it must fit too


class Stored(NamedTuple):
    """A site's weights as integers.

    Attributes:
        values: of the weights' own shape.
        scale: [outputs].
        axis: of the weights that counts the outputs.
        bits: of each weight.
        bias: [outputs] real, with what rounding the weights shifts on average taken back.
        noise: power of the error of the site's output over the power of its output, before the bias.
    """

    values: Array
    scale: Array
    axis: int
    bits: int
    bias: Array
    noise: float

    def real(self) -> Array:
        shape = [1] * self.values.ndim
        shape[self.axis] = -1
        return (self.values.astype(np.float64) * self.scale.reshape(shape)).astype(np.float32)


class Treatment(NamedTuple):
    """What is done with a site's weights."""

    bits: int
    adaptive: bool


def reconstruct(
    network: Network,
    steps: Mapping[str, Steps],
    treatments: Mapping[str, Treatment],
    samples: Sequence[Feeds],
    known: Callable[[Site], Stored | None],
    done: Callable[[Site, Stored], None],
) -> dict[str, Stored]:
    """Stored weights of every site in `treatments`, by node.

    Args:
        steps: of the activations that are quantised.
        samples: feeds, run through the network as it is quantised so far.
        known: what an earlier try has found for a site; None where it is to be found now.
        done: called after each site.
    """
    nodes, pairs = pair_activations(network.nodes, network.inputs, steps, network.outputs)
    constants = {**network.constants, **pairs}
    walk = Walk(nodes, constants, samples, network.types, opset=network.opset)
    found: dict[str, Stored] = {}
    for site in network.sites.values():
        if site.node not in treatments:
            continue
        stored = known(site)
        if stored is None:
            read = read_as(site.input, steps, network.outputs)
            walk.reach(read)
            moments = gather(network, site, [sample[read] for sample in walk.live])
            stored = store(network, site, moments, treatments[site.node], steps.get(site.input))
        found[site.node] = stored
        constants[site.weight] = stored.real()
        if site.bias:
            constants[site.bias] = stored.bias
        done(site, stored)
    return found


def gather(network: Network, site: Site, inputs: Sequence[Array]) -> Moments:
    """Moments of a site's inputs, at some places of each sample."""
    weights = network.constants[site.weight]
    size = to_matrices(site, weights).shape[2]
    attributes = attributes_of(network.node(site.node))
    places = max(LEAST_PLACES, PLACES_PER_WEIGHT * size) // len(inputs) + 1
    return find_moments(
        [to_columns(site, attributes, x, weights.shape[2:], places, seed) for seed, x in enumerate(inputs)]
    )


def store(network: Network, site: Site, moments: Moments, treatment: Treatment, source: Steps | None) -> Stored:
    """Round one site's weights, and correct its bias for what that shifts on average.

    Not for what rounding in front of the site shifts: that costs about half a decibel on samples not seen, since the
    means of few samples are noise themselves.
    """
    weights = network.constants[site.weight]
    rows = to_matrices(site, weights).astype(np.float64)
    h = damp(moments.square)
    grid = choose_grid(rows, h, treatment.bits) if treatment.adaptive else full_grid(rows, treatment.bits)
    grid = hold_bias(grid, network.constants.get(site.bias), source)
    integers = round_rows(rows, h, grid) if treatment.adaptive else round_nearest(rows, grid)
    if treatment.adaptive:
        grid = hold_bias(refit(rows, integers, h, grid), network.constants.get(site.bias), source)
    real = grid.real(integers)
    bias = network.constants[site.bias].astype(np.float64) if site.bias else np.zeros(grid.scale.size)
    if treatment.adaptive:
        bias = bias + ((rows - real) @ moments.mean[:, :, None]).reshape(-1)
    return Stored(
        values=from_matrices(site, integers, weights.shape).astype(np.int8),
        scale=grid.scale.reshape(-1).astype(np.float32),
        axis=site.axis,
        bits=treatment.bits,
        bias=bias.astype(np.float32),
        noise=relative_noise(rows, real, moments),
    )


def hold_bias(grid: Grid, bias: Array | None, source: Steps | None) -> Grid:
    """Scales no finer than the bias allows: it is an int32 with the scale of input × weights.

    A channel of weights next to zero would otherwise lose its bias.
    """
    if bias is None or source is None:
        return grid
    least = np.abs(bias.astype(np.float64)).reshape(grid.scale.shape) / (MOST_BIAS * float(source.scale))
    return grid._replace(scale=np.maximum(grid.scale, least))


def relative_noise(rows: Array, real: Array, moments: Moments) -> float:
    """Power of the output's error over the output's variance, both over all places seen."""
    signal = float(((rows @ moments.square) * rows).sum())
    noise = float((((rows - real) @ moments.square) * (rows - real)).sum())
    return noise / signal if signal > 0 else 0.0
