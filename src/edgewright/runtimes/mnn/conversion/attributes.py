"""Attributes, constants and sizes of ONNX nodes and tensors."""

from collections.abc import Mapping
from typing import Any


def read_attribute(node: Any, name: str, default: Any) -> Any:
    from onnx.helper import get_attribute_value

    return next((get_attribute_value(one) for one in node.attribute if one.name == name), default)


def write_attribute(node: Any, name: str, value: Any) -> None:
    """Set the attribute, or replace it."""
    from onnx.helper import make_attribute

    kept = [one for one in node.attribute if one.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, make_attribute(name, value)])


def read_constants(graph: Any) -> dict[str, Any]:
    """Return the constant tensors in ONNX's form: initializers, and those of Constant
    nodes.
    """
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and (value := read_attribute(node, "value", None)) is not None:
            tensors[node.output[0]] = value
    return tensors


def read_shapes(graph: Any) -> Mapping[str, tuple[int, ...]]:
    """Return the sizes of all tensors with static shapes."""
    found = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            found[value.name] = tuple(dim.dim_value for dim in dims)
    return found
