"""Mapping of XNNPACK's operators to the operators of the file.

The delegate runs whole partitions of the file's operators and reports its own operators in the order in which it
runs them, without a reference to the file. Two facts allow a mapping:

- the built-in kernels report their position in the file, so all other operators were delegated; LiteRT forms
  partitions by a fixed rule (`PartitionGraphIntoIndependentNodeSubsets` in `tflite/graph_info.cc`), repeated here
  and compared with the order of the events;
- within a partition both have the same order, so the cheapest alignment by kind of operator maps them.
  An event that two equally cheap alignments map to different operators is not mapped.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from edgewright.runtimes.litert.profiling.kinds import (
    ACTIVATIONS,
    CLAMP,
    CLAMPED,
    HELPERS_BEFORE,
    MAIN,
    PADS,
    REPEATED,
    VANISHING,
)
from edgewright.schema.model import GraphNode

# Largest distance of an alignment from the diagonal: nearly all stay close to it, and the rest get a second try.
BANDS = (8, 48)
HELPERS_LIMIT = 4
VANISHED, ORPHAN, LOST_COST = 1, 5, 12


class ExecutionSubset(NamedTuple):
    """Operators that one backend runs at once, by their positions in the file."""

    delegated: bool
    positions: tuple[int, ...]


class EventOwner(NamedTuple):
    """The operator of an event; `main` is false for an event that XNNPACK added around the operator itself."""

    operator: int
    main: bool


class AlignmentStep(NamedTuple):
    """A step of an alignment: from `begin` to `end` (operators, events), and the owners of its events."""

    begin: tuple[int, int]
    end: tuple[int, int]
    cost: int
    owners: tuple[tuple[int, EventOwner], ...]


def partition_graph(graph: Sequence[GraphNode], builtin: set[int]) -> list[ExecutionSubset]:
    """Return the subsets in execution order; the operators at `builtin` were not delegated."""
    produced = {tensor for node in graph for tensor in node.outputs}
    waiting = list(range(len(graph)))
    subsets = []
    while waiting:
        subset, waiting = _take_subset(graph, builtin, produced, waiting)
        if not subset.positions:
            break  # a cycle, with which no file runs
        subsets.append(subset)
    return subsets


def _take_subset(
    graph: Sequence[GraphNode], builtin: set[int], missing: set[str], waiting: list[int]
) -> tuple[ExecutionSubset, list[int]]:
    """Return all operators of one kind that can run now, and the rest; remove their outputs from `missing`."""
    taken: list[int] = []
    delegated: bool | None = None
    grew = True
    while grew:
        grew, rest = False, []
        for position in waiting:
            mine = position not in builtin
            ready = missing.isdisjoint(graph[position].inputs)
            if not ready or (delegated is not None and mine != delegated):
                rest.append(position)
                continue
            delegated, grew = mine, True
            taken.append(position)
            missing.difference_update(graph[position].outputs)
        waiting = rest
    return ExecutionSubset(bool(delegated), tuple(taken)), waiting


def align_events(heads: Sequence[str], operators: Sequence[str]) -> tuple[dict[int, EventOwner], set[int]]:
    """Map events to operators of one partition, both in execution order.

    Args:
        heads: the events' kinds, such as `Convolution`.
        operators: the operators' names, such as `CONV_2D`.

    Returns:
        The owners of events with a certain owner, and the operators that certainly have no event.
    """
    for band in BANDS:
        owners, skipped = _align_within(heads, operators, band)
        if len(owners) == len(heads):
            break
    return owners, skipped


def _align_within(heads: Sequence[str], operators: Sequence[str], band: int) -> tuple[dict[int, EventOwner], set[int]]:
    edges = list(_edges(heads, operators, band))
    costs = _costs(edges, (0, 0))
    rest = _costs(
        [edge._replace(begin=edge.end, end=edge.begin) for edge in reversed(edges)], (len(operators), len(heads))
    )
    total = costs[len(operators), len(heads)]
    best = [e for e in edges if costs.get(e.begin, LOST_COST**6) + e.cost + rest.get(e.end, LOST_COST**6) == total]
    return _certain_owners(best), _certain_skips(best)


def _certain_owners(best: Sequence[AlignmentStep]) -> dict[int, EventOwner]:
    claims: dict[int, set[EventOwner | None]] = {}
    for edge in best:
        for event, owner in edge.owners or _orphan(edge):
            claims.setdefault(event, set()).add(owner)
    certain = {event: owners.pop() for event, owners in claims.items() if len(owners) == 1}
    return {event: owner for event, owner in certain.items() if owner is not None}


def _orphan(edge: AlignmentStep) -> tuple[tuple[int, None], ...]:
    return ((edge.begin[1], None),) if edge.begin[0] == edge.end[0] else ()


def _certain_skips(best: Sequence[AlignmentStep]) -> set[int]:
    skipped = {edge.begin[0] for edge in best if edge.begin[1] == edge.end[1]}
    return skipped - {owner.operator for edge in best for _, owner in edge.owners}


def _costs(edges: Sequence[AlignmentStep], start: tuple[int, int]) -> dict[tuple[int, int], int]:
    """Return the smallest costs from `start`; the cost of each edge's begin must be known before the edge."""
    costs = {start: 0}
    for edge in edges:
        if (known := costs.get(edge.begin)) is not None:
            cost = known + edge.cost
            if cost < costs.get(edge.end, cost + 1):
                costs[edge.end] = cost
    return costs


def _edges(heads: Sequence[str], operators: Sequence[str], band: int) -> Iterator[AlignmentStep]:
    """Yield all steps near the diagonal, in order of operators and then events."""
    slope = len(heads) / max(len(operators), 1)
    for j in range(len(operators) + 1):
        middle = int(j * slope)
        for i in range(max(0, middle - band), min(len(heads), middle + band) + 1):
            if i < len(heads):
                yield AlignmentStep((j, i), (j, i + 1), ORPHAN, ())
            if j < len(operators):
                yield AlignmentStep((j, i), (j + 1, i), VANISHED if operators[j] in VANISHING else LOST_COST, ())
                yield from _iterate_owner_steps(heads, operators[j], j, i)


def _iterate_owner_steps(heads: Sequence[str], operator: str, j: int, i: int) -> Iterator[AlignmentStep]:
    """Yield the possible steps of operator `j` with events from `i` on: helpers, the operator itself, helpers."""
    kinds = MAIN.get(operator, ())
    for before in range(HELPERS_LIMIT + 1):
        at = i + before
        if at >= len(heads) or (before and heads[at - 1] not in HELPERS_BEFORE.get(operator, ())):
            return
        end = at
        while end < len(heads) and heads[end] in kinds and (end == at or operator in REPEATED):
            end += 1
            yield _make_owner_step(j, i, at, end, end)
            if operator in CLAMPED and end < len(heads) and heads[end] == CLAMP:
                yield _make_owner_step(j, i, at, end, end + 1)


def _make_owner_step(j: int, begin: int, main: int, main_end: int, end: int) -> AlignmentStep:
    owners = tuple((event, EventOwner(j, main=main <= event < main_end)) for event in range(begin, end))
    return AlignmentStep((j, begin), (j + 1, end), (main - begin) + (end - main_end), owners)


def assign_skipped_operators(
    graph: Sequence[GraphNode], positions: Sequence[int], skipped: set[int], sources: Mapping[int, list[int]]
) -> None:
    """Map a skipped padding to the operator that reads it, and a skipped activation to the one before it.

    XNNPACK fuses only these into their neighbors (`src/subgraph.c`, `xnn_subgraph_fusion`). `sources` maps an
    operator's position in the partition to the positions in its row, and is extended.
    """
    for j in sorted(skipped):
        node = graph[positions[j]]
        for k, others in sources.items():
            other = graph[positions[k]]
            reads = node.op in PADS and not set(node.outputs).isdisjoint(other.inputs)
            follows = node.op in ACTIVATIONS and not set(node.inputs).isdisjoint(other.outputs)
            if reads or follows:
                others.append(positions[j])
