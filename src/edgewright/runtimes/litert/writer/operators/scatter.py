"""Operators that write elements to constant places."""

import numpy as np

from edgewright.runtimes.litert.writer.build import Builder
from edgewright.runtimes.litert.writer.graph import Array, Node, OperatorRejected
from edgewright.runtimes.litert.writer.program import Tensor

# How what is written meets what was there; SCATTER_ND itself adds up what falls on one place.
REDUCTION_KERNELS = {"add": "ADD", "mul": "MUL", "max": "MAXIMUM", "min": "MINIMUM"}
MOST_ROUNDS = 16


def scatter_nd(b: Builder, node: Node) -> None:
    """ScatterND: each index is the beginning of a place."""
    data = b.need_constant(1, "indices")
    depth = data.shape[-1]
    _write(b, node, (data % np.asarray(b.shape(node.inputs[0])[:depth])).astype(np.int32), b.take(node.inputs[2]))


def scatter_elements(b: Builder, node: Node) -> None:
    """ScatterElements: each index is a place along one axis, the others are the element's own."""
    shape, at = b.shape(node.inputs[0]), b.need_constant(1, "indices")
    axis = int(node.attributes.get("axis", 0)) % len(shape)
    grids = np.indices(at.shape)
    places = np.stack([at % shape[axis] if a == axis else grid for a, grid in enumerate(grids)], axis=-1)
    _write(b, node, places.astype(np.int32), b.take(node.inputs[2]))


def _write(b: Builder, node: Node, places: Array, updates: Tensor) -> None:
    """SCATTER_ND of the updates, and a choice by a mask or a meeting with what was there."""
    x, shape = b.take(node.inputs[0]), b.shape(node.inputs[0])
    reduction = str(node.attributes.get("reduction", "none"))
    if x.dtype != np.float32 or reduction not in {"none", *REDUCTION_KERNELS}:
        raise OperatorRejected(f"it scatters {x.dtype}, or by '{reduction}'")
    flat = places.reshape(-1, places.shape[-1])
    rounds = _find_rounds(flat)
    if len(rounds) > (1 if reduction == "none" else MOST_ROUNDS) and reduction != "add":
        raise OperatorRejected("it writes one place more than once")
    if reduction == "add":
        operands = [b.add_constant(places), updates, b.ints(shape)]
        spread = b.run("SCATTER_ND", operands, shape, dtype=x.dtype)
        b.place(node.outputs[0], b.run("ADD", [x, spread], shape))
        return
    rows = b.reshape(updates, (len(flat), *updates.shape[places.ndim - 1 :]))
    for chosen in rounds:
        x = _write_once(b, x, flat[chosen], _pick(b, rows, chosen), reduction)
    b.place(node.outputs[0], x)


def _find_rounds(flat: Array) -> list[list[int]]:
    """The rows in groups that hold no place twice, each place's first row in the first."""
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


def _write_once(b: Builder, x: Tensor, places: Array, rows: Tensor, reduction: str) -> Tensor:
    mask = np.zeros(x.shape, bool)
    mask[tuple(places.T)] = True
    operands = [b.add_constant(places), rows, b.ints(x.shape)]
    spread = b.run("SCATTER_ND", operands, x.shape, dtype=x.dtype)
    if reduction != "none":
        spread = b.run(REDUCTION_KERNELS[reduction], [x, spread], x.shape)
    return b.run("SELECT_V2", [b.add_constant(mask), spread, x], x.shape, dtype=x.dtype)
