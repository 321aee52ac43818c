"""Groups of a graph's channels, neurons and heads that can be removed, with everything that is coupled to them.

Every axis of every tensor is a vector of labels, one per index. Operators couple labels: an addition those of its
operands, a convolution its input's channels with its weights' second axis. A connected component without fixed labels
is a unit; units on the same axes of the same values are a group. This is the dependency graph of Fang et al. 2023
(https://arxiv.org/abs/2301.12900), index by index instead of layer by layer, so that concatenations, splits and
flattened pixels need no special rules.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgewright.pruning.coupling import FIXED_LABEL, OUT, Axes, Coupling, Labels
from edgewright.pruning.operators import RULES
from edgewright.pruning.propagation import LabelPropagation
from edgewright.pruning.static_graph import StaticGraph
from edgewright.schema.names import find_free_name

ROLES = ("", OUT, "in", "scale")
MATRICES = ("Gemm", "MatMul", "Gather")


class GroupMember(NamedTuple):
    """Indices of one axis of one constant.

    Attributes:
        tensor: the initializer's (or Constant's) name.
        axis: its axis.
        indices: [size, k], the k indices along the axis that belong to each unit.
        role: `out` of a layer that produces the units, `in` of one that reads them, `scale` of a normalization; or
            empty, as for biases.
    """

    tensor: str
    axis: int
    indices: NDArray[np.int64]
    role: str


class PruningGroup(NamedTuple):
    """Units of the same weights and values that can be removed one by one, except the last one.

    Attributes:
        name: of the first layer that produces them.
        size: number of units.
        layers: names of the nodes whose weights shrink.
        exact: whether removing a unit is the same as setting it to zero; false if a layer normalization computes its
            statistics over the units.
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
        fixed: the reason by name of a layer (or node) that cannot be pruned.
        units: by value and axis the unit of each index, numbered over all groups; −1 is fixed. Only values with units.
        shapes: input shapes for which this is valid.
    """

    groups: tuple[PruningGroup, ...]
    fixed: dict[str, str]
    units: dict[str, Axes]
    shapes: dict[str, tuple[int, ...]]


def find_groups(model: Any, shapes: Mapping[str, Sequence[int]]) -> PruningGroups:
    """Return the groups of a model, which is not changed.

    Args:
        model: an `EditableGraph`, or an `onnx.ModelProto` with weights.
        shapes: sizes of inputs. For others a leading dynamic size is set to 1.

    Raises:
        InputError: `shapes` has an unknown input or a wrong shape.
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
    """Return whether some of these labels are not fixed."""
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
    """Return roots, axes and indices of units on the same axes: [size], [k], [size, k], sorted by root."""
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
    name = find_free_name(producers[0].title, taken)
    return PruningGroup(
        name, kind, len(roots), members, tuple(dict.fromkeys(layers)), not coupling.inexact[roots].any()
    )


def _explain(propagation: LabelPropagation, coupling: Coupling, unit: Labels) -> dict[str, str]:
    """Return the reason by layer that cannot be pruned."""
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
