"""`AndroidManifest.xml`: as text in a project, in Android's binary form in an APK, as protobuf in an AAB.

Only the smallest API level and the permissions are read. The binary form: frameworks/base, ResourceTypes.h.
"""

import re
import struct
from typing import NamedTuple

_STRING_POOL, _START_ELEMENT = 0x0001, 0x0102
_UTF8 = 1 << 8
_MOST_STRINGS = 100_000
_INTEGERS = (0x10, 0x11)  # types of a value: decimal, hexadecimal
_PERMISSION = re.compile(r"[A-Za-z][\w.]*\.permission\.[A-Z0-9_]+")


class AndroidManifest(NamedTuple):
    """The smallest API level, None if it is not given or cannot be read, and the permissions."""

    min_sdk: int | None
    permissions: tuple[str, ...]


def parse_android_manifest(data: bytes) -> AndroidManifest:
    """Return what a manifest says; what it does not say, or what is damaged, is absent."""
    if data[:4] == b"\x03\x00\x08\x00":
        try:
            return _parse_binary(data)
        except (struct.error, IndexError, UnicodeDecodeError):
            return AndroidManifest(None, ())
    text = data.decode("utf-8", "replace")
    found = re.search(r'android:minSdkVersion\s*=\s*"(\d{1,3})"', text)
    return AndroidManifest(int(found[1]) if found else None, tuple(dict.fromkeys(_PERMISSION.findall(text))))


def _parse_binary(data: bytes) -> AndroidManifest:
    strings: list[str] = []
    level, permissions = None, []
    at = 8
    while at + 8 <= len(data):
        kind, _, size = struct.unpack_from("<HHI", data, at)
        if size < 8:
            break
        if kind == _STRING_POOL and not strings:
            strings = _read_strings(data[at : at + size])
        if kind == _START_ELEMENT:
            name, attributes = _read_element(data, at, strings)
            if name == "uses-sdk" and isinstance(attributes.get("minSdkVersion"), int):
                level = int(attributes["minSdkVersion"])
            if name.startswith("uses-permission") and isinstance(attributes.get("name"), str):
                permissions.append(str(attributes["name"]))
        at += size
    return AndroidManifest(level, tuple(dict.fromkeys(permissions)))


def _read_strings(chunk: bytes) -> list[str]:
    count, _, flags, start = struct.unpack_from("<IIII", chunk, 8)
    found = []
    for number in range(min(count, _MOST_STRINGS)):
        at = start + struct.unpack_from("<I", chunk, 28 + 4 * number)[0]
        if flags & _UTF8:
            _, at = _read_length(chunk, at, 1)
            length, at = _read_length(chunk, at, 1)
            found.append(chunk[at : at + length].decode("utf-8", "replace"))
        else:
            length, at = _read_length(chunk, at, 2)
            found.append(chunk[at : at + 2 * length].decode("utf-16-le", "replace"))
    return found


def _read_length(chunk: bytes, at: int, width: int) -> tuple[int, int]:
    """Return a length of one or two units, and the place after it."""
    code, high = ("<B", 0x80) if width == 1 else ("<H", 0x8000)
    first = struct.unpack_from(code, chunk, at)[0]
    if not first & high:
        return first, at + width
    second = struct.unpack_from(code, chunk, at + width)[0]
    return (first & (high - 1)) << (8 * width) | second, at + 2 * width


def _read_element(data: bytes, at: int, strings: list[str]) -> tuple[str, dict[str, int | str]]:
    name, start, size, count = struct.unpack_from("<IHHH", data, at + 20)
    attributes: dict[str, int | str] = {}
    for number in range(count):
        key, text, _, _, kind, value = struct.unpack_from("<IiHBBI", data, at + 16 + start + size * number + 4)
        attributes[strings[key]] = value if kind in _INTEGERS else strings[text] if text >= 0 else ""
    return strings[name], attributes
