"""Operators that pick elements by number."""

import numpy as np

from edgewright.runtimes.litert.writer.build import Builder
from edgewright.runtimes.litert.writer.graph import Node, Refusal
from edgewright.runtimes.litert.writer.layout import put_last
from edgewright.runtimes.litert.writer.operators.elementwise import copy_if_given
from edgewright.runtimes.litert.writer.program import Tensor


def take_indices(b: Builder, name: str, size: int) -> Tensor:
    """Indices without negative ones: those count from the end."""
    data = b.constant(name)
    if data is not None:
        if data.size and (data.min() < -size or data.max() >= size):
            raise Refusal("an index lies outside of its axis")
        return b.add_constant((data % size).astype(np.int32), name)
    indices = b.cast(b.take(name), np.int32)
    return b.run("FLOOR_MOD", [indices, b.number(size, indices)], indices.shape)


def gather(b: Builder, node: Node) -> None:
    """GATHER along one axis."""
    source, places, target = node.inputs[0], node.inputs[1], node.outputs[0]
    axis = int(node.attributes.get("axis", 0)) % b.rank(source)
    indices = take_indices(b, places, b.shape(source)[axis])
    options = {"axis": axis, "batchDims": 0}
    b.emit("GATHER", [b.take(source), indices], [b.make(target)], options)


def gather_elements(b: Builder, node: Node) -> None:
    """GATHER_ND with the whole place of each element, where the indices are constant."""
    source, target = node.inputs[0], node.outputs[0]
    shape = b.shape(source)
    axis = int(node.attributes.get("axis", 0)) % len(shape)
    at = b.need_constant(1, "indices") % shape[axis]
    places = np.stack([at if a == axis else grid for a, grid in enumerate(np.indices(at.shape))], axis=-1)
    b.emit("GATHER_ND", [b.take(source), b.add_constant(places.astype(np.int32))], [b.make(target)])


def gather_nd(b: Builder, node: Node) -> None:
    """GATHER_ND; negative indices count from the end."""
    source, target = node.inputs[0], node.outputs[0]
    if node.attributes.get("batch_dims", 0):
        raise Refusal("it gathers along batches")
    depth = b.shape(node.inputs[1])[-1]
    sizes = np.asarray(b.shape(source)[:depth], np.int32)
    data = b.constant(node.inputs[1])
    if data is not None:
        indices = b.add_constant((data % sizes).astype(np.int32))
    else:
        raw = b.cast(b.take(node.inputs[1]), np.int32)
        indices = b.run("FLOOR_MOD", [raw, b.add_constant(sizes)], raw.shape)
    b.emit("GATHER_ND", [b.take(source), indices], [b.make(target)])


def top_k(b: Builder, node: Node) -> None:
    """TOPK_V2 along the axis stored last, the largest first; the smallest are the largest of the negated."""
    source = node.inputs[0]
    axis = int(node.attributes.get("axis", -1)) % b.rank(source)
    count = int(b.need_constant(1, "count").reshape(-1)[0])
    smallest = not node.attributes.get("largest", 1)
    if smallest and b.dtype(source) != np.float32:
        raise Refusal("the smallest of whole numbers are asked for", "cast to float32 before")
    layout = put_last(b.layout(source), axis)
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
    """ONE_HOT; negative indices count from the end."""
    depth = int(b.need_constant(1, "depth").reshape(-1)[0])
    values = b.need_constant(2, "values")
    target = node.outputs[0]
    if b.dtype(node.inputs[0]).kind not in "iu":
        raise Refusal("its indices are no whole numbers")
    raw = b.cast(b.take(node.inputs[0]), np.int32)
    # Indices outside of −depth … depth − 1 stay outside, and give a row of the off value.
    below = b.run("LESS", [raw, b.number(0, raw)], raw.shape, dtype=np.bool_)
    from_end = b.run("ADD", [raw, b.number(depth, raw)], raw.shape)
    indices = b.run("SELECT_V2", [below, from_end, raw], raw.shape, dtype=np.int32)
    off, on = (b.add_constant(np.asarray(v, b.dtype(target))) for v in values.reshape(-1)[:2])
    axis = int(node.attributes.get("axis", -1))
    axis = axis if axis >= 0 else axis + b.rank(target)
    size = b.add_constant(np.asarray(depth, np.int32))
    b.emit("ONE_HOT", [indices, size, on, off], [b.make(target)], {"axis": axis})


def triangle(b: Builder, node: Node) -> None:
    """Trilu: a product with a constant mask for floats, a choice for others."""
    source = node.inputs[0]
    shape = b.shape(source)
    offset = int(b.need_constant(1, "diagonal").reshape(-1)[0]) if node.has(1) else 0
    ones = np.ones(shape[-2:], bool)
    mask = np.triu(ones, offset) if node.attributes.get("upper", 1) else np.tril(ones, offset)
    x = b.take(source)
    full = b.add_constant(np.broadcast_to(mask, shape).copy())
    zeros = b.add_constant(np.zeros(shape, x.dtype))
    made = b.run("SELECT_V2", [full, x, zeros], shape, dtype=x.dtype)
    b.place(node.outputs[0], copy_if_given(b, made, node))


def reverse_sequence(b: Builder, node: Node) -> None:
    batch, time = int(node.attributes.get("batch_axis", 1)), int(node.attributes.get("time_axis", 0))
    lengths = b.cast(b.take(node.inputs[1]), np.int32)
    options = {"seqDim": time, "batchDim": batch}
    b.emit("REVERSE_SEQUENCE", [b.take(node.inputs[0]), lengths], [b.make(node.outputs[0])], options)


def scatter_nd(b: Builder, node: Node) -> None:
    """SCATTER_ND of the updates and of a mask, then a choice; every place at most once."""
    source, target = node.inputs[0], node.outputs[0]
    if node.attributes.get("reduction", "none") != "none":
        raise Refusal("it adds up what falls on one place")
    shape = b.shape(source)
    data = b.need_constant(1, "indices")
    depth = data.shape[-1]
    places = (data % np.asarray(shape[:depth])).astype(np.int32)
    if len({tuple(row) for row in places.reshape(-1, depth).tolist()}) != int(np.prod(places.shape[:-1])):
        raise Refusal("it writes one place more than once")
    x, updates = b.take(source), b.take(node.inputs[2])
    if x.dtype != np.float32:
        raise Refusal(f"it scatters {x.dtype}")
    indices, size = b.add_constant(places), b.ints(shape)
    mask = np.zeros(shape, bool)
    mask[tuple(places.reshape(-1, depth).T)] = True
    spread = b.run("SCATTER_ND", [indices, updates, size], shape, dtype=x.dtype)
    made = b.run("SELECT_V2", [b.add_constant(mask), spread, x], shape, dtype=x.dtype)
    b.place(target, made)
