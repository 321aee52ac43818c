"""An ONNX file's message without its large weights: they are neither read nor copied, but mapped on request.

A model of 1.5 GB is then a message of some hundred kilobytes. The fields are those of onnx.proto3: ModelProto.graph 7,
GraphProto.initializer 5, TensorProto.name 8 and raw_data 9, and float_data 4, int32_data 5, int64_data 7,
double_data 10, uint64_data 11 (https://protobuf.dev/programming-guides/encoding/).
"""

import mmap
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from io import SEEK_END
from pathlib import Path
from typing import BinaryIO, overload

import numpy as np

from edgewright.schema.arrays import Array

GRAPH, INITIALIZER, NODE, ATTRIBUTE = 7, 5, 1, 5
TENSOR, INNER_GRAPH, TENSORS, INNER_GRAPHS = 5, 6, 10, 11
NAME, RAW_DATA = 8, 9
NUMBERS = {4, 5, 7, RAW_DATA, 10, 11}
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
LARGE = 4096
MOST_DAMAGED = 2**26  # of a file that is not a message, enough for the parser's error
# Fields on the path from the message to tensors, and to the initializers of the main graph only.
MODEL, IN_GRAPH, IN_NODE, IN_ATTRIBUTE, IN_TENSOR = range(5)
FieldPaths = dict[int, dict[int, int]]
ALL_TENSORS: FieldPaths = {
    MODEL: {GRAPH: IN_GRAPH},
    IN_GRAPH: {INITIALIZER: IN_TENSOR, NODE: IN_NODE},
    IN_NODE: {ATTRIBUTE: IN_ATTRIBUTE},
    IN_ATTRIBUTE: {TENSOR: IN_TENSOR, TENSORS: IN_TENSOR, INNER_GRAPH: IN_GRAPH, INNER_GRAPHS: IN_GRAPH},
    IN_TENSOR: {},
}
INITIALIZERS: FieldPaths = {MODEL: {GRAPH: IN_GRAPH}, IN_GRAPH: {INITIALIZER: IN_TENSOR}, IN_TENSOR: {}}


class MalformedMessage(Exception):
    """Raised for bytes that are not protobuf fields."""


class FileBytes:
    """The bytes of a file, which are read on access: a mapped file that is shortened meanwhile ends the process."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __len__(self) -> int:
        return self._file.seek(0, SEEK_END)

    @overload
    def __getitem__(self, place: int) -> int: ...
    @overload
    def __getitem__(self, place: slice) -> bytes: ...
    def __getitem__(self, place: int | slice) -> int | bytes:
        low, high = (place.start, place.stop) if isinstance(place, slice) else (place, place + 1)
        self._file.seek(low)
        data = self._file.read(high - low)
        if len(data) < high - low:
            raise MalformedMessage
        return data if isinstance(place, slice) else data[0]


Bytes = FileBytes | memoryview | bytes


@dataclass(frozen=True)
class StrippedModel:
    """A model's bytes without its large initializers, and their positions in `data`, a mapped or an open file, by
    name."""

    message: bytes
    data: Bytes
    places: dict[str, tuple[int, int]]

    def view(self, name: str, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> Array | None:
        """Return the data of an initializer that was left in place. Raises ValueError if it does not fit its shape."""
        if name not in self.places:
            return None
        begin, end = self.places[name]
        count = int(np.prod(shape, dtype=np.int64))
        if count * dtype.itemsize != end - begin:
            raise ValueError(f"{end - begin} bytes for {count} values of {dtype}")
        data, at = (self.data[begin:end], 0) if isinstance(self.data, FileBytes) else (self.data, begin)
        return np.frombuffer(data, dtype, count, at).reshape(shape)

    def read(self, name: str) -> bytes | None:
        """Return a copy of the bytes of an initializer that was left in place."""
        begin, end = self.places.get(name, (0, 0))
        return bytes(self.data[begin:end]) if name in self.places else None


def load_without_weights(path: Path) -> bytes:
    """Return the message of a file without the data of tensors of over 4 kB; all bytes if they are not
    fields.

    Raises OSError for a file that cannot be read.
    """
    with path.open("rb") as file:
        try:
            data = FileBytes(file)
            return b"".join(_strip(data, (0, len(data)), MODEL, ALL_TENSORS))
        except (MalformedMessage, RecursionError):
            file.seek(0)
            return file.read(MOST_DAMAGED)


def map_file(model: Path | bytes) -> memoryview:
    """Return the mapped bytes of the file. Raises OSError or ValueError if there are none."""
    if isinstance(model, bytes):
        return memoryview(model)
    with model.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def strip_weights(data: memoryview | FileBytes) -> StrippedModel:
    """Leave large initializers in the file; return the whole message if its structure is unusual."""
    places: dict[str, tuple[int, int]] = {}
    if sys.byteorder != "little":
        return StrippedModel(bytes(data[0 : len(data)]), data, {})
    try:
        return StrippedModel(b"".join(_strip(data, (0, len(data)), MODEL, INITIALIZERS, places)), data, places)
    except (MalformedMessage, RecursionError):
        return StrippedModel(bytes(data[0 : len(data)]), data, {})


def release_pages(array: Array) -> None:
    """Release the pages of an array in a mapped file; they are read again on access."""
    base: object = array
    while not isinstance(base, mmap.mmap):
        following = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)
        if following is None:
            return
        base = following
    if sys.platform != "win32":
        base.madvise(mmap.MADV_DONTNEED)


def _strip(
    data: Bytes,
    span: tuple[int, int],
    kind_of_message: int,
    paths: FieldPaths,
    places: dict[str, tuple[int, int]] | None = None,
) -> Iterator[bytes]:
    """Yield the fields between two positions, without the data of large tensors, which is recorded in `places`.

    Raises MalformedMessage for bytes that are not fields, and for a tensor without data and name of its own.
    """
    name, place = b"", None
    for number, kind, start, begin, end in iterate_fields(data, *span):
        is_large = kind == LENGTH and end - begin > LARGE
        following = paths[kind_of_message].get(number)
        if is_large and kind_of_message == IN_TENSOR and number in (NUMBERS if places is None else (RAW_DATA,)):
            if places is not None and place is not None:
                raise MalformedMessage
            place = (begin, end)
        elif is_large and following is not None:
            body = b"".join(_strip(data, (begin, end), following, paths, places))
            yield encode_varint(number << 3 | LENGTH) + encode_varint(len(body)) + body
        else:
            if kind_of_message == IN_TENSOR and number == NAME and kind == LENGTH:
                name = bytes(data[begin:end])
            yield bytes(data[start:end])
    if places is not None and place is not None:
        _record(name, place, places)


def _record(name: bytes, place: tuple[int, int], places: dict[str, tuple[int, int]]) -> None:
    try:
        text = name.decode()
    except UnicodeDecodeError:
        raise MalformedMessage from None
    if not text or text in places:
        raise MalformedMessage
    places[text] = place


def iterate_fields(data: Bytes, at: int, high: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield number, kind, start of the field, start and end of its value."""
    while at < high:
        start = at
        key, at = _read_varint(data, at, high)
        kind, begin = key & 7, at
        if kind == VARINT:
            _, at = _read_varint(data, at, high)
        elif kind == LENGTH:
            size, begin = _read_varint(data, at, high)
            at = begin + size
        elif kind in (FIXED32, FIXED64):
            at += 4 if kind == FIXED32 else 8
        else:
            raise MalformedMessage
        if at > high:
            raise MalformedMessage
        yield key >> 3, kind, start, begin, at


def _read_varint(data: Bytes, at: int, high: int) -> tuple[int, int]:
    value = shift = 0
    while at < high and shift < 64:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise MalformedMessage


def encode_varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
