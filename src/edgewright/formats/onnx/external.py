"""External weights of an ONNX model: their files, and checks that they may and can be read.

Every reader of a model calls `check_external` before anything loads it. Models are not trusted: weights must be in
the model's folder, without links that point outside, and each range must be within its file. A runtime that maps a file
that is shorter than the model says would be killed by a signal. A few bytes can refer to the range of a large file many
times, so the sum of all ranges is compared with the memory limit too.
"""

import re
from collections.abc import Iterable, Iterator
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from edgewright.errors import ExternalDataMissing, ModelUnreadable
from edgewright.limits import read_budget

EXTERNAL = 1  # TensorProto.DataLocation
PROTOBUF_LIMIT = 2**31 - 1
# ONNX Runtime reads such a location as an address in its own memory.
MEMORY_ADDRESS_MARK = "_ORT_MEM_ADDR_"
# Bits of one element, by TensorProto.DataType; texts cannot be external.
BITS = {
    **dict.fromkeys((21, 22, 23), 4),
    **dict.fromkeys((25, 26), 2),
    **dict.fromkeys((2, 3, 9, 17, 18, 19, 20, 24), 8),
    **dict.fromkeys((4, 5, 10, 16), 16),
    **dict.fromkeys((1, 6, 12), 32),
    **dict.fromkeys((7, 11, 13, 14), 64),
    15: 128,
}
EXPORT_AGAIN = "copy or export the model again, together with its weights"


class DataRange(NamedTuple):
    """Position of a tensor's data; `length` is None if it follows from the tensor's sizes."""

    name: str
    offset: int
    length: int | None


def check_external(path: Path, model: Any) -> tuple[str, ...]:
    """Return the names of a model's weight files, relative to it, in the order of first use.

    Raises:
        ExternalDataMissing: a file is absent, is not a regular file, or is outside of the model's folder.
        ModelUnreadable: a range is not in integers, exceeds its file, or does not fit its tensor.
        LimitReached: the tensors have more bytes in total than their files, by more than the memory limit.
    """
    sizes: dict[str, int] = {}
    total = 0
    for tensor in external_tensors(model):
        place = read_range(tensor)
        if place.name not in sizes:
            sizes[place.name] = find_data_file(path, place.name).stat().st_size
        check_range(path, tensor, place, sizes[place.name])
        total += _count_bytes(tensor)
    what = f"the weights of {path.name[:200]}, which share ranges of its files"
    read_budget().check_bytes(total - sum(sizes.values()), what)
    return tuple(sizes)


def load_external(path: Path, model: Any) -> None:
    """Read the weights into the message, after `check_external`."""
    check_external(path, model)
    for tensor in external_tensors(model):
        load_tensor(path, tensor)


def load_tensor(path: Path, tensor: Any) -> None:
    """Read the bytes of a tensor's sizes into the message."""
    place = read_range(tensor)
    with find_data_file(path, place.name).open("rb") as file:
        file.seek(place.offset)
        tensor.raw_data = file.read(_count_bytes(tensor))
    tensor.ClearField("data_location")
    del tensor.external_data[:]


def needs_data_file(model: Any) -> bool:
    """Return whether a message is too large for one file, so that its weights must be external."""
    from google.protobuf.message import EncodeError  # type: ignore[import-untyped]  # ships no types

    try:
        return bool(model.ByteSize() > PROTOBUF_LIMIT)
    except EncodeError:  # too large for protobuf to count its bytes
        return True


def external_tensors(model: Any) -> Iterator[Any]:
    """Find all tensors of a model whose data is in other files."""
    return (tensor for tensor in iterate_model_tensors(model) if tensor.data_location == EXTERNAL)


def iterate_model_tensors(model: Any) -> Iterator[Any]:
    yield from iterate_graph_tensors(model.graph)
    for training in model.training_info:
        yield from iterate_graph_tensors(training.initialization)
        yield from iterate_graph_tensors(training.algorithm)
    for function in model.functions:
        yield from _tensors_of_nodes(function.node)
        yield from _tensors_of_attributes(function.attribute_proto)


def iterate_graph_tensors(graph: Any) -> Iterator[Any]:
    """Find the initializers, and the constants in the operators' attributes, including subgraphs."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes: Iterable[Any]) -> Iterator[Any]:
    for node in nodes:
        yield from _tensors_of_attributes(node.attribute)


def _tensors_of_attributes(attributes: Iterable[Any]) -> Iterator[Any]:
    for attribute in attributes:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for inner in (attribute.g, *attribute.graphs):
            yield from iterate_graph_tensors(inner)


def read_range(tensor: Any) -> DataRange:
    """Return the position of a tensor's data. Raises ModelUnreadable if it is given twice, or not in integers."""
    entries: dict[str, str] = {}
    for entry in tensor.external_data:
        if entry.key in entries:
            raise _unreadable(tensor, f"it has the key {entry.key[:40]} twice")
        entries[entry.key] = entry.value
    length = entries.get("length")
    return DataRange(
        entries.get("location", ""),
        _read_count(tensor, "offset", entries.get("offset", "0")),
        None if length is None else _read_count(tensor, "length", length),
    )


def _read_count(tensor: Any, key: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,19}", text):
        raise _unreadable(tensor, f"its {key} is '{text[:40]}', which is not a number of bytes")
    return int(text)


def check_range(path: Path, tensor: Any, place: DataRange, size: int) -> None:
    """Raise ModelUnreadable if the tensor's data is not within its file of `size` bytes."""
    if tensor.data_type not in BITS:
        raise _unreadable(tensor, "its type cannot be stored in a file")
    needed = _count_bytes(tensor)
    if place.length not in (None, needed):
        raise _unreadable(tensor, f"its sizes need {_show_count(needed)} bytes, but its length is {place.length}")
    end = place.offset + needed
    if end > size:
        raise ModelUnreadable(
            f"the weight file '{place.name[:200]}' of {path} is too short",
            f"it has {size} bytes, but '{tensor.name[:200]}' extends to byte {_show_count(end)}",
            EXPORT_AGAIN,
        )


def _count_bytes(tensor: Any) -> int:
    """Return the bytes of a tensor of these sizes and this type in a file."""
    count: int = prod(max(0, size) for size in tensor.dims)
    return -(-count * BITS[tensor.data_type] // 8)


def _show_count(count: int) -> str:
    return str(count) if count < 2**63 else "2^63 or more"


def _unreadable(tensor: Any, why: str) -> ModelUnreadable:
    return ModelUnreadable(f"the weights '{tensor.name[:200]}' cannot be read", why, EXPORT_AGAIN)


def find_data_file(model: Path, name: str) -> Path:
    """Return the path of a weight file, which must be in the model's folder or below it after resolving links."""
    parts = PurePosixPath(name)
    if not name or parts.is_absolute() or ".." in parts.parts or MEMORY_ADDRESS_MARK in name:
        raise ExternalDataMissing(
            f"{model} stores weights outside its folder",
            f"location '{name[:200]}'",
            "export it with a plain file name for its weights",
        )
    path = model.parent / name
    if not _is_file_inside(path):
        what, why = f"{model} needs the weight file '{name[:200]}'", f"it is not in {model.parent}"
        if model.is_symlink():
            raise ExternalDataMissing(
                what, f"{why}, where the link is", f"give the model's own path: {model.resolve()}"
            )
        raise ExternalDataMissing(what, why)
    # A model that is a link itself (as in a download cache) may have its weights beside its target.
    folders = (model.parent.resolve(), model.resolve().parent)
    if not any(path.resolve().is_relative_to(folder) for folder in folders):
        raise ExternalDataMissing(
            f"{model} stores weights outside its folder",
            f"'{name[:200]}' is a link to {path.resolve()}",
            "copy the file itself into the model's folder",
        )
    return path


def _is_file_inside(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # an invalid file name
        return False
