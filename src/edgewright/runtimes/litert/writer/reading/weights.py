"""Stage 1, weights: large tensors stay in the ONNX file, which is mapped; the message is read without them."""

import mmap
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgewright.formats.onnx.weightless import MalformedMessage, encode_varint, iterate_fields
from edgewright.runtimes.litert.writer.graph import Array

# Field numbers of onnx.proto3.
GRAPH, INITIALIZER, NAME, RAW_DATA = 7, 5, 8, 9
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
LARGE = 4096


@dataclass(frozen=True)
class StrippedModel:
    """A model's bytes without its large initializers, and their positions in `whole` by name."""

    message: bytes
    data: memoryview
    places: dict[str, tuple[int, int]]

    def view(self, name: str, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> Array | None:
        """Return the data of an initializer that was left in place. Raises ValueError if it does not fit its shape."""
        if name not in self.places:
            return None
        begin, end = self.places[name]
        count = int(np.prod(shape, dtype=np.int64))
        if count * dtype.itemsize != end - begin:
            raise ValueError(f"{end - begin} bytes for {count} values of {dtype}")
        return np.frombuffer(self.data, dtype, count, begin).reshape(shape)

    def read(self, name: str) -> bytes | None:
        """Return a copy of the bytes of an initializer that was left in place."""
        begin, end = self.places.get(name, (0, 0))
        return bytes(self.data[begin:end]) if name in self.places else None


def map_file(model: Path | bytes) -> memoryview:
    """Return the mapped bytes of the file. Raises OSError or ValueError if there are none."""
    if isinstance(model, bytes):
        return memoryview(model)
    with model.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def strip_weights(data: memoryview) -> StrippedModel:
    """Leave large initializers in the file; return the whole message if its structure is unusual."""
    places: dict[str, tuple[int, int]] = {}
    if sys.byteorder != "little":
        return StrippedModel(bytes(data), data, {})
    try:
        parts = list(_strip_model(data, places))
    except MalformedMessage:
        return StrippedModel(bytes(data), data, {})
    return StrippedModel(b"".join(parts), data, places)


def release_pages(array: Array) -> None:
    """Release the pages of an array in a mapped file; they are read again on access."""
    base: object = array
    while not isinstance(base, mmap.mmap):
        following = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)
        if following is None:
            return
        base = following
    if hasattr(base, "madvise"):
        base.madvise(mmap.MADV_DONTNEED)


def _strip_model(data: memoryview, places: dict[str, tuple[int, int]]) -> Iterator[bytes]:
    for number, kind, start, begin, end in iterate_fields(data, 0, len(data)):
        if number == GRAPH and kind == LENGTH:
            body = b"".join(_strip_graph(data, begin, end, places))
            yield _key(number, kind) + encode_varint(len(body)) + body
        else:
            yield bytes(data[start:end])


def _strip_graph(data: memoryview, low: int, high: int, places: dict[str, tuple[int, int]]) -> Iterator[bytes]:
    for number, kind, start, begin, end in iterate_fields(data, low, high):
        if number == INITIALIZER and kind == LENGTH and end - begin > LARGE:
            body = _strip_tensor(data, begin, end, places)
            yield _key(number, kind) + encode_varint(len(body)) + body
        else:
            yield bytes(data[start:end])


def _strip_tensor(data: memoryview, low: int, high: int, places: dict[str, tuple[int, int]]) -> bytes:
    parts, name, place = [], "", None
    for number, kind, start, begin, end in iterate_fields(data, low, high):
        if number == RAW_DATA and kind == LENGTH and end - begin > LARGE:
            if place is not None:
                raise MalformedMessage
            place = (begin, end)
            continue
        if number == NAME and kind == LENGTH:
            name = _text(data[begin:end])
        parts.append(bytes(data[start:end]))
    if place is not None:
        if not name or name in places:
            raise MalformedMessage
        places[name] = place
    return b"".join(parts)


def _text(data: memoryview) -> str:
    try:
        return bytes(data).decode()
    except UnicodeDecodeError:
        raise MalformedMessage from None


def _key(number: int, kind: int) -> bytes:
    return encode_varint(number << 3 | kind)
