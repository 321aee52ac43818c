"""Constants of ONNX graphs as arrays."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from edgewright.formats.onnx.attributes import OWN_DOMAINS, read_attribute

Array = NDArray[Any]


def read_array(tensor: Any) -> Array:
    from onnx import numpy_helper

    return numpy_helper.to_array(tensor)


def make_tensor(name: str, array: Array) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(array, name)


def read_initializers(graph: Any) -> dict[str, Array]:
    return {tensor.name: read_array(tensor) for tensor in graph.initializer}


def add_initializers(graph: Any, arrays: Mapping[str, Array]) -> None:
    graph.initializer.extend(make_tensor(name, array) for name, array in arrays.items())


def write_array(tensor: Any, array: Array) -> None:
    """Replace the data of a tensor, which keeps its name."""
    tensor.CopyFrom(make_tensor(tensor.name, array))


def find_constants(graph: Any) -> dict[str, Any]:
    """Return the constant tensors as messages: the initializers, and those of Constant nodes."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if (
            node.op_type == "Constant"
            and node.domain in OWN_DOMAINS
            and (held := read_attribute(node, "value")) is not None
        ):
            tensors[node.output[0]] = held
    return tensors


def list_inputs_without_constants(graph: Any) -> list[Any]:
    """Return the inputs of a graph; old files list initializers among them."""
    constants = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in constants]
