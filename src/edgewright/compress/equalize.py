"""Scale channels to alike ranges where that changes nothing else, so that one scale of a tensor fits all of them.

Where a site's output goes, straight or through a Relu, only to other sites, its channel c can be divided by s and
their weights for that channel multiplied by it (Nagel et al., arXiv 1906.04721). Weights have a scale for each output
channel here, so what is balanced is the reach of a channel's activations against that of the weights that read it, as
SmoothQuant does (Xiao et al., arXiv 2211.10438). A Clip (ReLU6) bounds all channels alike: nothing is scaled through
it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgewright.compress.network import Network, Site
from edgewright.compress.walk import Walk

Array = NDArray[Any]
MOST = 16.0  # a channel is scaled by no more, either way: a dead one would go to infinity


class Link(NamedTuple):
    """A site, the tensor in which its output reaches others, and those: nothing else reads it on the way."""

    site: Site
    tensor: str
    readers: tuple[Site, ...]


def equalize(network: Network, samples: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """The constants that change, by name; the network with them computes the same but for rounding."""
    links = find_links(network)
    reach = observe_channels(network, [link.tensor for link in links], samples)
    constants = dict(network.constants)
    for link in links:
        wide = np.max([channel_reach(site, constants[site.weight]) for site in link.readers], axis=0)
        scale = balance(reach[link.tensor], wide)
        constants[link.site.weight] = along(constants[link.site.weight], link.site.axis, 1 / scale)
        if link.site.bias:
            constants[link.site.bias] = (constants[link.site.bias] / scale).astype(np.float32)
        for site in link.readers:
            constants[site.weight] = scale_inputs(site, constants[site.weight], scale)
    return {name: array for name, array in constants.items() if array is not network.constants[name]}


def find_links(network: Network) -> list[Link]:
    """Links whose weights belong to one site each."""
    owners: dict[str, int] = {}
    for site in network.sites.values():
        for name in (site.weight, site.bias):
            owners[name] = owners.get(name, 0) + 1
    found = []
    for site in network.sites.values():
        tensor = site.output
        readers = network.readers.get(tensor, [])
        if len(readers) == 1 and readers[0].op_type == "Relu" and tensor not in network.outputs:
            tensor = readers[0].output[0]
            readers = network.readers.get(tensor, [])
        sites = [network.sites.get(node.name) for node in readers]
        whole = [one for one in sites if one is not None and one.input == tensor and is_plain(network, one)]
        alone = all(owners[one.weight] == 1 for one in (site, *whole)) and (not site.bias or owners[site.bias] == 1)
        if whole and len(whole) == len(sites) and tensor not in network.outputs and is_plain(network, site) and alone:
            found.append(Link(site, tensor, tuple(whole)))
    return found


def is_plain(network: Network, site: Site) -> bool:
    """A product or convolution whose inputs' channels are counted by one axis of its weights, or by its groups."""
    if site.op == "ConvTranspose":
        return False
    return site.groups == 1 or site.groups == network.constants[site.weight].shape[0]


def observe_channels(
    network: Network, tensors: Sequence[str], samples: Sequence[Mapping[str, Array]]
) -> dict[str, Array]:
    """Largest magnitude of each channel over all samples."""
    if not tensors:
        return {}
    reach: dict[str, Array] = {}
    walk = Walk(network.nodes, network.constants, samples, network.types, opset=network.opset)
    for name in tensors:
        walk.reach(name)
        for live in walk.live:
            array = np.abs(live[name])
            axis = 1 if array.ndim > 2 else array.ndim - 1
            most = array.max(axis=tuple(place for place in range(array.ndim) if place != axis))
            reach[name] = np.maximum(reach.get(name, 0.0), most)
    return reach


def channel_reach(site: Site, weights: Array) -> Array:
    """Largest magnitude of the weights that read each input channel."""
    axis = input_axis(site, weights)
    return np.asarray(np.abs(weights).max(axis=tuple(place for place in range(weights.ndim) if place != axis)))


def input_axis(site: Site, weights: Array) -> int:
    if site.groups > 1:
        return 0
    return 1 - site.axis if weights.ndim == 2 else 1


def scale_inputs(site: Site, weights: Array, scale: Array) -> Array:
    return along(weights, input_axis(site, weights), scale)


def along(weights: Array, axis: int, scale: Array) -> Array:
    shape = [1] * weights.ndim
    shape[axis] = -1
    return (weights * scale.reshape(shape)).astype(np.float32)


def balance(active: Array, wide: Array) -> Array:
    """Factors with a geometric mean of one that bring each channel's activations and weights to the same reach."""
    sound = (active > 0) & (wide > 0)
    if not sound.any():
        return np.ones(len(active))
    factors = np.ones(len(active))
    factors[sound] = np.sqrt(active[sound] / wide[sound])
    factors[sound] /= np.exp(np.mean(np.log(factors[sound])))
    return np.clip(factors, 1 / MOST, MOST)
