"""Costs of a model's operators on several units of a device, and of moving tensors between the units.

A cost profile (edgewright.costs/1) is data: `benchmark` measures it, or a user writes it. Times are in milliseconds.
"""

import math
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter

import msgspec
from msgspec import Struct

from edgewright.errors import DataError

COSTS_SCHEMA = "edgewright.costs/1"
_ADVICE = "docs/place.md describes the file (edgewright.costs/1)"


class CostUnit(Struct, frozen=True, kw_only=True):
    """A processor of the device; memory for its nodes, None without a limit."""

    name: str
    memory_bytes: float | None = None


class CostNode(Struct, frozen=True, kw_only=True):
    """An operator: its time by unit, None where the unit does not support it, and what it occupies there."""

    name: str
    ms: dict[str, float | None]
    memory_bytes: float = 0.0


class CostEdge(Struct, frozen=True, kw_only=True, rename={"source": "from", "target": "to"}):
    """A tensor from the node that makes it to one that reads it."""

    source: str
    target: str
    tensor: str = ""
    bytes: float = 0.0


class CostLink(Struct, frozen=True, kw_only=True, rename={"source": "from", "target": "to"}):
    """How fast a tensor moves from one unit to another; a missing `bytes_per_ms` is a link without a limit."""

    source: str
    target: str
    latency_ms: float = 0.0
    bytes_per_ms: float | None = None


class CostProfile(Struct, frozen=True, kw_only=True):
    """Units, nodes, edges and links. A missing link is forbidden; on the same unit a tensor costs nothing."""

    schema: str = COSTS_SCHEMA
    units: tuple[CostUnit, ...]
    nodes: tuple[CostNode, ...]
    edges: tuple[CostEdge, ...] = ()
    links: tuple[CostLink, ...] = ()


def read_costs(content: bytes, name: str) -> CostProfile:
    """Return the profile of a file, its nodes sorted so that every tensor is made before it is read.

    Raises DataError for a file that is no profile: a cycle, a negative cost, an unknown or repeated name.
    """
    try:
        profile = msgspec.json.decode(content, type=CostProfile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{name} is not a cost profile", str(error), _ADVICE) from None
    problem = next(_find_problems(profile), "")
    if problem:
        raise DataError(f"{name} is not a usable cost profile", problem, _ADVICE)
    nodes = {one.name: one for one in profile.nodes}
    return msgspec.structs.replace(profile, nodes=tuple(nodes[one] for one in _sort(profile, name)))


def _sort(profile: CostProfile, name: str) -> list[str]:
    graph: dict[str, set[str]] = {one.name: set() for one in profile.nodes}
    for edge in profile.edges:
        graph[edge.target].add(edge.source)
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        cycle = " → ".join(error.args[1])
        raise DataError(f"{name} has a cycle", cycle, "remove one of these edges") from None


def _find_problems(profile: CostProfile) -> Iterator[str]:
    if profile.schema != COSTS_SCHEMA:
        yield f"its schema is {profile.schema}, not {COSTS_SCHEMA}"
    units, nodes = [one.name for one in profile.units], [one.name for one in profile.nodes]
    for what, names in (("units", units), ("nodes", nodes)):
        if not names:
            yield f"it has no {what}"
        yield from (f"{what} has {one} twice" for one in names if names.count(one) > 1 and len(names) < 10_000)
        if len(set(names)) < len(names):
            yield f"{what} has a name twice"
    yield from _find_unknown(profile, set(units), set(nodes))
    for where, value in _list_numbers(profile):
        if not (math.isfinite(value) and value >= 0):
            yield f"{where} is {value:g}; a cost is a number of 0 or more"
    yield from (
        f"the link {one.source} → {one.target} has the speed 0" for one in profile.links if one.bytes_per_ms == 0
    )
    pairs = [(one.source, one.target) for one in profile.links]
    if len(set(pairs)) < len(pairs):
        yield "links has a pair of units twice"
    sizes: dict[tuple[str, str], float] = {}
    for edge in profile.edges:
        if sizes.setdefault((edge.source, edge.tensor), edge.bytes) != edge.bytes:
            yield f"the tensor {edge.tensor or 'without a name'} of {edge.source} has two sizes"


def _find_unknown(profile: CostProfile, units: set[str], nodes: set[str]) -> Iterator[str]:
    for node in profile.nodes:
        yield from (f"{node.name} has a time on {one}, which is no unit" for one in node.ms if one not in units)
    for edge in profile.edges:
        yield from (f"an edge names {one}, which is no node" for one in (edge.source, edge.target) if one not in nodes)
    for link in profile.links:
        yield from (f"a link names {one}, which is no unit" for one in (link.source, link.target) if one not in units)


def _list_numbers(profile: CostProfile) -> Iterable[tuple[str, float]]:
    for unit in profile.units:
        if unit.memory_bytes is not None:
            yield f"memory_bytes of {unit.name}", unit.memory_bytes
    for node in profile.nodes:
        yield f"memory_bytes of {node.name}", node.memory_bytes
        yield from ((f"the time of {node.name} on {key}", value) for key, value in node.ms.items() if value is not None)
    for edge in profile.edges:
        yield f"the size of {edge.tensor or 'a tensor'} from {edge.source}", edge.bytes
    for link in profile.links:
        yield f"latency_ms of {link.source} → {link.target}", link.latency_ms
        if link.bytes_per_ms is not None:
            yield f"bytes_per_ms of {link.source} → {link.target}", link.bytes_per_ms
