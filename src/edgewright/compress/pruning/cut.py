"""A graph without some of its units."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.compress.network import attributes_of
from edgewright.compress.pruning.atoms import Places
from edgewright.compress.pruning.groups import Groups
from edgewright.compress.pruning.outline import Outline, settle_nodes
from edgewright.errors import UsageError
from edgewright.formats.cut import keep_only, read_by
from edgewright.formats.onnx_external import needs_data_file
from edgewright.formats.onnx_typing import OWN_DOMAINS

Keep = Mapping[str, NDArray[np.int64]]  # by group the numbers of the units that stay, sorted, at least one


def kept_places(groups: Groups, keep: Keep) -> dict[str, dict[int, Places]]:
    """By initializer and axis the places that stay, where some go.

    Raises:
        UsageError: `keep` names no group, or none of its units, or units that it does not have.
    """
    stays = kept_units(groups, keep)
    found: dict[str, dict[int, Places]] = {}
    for group in groups.groups:
        for member in group.members if group.name in keep and keep[group.name].size < group.size else ():
            axis = groups.units[member.tensor][member.axis]
            found.setdefault(member.tensor, {})[member.axis] = np.flatnonzero(stays[axis])
    return found


def kept_units(groups: Groups, keep: Keep) -> NDArray[np.bool_]:
    """By unit, counted through, whether it stays; the last, for places that are in none, always does."""
    check(groups, keep)
    parts = [np.isin(np.arange(one.size), keep.get(one.name, np.arange(one.size))) for one in groups.groups]
    return np.concatenate([*parts, [True]])


def check(groups: Groups, keep: Keep) -> None:
    sizes = {group.name: group.size for group in groups.groups}
    for name, units in keep.items():
        if name not in sizes:
            raise UsageError(f"the model has no group '{name}'", f"its groups are {', '.join(sizes) or 'none'}")
        if not units.size:
            raise UsageError(f"nothing would be left of '{name}'", "each group keeps one unit at least", "prune less")
        if (np.diff(units) <= 0).any() or units[0] < 0 or units[-1] >= sizes[name]:
            raise UsageError(f"'{name}' has the units 0 to {sizes[name] - 1}", "each is named once, in order")


def cut_graph(model: Any, groups: Groups, keep: Keep) -> Any:
    """The model (`onnx.ModelProto`) with only the units in `keep`; groups that are not named stay whole.

    It computes what the original does when the weights of the other units are zero (`Group.exact`). `groups` are those
    that `find_groups` found in `model`, which stays as it is. Sizes that a graph computes from shapes are written out.

    Raises:
        UsageError: `keep` does not fit.
    """
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(model)
    stays = kept_units(groups, keep)
    if stays.all():
        return made
    settle_nodes(made.graph)
    Scissors(Outline(model, groups.shapes), groups, stays).cut(made.graph)
    if not needs_data_file(made):
        onnx.checker.check_model(made)
    return made


class Scissors:
    """Which places stay, and how what an operator says of them is put right."""

    def __init__(self, outline: Outline, groups: Groups, stays: NDArray[np.bool_]) -> None:
        self._outline, self._groups, self._stays = outline, groups, stays
        self._graph: Any = None

    def cut(self, graph: Any) -> None:
        self._graph = graph
        for tensor in graph.initializer:
            self.cut_tensor(tensor, tensor.name)
        for node in list(graph.node):
            if node.domain not in OWN_DOMAINS:
                continue
            if node.op_type == "Constant":
                for attribute in node.attribute:
                    if attribute.HasField("t"):
                        self.cut_tensor(attribute.t, node.output[0])
            elif (mend := MENDERS.get(node.op_type)) is not None:
                mend(self, node)
        for value in graph.input:  # of old files, which list initializers as inputs too
            if value.name in self._groups.units:
                for dim, size in zip(value.type.tensor_type.shape.dim, self.kept(value.name), strict=True):
                    dim.dim_value = size
        keep_only(graph.value_info, [value for value in graph.value_info if value.name not in self._groups.units])
        sweep(graph)

    def cut_tensor(self, tensor: Any, name: str) -> None:
        from onnx import numpy_helper

        axes = self._groups.units.get(name)
        if axes is None:
            return
        array = numpy_helper.to_array(tensor)
        for axis in range(array.ndim):
            array = np.compress(self.flags(name)[axis], array, axis)
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))

    def flags(self, name: str) -> list[NDArray[np.bool_]]:
        """By axis, which places stay."""
        if name in self._groups.units:
            return [self._stays[axis] for axis in self._groups.units[name]]
        return [np.ones(size, bool) for size in self._outline.shapes[name]]

    def kept(self, name: str) -> list[int]:
        return [int(axis.sum()) for axis in self.flags(name)]

    def ints(self, node: Any, place: int, name: str) -> list[int]:
        attributes = attributes_of(node)
        if name in attributes:
            return list(attributes[name])
        given = len(node.input) > place and node.input[place]
        return self._outline.values[node.input[place]].ravel().tolist() if given else []

    def write(self, node: Any, place: int, name: str, values: Sequence[int]) -> None:
        """A parameter anew: as the attribute that it is, or as a constant of this node alone."""
        from onnx import helper

        attributes = [one for one in node.attribute if one.name == name]
        if attributes:
            attributes[0].CopyFrom(helper.make_attribute(name, list(values)))
            return
        while len(node.input) <= place:
            node.input.append("")
        self.replace(node, place, name, np.asarray(values, np.int64))

    def replace(self, node: Any, place: int, name: str, array: NDArray[Any]) -> None:
        from onnx import numpy_helper

        node.input[place] = f"{node.name}/{name}/kept"
        self._graph.initializer.append(numpy_helper.from_array(array, node.input[place]))

    def is_computed(self, node: Any, place: int) -> bool:
        """Whether a parameter comes from another tensor's shape, which may be another one now."""
        return len(node.input) > place and bool(node.input[place]) and node.input[place] not in self._outline.stored


def mend_conv(scissors: Scissors, node: Any) -> None:
    """Whole groups went, or the same places of each: the weights' second axis tells which."""
    from onnx import helper

    groups = attributes_of(node).get("group", 1)
    if groups == 1:
        return
    wide = scissors.kept(node.input[0] if node.op_type == "Conv" else node.output[0])[1]
    left = wide // scissors.kept(node.input[1])[1]
    next(one for one in node.attribute if one.name == "group").CopyFrom(helper.make_attribute("group", left))


def mend_group_norm(scissors: Scissors, node: Any) -> None:
    attribute = next(one for one in node.attribute if one.name == "num_groups")
    flags = scissors.flags(node.input[0])[1]
    attribute.i = attribute.i * int(flags.sum()) // flags.size


def mend_sizes(scissors: Scissors, node: Any) -> None:
    """Reshape and Expand: sizes that are named; a 1, a −1 and Reshape's 0 stay right."""
    before, after = scissors.ints(node, 1, "shape"), scissors.kept(node.output[0])
    wanted = before
    if node.op_type == "Reshape" and len(before) == len(after):
        wanted = [size if old > 0 else old for old, size in zip(before, after, strict=True)]
    elif node.op_type == "Expand":
        after = after[len(after) - len(before) :]
        wanted = [size if old > 1 else old for old, size in zip(before, after, strict=True)]
    if wanted != before or scissors.is_computed(node, 1):
        scissors.write(node, 1, "shape", wanted)


def mend_filled(scissors: Scissors, node: Any) -> None:
    if scissors.kept(node.output[0]) != scissors.ints(node, 0, "") or scissors.is_computed(node, 0):
        scissors.write(node, 0, "shape", scissors.kept(node.output[0]))


def mend_split(scissors: Scissors, node: Any) -> None:
    axis = int(attributes_of(node).get("axis", 0)) % len(scissors.flags(node.input[0]))
    if scissors.flags(node.input[0])[axis].all() and not scissors.is_computed(node, 1):
        return
    sizes = [scissors.kept(name)[axis] for name in node.output]
    if scissors._outline.opset < 13 and not any(one.name == "split" for one in node.attribute):
        from onnx import helper

        node.attribute.append(helper.make_attribute("split", sizes))
        return
    kept = [one for one in node.attribute if one.name != "num_outputs"]
    del node.attribute[:]
    node.attribute.extend(kept)
    scissors.write(node, 1, "split", sizes)


def mend_slice(scissors: Scissors, node: Any) -> None:
    """Begin and end counted among the places that stay."""
    flags = scissors.flags(node.input[0])
    starts, ends = scissors.ints(node, 1, "starts"), scissors.ints(node, 2, "ends")
    axes = [axis % len(flags) for axis in scissors.ints(node, 3, "axes") or range(len(starts))]
    changed = any(scissors.is_computed(node, place) for place in range(1, 5))
    for place, axis in enumerate(axes):
        if not flags[axis].all():
            changed = True
            start, end, _ = slice(starts[place], ends[place]).indices(flags[axis].size)
            starts[place] = int(flags[axis][:start].sum())
            ends[place] = int(flags[axis][:end].sum())
    if changed:
        scissors.write(node, 1, "starts", starts)
        scissors.write(node, 2, "ends", ends)


def mend_resize(scissors: Scissors, node: Any) -> None:
    if len(node.input) > 3 and node.input[3]:
        axes = attributes_of(node).get("axes") or range(len(scissors.ints(node, 3, "sizes")))
        kept = scissors.kept(node.output[0])
        scissors.write(node, 3, "sizes", [kept[axis] for axis in axes])


def mend_gather(scissors: Scissors, node: Any) -> None:
    """Numbers of places that stay, counted among them; where the axis lost none, they are left."""
    flags = scissors.flags(node.input[0])
    axis = int(attributes_of(node).get("axis", 0)) % len(flags)
    numbers = scissors._outline.values.get(node.input[1])
    if flags[axis].all() or numbers is None:
        return
    numbers = numbers % flags[axis].size
    kept = (np.cumsum(flags[axis]) - 1)[numbers[flags[axis][numbers]]]
    scissors.replace(node, 1, "indices", kept.reshape([1 if size == 1 else -1 for size in numbers.shape]))


def mend_recurrent(scissors: Scissors, node: Any) -> None:
    for attribute in node.attribute:
        if attribute.name == "hidden_size":
            attribute.i = scissors.kept(node.input[2])[2]


def sweep(graph: Any) -> None:
    """Take out what nothing reads any more, as sizes that were replaced."""
    needed = {value.name for value in (*graph.output, *graph.input)}
    nodes = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            nodes.append(node)
            needed.update(read_by(node))
    keep_only(graph.node, nodes[::-1])
    keep_only(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in needed])


MENDERS = {
    "ConstantOfShape": mend_filled,
    "Conv": mend_conv,
    "ConvTranspose": mend_conv,
    "Expand": mend_sizes,
    "Gather": mend_gather,
    "GroupNormalization": mend_group_norm,
    "GRU": mend_recurrent,
    "LSTM": mend_recurrent,
    "RNN": mend_recurrent,
    "Reshape": mend_sizes,
    "Resize": mend_resize,
    "Slice": mend_slice,
    "Split": mend_split,
}
