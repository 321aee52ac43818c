"""Operators as support tables judge them, and the pieces that a unit would run in one go."""

from collections.abc import Sequence
from typing import NamedTuple

from edgewright.formats.typed_graph import TypedGraph, TypedNode
from edgewright.runtimes.litert.dry_run import Planned
from edgewright.runtimes.support import Subject

INTEGERS = ("int8", "uint8", "int16")


class Item(NamedTuple):
    """An operator to be judged, with what it reads and makes."""

    subject: Subject
    reads: tuple[str, ...]
    makes: tuple[str, ...]


def as_item(graph: TypedGraph, node: TypedNode) -> Item:
    """A node of the source, or of a TFLite file."""
    names = [*node.inputs, *node.outputs[:1]]
    kinds = [graph.tensors.get(name) for name in names]
    known = [name for name in names if name]
    subject = Subject(
        name=node.name,
        op=node.op,
        domain=node.domain,
        attributes=node.attributes,
        dtypes=tuple(kind.dtype if kind else "" for kind in kinds),
        shapes=tuple(kind.shape if kind else () for kind in kinds),
        constant=tuple(kind.constant if kind else True for kind in kinds[: len(node.inputs)]),
        quantised=any(kind is not None and kind.dtype in INTEGERS for kind in kinds),
        problem=node.problem,
    )
    reads = tuple(name for name in node.inputs if name in known and not graph.tensors[name].constant)
    return Item(subject, reads, node.outputs)


def as_planned(position: int, one: Planned) -> Item:
    subject = Subject(
        name=" + ".join(one.sources) or f"{one.op}#{position}",
        op=one.op,
        domain="",
        attributes={},
        dtypes=one.dtypes,
        shapes=one.shapes,
        constant=one.constant[:-1],
        quantised=any(dtype in INTEGERS for dtype in one.dtypes),
    )
    return Item(subject, tuple(map(str, one.reads)), tuple(map(str, one.makes)))


def count_partitions(items: Sequence[Item], taken: Sequence[bool]) -> int:
    """Pieces that the unit runs in one go, as TFLite cuts a graph: take in turn all that can run here, then elsewhere.

    Source: `PartitionGraphIntoIndependentNodeSubsets`, tflite/graph_info.cc of google-ai-edge/LiteRT.
    """
    made_here = {name for item in items for name in item.makes}
    ready = {name for item in items for name in item.reads if name not in made_here}
    waiting = list(range(len(items)))
    pieces, here, idle = 0, True, 0
    while waiting and idle < 2:
        ran, waiting = run_piece(items, taken, waiting, ready, here=here)
        pieces += bool(ran) and here
        idle = 0 if ran else idle + 1
        here = not here
    return pieces


def run_piece(
    items: Sequence[Item], taken: Sequence[bool], waiting: Sequence[int], ready: set[str], *, here: bool
) -> tuple[int, list[int]]:
    """How many nodes of one side can run now, one behind the other, and what is left. The nodes are in order."""
    left, ran = [], 0
    for i in waiting:
        if taken[i] == here and ready.issuperset(items[i].reads):
            ready.update(items[i].makes)
            ran += 1
        else:
            left.append(i)
    return ran, left
