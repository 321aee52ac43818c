"""An ONNX file's message without its large weights: they are neither read nor copied.

A model of 1.5 GB is then a message of some hundred kilobytes. The fields are those of onnx.proto3: ModelProto.graph 7,
GraphProto.initializer 5, TensorProto.raw_data 9, and float_data 4, int32_data 5, int64_data 7, double_data 10,
uint64_data 11 (https://protobuf.dev/programming-guides/encoding/).
"""

import mmap
from collections.abc import Iterator
from pathlib import Path

GRAPH, INITIALIZER, NODE, ATTRIBUTE = 7, 5, 1, 5
TENSOR, INNER_GRAPH, TENSORS, INNER_GRAPHS = 5, 6, 10, 11
NUMBERS = {4, 5, 7, 9, 10, 11}
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
LARGE = 4096
MOST_DAMAGED = 2**26  # of a file that is not a message, enough for the parser's error
# Fields on the path from the message to tensors.
MODEL, IN_GRAPH, IN_NODE, IN_ATTRIBUTE, IN_TENSOR = range(5)
FIELD_PATHS: dict[int, dict[int, int]] = {
    MODEL: {GRAPH: IN_GRAPH},
    IN_GRAPH: {INITIALIZER: IN_TENSOR, NODE: IN_NODE},
    IN_NODE: {ATTRIBUTE: IN_ATTRIBUTE},
    IN_ATTRIBUTE: {TENSOR: IN_TENSOR, TENSORS: IN_TENSOR, INNER_GRAPH: IN_GRAPH, INNER_GRAPHS: IN_GRAPH},
    IN_TENSOR: {},
}

Bytes = mmap.mmap | bytes | memoryview


class MalformedMessage(Exception):
    """Raised for bytes that are not protobuf fields."""


def load_without_weights(path: Path) -> bytes:
    """Return the message of a file without the data of tensors of over 4 kB; all bytes if they are not
    fields.

    Raises OSError for a file that cannot be read, and ValueError for an empty one.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return b"".join(_iterate_fields_without_weights(data, 0, len(data), MODEL))
        except (MalformedMessage, RecursionError):
            return bytes(data[:MOST_DAMAGED])


def _iterate_fields_without_weights(data: Bytes, low: int, high: int, kind_of_message: int) -> Iterator[bytes]:
    """Yield the fields between two positions, without the data of large tensors."""
    for number, kind, start, begin, end in iterate_fields(data, low, high):
        is_large = kind == LENGTH and end - begin > LARGE
        if is_large and kind_of_message == IN_TENSOR and number in NUMBERS:
            continue
        following = FIELD_PATHS[kind_of_message].get(number)
        if is_large and following is not None:
            body = b"".join(_iterate_fields_without_weights(data, begin, end, following))
            yield encode_varint(number << 3 | LENGTH) + encode_varint(len(body)) + body
        else:
            yield bytes(data[start:end])


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
