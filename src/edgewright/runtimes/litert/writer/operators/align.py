"""Conversion of an operator's inputs to one layout, with NumPy broadcasting."""

from collections.abc import Sequence

import numpy as np

from edgewright.runtimes.litert.writer.build import Builder
from edgewright.runtimes.litert.writer.passes.layout import Layout, has_same_bytes, make_plain, permute_shape
from edgewright.runtimes.litert.writer.program import Tensor


def choose_layout(b: Builder, names: Sequence[str], rank: int) -> Layout:
    """Return the layout of the largest computed value that has all axes and a layout that is not plain; else the plain
    one.
    """
    best, most = make_plain(rank), 0
    for name in names:
        if name and b.rank(name) == rank and b.constant(name) is None and b.layout(name) != make_plain(rank):
            size = int(np.prod(b.shape(name)))
            if size > most:
                best, most = b.layout(name), size
    return best


def align_inputs(b: Builder, names: Sequence[str], output: str) -> tuple[list[Tensor], Layout]:
    """Return the inputs of an element-wise operator and the layout of its output."""
    rank = b.rank(output)
    layout = choose_layout(b, names, rank)
    return [_fit(b, name, layout) for name in names], layout


def _fit(b: Builder, name: str, layout: Layout) -> Tensor:
    """Return the value in `layout`, with leading axes of size 1 if it has fewer axes."""
    rank, shape = b.rank(name), b.shape(name)
    if rank == len(layout):
        return b.take(name, layout)
    if layout == make_plain(len(layout)) or int(np.prod(shape)) == 1:
        return b.take(name)
    full = (1,) * (len(layout) - rank) + shape
    if (data := b.constant(name)) is not None and b.scales(name) is None:
        return b.add_constant(np.transpose(data.reshape(full), layout), name)
    tensor = b.take(name)
    if has_same_bytes(full, make_plain(len(full)), layout):
        return b.reshape(tensor, permute_shape(full, layout))
    return b.transpose(b.reshape(tensor, full), layout)
