"""A float ONNX model for quantization: constants as arrays, producers and readers of tensors, weight nodes."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from edgewright.formats.neighbors import find_producers, find_readers, list_distinct_inputs
from edgewright.formats.onnx.attributes import OWN_DOMAINS, read_attributes, read_opset
from edgewright.formats.onnx.constants import (
    add_initializers,
    list_inputs_without_constants,
    read_array,
    read_initializers,
)
from edgewright.formats.onnx.fold import copy_without_weights, infer_shapes
from edgewright.schema.arrays import Array

FLOAT = 1  # TensorProto.FLOAT


class WeightNode(NamedTuple):
    """An operator with constant weights: Conv, ConvTranspose, Gemm or MatMul.

    Attributes:
        node: its name.
        input: the tensor that the weights multiply.
        weight: name of the constant weights.
        bias: name of the constant bias; empty if there is none.
        output: the output tensor.
        axis: axis of the weights for the output channels.
        groups: of a convolution; 1 for a matrix product.
    """

    node: str
    op: str
    input: str
    weight: str
    bias: str
    output: str
    axis: int
    groups: int


class FloatNetwork:
    """A model with fixed shapes and names for all nodes.

    The graph is shared, not copied: a changed node changes for all users.
    """

    def __init__(self, model: Any) -> None:
        _flatten_biases(model)
        self.model = model
        self.nodes = list(model.graph.node)
        self.constants = read_initializers(model.graph)
        inferred = infer_shapes(copy_without_weights(model))
        known = (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output)
        self.types = {value.name: value.type.tensor_type.elem_type for value in known}
        self.shapes = {value.name: _read_sizes(value) for value in known}
        self.inputs = [value.name for value in list_inputs_without_constants(model.graph)]
        self.outputs = [value.name for value in model.graph.output]
        self.producer = find_producers(self.nodes)
        self.consumers = find_readers(self.nodes, list_distinct_inputs)
        self._by_name = {node.name: node for node in self.nodes}
        self.opset = read_opset(model)
        self.weight_nodes = {
            weight_node.node: weight_node for node in self.nodes if (weight_node := self._find_site(node)) is not None
        }

    def _find_site(self, node: Any) -> WeightNode | None:
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul") or node.domain not in OWN_DOMAINS:
            return None
        weight = self.constants.get(node.input[1])
        if weight is None or weight.dtype != np.float32 or node.input[0] in self.constants:
            return None
        bias = node.input[2] if len(node.input) > 2 else ""
        if bias and (bias not in self.constants or self.constants[bias].ndim != 1):
            return None
        attributes = read_attributes(node)
        if node.op_type == "MatMul" and weight.ndim != 2:
            return None
        if node.op_type == "Gemm" and (
            attributes.get("transA", 0) or attributes.get("alpha", 1.0) != 1.0 or attributes.get("beta", 1.0) != 1.0
        ):
            return None
        axis = 0 if node.op_type == "Conv" or (node.op_type == "Gemm" and attributes.get("transB", 0)) else 1
        groups = int(attributes.get("group", 1))
        if node.op_type == "ConvTranspose" and groups != 1:
            return None
        return WeightNode(node.name, node.op_type, node.input[0], node.input[1], bias, node.output[0], axis, groups)

    def node(self, name: str) -> Any:
        return self._by_name[name]

    def is_float(self, name: str) -> bool:
        return bool(self.types.get(name, 0) == FLOAT)


def _read_sizes(value: Any) -> tuple[int, ...]:
    """Return the sizes of a tensor; 0 is unknown."""
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)


def _flatten_biases(model: Any) -> None:
    """Reshape the constant bias of each Gemm to [outputs] if it is a scalar or a one-row matrix."""
    shapes = {one.name: tuple(one.dims) for one in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "Gemm" or len(node.input) < 3 or not {node.input[1], node.input[2]} <= shapes.keys():
            continue
        outputs = shapes[node.input[1]][0 if read_attributes(node).get("transB", 0) else 1]
        shape = shapes[node.input[2]]
        if shape == (outputs,) or len(shape) > 2 or shape not in ((), (1,), (1, 1), (1, outputs)):
            continue
        array = next(read_array(one) for one in model.graph.initializer if one.name == node.input[2])
        row = np.ascontiguousarray(np.broadcast_to(array.reshape(-1), (outputs,)))
        node.input[2] = f"{node.name}/bias-row"
        add_initializers(model.graph, {node.input[2]: row})


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
