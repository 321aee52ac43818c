"""A mutable ONNX graph: its nodes, its constants, and the values of every tensor in one run."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from edgewright.formats.neighbors import find_read_names
from edgewright.formats.onnx.constants import make_tensor
from edgewright.formats.onnx.editable import EditableGraph
from edgewright.schema.arrays import Array

Node = Any  # onnx.NodeProto: onnx is imported by functions only


class ObservedGraph(EditableGraph):
    """A graph of which all tensors were observed in one run.

    Attributes:
        values: an array of the run by tensor name, for shapes and types; without tensors that a rewrite made.
    """

    def __init__(self, model: Any, values: Mapping[str, Array]) -> None:
        super().__init__(model)
        self.values = values
        self._taken = set(values) | set(self.constants)
        self._numbers = itertools.count()

    def fresh(self, stem: str) -> str:
        """Return an unused tensor name."""
        name = next(n for n in (f"{stem}__{i}" for i in self._numbers) if n not in self._taken)
        self._taken.add(name)
        return name

    def add(self, array: Any, dtype: Any = None) -> str:
        """Add a constant and return its name."""
        name = self.fresh("constant")
        self.constants[name] = np.asarray(array, dtype)
        return name

    def integers(self, values: Iterable[int]) -> str:
        return self.add(list(values), np.int64)

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Return the sizes of a tensor of the source; KeyError for one that a rewrite made."""
        array = self.constants.get(tensor)
        return tuple(self.values[tensor].shape if array is None else array.shape)

    def is_float(self, tensor: str) -> bool:
        array = self.constants.get(tensor)
        return (self.values[tensor] if array is None else array).dtype.kind == "f"

    def constant(self, node: Node, position: int) -> Array | None:
        """Return the constant at an input of the node; None if it is absent or computed."""
        if position >= len(node.input) or not node.input[position]:
            return None
        return self.constants.get(node.input[position])

    def rename(self, old: str, new: str) -> None:
        """Rename `old` to `new` in all nodes."""
        for node in self.nodes:
            for names in (node.input, node.output):
                for position, name in enumerate(names):
                    if name == old:
                        names[position] = new


def make_node(op: str, inputs: Sequence[str], output: str, **attributes: Any) -> Node:
    """Return a node with one output, whose unique name it gets."""
    from onnx import helper

    return helper.make_node(op, list(inputs), [output], name=f"{op}_{output}", **attributes)


def write_graph(graph: ObservedGraph, opset: int) -> Any:
    """Return the model with only the constants and inputs that are read."""
    from onnx import TensorProto, helper

    read = find_read_names(graph.nodes)
    inputs = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(graph.values[name].dtype), graph.values[name].shape
        )
        for name in graph.inputs
        if name in read
    ]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, graph.values[name].shape) for name in graph.outputs
    ]
    constants = [make_tensor(name, array) for name, array in graph.constants.items() if name in read]
    made = helper.make_graph(graph.nodes, "graph", inputs, outputs, constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
