"""Labels on their way through a graph: what an operator's rule reads and what it leaves."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from edgewright.compress.network import attributes_of
from edgewright.compress.pruning.atoms import STAYS, Atoms, Axes, Places
from edgewright.formats.onnx_fold import SMALL, Folder
from edgewright.formats.onnx_typing import OWN_DOMAINS, outer_names, settle_inputs
from edgewright.formats.prepare import name_nodes

# Inputs that are sizes, written anew where they change; a size that is computed and used elsewhere holds its source.
SIZES = {"Reshape": (1,), "Expand": (1,), "Slice": (1, 2, 3, 4), "Resize": (3,), "Split": (1,)}


class Refused(Exception):
    """A rule does not take this node; the text says why."""


class Layer(NamedTuple):
    """A node with constant weights: its outputs' labels, and by which name it is told."""

    node: str
    op: str
    title: str
    makes: Places
    reads: Places


class Split(NamedTuple):
    """A Reshape that splits an axis: which of its parts carries the labels, of how many that could."""

    node: str
    carried: Places
    choices: int


class Outline:
    """A graph without its large weights: shapes and small values, found once.

    Attributes:
        graph: its nodes have names.
        stored: sizes of every constant that lies in the file.
        values: small constants, also such as are computed from shapes.
        constant: names of values that depend on no input.
    """

    def __init__(self, model: Any, shapes: Mapping[str, Sequence[int]]) -> None:
        bare = strip(model)
        given = {one.name for one in bare.graph.initializer}
        settle_inputs(bare.graph, {one.name for one in bare.graph.input if one.name not in given}, shapes)
        name_nodes(bare.graph)
        self.graph = bare.graph
        self.opset = max((one.version for one in bare.opset_import if one.domain in OWN_DOMAINS), default=1)
        folder = Folder(bare)
        types = folder.settle()
        self.shapes = {name: kind.shape for name, kind in types.items() if kind.elements() is not None}
        self.values, self.constant = folder.values, folder.constant
        self.stored = {name: kind.shape or () for name, kind in types.items() if kind.stored and name in self.shapes}
        self.maker = {name: node for node in self.graph.node for name in node.output if name}
        self.readers: dict[str, list[Any]] = defaultdict(list)
        for node in self.graph.node:
            for name in dict.fromkeys((*node.input, *outer_names(node))):
                self.readers[name].append(node)


def strip(model: Any) -> Any:
    """A copy in which large initializers have no numbers."""
    import onnx

    bare = onnx.ModelProto(ir_version=model.ir_version)
    bare.opset_import.extend(model.opset_import)
    bare.functions.extend(model.functions)
    graph = bare.graph
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    graph.sparse_initializer.extend(model.graph.sparse_initializer)
    for tensor in model.graph.initializer:
        if np.prod(tensor.dims) <= SMALL:
            graph.initializer.append(tensor)
        else:
            graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    return bare


class Flow:
    """Labels of every value, and what the rules found on the way.

    Attributes:
        layers: nodes with constant weights, in order.
        left: by name of a layer that no rule takes, why.
        splits: every Reshape that had a choice.
        heads: labels over which a product of two computed tensors repeats.
    """

    def __init__(self, outline: Outline, choices: Mapping[str, int]) -> None:
        self.outline, self.choices = outline, choices
        self.atoms = Atoms()
        self.labels: dict[str, Axes] = {}
        self.layers: list[Layer] = []
        self.left: dict[str, str] = {}
        self.splits: list[Split] = []
        self.heads: list[Places] = []
        self._sources: dict[str, set[str]] = {}

    def of(self, name: str) -> Axes:
        """The labels of a value; Refused where its shape is not known."""
        if name not in self.labels:
            shape = self.outline.shapes.get(name)
            if shape is None:
                raise Refused(f"the shape of '{name}' is not known")
            stored = name in self.outline.stored
            self.labels[name] = tuple(self.atoms.make(int(n)) if stored else stay(int(n)) for n in shape)
        return self.labels[name]

    def take(self, node: Any, place: int) -> Axes:
        return self.of(node.input[place])

    def has(self, node: Any, place: int) -> bool:
        return len(node.input) > place and bool(node.input[place])

    def is_constant(self, node: Any, place: int) -> bool:
        return node.input[place] in self.outline.constant

    def made(self, node: Any, place: int = 0) -> tuple[int, ...]:
        """The shape of an output."""
        shape = self.outline.shapes.get(node.output[place])
        if shape is None:
            raise Refused(f"the shape of '{node.output[place]}' is not known")
        return tuple(int(size) for size in shape)

    def ints(self, node: Any, place: int, name: str) -> list[int] | None:
        """A parameter that is an attribute in old operator sets and an input in new ones; None where it is left out."""
        attributes = attributes_of(node)
        if name in attributes:
            return [int(one) for one in np.atleast_1d(attributes[name])]
        if not self.has(node, place):
            return None
        if node.input[place] not in self.outline.values:
            raise Refused(f"its {name} are computed from the input")
        return [int(one) for one in self.outline.values[node.input[place]].ravel()]

    def tie(self, node: Any, left: Places, right: Places) -> None:
        if left.shape != right.shape and 1 not in (left.size, right.size):
            raise Refused("its sizes do not fit")
        self.atoms.tie(left, right, f"'{node.name}' ({node.op_type}) joins them with places that stay")

    def hold(self, node: Any, *places: Places) -> None:
        for one in places:
            self.atoms.fix(one, f"'{node.name}' ({node.op_type}) needs all of them")

    def run(self) -> None:
        """Every node in order, then the outputs."""
        from edgewright.compress.pruning.operators import RULES

        for node in self.outline.graph.node:
            if node.op_type == "Constant" and node.domain in OWN_DOMAINS:
                continue
            try:
                rule = RULES.get(node.op_type) if node.domain in OWN_DOMAINS else None
                if rule is None:
                    raise Refused(f"pruning does not follow {node.op_type}")
                self.watch_sizes(node)
                self.leave(node, rule(self, node))
            except Refused as refusal:
                self.refuse(node, f"'{node.name}' ({node.op_type}): {refusal}")
        for value in self.outline.graph.output:
            if value.name in self.outline.shapes:
                for axis in self.of(value.name):
                    self.atoms.fix(axis, f"'{value.name}' is an output of the model")

    def leave(self, node: Any, outputs: Sequence[Axes]) -> None:
        """Take what a rule says of the outputs, each with the size that is known."""
        for place, (name, axes) in enumerate(zip(node.output, outputs, strict=False)):
            if not name:
                continue
            if tuple(axis.size for axis in axes) != self.made(node, place):
                raise Refused("its output has another shape than expected")
            for axis in axes:
                if axis.size == 1:
                    self.atoms.fix(axis, f"'{node.name}' ({node.op_type}) makes an axis of one place")
            self.labels[name] = axes

    def refuse(self, node: Any, why: str) -> None:
        for name in dict.fromkeys((*node.input, *outer_names(node))):
            if name and name in self.outline.shapes:
                for axis in self.of(name):
                    self.atoms.fix(axis, why)
                if name in self.outline.stored and len(self.outline.stored[name]) > 1:
                    self.left[node.name] = why
        for name in node.output:
            self.labels.pop(name, None)

    def watch_sizes(self, node: Any) -> None:
        """A size that is computed from a tensor's shape and then calculated with holds that tensor as it is."""
        if node.op_type in ("Shape", "Size"):
            self._sources[node.output[0]] = {node.input[0]}
            return
        places = SIZES.get(node.op_type, ())
        read = [name for place, name in enumerate(node.input) if name in self._sources and place not in places]
        found = set().union(*(self._sources[name] for name in read))
        if found and all(name in self.outline.values for name in node.output if name):
            self._sources.update(dict.fromkeys(node.output, found))
            return
        for name in found:
            self.hold(node, *self.of(name))

    def note_layer(self, node: Any, place: int, makes: Places, reads: Places) -> None:
        """Where the input at `place` is constant: what this layer makes and reads."""
        if self.is_constant(node, place):
            self.atoms.assign(makes, "out")
            self.atoms.assign(reads, "in")
            self.layers.append(Layer(node.name, node.op_type, self.title(node, place), makes, reads))

    def title(self, node: Any, place: int) -> str:
        """The name of the module whose weights these are, where they are named after it; else the node's."""
        name = node.input[place]
        while name not in self.outline.stored and (maker := self.outline.maker.get(name)) is not None and maker.input:
            name = maker.input[0]
        if all(part.isidentifier() or part.isdecimal() for part in name.split(".")) and "." in name:
            return name.removesuffix(".weight")
        return str(node.name)


def stay(count: int) -> Places:
    return np.full(count, STAYS, np.int64)
