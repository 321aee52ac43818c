"""Which channels, neurons and heads of a graph can be taken out, and what goes with each of them.

Every axis of every tensor is a vector of labels, one per place. Operators tie labels together: an addition those of
its operands, a convolution its input's channels with its weights' second axis. A connected part of labels, none of
which has to stay, is a unit; units that lie on the same axes of the same weights are a group. This is the dependency
graph of Fang et al. 2023 (https://arxiv.org/abs/2301.12900), place by place instead of layer by layer, so that
concatenations, splits and flattened pixels need no rule of their own.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgewright.compress.pruning.atoms import OUT, STAYS, Axes, Parts, Places
from edgewright.compress.pruning.flow import Flow, Layer, Outline

ROLES = ("", OUT, "in", "scale")
MATRICES = ("Gemm", "MatMul", "Gather")


class Member(NamedTuple):
    """Places of one axis of one constant.

    Attributes:
        tensor: the initializer's (or Constant's) name.
        axis: of it.
        indices: [size, k], the k places along the axis that belong to each unit.
        role: `out` of a layer that makes the units, `in` of one that reads them, `scale` of a normalisation's gain; or
            empty, as for biases.
    """

    tensor: str
    axis: int
    indices: NDArray[np.int64]
    role: str


class Group(NamedTuple):
    """Units that can go one by one, all from the same weights.

    Attributes:
        name: of the first layer that makes them.
        size: number of units.
        layers: names of the nodes with weights that shrink.
        exact: whether the graph without a unit computes what the whole one does when that unit is zero; not so
            where a layer normalisation takes its statistics over the units.
    """

    name: str
    kind: Literal["channels", "neurons", "heads"]
    size: int
    members: tuple[Member, ...]
    layers: tuple[str, ...]
    exact: bool


class Groups(NamedTuple):
    """All groups of a graph, in its order.

    Attributes:
        fixed: by name of a layer (or node) that cannot be pruned, why.
        units: by value and axis the unit of each place, counted through over all groups; −1 stays. Only of values
            that have any.
        shapes: of the inputs for which this holds.
    """

    groups: tuple[Group, ...]
    fixed: dict[str, str]
    units: dict[str, Axes]
    shapes: dict[str, tuple[int, ...]]


def find_groups(model: Any, shapes: Mapping[str, Sequence[int]]) -> Groups:
    """The groups of an ONNX model (`onnx.ModelProto`, weights included), which stays as it is.

    Args:
        shapes: sizes of inputs. Of one that is not named a leading free size is taken as 1.

    Raises:
        InputError: `shapes` names no input, or does not fit one.
    """
    outline = Outline(model, shapes)
    choices: dict[str, int] = {}
    while True:
        flow = Flow(outline, choices)
        flow.run()
        parts = flow.atoms.settle()
        stuck = [one for one in flow.splits if one.choices > choices.get(one.node, 0) and not goes(parts, one.carried)]
        if not stuck:
            return gather_groups(flow, parts, shapes)
        for one in stuck:
            choices[one.node] = choices.get(one.node, 0) + 1


def goes(parts: Parts, labels: Places) -> bool:
    """Whether some of these labels do not have to stay."""
    return bool(((labels != STAYS) & (parts.reason[parts.root[labels]] < 0)).any())


def gather_groups(flow: Flow, parts: Parts, shapes: Mapping[str, Sequence[int]]) -> Groups:
    makes = np.zeros(parts.root.size, bool)
    for layer in flow.layers:
        makes[parts.root[layer.makes]] = True
    free = makes & (parts.reason < 0)
    free[STAYS] = False
    axes = [(name, axis) for name in flow.labels if name in flow.outline.stored for axis in range(len(flow.labels[name]))]
    found = sort_units([parts.root[flow.labels[name][axis]] for name, axis in axes], free)
    unit = np.full(parts.root.size, -1)  # by root
    groups: list[Group] = []
    count = 0
    for roots, which, places in found:
        if len(roots) < 2:
            continue
        unit[roots] = np.arange(count, count + len(roots))
        count += len(roots)
        members = tuple(
            Member(name, axis, places[:, which == one], ROLES[parts.role[flow.labels[name][axis][places[0, which == one][0]]]])
            for one in dict.fromkeys(which.tolist())
            for name, axis in [axes[one]]
        )
        groups.append(describe(flow, parts, roots, members, {group.name for group in groups}))
    units = {name: tuple(unit[parts.root[axis]] for axis in labels) for name, labels in flow.labels.items()}
    return Groups(
        tuple(groups),
        explain(flow, parts, unit),
        {name: own for name, own in units.items() if any((axis >= 0).any() for axis in own)},
        {name: tuple(sizes) for name, sizes in shapes.items()},
    )


def sort_units(axes: Sequence[Places], free: NDArray[np.bool_]) -> list[tuple[Places, Places, Places]]:
    """Roots, axes and places of units that lie on the same axes: [size], [k], [size, k], in the order of the roots."""
    roots = np.concatenate(axes) if axes else np.zeros(0, np.int64)
    which = np.repeat(np.arange(len(axes)), [axis.size for axis in axes])
    places = np.concatenate([np.arange(axis.size) for axis in axes]) if axes else roots
    chosen = np.flatnonzero(free[roots])
    order = chosen[np.lexsort((places[chosen], which[chosen], roots[chosen]))]
    roots, which, places = roots[order], which[order], places[order]
    starts = np.flatnonzero(np.diff(roots, prepend=-1))
    same: dict[bytes, list[int]] = {}
    ends = [*starts[1:].tolist(), *[roots.size] * bool(roots.size)]
    for start, end in zip(starts.tolist(), ends, strict=True):
        same.setdefault(which[start:end].tobytes(), []).append(start)
    found = []
    for key, begins in same.items():
        own = np.frombuffer(key, which.dtype)
        found.append((roots[begins], own, places[np.add.outer(begins, np.arange(own.size))]))
    return found


def describe(flow: Flow, parts: Parts, roots: Places, members: tuple[Member, ...], taken: set[str]) -> Group:
    own = np.zeros(parts.root.size, bool)
    own[roots] = True

    def touches(labels: Places) -> bool:
        return bool(own[parts.root[labels]].any())

    makers = [layer for layer in flow.layers if touches(layer.makes)]
    layers = [layer.node for layer in flow.layers if touches(layer.makes) or touches(layer.reads)]
    kind: Literal["channels", "neurons", "heads"] = "channels"
    if any(touches(labels) for labels in flow.heads):
        kind = "heads"
    elif all(layer.op in MATRICES for layer in makers):
        kind = "neurons"
    name, number = makers[0].title, 1
    while name in taken:
        number += 1
        name = f"{makers[0].title}#{number}"
    return Group(name, kind, len(roots), members, tuple(dict.fromkeys(layers)), not parts.inexact[roots].any())


def explain(flow: Flow, parts: Parts, unit: Places) -> dict[str, str]:
    """By layer of which nothing can be taken, why."""
    fixed = {}
    for layer in flow.layers:
        roots = parts.root[layer.makes]
        if (unit[roots] >= 0).any() or not layer.makes.size:
            continue
        reasons = parts.reason[roots]
        reasons = reasons[reasons >= 0]
        fixed[layer.title] = flow.atoms.reasons[int(reasons.min())] if reasons.size else "it makes one unit only"
    return {**fixed, **flow.left}
