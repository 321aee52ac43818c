"""Products of matrices."""

from typing import Any

import numpy as np

from edgewright.runtimes.litert.writer.build import Builder
from edgewright.runtimes.litert.writer.graph import Node, OperatorRejected
from edgewright.runtimes.litert.writer.operators.elementwise import copy_tensor
from edgewright.runtimes.litert.writer.passes.layout import Layout, make_plain
from edgewright.runtimes.litert.writer.program import Tensor


def gemm(b: Builder, node: Node) -> None:
    """Write FULLY_CONNECTED: alpha A B + beta C, A [M, K] and B [K, N], either transposed."""
    if b.dtype(node.outputs[0]) != np.float32 and b.scales(node.outputs[0]) is None:
        raise OperatorRejected(f"products of {b.dtype(node.outputs[0])}", "cast to float32 first")
    alpha, beta = float(node.attributes.get("alpha", 1.0)), float(node.attributes.get("beta", 1.0))
    x = b.take(node.inputs[0], (1, 0) if node.attributes.get("transA", 0) else None)
    weights = b.take(node.inputs[1], None if node.attributes.get("transB", 0) else (1, 0))
    if alpha == 1.0 and beta == 1.0 and (not node.has(2) or _is_row(b, node)):
        bias = _take_bias_row(b, node) if node.has(2) else None
        _connect(b, node, x, weights, bias, b.make(node.outputs[0]))
        return
    shape = b.shape(node.outputs[0])
    options = _options("NONE") | {"asymmetricQuantizeInputs": x.scales is None and weights.scales is not None}
    made = b.run("FULLY_CONNECTED", [x, weights, None], shape, options=options)
    made = made if alpha == 1.0 else b.run("MUL", [made, b.number(alpha, made)], shape)
    if node.has(2):
        c = b.take(node.inputs[2])
        c = c if beta == 1.0 else b.run("MUL", [c, b.number(beta, c)], c.shape)
        made = b.run("ADD", [made, c], shape, options=_activation(node))
    elif node.attributes.get("activation"):
        made = b.run(node.attributes["activation"], [made], shape)
    b.place(node.outputs[0], made)


def _activation(node: Node) -> dict[str, Any]:
    return {"fusedActivationFunction": node.attributes.get("activation", "NONE")}


def _options(activation: str) -> dict[str, Any]:
    return {"fusedActivationFunction": activation, "keepNumDims": False}


def _is_row(b: Builder, node: Node) -> bool:
    """Return whether C has one number per column."""
    shape, columns = b.shape(node.inputs[2]), b.shape(node.outputs[0])[-1]
    return bool(shape) and shape[-1] == columns and int(np.prod(shape)) == columns


def _take_bias_row(b: Builder, node: Node) -> Tensor:
    return b.reshape(b.take(node.inputs[2]), b.shape(node.outputs[0])[-1:])


def _connect(b: Builder, node: Node, x: Tensor, weights: Tensor, bias: Tensor | None, result: Tensor) -> None:
    """Write FULLY_CONNECTED over the last axis: x […, K], weights [N, K], bias [N]."""
    options = _options(node.attributes.get("activation", "NONE"))
    options["keepNumDims"] = len(result.shape) > 2
    options["asymmetricQuantizeInputs"] = x.scales is None and weights.scales is not None
    b.emit("FULLY_CONNECTED", [x, weights, bias], [result], options)


def matmul(b: Builder, node: Node) -> None:
    """Write FULLY_CONNECTED if the right operand is one constant matrix, else BATCH_MATMUL.

    A vector is a matrix with one row or column, as in numpy.matmul.
    """
    left, right = node.inputs[:2]
    output = node.outputs[0]
    if b.dtype(output) != np.float32 and b.scales(output) is None:
        raise OperatorRejected(f"products of {b.dtype(output)}", "cast to float32 first")
    if b.rank(left) >= 2 and b.rank(right) == 2 and b.constant(right) is not None:
        bias = b.take(node.inputs[2]) if node.has(2) else None
        _connect(b, node, b.take(left), b.take(right, (1, 0)), bias, b.make(output))
        return
    if node.has(2):
        raise OperatorRejected("a bias for a product of two computed matrices")
    x, adjoint_x = _take_factor(b, left, 0)
    y, adjoint_y = _take_factor(b, right, 1)
    if x is y:  # XNNPACK fuses a preceding TRANSPOSE into only one operand of the product
        y = copy_tensor(b, y)
    options = {"adjX": adjoint_x, "adjY": adjoint_y}
    if b.rank(left) >= 2 and b.rank(right) >= 2:
        b.emit("BATCH_MATMUL", [x, y], [b.make(output)], options)
        return
    rows = 1 if b.rank(left) == 1 else b.shape(left)[-2]
    columns = 1 if b.rank(right) == 1 else b.shape(right)[-1]
    batch = np.broadcast_shapes(b.shape(left)[:-2], b.shape(right)[:-2])
    made = b.run("BATCH_MATMUL", [x, y], (*batch, rows, columns), options=options)
    b.place(output, b.reshape(made, b.shape(output)))


def _take_factor(b: Builder, name: str, side: int) -> tuple[Tensor, bool]:
    """Return a factor, and whether it is stored with its last two axes exchanged, which the kernel supports."""
    rank = b.rank(name)
    if rank == 1:
        size = b.shape(name)[0]
        return b.reshape(b.take(name), (1, size) if side == 0 else (size, 1)), False
    swapped: Layout = (*make_plain(rank)[:-2], rank - 1, rank - 2)
    if make_plain(rank) not in b.layouts(name) and swapped in b.layouts(name):
        return b.take(name, swapped), True
    return b.take(name), False
