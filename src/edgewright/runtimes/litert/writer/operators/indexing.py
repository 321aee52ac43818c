"""Operators that read or write elements at given indices."""

import numpy as np

from edgewright.runtimes.litert.writer.build import Builder
from edgewright.runtimes.litert.writer.graph import Node, OperatorRejected
from edgewright.runtimes.litert.writer.operators.elementwise import copy_if_unchanged
from edgewright.runtimes.litert.writer.passes.layout import drop_axes, make_plain, move_axis_last, permute_shape
from edgewright.runtimes.litert.writer.program import Tensor
from edgewright.schema.arrays import Array

# Operators that combine updates with existing values; SCATTER_ND itself sums updates of one index.
_REDUCTION_KERNELS = {"add": "ADD", "mul": "MUL", "max": "MAXIMUM", "min": "MINIMUM"}
_MOST_ROUNDS = 16


def _take_indices(b: Builder, name: str, size: int) -> Tensor:
    """Return the indices with negative ones, which count from the end, replaced."""
    data = b.constant(name)
    if data is not None:
        if data.size and (data.min() < -size or data.max() >= size):
            raise OperatorRejected("an index is outside its axis")
        return b.add_constant((data % size).astype(np.int32), name)
    indices = b.cast(b.take(name), np.int32)
    return b.run("FLOOR_MOD", [indices, b.number(size, indices)], indices.shape)


def gather(b: Builder, node: Node) -> None:
    """Write GATHER along one axis."""
    source, places, target = node.inputs[0], node.inputs[1], node.outputs[0]
    axis = int(node.attributes.get("axis", 0)) % b.rank(source)
    if _gather_slice(b, source, places, axis, target):
        return
    indices = _take_indices(b, places, b.shape(source)[axis])
    options = {"axis": axis, "batchDims": 0}
    b.emit("GATHER", [b.take(source), indices], [b.make(target)], options)


def _gather_slice(b: Builder, source: str, places: str, axis: int, target: str) -> bool:
    """Write SLICE in the stored layout for constant consecutive indices."""
    data, size = b.constant(places), b.shape(source)[axis]
    if data is None or not data.size or data.min() < -size or data.max() >= size:
        return False
    flat = data.reshape(-1) % size
    if not np.array_equal(flat, np.arange(flat[0], flat[0] + flat.size)) or b.constant(source) is not None:
        return False
    layout = b.layout(source) if data.ndim < 2 else make_plain(b.rank(source))
    x, at = b.take(source, layout), layout.index(axis)
    begin = [int(flat[0]) if place == at else 0 for place in range(len(layout))]
    shape = tuple(flat.size if place == at else length for place, length in enumerate(x.shape))
    made = b.run("SLICE", [x, b.ints(begin), b.ints(shape)], shape, scales=x.scales)
    if data.ndim != 1:
        layout = drop_axes(layout, {axis}) if data.ndim == 0 else make_plain(b.rank(target))
        made = b.reshape(made, permute_shape(b.shape(target), layout))
    b.place(target, made, layout)
    return True


def gather_elements(b: Builder, node: Node) -> None:
    """Write GATHER_ND with the full index of each element, for constant indices."""
    source, target = node.inputs[0], node.outputs[0]
    shape = b.shape(source)
    axis = int(node.attributes.get("axis", 0)) % len(shape)
    at = b.need_constant(1, "indices") % shape[axis]
    places = np.stack([at if a == axis else grid for a, grid in enumerate(np.indices(at.shape))], axis=-1)
    b.emit("GATHER_ND", [b.take(source), b.add_constant(places.astype(np.int32))], [b.make(target)])


def gather_nd(b: Builder, node: Node) -> None:
    """Write GATHER_ND; negative indices count from the end."""
    source, target = node.inputs[0], node.outputs[0]
    if node.attributes.get("batch_dims", 0):
        _gather_in_batches(b, node)
        return
    depth = b.shape(node.inputs[1])[-1]
    sizes = np.asarray(b.shape(source)[:depth], np.int32)
    data = b.constant(node.inputs[1])
    if data is not None:
        indices = b.add_constant((data % sizes).astype(np.int32))
    else:
        raw = b.cast(b.take(node.inputs[1]), np.int32)
        indices = b.run("FLOOR_MOD", [raw, b.add_constant(sizes)], raw.shape)
    b.emit("GATHER_ND", [b.take(source), indices], [b.make(target)])


def _gather_in_batches(b: Builder, node: Node) -> None:
    """Return constant indices with the batch's own before them."""
    at, batch = b.need_constant(1, "indices"), int(node.attributes["batch_dims"])
    shape = b.shape(node.inputs[0])
    places = at % np.asarray(shape[batch : batch + at.shape[-1]])
    grids = np.indices(at.shape[:-1])[:batch]
    full = np.concatenate([np.moveaxis(grids, 0, -1), places], axis=-1).astype(np.int32)
    b.emit("GATHER_ND", [b.take(node.inputs[0]), b.add_constant(full)], [b.make(node.outputs[0])])


def top_k(b: Builder, node: Node) -> None:
    """Write TOPK_V2 along the axis stored last, the largest first; the smallest are the largest of the negated
    values."""
    source = node.inputs[0]
    axis = int(node.attributes.get("axis", -1)) % b.rank(source)
    count = int(b.need_constant(1, "count").reshape(-1)[0])
    smallest = not node.attributes.get("largest", 1)
    if smallest and b.dtype(source) != np.float32:
        raise OperatorRejected("the smallest integers are requested", "cast to float32 first")
    layout = move_axis_last(b.layout(source), axis)
    values = b.take(source, layout)
    values = b.run("NEG", [values], values.shape) if smallest else values
    shape = (*values.shape[:-1], count)
    best = Tensor(f"{node.name}/values", shape, values.dtype)
    places = Tensor(f"{node.name}/places", shape, np.dtype(np.int32))
    b.emit("TOPK_V2", [values, b.add_constant(np.asarray(count, np.int32))], [best, places])
    if node.outputs[0]:
        b.place(node.outputs[0], b.run("NEG", [best], shape) if smallest else best, layout)
    if len(node.outputs) > 1 and node.outputs[1]:
        b.place(node.outputs[1], b.cast(places, np.int64), layout)


def one_hot(b: Builder, node: Node) -> None:
    """Write ONE_HOT; negative indices count from the end."""
    depth = int(b.need_constant(1, "depth").reshape(-1)[0])
    values = b.need_constant(2, "values")
    target = node.outputs[0]
    raw = b.cast(b.take(node.inputs[0]), np.int32)
    # Indices outside of −depth … depth − 1 stay outside, and result in a row of the off value.
    below = b.run("LESS", [raw, b.number(0, raw)], raw.shape, dtype=np.bool_)
    from_end = b.run("ADD", [raw, b.number(depth, raw)], raw.shape)
    indices = b.run("SELECT_V2", [below, from_end, raw], raw.shape, dtype=np.int32)
    off, on = (b.add_constant(np.asarray(v, b.dtype(target))) for v in values.reshape(-1)[:2])
    axis = int(node.attributes.get("axis", -1))
    axis = axis if axis >= 0 else axis + b.rank(target)
    size = b.add_constant(np.asarray(depth, np.int32))
    b.emit("ONE_HOT", [indices, size, on, off], [b.make(target)], {"axis": axis})


def triangle(b: Builder, node: Node) -> None:
    """Write Trilu: a product with a constant mask for floats, a SELECT for other types."""
    source = node.inputs[0]
    shape = b.shape(source)
    offset = int(b.need_constant(1, "diagonal").reshape(-1)[0]) if node.has(1) else 0
    ones = np.ones(shape[-2:], bool)
    mask = np.triu(ones, offset) if node.attributes.get("upper", 1) else np.tril(ones, offset)
    x = b.take(source)
    full = b.add_constant(np.broadcast_to(mask, shape).copy())
    zeros = b.add_constant(np.zeros(shape, x.dtype))
    made = b.run("SELECT_V2", [full, x, zeros], shape, dtype=x.dtype)
    b.place(node.outputs[0], copy_if_unchanged(b, made, node))


def reverse_sequence(b: Builder, node: Node) -> None:
    batch, time = int(node.attributes.get("batch_axis", 1)), int(node.attributes.get("time_axis", 0))
    lengths = b.cast(b.take(node.inputs[1]), np.int32)
    options = {"seqDim": time, "batchDim": batch}
    b.emit("REVERSE_SEQUENCE", [b.take(node.inputs[0]), lengths], [b.make(node.outputs[0])], options)


def scatter_nd(b: Builder, node: Node) -> None:
    """Write ScatterND, whose indices are prefixes of full indices."""
    data = b.need_constant(1, "indices")
    depth = data.shape[-1]
    _scatter(b, node, (data % np.asarray(b.shape(node.inputs[0])[:depth])).astype(np.int32), b.take(node.inputs[2]))


def scatter_elements(b: Builder, node: Node) -> None:
    """Write ScatterElements, whose indices are along one axis; the other axes have the element's own."""
    shape, at = b.shape(node.inputs[0]), b.need_constant(1, "indices")
    axis = int(node.attributes.get("axis", 0)) % len(shape)
    grids = np.indices(at.shape)
    places = np.stack([at % shape[axis] if a == axis else grid for a, grid in enumerate(grids)], axis=-1)
    _scatter(b, node, places.astype(np.int32), b.take(node.inputs[2]))


def _scatter(b: Builder, node: Node, places: Array, updates: Tensor) -> None:
    """Write SCATTER_ND of the updates, and combine them with the existing values by a mask or the reduction."""
    x, shape = b.take(node.inputs[0]), b.shape(node.inputs[0])
    reduction = str(node.attributes.get("reduction", "none"))
    if x.dtype != np.float32 or reduction not in {"none", *_REDUCTION_KERNELS}:
        raise OperatorRejected(f"it scatters {x.dtype}, or with reduction '{reduction}'")
    flat = places.reshape(-1, places.shape[-1])
    rounds = _find_rounds(flat)
    if len(rounds) > (1 if reduction == "none" else _MOST_ROUNDS) and reduction != "add":
        raise OperatorRejected("it writes one element more than once")
    if reduction == "add":
        operands = [b.add_constant(places), updates, b.ints(shape)]
        spread = b.run("SCATTER_ND", operands, shape, dtype=x.dtype)
        b.place(node.outputs[0], b.run("ADD", [x, spread], shape))
        return
    rows = b.reshape(updates, (len(flat), *updates.shape[places.ndim - 1 :]))
    for chosen in rounds:
        x = _scatter_once(b, x, flat[chosen], _pick(b, rows, chosen), reduction)
    b.place(node.outputs[0], x)


def _find_rounds(flat: Array) -> list[list[int]]:
    """Return the rows in groups without repeated indices, the first row of each index in the first group."""
    seen: dict[tuple[int, ...], int] = {}
    rounds: list[list[int]] = []
    for at, row in enumerate(map(tuple, flat.tolist())):
        occurrence = seen[row] = seen.get(row, -1) + 1
        rounds += [[]] if occurrence == len(rounds) else []
        rounds[occurrence].append(at)
    return rounds


def _pick(b: Builder, rows: Tensor, chosen: list[int]) -> Tensor:
    if len(chosen) == rows.shape[0]:
        return rows
    options = {"axis": 0, "batchDims": 0}
    return b.run("GATHER", [rows, b.ints(chosen)], (len(chosen), *rows.shape[1:]), options=options)


def _scatter_once(b: Builder, x: Tensor, places: Array, rows: Tensor, reduction: str) -> Tensor:
    mask = np.zeros(x.shape, bool)
    mask[tuple(places.T)] = True
    operands = [b.add_constant(places), rows, b.ints(x.shape)]
    spread = b.run("SCATTER_ND", operands, x.shape, dtype=x.dtype)
    if reduction != "none":
        spread = b.run(_REDUCTION_KERNELS[reduction], [x, spread], x.shape)
    return b.run("SELECT_V2", [b.add_constant(mask), spread, x], x.shape, dtype=x.dtype)
