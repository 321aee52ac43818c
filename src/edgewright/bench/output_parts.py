"""Parts of a model's outputs that a Concat joins, such as the boxes and the scores of a detector."""

from collections.abc import Mapping, Sequence
from math import prod

from msgspec import Struct

from edgewright.formats.neighbors import find_producers
from edgewright.formats.typed_graph import Size, TypedGraph, TypedNode

KEEPING = (
    *("Identity", "Cast", "Sigmoid", "Relu", "Clip", "Mul", "Add", "Sub", "Div"),
    *("QuantizeLinear", "DequantizeLinear"),
)
RESHAPING = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
CARRYING = (*KEEPING, *RESHAPING, "Transpose")
MAX_PARTS = 64
MAX_DEPTH = 64  # operators between an output and the Concat


class OutputPart(Struct, frozen=True):
    """A block of an output.

    Attributes:
        name: of the tensor that the Concat reads.
        bounds: first entry and end along an axis, by axis; other axes are whole.
    """

    name: str
    bounds: dict[int, tuple[int, int]]

    def slices(self, rank: int) -> tuple[slice, ...]:
        """Return the index of the part in stacked outputs, which have one more leading axis than `rank`."""
        return (slice(None), *(slice(*self.bounds.get(axis, (0, None))) for axis in range(rank)))


def find_parts(graph: TypedGraph) -> dict[str, tuple[OutputPart, ...]]:
    """Return the parts of the outputs that have two or more."""
    producers = find_producers(graph.nodes)
    parts = {name: tuple(_find_parts(name, graph, producers, MAX_DEPTH)) for name in graph.outputs}
    return {name: own for name, own in parts.items() if 1 < len(own) <= MAX_PARTS}


def _find_parts(name: str, graph: TypedGraph, producers: Mapping[str, TypedNode], depth: int) -> Sequence[OutputPart]:
    """Return the parts of a tensor; one without bounds if it has none."""
    whole = [OutputPart(name, {})]
    node = producers.get(name)
    if node is None or not depth:
        return whole
    if node.op == "Concat":
        return _join_parts(node, graph, producers, depth) or whole
    carried = [one for one in node.inputs if one and not graph.tensors[one].constant]
    if node.op not in CARRYING or len(carried) != 1:
        return whole
    inner = _find_parts(carried[0], graph, producers, depth - 1)
    moved = [_move(part, node, graph.tensors[carried[0]].shape, graph.tensors[name].shape) for part in inner]
    known = [part for part in moved if part is not None]
    return known if 1 < len(known) == len(inner) else whole


def _join_parts(node: TypedNode, graph: TypedGraph, producers: Mapping[str, TypedNode], depth: int) -> list[OutputPart]:
    """Return the parts of a Concat's inputs as parts of its output; none if a size or the axis is unknown."""
    parts, start = [], 0
    axis = node.attributes.get("axis")
    for name in node.inputs:
        shape = graph.tensors[name].shape
        if shape is None or not isinstance(axis, int) or not -len(shape) <= axis < len(shape):
            return []
        size = shape[axis]
        if not isinstance(size, int):
            return []
        axis %= len(shape)
        for part in _find_parts(name, graph, producers, depth - 1):
            low, high = part.bounds.get(axis, (0, size))
            parts.append(OutputPart(part.name, {**part.bounds, axis: (start + low, start + high)}))
        start += size
    return parts


def _move(
    part: OutputPart, node: TypedNode, before: Sequence[Size] | None, after: Sequence[Size] | None
) -> OutputPart | None:
    """Return the part behind an operator; None if it is no block there."""
    if before is None or after is None or not all(isinstance(size, int) for size in (*before, *after)):
        return None
    if node.op == "Transpose":
        order = node.attributes.get("perm", range(len(before))[::-1])
        return OutputPart(part.name, {list(order).index(axis): own for axis, own in part.bounds.items()})
    if node.op in KEEPING:
        return part if list(before) == list(after) else None
    bounds = {_match_axis(axis, before, after): own for axis, own in part.bounds.items()}
    return None if -1 in bounds else OutputPart(part.name, bounds)


def _match_axis(axis: int, before: Sequence[Size], after: Sequence[Size]) -> int:
    """Return the axis of the same size and stride behind a Reshape; -1 if there is none."""

    def stride(sizes: Sequence[Size], position: int) -> int:
        return prod(size for size in sizes[position + 1 :] if isinstance(size, int))

    wanted = (before[axis], stride(before, axis))
    return next((i for i, size in enumerate(after) if (size, stride(after, i)) == wanted), -1)
