"""Between a source's arrays and those that an artifact takes and gives."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.errors import ModelUnreadable
from edgewright.schema.artifact import IoMap, Port
from edgewright.schema.model import TensorSpec
from edgewright.tasks.data.tensors import store_as

Array = NDArray[Any]


def feed_artifact(feeds: Mapping[str, Array], io_map: IoMap, *, stacked: bool = False) -> dict[str, Array]:
    """The source's inputs, by its names, as the artifact takes them.

    With `stacked` each array has one more leading axis, which stays. Raises ModelUnreadable for a record that does not
    fit.
    """
    found = {}
    for port in io_map.inputs:
        with by_record(port):
            found[port.name] = to_artifact(feeds[port.source], port, lead=int(stacked))
    return found


def read_artifact_outputs(outputs: Mapping[str, Array], io_map: IoMap, *, stacked: bool = False) -> dict[str, Array]:
    """The artifact's outputs as the source would have given them: its names, order of axes, shapes and dtypes.

    Raises ModelUnreadable for a record that does not fit.
    """
    found = {}
    for port in io_map.outputs:
        with by_record(port):
            found[port.source] = to_source(outputs[port.name], port, lead=int(stacked))
    return found


@contextmanager
def by_record(port: Port) -> Iterator[None]:
    """What fails in the block fails for what the record says of this port, and becomes a ModelUnreadable."""
    try:
        yield
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        why = f"{port.source[:80]!r} does not fit: {type(error).__name__}: {str(error)[:200]}"
        raise ModelUnreadable("the artifact does not match its record", why, "compile the model again") from error


def to_artifact(array: Array, port: Port, *, lead: int = 0) -> Array:
    moved = array.transpose(_shift_axes(port.axes, lead))
    return _store_in(moved.reshape(array.shape[:lead] + port.shape), port)


def _store_in(array: Array, port: Port) -> Array:
    if port.quantization is None or array.dtype.name == port.dtype:
        return np.ascontiguousarray(array, dtype=port.dtype).reshape(array.shape)
    return store_as(array, TensorSpec(name=port.name, dtype=port.dtype, shape=(), quantization=port.quantization))


def to_source(array: Array, port: Port, *, lead: int = 0) -> Array:
    moved = tuple(port.source_shape[axis] for axis in port.axes)
    values = _dequantize_values(array, port)
    if -1 not in moved:
        values = values.reshape(array.shape[:lead] + moved)
    return np.ascontiguousarray(values.transpose(np.argsort(_shift_axes(port.axes, lead))))


def _dequantize_values(array: Array, port: Port) -> Array:
    if port.quantization is None or port.source_dtype == port.dtype:
        return array.astype(port.source_dtype, copy=False)
    centered = array.astype(np.float32) - np.float32(port.quantization.zero_point)
    return (centered * np.float32(port.quantization.scale)).astype(port.source_dtype)


def _shift_axes(axes: Sequence[int], lead: int) -> tuple[int, ...]:
    """The permutation behind `lead` axes that stay where they are."""
    return (*range(lead), *(axis + lead for axis in axes))
