"""What the loader of Android needs of a shared library: alignment of segments, processor, API level.

System V ABI, chapters 4 and 5; the note is that of the NDK (`.note.android.ident`).
"""

import struct
from typing import NamedTuple

PT_LOAD, PT_NOTE = 1, 4
AARCH64 = 183
_ANDROID_NOTE = 1
_MOST_SEGMENTS = 1000


class SharedLibrary(NamedTuple):
    """The head of an ELF file.

    Attributes:
        machine: processor, `e_machine`.
        bits: 32 or 64.
        alignment: smallest alignment of a loaded segment, in bytes; 0 if none is loaded.
        api_level: Android's API level that it was built for; 0 if it does not say so.
    """

    machine: int
    bits: int
    alignment: int
    api_level: int


def parse_library(data: bytes) -> SharedLibrary | None:
    """Return the head of an ELF file; None for other bytes and for a damaged file."""
    if data[:4] != b"\x7fELF" or data[4:5] not in (b"\x01", b"\x02") or data[5:6] not in (b"\x01", b"\x02"):
        return None
    wide, order = data[4] == 2, "<" if data[5] == 1 else ">"
    try:
        machine = struct.unpack_from(f"{order}H", data, 18)[0]
        start = struct.unpack_from(f"{order}Q", data, 32)[0] if wide else struct.unpack_from(f"{order}I", data, 28)[0]
        size, count = struct.unpack_from(f"{order}HH", data, 54 if wide else 42)
        segments = [_read_segment(data, start + size * i, order, wide=wide) for i in range(min(count, _MOST_SEGMENTS))]
        loaded = [align for kind, _, _, align in segments if kind == PT_LOAD]
        notes = (data[at : at + length] for kind, at, length, _ in segments if kind == PT_NOTE)
        level = max((_read_level(note, order) for note in notes), default=0)
    except struct.error:
        return None
    return SharedLibrary(machine, 64 if wide else 32, min(loaded, default=0), level)


def _read_segment(data: bytes, at: int, order: str, *, wide: bool) -> tuple[int, int, int, int]:
    """Return type, offset, length in the file and alignment of a program header."""
    if wide:
        kind, _, offset, _, _, length, _, align = struct.unpack_from(f"{order}IIQQQQQQ", data, at)
    else:
        kind, offset, _, _, length, _, _, align = struct.unpack_from(f"{order}IIIIIIII", data, at)
    return kind, offset, length, align


def _read_level(note: bytes, order: str) -> int:
    """Return the API level in a segment of notes; 0 without one."""
    at = 0
    while at + 12 <= len(note):
        name_size, size, kind = struct.unpack_from(f"{order}III", note, at)
        name_end = at + 12 + (name_size + 3) // 4 * 4
        if kind == _ANDROID_NOTE and note[at + 12 : at + 19] == b"Android" and size >= 4:
            return int(struct.unpack_from(f"{order}I", note, name_end)[0])
        at = name_end + (size + 3) // 4 * 4
    return 0
