"""Einsum as one BATCH_MATMUL, FULLY_CONNECTED or sum, with transposes."""

import numpy as np

from edgewright.runtimes.litert.writer.build import Builder
from edgewright.runtimes.litert.writer.graph import Node, OperatorRejected, Shape
from edgewright.runtimes.litert.writer.operators.elementwise import copy_tensor
from edgewright.runtimes.litert.writer.passes.layout import Layout
from edgewright.runtimes.litert.writer.program import Tensor

# Letters for the axes of an ellipsis.
SPARE = "αβγδεζηθ"


def einsum(b: Builder, node: Node) -> None:
    """Write an Einsum of up to two operands without repeated letters."""
    if b.dtype(node.outputs[0]) != np.float32:
        raise OperatorRejected(f"sums of products of {b.dtype(node.outputs[0])}", "cast to float32 first")
    terms, result = _read(b, node)
    if len(terms) > 2 or any(len(set(term)) != len(term) for term in (*terms, result)):
        raise OperatorRejected("more than two operands, or a diagonal")
    if len(terms) == 1:
        stored, letters = _sum_out(b, node.inputs[0], terms[0], result)
        stored = copy_tensor(b, stored) if stored in b.placed[node.inputs[0]].values() else stored
    else:
        stored, letters = _multiply(b, node, terms, result)
    b.place(node.outputs[0], stored, tuple(result.index(letter) for letter in letters))


def _read(b: Builder, node: Node) -> tuple[list[str], str]:
    """Return the letters of each operand and of the result, an ellipsis expanded."""
    equation = str(node.attributes["equation"]).replace(" ", "")
    left, arrow, result = equation.partition("->")
    terms, widest = [], 0
    for name, term in zip(node.inputs, left.split(","), strict=True):
        extra = b.rank(name) - len(term.replace("...", ""))
        widest = max(widest, extra if "..." in term else 0)
        terms.append(term.replace("...", SPARE[len(SPARE) - extra :] if extra else ""))
    spare = SPARE[len(SPARE) - widest :] if widest else ""
    if not arrow:
        every = left.replace("...", "").replace(",", "")
        result = "..." + "".join(sorted(letter for letter in set(every) if every.count(letter) == 1))
    return terms, result.replace("...", spare)


def _sum_out(b: Builder, name: str, term: str, kept: str) -> tuple[Tensor, str]:
    """Return an operand summed over the letters that occur nowhere else."""
    layout = b.layout(name)
    x, letters = b.take(name, layout), "".join(term[axis] for axis in layout)
    places = [at for at, letter in enumerate(letters) if letter not in kept]
    if places:
        shape = tuple(size for at, size in enumerate(x.shape) if at not in places)
        x = b.run("SUM", [x, b.ints(places)], shape, options={"keepDims": False})
    return x, "".join(letter for letter in letters if letter in kept)


def _multiply(b: Builder, node: Node, terms: list[str], result: str) -> tuple[Tensor, str]:
    """Return the product and its letters in storage order."""
    left, right = terms
    shared = [letter for letter in left if letter in right]
    if any(_size(b, node, 0, left, a) != _size(b, node, 1, right, a) for a in shared):
        raise OperatorRejected("an axis of size 1 is broadcast")
    batch = "".join(letter for letter in result if letter in shared)
    inner = "".join(letter for letter in shared if letter not in result)
    sides, own = [], []
    for at, term in enumerate(terms):
        x, letters = _sum_out(b, node.inputs[at], term, result + terms[1 - at])
        rest = "".join(letter for letter in letters if letter not in batch + inner)
        wanted = batch + rest + inner if at == 0 else batch + inner + rest
        sides.append(_arrange(b, x, letters, wanted))
        own.append(rest)
    count = [int(np.prod([sides[at].shape[len(batch) + i] for i in _span(at, own, inner)])) for at in (0, 1)]
    outer: Shape = sides[0].shape[: len(batch)]
    depth = int(np.prod(sides[0].shape[len(batch) + len(own[0]) :]))
    x = b.reshape(sides[0], (*outer, count[0], depth))
    y = b.reshape(sides[1], (*outer, depth, count[1]))
    made = b.run("BATCH_MATMUL", [x, copy_tensor(b, y) if x is y else y], (*outer, count[0], count[1]))
    ends = sides[0].shape[len(batch) : len(batch) + len(own[0])], sides[1].shape[len(batch) + len(inner) :]
    return b.reshape(made, (*outer, *ends[0], *ends[1])), batch + own[0] + own[1]


def _span(at: int, own: list[str], inner: str) -> range:
    """Return the positions of an operand's own axes after the batch."""
    return range(len(own[0])) if at == 0 else range(len(inner), len(inner) + len(own[1]))


def _size(b: Builder, node: Node, at: int, term: str, letter: str) -> int:
    return b.shape(node.inputs[at])[term.index(letter)]


def _arrange(b: Builder, x: Tensor, have: str, want: str) -> Tensor:
    order: Layout = tuple(have.index(letter) for letter in want)
    return x if order == tuple(range(len(order))) else b.transpose(x, order)
