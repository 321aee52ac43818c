"""Propagation of labels through a graph by the rules of its operators."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from edgewright.formats.onnx.attributes import OWN_DOMAINS, find_outer_names, read_attributes
from edgewright.pruning.coupling import FIXED_LABEL, Axes, CouplingBuilder, Labels
from edgewright.pruning.static_graph import StaticGraph


class NodeRejected(Exception):
    """The error that a rule does not support a node, with the reason."""


class LayerLabels(NamedTuple):
    """A node with constant weights: its title and the labels of its outputs."""

    node: str
    op: str
    title: str
    makes: Labels
    reads: Labels


class ReshapeSplit(NamedTuple):
    """A Reshape that splits an axis: the factor with the labels, and the number of possible factors."""

    node: str
    carried: Labels
    choices: int


class LabelPropagation:
    """Labels of every value, and the findings of the rules.

    Attributes:
        layers: nodes with constant weights, in order.
        left: the reason by name of a layer that no rule supports.
        splits: every Reshape with several possible factors.
        heads: batch labels of products of two computed tensors.
    """

    def __init__(self, static_graph: StaticGraph, choices: Mapping[str, int]) -> None:
        self.static_graph, self.choices = static_graph, choices
        self.coupling_builder = CouplingBuilder()
        self.labels: dict[str, Axes] = {}
        self.layers: list[LayerLabels] = []
        self.left: dict[str, str] = {}
        self.splits: list[ReshapeSplit] = []
        self.heads: list[Labels] = []

    def labels_of(self, name: str) -> Axes:
        """Return the labels of a value. Raises NodeRejected if its shape is unknown."""
        if name not in self.labels:
            shape = self.static_graph.shapes.get(name)
            if shape is None:
                raise NodeRejected(f"the shape of '{name}' is unknown")
            stored = name in self.static_graph.stored
            self.labels[name] = tuple(map(self.coupling_builder.make if stored else make_fixed_labels, shape))
        return self.labels[name]

    def input_labels(self, node: Any, place: int) -> Axes:
        return self.labels_of(node.input[place])

    def has_input(self, node: Any, place: int) -> bool:
        return len(node.input) > place and bool(node.input[place])

    def is_constant(self, node: Any, place: int) -> bool:
        return node.input[place] in self.static_graph.constant

    def made(self, node: Any, place: int = 0) -> tuple[int, ...]:
        """Return the shape of an output."""
        shape = self.static_graph.shapes.get(node.output[place])
        if shape is None:
            raise NodeRejected(f"the shape of '{node.output[place]}' is unknown")
        return shape

    def read_ints(self, node: Any, place: int, name: str) -> list[int] | None:
        """Read a parameter that is an attribute in old opsets and an input in new ones; None if it is absent."""
        attributes = read_attributes(node)
        if name in attributes:
            return [int(one) for one in np.atleast_1d(attributes[name])]
        if not self.has_input(node, place):
            return None
        if node.input[place] not in self.static_graph.values:
            raise NodeRejected(f"its {name} are computed from the input")
        return [int(one) for one in self.static_graph.values[node.input[place]].ravel()]

    def couple(self, node: Any, left: Labels, right: Labels) -> None:
        if left.shape != right.shape and 1 not in (left.size, right.size):
            raise NodeRejected("its sizes do not match")
        self.coupling_builder.couple(
            left, right, f"'{node.name}' ({node.op_type}) combines them with units that must be kept"
        )

    def require_all(self, node: Any, *places: Labels) -> None:
        for one in places:
            self.coupling_builder.fix(one, f"'{node.name}' ({node.op_type}) requires all of them")

    def run(self, rules: Mapping[str, "PropagationRule"]) -> None:
        """Apply the rule of every node in order, then keep the outputs whole."""
        for node in self.static_graph.graph.node:
            if node.op_type == "Constant" and node.domain in OWN_DOMAINS:
                continue
            try:
                for name, place in self.static_graph.get_used_sizes(node):
                    self.require_all(node, self.labels_of(name)[place])
                rule = rules.get(node.op_type, _reject_operator) if node.domain in OWN_DOMAINS else _reject_operator
                self.store_outputs(node, rule(self, node))
            except NodeRejected as rejection:
                self.reject(node, f"'{node.name}' ({node.op_type}): {rejection}")
        for value in self.static_graph.graph.output:
            if value.name in self.static_graph.shapes:
                for axis in self.labels_of(value.name):
                    self.coupling_builder.fix(axis, f"'{value.name}' is an output of the model")

    def store_outputs(self, node: Any, outputs: Sequence[Axes]) -> None:
        """Store a rule's outputs after a check of their sizes."""
        for place, (name, axes) in enumerate(zip(node.output, outputs, strict=False)):
            if not name:
                continue
            if tuple(axis.size for axis in axes) != self.made(node, place):
                raise NodeRejected("its output has an unexpected shape")
            for axis in axes:
                if axis.size == 1:
                    self.coupling_builder.fix(axis, f"'{node.name}' ({node.op_type}) reduces an axis to one element")
            self.labels[name] = axes

    def reject(self, node: Any, why: str) -> None:
        for name in dict.fromkeys((*node.input, *find_outer_names(node))):
            if name and name in self.static_graph.shapes:
                for axis in self.labels_of(name):
                    self.coupling_builder.fix(axis, why)
        for place, name in enumerate(node.input):
            if len(self.static_graph.stored.get(name, ())) > 1:
                self.left[self.title(node, place)] = why
        for name in node.output:
            self.labels.pop(name, None)

    def note_layer(self, node: Any, place: int, makes: Labels, reads: Labels) -> None:
        """Note a layer with the labels that it produces and reads, if the input at `place` is constant."""
        if self.is_constant(node, place):
            self.coupling_builder.assign(makes, "out")
            self.coupling_builder.assign(reads, "in")
            self.layers.append(LayerLabels(node.name, node.op_type, self.title(node, place), makes, reads))

    def title(self, node: Any, place: int) -> str:
        """Return the name of the module that owns the weights, if they are named after it, else the node's name."""
        name: str = node.input[place]
        while (
            name not in self.static_graph.stored
            and (producer := self.static_graph.producer.get(name)) is not None
            and producer.input
        ):
            name = producer.input[0]
        if all(part.isidentifier() or part.isdecimal() for part in name.split(".")) and "." in name:
            return name.removesuffix(".weight")
        return str(node.name)


PropagationRule = Callable[[LabelPropagation, Any], list[Axes]]


def _reject_operator(propagation: LabelPropagation, node: Any) -> list[Axes]:
    raise NodeRejected(f"pruning does not support {node.op_type}")


def make_fixed_labels(count: int) -> Labels:
    return np.full(count, FIXED_LABEL, np.int64)
