"""Constants of ONNX graphs as arrays."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgewright.errors import ExternalDataMissing, ModelUnreadable
from edgewright.formats.onnx.attributes import OWN_DOMAINS, read_attribute
from edgewright.formats.onnx.external import EXTERNAL, check_range, find_data_file, load_tensor, read_range
from edgewright.formats.onnx.weightless import StrippedModel
from edgewright.schema.arrays import Array

# Types of NumPy, by TensorProto's numbers; others are unpacked by onnx.
PLAIN = {1: "<f4", 2: "u1", 3: "i1", 4: "<u2", 5: "<i2", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8"}


def read_array(tensor: Any) -> Array:
    from onnx import numpy_helper

    return numpy_helper.to_array(tensor)


def map_array(tensor: Any, model: Path | None, stripped: StrippedModel | None = None) -> Array:
    """Return the data of a tensor, which stays in its file if NumPy has its type.

    Raises ModelUnreadable if the bytes do not fit the sizes, and ExternalDataMissing.
    """
    dtype, shape = PLAIN.get(tensor.data_type), tuple(tensor.dims)
    try:
        if tensor.data_location == EXTERNAL:
            return _map_external(tensor, model)
        if stripped is not None and tensor.name in stripped.places:
            if dtype and (data := stripped.view(tensor.name, np.dtype(dtype), shape)) is not None:
                return data
            tensor.raw_data = stripped.read(tensor.name)
        return np.asarray(read_array(tensor))
    except (ValueError, TypeError, KeyError, OverflowError, OSError) as error:
        raise ModelUnreadable(f"the weights '{tensor.name[:200]}' cannot be read", str(error)[:300]) from None


def _map_external(tensor: Any, model: Path | None) -> Array:
    if model is None:
        raise ExternalDataMissing(
            "the model stores its weights in a separate file", "it was given as bytes", "give the path of the model"
        )
    place = read_range(tensor)
    path = find_data_file(model, place.name)
    check_range(model, tensor, place, path.stat().st_size)
    if tensor.data_type in PLAIN and all(tensor.dims):
        return np.memmap(path, PLAIN[tensor.data_type], "r", place.offset, tuple(tensor.dims))
    load_tensor(model, tensor)
    return np.asarray(read_array(tensor))


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


def fold_batch_norm(
    weights: Array, bias: Array | None, statistics: Iterable[Array], epsilon: float, axis: int
) -> tuple[Array, Array]:
    """Return float32 weights and bias of the layer that computes `scale × (layer − mean) / √(variance + ε) + shift`.

    Args:
        statistics: scale, shift, mean and variance.
        axis: of the weights for the output channels.
    """
    scale, shift, mean, variance = (one.astype(np.float64) for one in statistics)
    factor = scale / np.sqrt(variance + epsilon)
    along = factor.reshape([-1 if at == axis else 1 for at in range(weights.ndim)])
    start = 0.0 if bias is None else bias.astype(np.float64)
    return (weights * along).astype(np.float32), ((start - mean) * factor + shift).astype(np.float32)


def read_static_shapes(graph: Any) -> dict[str, tuple[int, ...]]:
    """Return the sizes of all values that have fixed ones."""
    found = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            found[value.name] = tuple(dim.dim_value for dim in dims)
    return found
