"""How many units each group keeps: the least is lost for what is gained."""

from collections.abc import Callable, Mapping
from math import ceil, gcd
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgewright.compress.pruning.cut import kept_units
from edgewright.compress.pruning.groups import Group, Groups
from edgewright.compress.pruning.importance import Scores
from edgewright.errors import GateFailed
from edgewright.formats.macs import count_macs
from edgewright.formats.typed_graph import TypedGraph

Keep = dict[str, NDArray[np.int64]]
LEAST = 0.1  # of a group's units stay whatever the budget


class Chunk(NamedTuple):
    """Units that go together, and how many then stay in the group."""

    group: str
    left: int


def step(group: Group, multiple: int) -> int:
    """Units that make up `multiple` channels of the layer: whole heads are counted by their channels."""
    width = next(member.indices.shape[1] for member in group.members if member.role == "out")
    return multiple // gcd(multiple, width)


def keep_best(scores: Scores, widths: Mapping[str, int]) -> Keep:
    """The units with the highest scores, as many as `widths` says."""
    return {name: np.sort(np.argsort(-scores[name], kind="stable")[:width]) for name, width in widths.items()}


def order_chunks(
    groups: Groups, scores: Scores, gains: Mapping[str, float], multiple: int, least: float
) -> list[Chunk]:
    """Every chunk that may go, the cheapest first: what is lost over what is gained.

    Lost is the score of the chunk's units, times what the whole group's scores are to those that stay: the emptier a
    group is, the dearer its units. Groups whose units gain nothing are left alone.
    """
    found: list[tuple[float, int, int, Chunk]] = []
    for position, group in enumerate(groups.groups):
        if gains.get(group.name, 0) <= 0:
            continue
        size = step(group, multiple)
        rising = np.sort(scores[group.name])
        total, floor = rising.sum(), max(min(size, group.size), ceil(least * group.size))
        left, price = group.size, 0.0
        while (after := (left - 1) // size * size) >= floor:
            stays = rising[group.size - after :].sum()
            lost = rising[group.size - left : group.size - after].sum() * (total / stays if stays else 1.0)
            price = max(price, lost / (gains[group.name] * (left - after)))
            found.append((price, position, -after, Chunk(group.name, after)))
            left = after
    return [chunk for *_, chunk in sorted(found)]


def choose(
    groups: Groups,
    scores: Scores,
    gains: Mapping[str, float],
    measure: Callable[[Keep], float],
    most: float,
    *,
    multiple: int = 8,
    least: float = LEAST,
    words: Callable[[float], str] = "{:,.0f}".format,
) -> Keep:
    """As few chunks as bring what `measure` says down to `most`, in the order of `order_chunks`.

    Args:
        gains: by group what one unit gains, in any unit: MACs, bytes, measured microseconds.
        measure: of a choice; it is called for about log2 of the number of chunks, and must fall with them.
        multiple: of channels, that every layer's width is rounded to.
        least: share of each group that stays.
        words: tells a measure in an error.

    Returns:
        By group the units that stay; groups that stay whole are left out.

    Raises:
        GateFailed: with every group at its smallest it is still more than `most`.
    """
    chunks = order_chunks(groups, scores, gains, multiple, least)

    def keep(count: int) -> Keep:
        return keep_best(scores, {chunk.group: chunk.left for chunk in chunks[:count]})

    low, high = 0, len(chunks)
    if measure({}) <= most:
        return {}
    if (best := measure(keep(high))) > most:
        raise GateFailed(
            f"pruning comes down to {words(best)}, not to {words(most)}",
            f"it was {words(measure({}))}; every group then has as few channels as it may: {least:.0%}, in {multiple}s",
            "ask for less, or start from a smaller model",
        )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if measure(keep(middle)) <= most else (middle, high)
    return keep(high)


# What a choice costs, counted exactly and without cutting


def shrink_graph(graph: TypedGraph, groups: Groups, keep: Mapping[str, NDArray[np.int64]]) -> TypedGraph:
    """The typed graph of the model as `cut_graph` would leave it; for `formats.costs.measure_costs`."""
    stays = kept_units(groups, keep)
    tensors = dict(graph.tensors)
    for name, axes in groups.units.items():
        if name in tensors:
            shape = tuple(int(stays[axis].sum()) for axis in axes)
            tensors[name] = msgspec.structs.replace(tensors[name], shape=shape)
    return msgspec.structs.replace(graph, tensors=tensors)


def total_macs(graph: TypedGraph) -> float:
    """Multiply-accumulates; nodes whose sizes are not known count none."""
    return float(sum(count_macs(graph, node) or 0 for node in graph.computing()))


def total_bytes(graph: TypedGraph) -> float:
    """Bytes of all stored constants."""
    return float(sum(kind.bytes() or 0 for kind in graph.tensors.values() if kind.stored))


def gain_per_unit(graph: TypedGraph, groups: Groups, total: Callable[[TypedGraph], float]) -> dict[str, float]:
    """By group, what the total falls by with one of its units, on average over the half of them."""
    whole = total(graph)
    gains = {}
    for group in groups.groups:
        half = np.arange(group.size - group.size // 2)
        gains[group.name] = (whole - total(shrink_graph(graph, groups, {group.name: half}))) / (group.size // 2)
    return gains
