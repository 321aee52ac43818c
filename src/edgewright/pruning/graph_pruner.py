"""Removal of units from a graph."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.errors import UsageError
from edgewright.formats.neighbors import select_needed
from edgewright.formats.onnx.attributes import (
    OWN_DOMAINS,
    keep_only,
    list_all_inputs,
    read_attribute,
    read_attributes,
    write_attribute,
)
from edgewright.formats.onnx.constants import add_initializers, read_array, write_array
from edgewright.formats.onnx.editable import EditableGraph
from edgewright.formats.onnx.external import needs_data_file
from edgewright.formats.onnx.fold import SMALL
from edgewright.pruning.coupling import Labels
from edgewright.pruning.groups import PruningGroups
from edgewright.pruning.static_graph import StaticGraph, normalize_nodes
from edgewright.schema.arrays import Array

KeptUnits = Mapping[str, NDArray[np.int64]]  # by group the sorted indices of the kept units, at least one


def find_kept_indices(groups: PruningGroups, keep: KeptUnits) -> dict[str, dict[int, Labels]]:
    """Return the kept indices by initializer and axis, for axes that lose some.

    Raises:
        UsageError: `keep` has an unknown group, no unit of a group, or unknown units.
    """
    kept_mask = mark_kept_units(groups, keep)
    found: dict[str, dict[int, Labels]] = {}
    for group in groups.groups:
        for member in group.members if group.name in keep and keep[group.name].size < group.size else ():
            axis = groups.units[member.tensor][member.axis]
            found.setdefault(member.tensor, {})[member.axis] = np.flatnonzero(kept_mask[axis])
    return found


def mark_kept_units(groups: PruningGroups, keep: KeptUnits) -> NDArray[np.bool_]:
    """Return a flag for each unit, numbered over all groups; the last one, for indices in no unit, is True."""
    _check(groups, keep)
    parts = [np.isin(np.arange(one.size), keep.get(one.name, np.arange(one.size))) for one in groups.groups]
    return np.concatenate([*parts, [True]])


def _check(groups: PruningGroups, keep: KeptUnits) -> None:
    sizes = {group.name: group.size for group in groups.groups}
    for name, units in keep.items():
        if name not in sizes:
            raise UsageError(f"the model has no group '{name}'", f"its groups are {', '.join(sizes) or 'none'}")
        if not units.size:
            raise UsageError(
                f"all units of '{name}' would be removed",
                "each group keeps at least one unit",
                "keep at least one unit",
            )
        if (np.diff(units) <= 0).any() or units[0] < 0 or units[-1] >= sizes[name]:
            raise UsageError(
                f"'{name}' has the units 0 to {sizes[name] - 1}", "list each unit once, in ascending order"
            )


def prune_graph(model: Any, groups: PruningGroups, keep: KeptUnits) -> Any:
    """Return the model as an `onnx.ModelProto` with only the units in `keep`; other groups keep all units.

    It computes the same as the original with zero weights of the other units (`PruningGroup.exact`). `groups` is the
    result of `find_groups` for `model`, which is not changed. Sizes that the graph computes from shapes become
    constants.

    Args:
        model: an `EditableGraph`, or an `onnx.ModelProto`.

    Raises:
        UsageError: `keep` is not valid for the groups.
    """
    import onnx

    source = EditableGraph.of(model)
    kept_mask = mark_kept_units(groups, keep)
    if kept_mask.all():
        return source.to_message()
    made = source.to_message(SMALL)
    normalize_nodes(made.graph)
    GraphPruner(StaticGraph(source, groups.shapes), groups, kept_mask, source.constants).prune(made.graph)
    source.fill(made)
    if not needs_data_file(made):
        onnx.checker.check_model(made)
    return made


class GraphPruner:
    """Updates each operator's parameters for the kept indices."""

    def __init__(
        self,
        static_graph: StaticGraph,
        groups: PruningGroups,
        kept_mask: NDArray[np.bool_],
        constants: Mapping[str, Array],
    ) -> None:
        self._outline, self._groups, self._stays, self._constants = static_graph, groups, kept_mask, constants
        self._graph: Any = None

    def prune(self, graph: Any) -> None:
        self._graph = graph
        for tensor in graph.initializer:
            self.prune_tensor(tensor, tensor.name)
        for node in list(graph.node):
            if node.domain not in OWN_DOMAINS:
                continue
            if node.op_type == "Constant":
                for attribute in node.attribute:
                    if attribute.HasField("t"):
                        self.prune_tensor(attribute.t, node.output[0])
            elif (update := NODE_UPDATERS.get(node.op_type)) is not None:
                update(self, node)
        for value in graph.input:  # old files list initializers as inputs too
            if value.name in self._groups.units:
                for dim, size in zip(value.type.tensor_type.shape.dim, self.kept(value.name), strict=True):
                    dim.dim_value = size
        keep_only(graph.value_info, [value for value in graph.value_info if value.name not in self._groups.units])
        _remove_unused(graph)

    def prune_tensor(self, tensor: Any, name: str) -> None:
        axes = self._groups.units.get(name)
        if axes is None:
            return
        array = self._constants[name] if name in self._constants else read_array(tensor)
        for axis in range(array.ndim):
            array = np.compress(self.kept_flags(name)[axis], array, axis)
        write_array(tensor, np.ascontiguousarray(array))

    def kept_flags(self, name: str) -> list[NDArray[np.bool_]]:
        """Return the kept indices as flags, by axis."""
        if name in self._groups.units:
            return [self._stays[axis] for axis in self._groups.units[name]]
        return [np.ones(size, bool) for size in self._outline.shapes[name]]

    def kept(self, name: str) -> list[int]:
        return [int(axis.sum()) for axis in self.kept_flags(name)]

    def read_ints(self, node: Any, place: int, name: str) -> list[int]:
        attributes = read_attributes(node)
        if name in attributes:
            return list(attributes[name])
        given = len(node.input) > place and node.input[place]
        return self._outline.values[node.input[place]].ravel().tolist() if given else []

    def write(self, node: Any, place: int, name: str, values: Sequence[int]) -> None:
        """Write a parameter: as an attribute, or as a constant that only this node reads."""
        if name in read_attributes(node):
            write_attribute(node, name, list(values))
            return
        while len(node.input) <= place:
            node.input.append("")
        self.replace(node, place, name, np.asarray(values, np.int64))

    def replace(self, node: Any, place: int, name: str, array: NDArray[Any]) -> None:
        node.input[place] = f"{node.name}/{name}/kept"
        add_initializers(self._graph, {node.input[place]: array})

    def is_computed(self, node: Any, place: int) -> bool:
        """Return whether a parameter is computed from another tensor's shape, which may have changed."""
        return len(node.input) > place and bool(node.input[place]) and node.input[place] not in self._outline.stored


def _update_conv(pruner: GraphPruner, node: Any) -> None:
    """Update a convolution: if the weights' second axis is complete, whole groups are removed."""
    groups = read_attributes(node).get("group", 1)
    if groups == 1:
        return
    wide = pruner.kept(node.input[0] if node.op_type == "Conv" else node.output[0])[1]
    left = wide // pruner.kept(node.input[1])[1]
    write_attribute(node, "group", left)


def _update_group_norm(pruner: GraphPruner, node: Any) -> None:
    kept_flags = pruner.kept_flags(node.input[0])[1]
    write_attribute(node, "num_groups", read_attribute(node, "num_groups") * int(kept_flags.sum()) // kept_flags.size)


def _update_target_shape(pruner: GraphPruner, node: Any) -> None:
    """Update explicit sizes of Reshape and Expand; 1, −1 and Reshape's 0 remain valid."""
    before, after = pruner.read_ints(node, 1, "shape"), pruner.kept(node.output[0])
    wanted = before
    if node.op_type == "Reshape" and len(before) == len(after):
        wanted = [size if old > 0 else old for old, size in zip(before, after, strict=True)]
    elif node.op_type == "Expand":
        after = after[len(after) - len(before) :]
        wanted = [size if old > 1 else old for old, size in zip(before, after, strict=True)]
    if wanted != before or pruner.is_computed(node, 1):
        pruner.write(node, 1, "shape", wanted)


def _update_filled_shape(pruner: GraphPruner, node: Any) -> None:
    if pruner.kept(node.output[0]) != pruner.read_ints(node, 0, "") or pruner.is_computed(node, 0):
        pruner.write(node, 0, "shape", pruner.kept(node.output[0]))


def _update_split(pruner: GraphPruner, node: Any) -> None:
    axis = int(read_attributes(node).get("axis", 0)) % len(pruner.kept_flags(node.input[0]))
    if pruner.kept_flags(node.input[0])[axis].all() and not pruner.is_computed(node, 1):
        return
    sizes = [pruner.kept(name)[axis] for name in node.output]
    if pruner._outline.opset < 13 and "split" not in read_attributes(node):
        write_attribute(node, "split", sizes)
        return
    keep_only(node.attribute, [one for one in node.attribute if one.name != "num_outputs"])
    pruner.write(node, 1, "split", sizes)


def _update_slice(pruner: GraphPruner, node: Any) -> None:
    """Convert starts and ends to positions among the kept indices."""
    kept_flags = pruner.kept_flags(node.input[0])
    starts, ends = pruner.read_ints(node, 1, "starts"), pruner.read_ints(node, 2, "ends")
    axes = [axis % len(kept_flags) for axis in pruner.read_ints(node, 3, "axes") or range(len(starts))]
    changed = any(pruner.is_computed(node, place) for place in range(1, 5))
    for place, axis in enumerate(axes):
        if not kept_flags[axis].all():
            changed = True
            start, end, _ = slice(starts[place], ends[place]).indices(kept_flags[axis].size)
            starts[place] = int(kept_flags[axis][:start].sum())
            ends[place] = int(kept_flags[axis][:end].sum())
    if changed:
        pruner.write(node, 1, "starts", starts)
        pruner.write(node, 2, "ends", ends)


def _update_resize(pruner: GraphPruner, node: Any) -> None:
    if len(node.input) > 3 and node.input[3]:
        axes = read_attributes(node).get("axes") or range(len(pruner.read_ints(node, 3, "sizes")))
        kept = pruner.kept(node.output[0])
        pruner.write(node, 3, "sizes", [kept[axis] for axis in axes])


def _update_gather(pruner: GraphPruner, node: Any) -> None:
    """Convert indices to positions among the kept ones; an axis without removals does not change."""
    kept_flags = pruner.kept_flags(node.input[0])
    axis = int(read_attributes(node).get("axis", 0)) % len(kept_flags)
    numbers = pruner._outline.values.get(node.input[1])
    if kept_flags[axis].all() or numbers is None:
        return
    numbers = numbers % kept_flags[axis].size
    kept = (np.cumsum(kept_flags[axis]) - 1)[numbers[kept_flags[axis][numbers]]]
    pruner.replace(node, 1, "indices", kept.reshape([1 if size == 1 else -1 for size in numbers.shape]))


def _update_recurrent(pruner: GraphPruner, node: Any) -> None:
    if "hidden_size" in read_attributes(node):
        write_attribute(node, "hidden_size", pruner.kept(node.input[2])[2])


def _remove_unused(graph: Any) -> None:
    """Remove nodes and constants that nothing reads, such as replaced sizes."""
    ends = {value.name for value in (*graph.output, *graph.input)}
    keep_only(graph.node, select_needed(graph.node, ends, list_all_inputs))
    needed = ends.union(*map(list_all_inputs, graph.node))
    keep_only(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in needed])


NODE_UPDATERS = {
    "ConstantOfShape": _update_filled_shape,
    "Conv": _update_conv,
    "ConvTranspose": _update_conv,
    "Expand": _update_target_shape,
    "Gather": _update_gather,
    "GroupNormalization": _update_group_norm,
    "GRU": _update_recurrent,
    "LSTM": _update_recurrent,
    "RNN": _update_recurrent,
    "Reshape": _update_target_shape,
    "Resize": _update_resize,
    "Slice": _update_slice,
    "Split": _update_split,
}
