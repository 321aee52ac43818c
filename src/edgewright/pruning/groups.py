"""Which channels, neurons and heads of a graph can be taken out, and what goes with each of them.

Every axis of every tensor is a vector of labels, one per place. Operators tie labels together: an addition those of
its operands, a convolution its input's channels with its weights' second axis. A connected part of labels, none of
which has to stay, is a unit; units that lie on the same axes of the same values are a group. This is the dependency
graph of Fang et al. 2023 (https://arxiv.org/abs/2301.12900), place by place instead of layer by layer, so that
concatenations, splits and flattened pixels need no rule of their own.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgewright.pruning.coupling import FIXED_LABEL, OUT, Axes, Coupling, Labels
from edgewright.pruning.operators import RULES
from edgewright.pruning.propagation import LabelPropagation
from edgewright.pruning.static_graph import StaticGraph

ROLES = ("", OUT, "in", "scale")
MATRICES = ("Gemm", "MatMul", "Gather")


class GroupMember(NamedTuple):
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


class PruningGroup(NamedTuple):
    """Units that can go one by one, from the same weights and values: with one of them left, nothing is left empty.

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
    members: tuple[GroupMember, ...]
    layers: tuple[str, ...]
    exact: bool


class PruningGroups(NamedTuple):
    """All groups of a graph, in its order.

    Attributes:
        fixed: by name of a layer (or node) that cannot be pruned, why.
        units: by value and axis the unit of each place, counted through over all groups; −1 stays. Only of values
            that have any.
        shapes: of the inputs for which this holds.
    """

    groups: tuple[PruningGroup, ...]
    fixed: dict[str, str]
    units: dict[str, Axes]
    shapes: dict[str, tuple[int, ...]]


def find_groups(model: Any, shapes: Mapping[str, Sequence[int]]) -> PruningGroups:
    """The groups of an ONNX model (`onnx.ModelProto`, weights included), which stays as it is.

    Args:
        shapes: sizes of inputs. Of one that is not named a leading free size is taken as 1.

    Raises:
        InputError: `shapes` names no input, or does not fit one.
    """
    static_graph = StaticGraph(model, shapes)
    choices: dict[str, int] = {}
    while True:
        propagation = LabelPropagation(static_graph, choices)
        propagation.run(RULES)
        coupling = propagation.coupling_builder.settle()
        stuck = [
            one
            for one in propagation.splits
            if one.choices > choices.get(one.node, 0) and not _has_free_labels(coupling, one.carried)
        ]
        if not stuck:
            return _gather_groups(propagation, coupling, shapes)
        for one in stuck:
            choices[one.node] = choices.get(one.node, 0) + 1


def _has_free_labels(coupling: Coupling, labels: Labels) -> bool:
    """Whether some of these labels do not have to stay."""
    return bool(((labels != FIXED_LABEL) & (coupling.reason[coupling.root[labels]] < 0)).any())


def _gather_groups(
    propagation: LabelPropagation, coupling: Coupling, shapes: Mapping[str, Sequence[int]]
) -> PruningGroups:
    makes = np.zeros(coupling.root.size, bool)
    for layer in propagation.layers:
        makes[coupling.root[layer.makes]] = True
    free = makes & (coupling.reason < 0)
    free[FIXED_LABEL] = False
    axes = [
        (name, axis, places)
        for name, own in propagation.labels.items()
        for axis, places in enumerate(own)
        if places.any()
    ]
    found = _sort_units([coupling.root[labels] for _, _, labels in axes], free)
    unit = np.full(coupling.root.size, -1)  # by root
    groups: list[PruningGroup] = []
    count = 0
    for roots, which, places in found:
        if len(roots) < 2:
            continue
        unit[roots] = np.arange(count, count + len(roots))
        count += len(roots)
        members = []
        for one in dict.fromkeys(which.tolist()):
            name, axis, labels = axes[one]
            if name in propagation.static_graph.stored:
                indices = places[:, which == one]
                members.append(GroupMember(name, axis, indices, ROLES[coupling.role[labels[indices[0, 0]]]]))
        groups.append(_describe(propagation, coupling, roots, tuple(members), {group.name for group in groups}))
    units = {name: tuple(unit[coupling.root[axis]] for axis in labels) for name, labels in propagation.labels.items()}
    return PruningGroups(
        tuple(groups),
        _explain(propagation, coupling, unit),
        {name: own for name, own in units.items() if any((axis >= 0).any() for axis in own)},
        {name: tuple(sizes) for name, sizes in shapes.items()},
    )


def _sort_units(axes: Sequence[Labels], free: NDArray[np.bool_]) -> list[tuple[Labels, Labels, Labels]]:
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


def _describe(
    propagation: LabelPropagation, coupling: Coupling, roots: Labels, members: tuple[GroupMember, ...], taken: set[str]
) -> PruningGroup:
    own = np.zeros(coupling.root.size, bool)
    own[roots] = True

    def touches(labels: Labels) -> bool:
        return bool(own[coupling.root[labels]].any())

    producers = [layer for layer in propagation.layers if touches(layer.makes)]
    layers = [layer.node for layer in propagation.layers if touches(layer.makes) or touches(layer.reads)]
    kind: Literal["channels", "neurons", "heads"] = "channels"
    if any(touches(labels) for labels in propagation.heads):
        kind = "heads"
    elif all(layer.op in MATRICES for layer in producers):
        kind = "neurons"
    name, number = producers[0].title, 1
    while name in taken:
        number += 1
        name = f"{producers[0].title}#{number}"
    return PruningGroup(
        name, kind, len(roots), members, tuple(dict.fromkeys(layers)), not coupling.inexact[roots].any()
    )


def _explain(propagation: LabelPropagation, coupling: Coupling, unit: Labels) -> dict[str, str]:
    """By layer of which nothing can be taken, why."""
    fixed = {}
    for layer in propagation.layers:
        roots = coupling.root[layer.makes]
        if (unit[roots] >= 0).any() or not layer.makes.size:
            continue
        reasons = coupling.reason[roots]
        reasons = reasons[reasons >= 0]
        why = "it has only one unit" if layer.makes.size == 1 else "none of its units can be removed alone"
        fixed[layer.title] = propagation.coupling_builder.reasons[int(reasons.min())] if reasons.size else why
    return {**fixed, **propagation.left}
