"""Checked access to the tables and vectors of a flatbuffer (https://flatbuffers.dev/internals/).

The file may be hostile: each offset is checked against the file's size before it is followed, nothing is copied that
beyond the file's content, and the number of vector elements and text bytes that are read is bounded by the file's size,
so that vectors that overlap cannot make the reader slow.
"""

import mmap
import struct
from collections.abc import Iterator

# Writers share vectors and texts between tables; four times the file is more than any of them needs.
_LEEWAY = 4
_MAX_BYTES_READ = 1 << 26
# No tensor list or name of a real model comes near; longer ones are not even copied.
_LONGEST_VECTOR = 1 << 20

_TWO_BYTES = struct.Struct("<H")
_FORMATS = {code: struct.Struct("<" + code) for code in "bBiIqQf"}


class MalformedFlatbuffer(Exception):
    """Raised for an invalid flatbuffer; the text says where."""


class FlatbufferReader:
    """The file's bytes with checked access. A table or vector is identified by the position where it begins."""

    def __init__(self, data: mmap.mmap | bytes) -> None:
        self.data = data
        self.size = len(data)
        self.left = min(_LEEWAY * self.size + 65536, _MAX_BYTES_READ)

    def spend(self, size_bytes: int) -> None:
        self.left -= size_bytes
        if self.left < 0:
            raise MalformedFlatbuffer("its tables overlap or are too long for a valid file")

    def number(self, at: int, code: str) -> int:
        value: int = self._unpack(_FORMATS[code], at)
        return value

    def _unpack(self, form: struct.Struct, at: int) -> int:
        if at < 0 or at + form.size > self.size:
            raise MalformedFlatbuffer(f"it ends before byte {at + form.size}: it is truncated or damaged")
        value: int = form.unpack_from(self.data, at)[0]
        return value

    def follow(self, at: int) -> int:
        """Return the target of the offset at `at`."""
        offset = self.number(at, "I")
        if offset == 0 or at + offset > self.size - 4:
            raise MalformedFlatbuffer(f"the offset at byte {at} points outside it: it is truncated or damaged")
        return at + offset

    def field(self, table: int, slot: int) -> int:
        """Return the position of a table's field; 0 if it is absent."""
        vtable = table - self.number(table, "i")
        length = self._unpack(_TWO_BYTES, vtable)
        place = 4 + 2 * slot
        if place + 2 > length:
            return 0
        offset = self._unpack(_TWO_BYTES, vtable + place)
        return table + offset if offset else 0

    def value(self, table: int, slot: int, code: str, default: int = 0) -> int:
        at = self.field(table, slot)
        return self.number(at, code) if at else default

    def vector(self, table: int, slot: int, item_bytes: int) -> tuple[int, int]:
        """Return the position of a vector's first element and the number of elements; (0, 0) without the field."""
        at = self.field(table, slot)
        return self._vector_at(self.follow(at), item_bytes) if at else (0, 0)

    def _vector_at(self, start: int, item_bytes: int) -> tuple[int, int]:
        count = self.number(start, "I")
        if start + 4 + count * item_bytes > self.size:
            raise MalformedFlatbuffer(f"the vector at byte {start} runs past its end: it is truncated or damaged")
        return start + 4, count

    def numbers(self, table: int, slot: int, code: str) -> tuple[int, ...]:
        form = _FORMATS[code]
        start, count = self.vector(table, slot, form.size)
        self.spend(count * form.size if count <= _LONGEST_VECTOR else _MAX_BYTES_READ + 1)
        return struct.unpack_from(f"<{count}{code}", self.data, start)

    def tables(self, table: int, slot: int) -> Iterator[int]:
        start, count = self.vector(table, slot, 4)
        for at in range(start, start + 4 * count, 4):
            self.spend(4)
            yield self.follow(at)

    def text(self, table: int, slot: int) -> str:
        return self._decode(*self.vector(table, slot, 1))

    def texts(self, table: int, slot: int) -> tuple[str, ...]:
        return tuple(self._decode(*self._vector_at(at, 1)) for at in self.tables(table, slot))

    def _decode(self, start: int, count: int) -> str:
        self.spend(count if count <= _LONGEST_VECTOR else _MAX_BYTES_READ + 1)
        return bytes(self.data[start : start + count]).decode("utf-8", "replace")
