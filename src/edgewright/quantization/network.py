"""A float ONNX model for quantization: constants as arrays, producers and readers of tensors, weight nodes."""

from collections.abc import Mapping
from typing import Any

from edgewright.formats.neighbors import find_producers, find_readers, list_distinct_inputs
from edgewright.formats.onnx.attributes import read_opset
from edgewright.formats.onnx.editable import EditableGraph
from edgewright.formats.onnx.fold import SMALL, infer_shapes
from edgewright.formats.onnx.normalize.weights import find_weight_node, flatten_biases
from edgewright.schema.arrays import Array

FLOAT = 1  # TensorProto.FLOAT


class FloatNetwork:
    """A model with fixed shapes and names for all nodes.

    The graph is shared, not copied: a changed node changes for all users.

    Args:
        model: an EditableGraph, or a message with all weights.
    """

    def __init__(self, model: Any) -> None:
        self.graph = EditableGraph.of(model)
        flatten_biases(self.graph)
        self.nodes, self.constants = self.graph.nodes, self.graph.constants
        self.inputs, self.outputs = self.graph.inputs, self.graph.outputs
        inferred = infer_shapes(self.graph.to_message(SMALL))
        known = (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output)
        self.types = {value.name: value.type.tensor_type.elem_type for value in known}
        self.shapes = {value.name: _read_sizes(value) for value in known}
        self.producer = find_producers(self.nodes)
        self.consumers = find_readers(self.nodes, list_distinct_inputs)
        self._by_name = {node.name: node for node in self.nodes}
        self.opset = read_opset(self.graph.model)
        found = (find_weight_node(node, self.constants) for node in self.nodes)
        self.weight_nodes = {one.node: one for one in found if one is not None}

    def node(self, name: str) -> Any:
        return self._by_name[name]

    def is_float(self, name: str) -> bool:
        return bool(self.types.get(name, 0) == FLOAT)


def _read_sizes(value: Any) -> tuple[int, ...]:
    """Return the sizes of a tensor; 0 is unknown."""
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)


def get_clip_bounds(node: Any, constants: Mapping[str, Array]) -> tuple[float, float] | None:
    """Return the bounds of a Clip or Relu; None for other operators and for computed bounds."""
    if node.op_type == "Relu":
        return 0.0, float("inf")
    if node.op_type != "Clip":
        return None
    bounds = [-float("inf"), float("inf")]
    for position, name in enumerate(node.input[1:3]):
        if name and name not in constants:
            return None
        if name:
            bounds[position] = float(constants[name].reshape(-1)[0])
    return bounds[0], bounds[1]
