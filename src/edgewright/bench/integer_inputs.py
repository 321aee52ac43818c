"""Values that the integer inputs of a model may have, from the operators that read them."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from msgspec import Struct

from edgewright.formats.neighbors import find_readers, list_distinct_inputs
from edgewright.formats.typed_graph import TypedGraph, TypedNode
from edgewright.schema.arrays import Array

DTYPES = ("int32", "int64", "uint32", "uint64")
# Position of the indices among the inputs.
INDEXING = {"Gather": 1, "GatherElements": 1, "GatherND": 1, "ScatterElements": 1, "ScatterND": 1, "OneHot": 0}
SCATTERING = ("ScatterElements", "ScatterND")
MOVING = (
    *("Identity", "Cast", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Expand", "Tile", "Slice"),
    *("Split", "Concat", "Gather", "GatherElements", "GatherND"),
)
ARITHMETIC = (
    *("Add", "Sub", "Mul", "Div", "Mod", "Abs", "Neg", "Sign", "Min", "Max", "Sum"),
    *("ReduceSum", "ReduceMax", "ReduceMin", "CumSum"),
)
COMPARING = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
EXACT_IN_FLOAT = 2**24  # float32 represents all integers up to this one
LARGEST = {"beyond-24-bits": 2**30, "beyond-31-bits": 3_000_000_000}  # the product of two stays below 2^63


class IntegerRole(Struct, frozen=True, kw_only=True):
    """How a model reads an integer input.

    Attributes:
        sizes: of the axes that it indexes, one for all elements or one for each entry of its last axis; empty for
            numbers that arithmetic reads.
        distinct: axis along which the indices must differ; -1 if they need not.
        divides: zero is not allowed.
    """

    sizes: tuple[int, ...] = ()
    distinct: int = -1
    divides: bool = False


class _Use(Struct, frozen=True):
    """One end of the paths from an input: the role that it requires, or None if only 0 and 1 are safe."""

    role: IntegerRole | None
    computes: bool = False


def find_roles(graph: TypedGraph) -> dict[str, IntegerRole]:
    """Return the roles of the integer inputs that are indices or numbers; others are masks, sizes or unknown."""
    readers = find_readers(graph.nodes, list_distinct_inputs)
    roles = {}
    for name in graph.inputs:
        if graph.tensors[name].dtype in DTYPES and not any(node.bodies for node in graph.nodes):
            role = _join_uses(_follow(name, graph, readers))
            if role is not None:
                roles[name] = role
    return roles


def _follow(start: str, graph: TypedGraph, readers: Mapping[str, Sequence[TypedNode]]) -> list[_Use]:
    """Return the uses of an input, through operators that move its elements and through arithmetic."""
    uses: list[_Use] = []
    left, seen = [(start, False)], set()
    while left:
        name, computed = left.pop()
        if (name, computed) in seen:
            continue
        seen.add((name, computed))
        for node in readers.get(name, ()):
            position = node.inputs.index(name)
            if INDEXING.get(node.op) == position:
                uses.append(_Use(None if computed else _read_index(node, start, name, graph)))
            elif node.op in COMPARING:
                uses.append(_Use(IntegerRole()))
            elif node.op in ARITHMETIC or (node.op in MOVING and (position == 0 or node.op == "Concat")):
                computes = node.op in ARITHMETIC
                uses.append(_Use(IntegerRole(divides=node.op in ("Div", "Mod") and position == 1), computes))
                kept = all(graph.tensors[one].dtype in DTYPES for one in node.outputs if one)
                left += [(one, computed or computes) for one in node.outputs] if kept else []
                uses += [] if kept else [_Use(None)]
            else:
                uses.append(_Use(None))
    return uses


def _join_uses(uses: Sequence[_Use]) -> IntegerRole | None:
    """Return the role that fits all uses; None if only 0 and 1 do."""
    roles = [use.role for use in uses if use.role is not None]
    indices = [role for role in roles if role.sizes]
    if len(roles) != len(uses) or not (indices or any(use.computes for use in uses)):
        return None
    sizes = {role.sizes for role in indices}
    least = (min(size for one in sizes for size in one),) if len(sizes) > 1 else next(iter(sizes), ())
    distinct = max((role.distinct for role in indices), default=-1)
    return IntegerRole(sizes=least, distinct=distinct, divides=any(role.divides for role in roles))


def _read_index(node: TypedNode, start: str, name: str, graph: TypedGraph) -> IntegerRole | None:
    """Return the role of the indices `name`, which are elements of the input `start`; None if a size is unknown."""
    data, own = graph.tensors[node.inputs[0]].shape, graph.tensors[name].shape
    result = graph.tensors[node.outputs[0]].shape
    axis = node.attributes.get("axis", -1 if node.op == "OneHot" else 0)
    sizes: Sequence[Any] = ()
    if node.op == "OneHot":
        sizes = (result[axis],) if result else ()
    elif data and own and node.op in ("GatherND", "ScatterND") and isinstance(own[-1], int):
        first = node.attributes.get("batch_dims", 0)
        sizes = data[first : first + own[-1]]
    elif data and node.op not in ("GatherND", "ScatterND"):
        sizes = (data[axis],)
    known = tuple(size for size in sizes if isinstance(size, int) and size > 0)
    if not known or len(known) != len(sizes):
        return None
    if own != graph.tensors[start].shape:  # the last axis may be another one
        known = (min(known),)
    if node.op not in SCATTERING:
        return IntegerRole(sizes=known)
    if own != graph.tensors[start].shape or own is None:
        return None
    count = own[axis] if node.op == "ScatterElements" else prod(size for size in own[:-1] if isinstance(size, int))
    fits = isinstance(count, int) and count <= prod(known)
    return IntegerRole(sizes=known, distinct=axis % len(own) if node.op == "ScatterElements" else 0) if fits else None


def draw_integers(
    shape: tuple[int, ...], dtype: "np.dtype[Any]", role: IntegerRole, kind: str, random: np.random.Generator
) -> Array:
    """Return an array for an integer input: indices with the last row among them, or numbers of both signs.

    Args:
        kind: `negative` counts some indices from the end; `beyond-24-bits` and `beyond-31-bits` make large numbers.
    """
    if not role.sizes:
        return _draw_numbers(shape, dtype, role, kind, random)
    sizes = np.array(role.sizes)
    array = _draw_distinct(shape, role, random) if role.distinct >= 0 else random.integers(0, sizes, shape)
    if role.distinct < 0 and array.size:
        array.reshape(-1, len(sizes))[0] = sizes - 1
    if kind == "negative" and dtype.kind == "i":
        array -= np.where(random.random(shape) < 0.5, sizes, 0)
    return array.astype(dtype)


def _draw_distinct(shape: tuple[int, ...], role: IntegerRole, random: np.random.Generator) -> Array:
    if len(role.sizes) > 1 or (shape[-1] == 1 and role.distinct == 0):  # one index with several parts for each row
        rows = random.permutation(prod(role.sizes))[: prod(shape[:-1])]
        return np.stack(np.unravel_index(rows, role.sizes), -1).reshape(shape)
    order = random.permutation(role.sizes[0])[: shape[role.distinct]]
    return np.broadcast_to(order.reshape(-1, *[1] * (len(shape) - role.distinct - 1)), shape).copy()


def _draw_numbers(
    shape: tuple[int, ...], dtype: "np.dtype[Any]", role: IntegerRole, kind: str, random: np.random.Generator
) -> Array:
    signs = random.choice((-1, 1), shape) if dtype.kind == "i" else 1
    if kind in LARGEST and dtype.itemsize == (8 if kind == "beyond-31-bits" else dtype.itemsize):
        low = 2**31 if kind == "beyond-31-bits" else EXACT_IN_FLOAT
        return ((random.integers(low, LARGEST[kind], shape) | 1) * signs).astype(dtype)
    array = np.where(random.random(shape) < 0.5, random.integers(0, 2, shape), random.integers(0, 101, shape) * signs)
    return np.where(role.divides & (array == 0), 1, array).astype(dtype)
