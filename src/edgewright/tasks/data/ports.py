"""Mapping between a source model's arrays and an artifact's inputs and outputs."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from edgewright.errors import ModelUnreadable
from edgewright.schema.arrays import Array
from edgewright.schema.artifact import IoMap, Port
from edgewright.schema.model import TensorSpec
from edgewright.tasks.data.tensors import store_as


def feed_artifact(feeds: Mapping[str, Array], io_map: IoMap, *, stacked: bool = False) -> dict[str, Array]:
    """Convert the source's inputs by name to the artifact's inputs.

    With `stacked` each array has one more leading axis, which is preserved. Raises ModelUnreadable for a record that
    does not match.
    """
    found = {}
    for port in io_map.inputs:
        with by_record(port):
            found[port.name] = to_artifact(feeds[port.source], port, lead=int(stacked))
    return found


def read_artifact_outputs(outputs: Mapping[str, Array], io_map: IoMap, *, stacked: bool = False) -> dict[str, Array]:
    """Convert the artifact's outputs to the source's names, order of axes, shapes and dtypes.

    Raises ModelUnreadable for a record that does not match.
    """
    found = {}
    for port in io_map.outputs:
        with by_record(port):
            found[port.source] = to_source(outputs[port.name], port, lead=int(stacked))
    return found


@contextmanager
def by_record(port: Port) -> Iterator[None]:
    """Raise ModelUnreadable for any failure in the block, because the record of the port is wrong."""
    try:
        yield
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        why = f"{port.source[:80]!r} does not fit: {type(error).__name__}: {str(error)[:200]}"
        raise ModelUnreadable("the artifact does not match its record", why, "compile the model again") from error


def to_artifact(array: Array, port: Port, *, lead: int = 0) -> Array:
    moved = array.transpose(_shift_axes(port.axes, lead))
    if len(port.shape) == len(port.axes):  # sizes of -1 are those of the array
        sizes = zip(port.shape, moved.shape[lead:], strict=True)
        own = tuple(given if size == -1 else size for size, given in sizes)
    else:
        own = port.shape
    return _store_in(moved.reshape(array.shape[:lead] + own), port)


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
    """Return the permutation after `lead` unchanged axes."""
    return (*range(lead), *(axis + lead for axis in axes))
