"""A graph with static shapes and small values, and the sizes that are computed from shapes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgewright.formats.neighbors import find_producers, find_readers
from edgewright.formats.onnx.attributes import keep_only, list_all_inputs, read_attributes, read_opset
from edgewright.formats.onnx.constants import (
    add_initializers,
    find_constants,
    list_inputs_without_constants,
    read_array,
)
from edgewright.formats.onnx.editable import EditableGraph
from edgewright.formats.onnx.fold import SMALL, ConstantFolder
from edgewright.formats.onnx.prepare import name_nodes
from edgewright.formats.onnx.typing_process import fix_input_sizes

SizeSource = tuple[str, int]  # a value and one of its axes
# Inputs that are sizes, which `prune_graph` rewrites.
SIZE_INPUTS = {
    "Reshape": (1,),
    "Expand": (1,),
    "ConstantOfShape": (0,),
    "Slice": (1, 2, 3, 4),
    "Resize": (3,),
    "Split": (1,),
}
KEEPS = ("Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze")


class StaticGraph:
    """A graph without its large weights.

    Attributes:
        graph: its nodes have names.
        stored: sizes of every dense constant in the file.
        values: small constants, including those that are computed from shapes.
        constant: names of values that depend on no input.
        sources: the sizes behind each element of a value that is computed from shapes.
    """

    def __init__(self, model: Any, shapes: Mapping[str, Sequence[int]]) -> None:
        stripped = EditableGraph.of(model).to_message(SMALL)
        del stripped.graph.value_info[:]  # shapes before the sizes of the inputs change
        fix_input_sizes(stripped.graph, {one.name for one in list_inputs_without_constants(stripped.graph)}, shapes)
        normalize_nodes(stripped.graph)
        self.graph = stripped.graph
        self.opset = read_opset(stripped, 1)
        folder = ConstantFolder(stripped)
        types = folder.resolve()
        self.shapes = {
            name: tuple(int(size) for size in kind.shape or ())
            for name, kind in types.items()
            if kind.elements() is not None
        }
        self.values, self.constant = folder.values, folder.constant
        sparse = {one.values.name for one in stripped.graph.sparse_initializer}
        self.stored = {name: size for name, size in self.shapes.items() if types[name].stored and name not in sparse}
        self.producer = find_producers(self.graph.node)
        self.consumers = find_readers(self.graph.node, lambda node: dict.fromkeys(list_all_inputs(node)))
        self.sources: dict[str, list[frozenset[SizeSource]]] = {}
        for node in self.graph.node:
            if all(name in self.values for name in node.output if name):
                self.trace_sizes(node)

    def trace_sizes(self, node: Any) -> None:
        """Trace the elements of a small constant to sizes."""
        read = [
            name for place, name in enumerate(node.input) if name and place not in SIZE_INPUTS.get(node.op_type, ())
        ]
        if node.op_type in ("Shape", "Size"):
            attributes = read_attributes(node)
            axes = range(len(self.shapes[read[0]]))[attributes.get("start", 0) : attributes.get("end")]
            each = [frozenset([(read[0], axis)]) for axis in axes]
            self.sources[node.output[0]] = each if node.op_type == "Shape" else [frozenset().union(*each)]
        elif any(name in self.sources for name in read):
            inputs = [self.sources.get(name) or [frozenset()] * self.values[name].size for name in read]
            flat = [one for parts in inputs for one in parts]
            for name in filter(None, node.output):
                made = [frozenset[SizeSource]().union(*flat)] * self.values[name].size
                if node.op_type == "Concat":
                    made = flat
                elif node.op_type == "Gather":
                    made = [inputs[0][int(place)] for place in self.values[node.input[1]].ravel()]
                elif node.op_type == "Slice" and len(node.input) > 2:
                    bounds = [node.input[1], node.input[2], *node.input[4:]]  # starts, ends, and steps where given
                    made = inputs[0][slice(*(int(self.values[one].ravel()[0]) for one in bounds))]
                elif node.op_type in KEEPS:
                    made = inputs[0]
                self.sources[name] = made

    def get_used_sizes(self, node: Any) -> frozenset[SizeSource]:
        """Return the sizes that a node computes with, which must not change."""
        if node.op_type in ("Shape", "Size") or all(name in self.values for name in node.output if name):
            return frozenset()
        places = SIZE_INPUTS.get(node.op_type, ())
        read = (name for place, name in enumerate(node.input) if place not in places)
        return frozenset[SizeSource]().union(*(one for name in read for one in self.sources.get(name, ())))


def normalize_nodes(graph: Any) -> None:
    """Name every node, and replace SplitToSequence by slices."""
    from onnx import helper

    name_nodes(graph)
    held = find_constants(graph)
    splits = {node.output[0]: node for node in graph.node if node.op_type == "SplitToSequence"}
    for node in graph.node:
        split = splits.get(node.input[0]) if node.op_type == "SequenceAt" else None
        if split is None or len(split.input) < 2 or not {node.input[1], split.input[1]} <= held.keys():
            continue
        place = int(read_array(held[node.input[1]]).ravel()[0])
        sizes = read_array(held[split.input[1]])
        if place < 0:
            continue
        start = place * sizes if sizes.ndim == 0 else sizes[:place].sum()
        end = start + (sizes if sizes.ndim == 0 else sizes[place])
        numbers = {"starts": int(start), "ends": int(end), "axes": read_attributes(split).get("axis", 0)}
        names = [f"{node.name}/{name}" for name in numbers]
        add_initializers(graph, {n: np.array([number]) for n, number in zip(names, numbers.values(), strict=True)})
        node.CopyFrom(helper.make_node("Slice", [split.input[0], *names], list(node.output), node.name))
    read = {name for node in graph.node for name in list_all_inputs(node)}
    keep_only(graph.node, [one for one in graph.node if one.op_type != "SplitToSequence" or one.output[0] in read])
