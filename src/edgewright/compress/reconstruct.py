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
            treatment, source = treatments[site.node], steps.get(site.input)
            if treatment.adaptive:
                read = read_as(site.input, steps, network.outputs)
                walk.reach(read)
                moments = gather(network, site, [sample[read] for sample in walk.live])
                stored = round_adaptively(network, site, moments, treatment.bits, source)
            else:
                stored = round_plainly(network, site, treatment.bits, source)
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


def round_adaptively(network: Network, site: Site, moments: Moments, bits: int, source: Steps | None) -> Stored:
    """Round one site's weights, and correct its bias for what that shifts on average.

    Not for what rounding in front of the site shifts: that costs about half a decibel on samples not seen, since the
    means of few samples are noise themselves.
    """
    rows = to_matrices(site, network.constants[site.weight]).astype(np.float64)
    h = damp(moments.square)
    grid = hold_bias(network, site, choose_grid(rows, h, bits), source)
    integers = round_rows(rows, h, grid)
    grid = hold_bias(network, site, refit(rows, integers, h, grid), source)
    shift = ((rows - grid.real(integers)) @ moments.mean[:, :, None]).reshape(-1)
    return store(network, site, integers, grid, bits, shift)


def round_plainly(network: Network, site: Site, bits: int, source: Steps | None) -> Stored:
    """Round one site's weights to the nearest integers, on scales that hold the largest."""
    rows = to_matrices(site, network.constants[site.weight]).astype(np.float64)
    grid = hold_bias(network, site, full_grid(rows, bits), source)
    return store(network, site, round_nearest(rows, grid), grid, bits, np.zeros(grid.scale.size))


def store(network: Network, site: Site, integers: Array, grid: Grid, bits: int, shift: Array) -> Stored:
    bias = network.constants[site.bias] if site.bias else np.zeros(grid.scale.size)
    return Stored(
        values=from_matrices(site, integers, network.constants[site.weight].shape).astype(np.int8),
        scale=grid.scale.reshape(-1).astype(np.float32),
        axis=site.axis,
        bits=bits,
        bias=(bias + shift).astype(np.float32),
    )


def hold_bias(network: Network, site: Site, grid: Grid, source: Steps | None) -> Grid:
    """Scales no finer than the bias allows: it is an int32 with the scale of input × weights.

    A channel of weights next to zero would otherwise lose its bias.
    """
    if not site.bias or source is None:
        return grid
    bias = np.abs(network.constants[site.bias].astype(np.float64)).reshape(grid.scale.shape)
    return grid._replace(scale=np.maximum(grid.scale, bias / (MOST_BIAS * float(source.scale))))
