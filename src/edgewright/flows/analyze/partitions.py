"""Operators as support tables classify them, and the partitions that a unit would run."""

from collections.abc import Sequence
from typing import NamedTuple

from edgewright.formats.typed_graph import TypedGraph, TypedNode
from edgewright.runtimes.litert.dry_run import PlannedOperator
from edgewright.runtimes.support import CheckedOperator

INTEGERS = ("int8", "uint8", "int16")


class OperatorItem(NamedTuple):
    """An operator to check, with the tensors that it reads and writes."""

    subject: CheckedOperator
    reads: tuple[str, ...]
    makes: tuple[str, ...]


def make_item(graph: TypedGraph, node: TypedNode) -> OperatorItem:
    """Return the item for a node of the source or of a TFLite file."""
    names = [*node.inputs, *node.outputs[:1]]
    kinds = [graph.tensors.get(name) for name in names]
    subject = CheckedOperator(
        name=node.name,
        op=node.op,
        domain=node.domain,
        attributes=node.attributes,
        dtypes=tuple(kind.dtype if kind else "" for kind in kinds),
        shapes=tuple(kind.shape if kind else () for kind in kinds),
        constant=tuple(kind.constant if kind else True for kind in kinds[: len(node.inputs)]),
        quantized=any(kind is not None and kind.dtype in INTEGERS for kind in kinds),
        problem=node.problem,
    )
    reads = tuple(name for name in node.inputs if name and name in graph.tensors and not graph.tensors[name].constant)
    return OperatorItem(subject, reads, node.outputs)


def make_planned_item(position: int, one: PlannedOperator) -> OperatorItem:
    subject = CheckedOperator(
        name=" + ".join(one.sources) or f"{one.op}#{position}",
        op=one.op,
        domain="",
        attributes={},
        dtypes=one.dtypes,
        shapes=one.shapes,
        constant=one.constant[:-1],
        quantized=any(dtype in INTEGERS for dtype in one.dtypes),
    )
    return OperatorItem(subject, tuple(map(str, one.reads)), tuple(map(str, one.makes)))


class LinkedOperators(NamedTuple):
    """Items with their dependencies: for each position the number of items it waits for, and its consumers."""

    items: tuple[OperatorItem, ...]
    waits: tuple[int, ...]
    enables: tuple[tuple[int, ...], ...]


def link_operators(items: Sequence[OperatorItem]) -> LinkedOperators:
    maker = {name: position for position, item in enumerate(items) for name in item.makes if name}
    waits, enables = [0] * len(items), [list[int]() for _ in items]
    for position, item in enumerate(items):
        for before in {maker[name] for name in item.reads if name in maker}:
            waits[position] += 1
            enables[before].append(position)
    return LinkedOperators(tuple(items), tuple(waits), tuple(map(tuple, enables)))


def count_partitions(linked: LinkedOperators, taken: Sequence[bool]) -> int:
    """Return the number of partitions that the unit runs, by TFLite's algorithm.

    The algorithm alternates: it takes all operators that can run on the unit now, then all that can run elsewhere.
    Source: `PartitionGraphIntoIndependentNodeSubsets`, tflite/graph_info.cc of google-ai-edge/LiteRT.
    """
    missing = list(linked.waits)
    ready: dict[bool, list[int]] = {True: [], False: []}
    for position, count in enumerate(missing):
        if not count:
            ready[taken[position]].append(position)
    pieces, here = 0, True
    while ready[True] or ready[False]:
        pieces += here and bool(ready[here])
        while ready[here]:
            for position in linked.enables[ready[here].pop()]:
                missing[position] -= 1
                if not missing[position]:
                    ready[taken[position]].append(position)
        here = not here
    return pieces
