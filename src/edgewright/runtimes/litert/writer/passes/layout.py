"""Stage 4: algebra of layouts, the order of a value's axes in memory.

A *layout* is a permutation: the stored axis `s` is the value's axis `layout[s]`, so that NHWC storage of a value that
ONNX calls NCHW has the layout (0, 2, 3, 1). Layout-independent operators keep their input's layout; others
require one. An ONNX Transpose only renames axes; data moves if an operator requires a layout in which the value is not
stored. So transposes cancel, move and vanish by themselves.
"""

from collections.abc import Sequence

from edgewright.runtimes.litert.writer.graph import Shape

Layout = tuple[int, ...]


def make_plain(rank: int) -> Layout:
    """Return the layout of ONNX."""
    return tuple(range(rank))


def make_channels_last(rank: int) -> Layout:
    """Return the layout with axis 1 last: NWC, NHWC, NDHWC."""
    return (0, *range(2, rank), 1)


def permute_shape(shape: Sequence[int], layout: Layout) -> Shape:
    """Return the stored shape of a value."""
    return tuple(shape[axis] for axis in layout)


def invert_layout(layout: Layout) -> Layout:
    return tuple(layout.index(axis) for axis in range(len(layout)))


def find_permutation(have: Layout, want: Layout) -> Layout:
    """Return the permutation of a TRANSPOSE from one layout to another."""
    return tuple(have.index(axis) for axis in want)


def permute_layout(layout: Layout, permutation: Sequence[int]) -> Layout:
    """Return the layout after an ONNX Transpose that moves no data."""
    new = invert_layout(tuple(permutation))
    return tuple(new[axis] for axis in layout)


def has_same_bytes(shape: Sequence[int], have: Layout, want: Layout) -> bool:
    """Return whether both layouts have the same bytes: they differ only in axes of size 1."""
    return [a for a in have if shape[a] != 1] == [a for a in want if shape[a] != 1]


def drop_axes(layout: Layout, axes: set[int]) -> Layout:
    """Return the layout without some axes, the others renumbered."""
    kept = [axis for axis in layout if axis not in axes]
    order = sorted(kept)
    return tuple(order.index(axis) for axis in kept)


def move_axis_last(layout: Layout, axis: int) -> Layout:
    """Return the layout with one axis moved to the end."""
    return (*(other for other in layout if other != axis), axis)


def carry_reshape(old: Shape, new: Shape, layout: Layout) -> Layout | None:
    """Return the layout after a reshape of the stored bytes; None if the bytes would have to move.

    Axes form the smallest groups with equal products on both sides. The bytes can stay if each group's old axes
    are adjacent and in order; axes of size 1 can be anywhere.
    """
    groups = _group(old, new)
    owner = {axis: at for at, (left, _) in enumerate(groups) for axis in left}
    stored = [axis for axis in layout if old[axis] != 1]
    order: list[int] = []
    for axis in stored:
        at = owner[axis]
        if not order or order[-1] != at:
            order.append(at)
    flat = [axis for at in order for axis in groups[at][0]]
    if flat != stored or len(set(order)) != len(order):
        return None
    return _insert_ones([axis for at in order for axis in groups[at][1]], new)


def gather_groups(old: Shape, new: Shape, layout: Layout) -> Layout:
    """Return the nearest layout in which the bytes can stay: each group's axes are made adjacent, and groups keep their
    order.
    """
    order: list[int] = []
    groups = _group(old, new)
    for axis in layout:
        group = next((left for left, _ in groups if axis in left), [])
        order += [] if set(group) <= set(order) else group
    return _insert_ones(order, old)


def _group(old: Shape, new: Shape) -> list[tuple[list[int], list[int]]]:
    left = [axis for axis, size in enumerate(old) if size != 1]
    right = [axis for axis, size in enumerate(new) if size != 1]
    groups = []
    while left or right:
        mine, theirs = [left.pop(0)], [right.pop(0)]
        have, want = old[mine[0]], new[theirs[0]]
        while have != want:
            if have < want:
                mine.append(left.pop(0))
                have *= old[mine[-1]]
            else:
                theirs.append(right.pop(0))
                want *= new[theirs[-1]]
        groups.append((mine, theirs))
    return groups


def _insert_ones(order: list[int], shape: Shape) -> Layout:
    """Insert the axes of size 1: all in order if the others are, else channels last if possible."""
    if order == sorted(order):
        return make_plain(len(shape))
    last = make_channels_last(len(shape))
    if order == [axis for axis in last if shape[axis] != 1]:
        return last
    for axis, size in enumerate(shape):
        if size == 1:
            order.insert(order.index(axis - 1) + 1 if axis else 0, axis)
    return tuple(order)
