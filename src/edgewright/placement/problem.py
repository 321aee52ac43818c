"""A placement as arrays: times, transfers and memory by number instead of by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.errors import DataError
from edgewright.placement.costs import CostProfile

Floats = NDArray[np.float64]
Units = Sequence[int]  # the unit of each node


@dataclass(frozen=True)
class Transfer:
    """A tensor: the node that makes it, those that read it, and the time between each two units, inf if forbidden."""

    source: int
    targets: tuple[int, ...]
    ms: Floats  # [unit, unit]


@dataclass(frozen=True)
class Problem:
    """What is to be placed.

    Attributes:
        ms: time [node, unit]; inf where a unit does not support the node.
        memory: bytes of each node. limits: bytes of each unit; inf without a limit.
    """

    nodes: tuple[str, ...]
    units: tuple[str, ...]
    ms: Floats
    transfers: tuple[Transfer, ...]
    memory: Floats
    limits: Floats

    def compute_total(self, placed: Units) -> float:
        """Return the milliseconds of an assignment; inf if it is not possible."""
        own = self.ms[np.arange(len(self.nodes)), list(placed)]
        occupied = np.bincount(placed, weights=self.memory, minlength=len(self.units))
        if (occupied > self.limits * (1 + 1e-12)).any():
            return float("inf")
        return float(own.sum() + sum(ms for *_, ms in self.list_crossings(placed)))

    def list_crossings(self, placed: Units) -> list[tuple[Transfer, int, int, float]]:
        """Return each tensor that changes its unit, once per unit that reads it: tensor, from, to, milliseconds."""
        found: list[tuple[Transfer, int, int, float]] = []
        for one in self.transfers:
            source = placed[one.source]
            others = sorted({placed[target] for target in one.targets} - {source})
            found += [(one, source, unit, float(one.ms[source, unit])) for unit in others]
        return found


def make_problem(profile: CostProfile, units: Sequence[str] = ()) -> Problem:
    """Return the arrays of a profile, for all or some of its units. Raises DataError for an unknown unit."""
    known = {one.name: one for one in profile.units}
    names = tuple(units) or tuple(known)
    for one in names:
        if one not in known:
            raise DataError(f"the profile has no unit {one}", f"it has {', '.join(known)}", "choose some of them")
    order = {one.name: number for number, one in enumerate(profile.nodes)}
    links = _read_links(profile, names)
    readers: dict[tuple[str, str], list[int]] = {}
    sizes = {(edge.source, edge.tensor): edge.bytes for edge in profile.edges}
    for edge in profile.edges:
        readers.setdefault((edge.source, edge.tensor), []).append(order[edge.target])
    transfers = tuple(
        Transfer(order[key[0]], tuple(dict.fromkeys(found)), links[0] + sizes[key] * links[1])
        for key, found in readers.items()
    )
    rows = [[_get_ms(one.ms.get(name)) for name in names] for one in profile.nodes]
    limits = [known[one].memory_bytes for one in names]
    return Problem(
        nodes=tuple(order),
        units=names,
        ms=np.array(rows, dtype=float).reshape(len(order), len(names)),
        transfers=transfers,
        memory=np.array([one.memory_bytes for one in profile.nodes]),
        limits=np.array([_get_ms(one) for one in limits]),
    )


def _get_ms(value: float | None) -> float:
    return float("inf") if value is None else value


def _read_links(profile: CostProfile, names: Sequence[str]) -> Any:
    """Return latency and milliseconds per byte between each two units."""
    latency = np.full((len(names), len(names)), np.inf)
    per_byte = np.zeros_like(latency)
    np.fill_diagonal(latency, 0.0)
    place = {name: number for number, name in enumerate(names)}
    for link in profile.links:
        if link.source in place and link.target in place and link.source != link.target:
            pair = place[link.source], place[link.target]
            latency[pair] = link.latency_ms
            per_byte[pair] = 1 / link.bytes_per_ms if link.bytes_per_ms else 0.0
    return latency, per_byte


def place_greedily(problem: Problem) -> list[int] | None:
    """Return the assignment that takes the cheapest unit for one node after the other; None if it comes to no end.

    The cost of a unit is the node's time there, and that of moving its inputs to it: what a delegate can know.
    """
    inputs: dict[int, list[Transfer]] = {}
    for one in problem.transfers:
        for target in one.targets:
            inputs.setdefault(target, []).append(one)
    placed: list[int] = []
    left = problem.limits.copy()
    for node in range(len(problem.nodes)):
        costs = problem.ms[node] + sum((one.ms[placed[one.source]] for one in inputs.get(node, ())), np.zeros(1))
        costs = np.where(problem.memory[node] <= left, costs, np.inf)
        unit = int(np.argmin(costs))
        if not np.isfinite(costs[unit]):
            return None
        placed.append(unit)
        left[unit] -= problem.memory[node]
    return placed
