"""What a device is, before anything is installed on it: found by one shell script."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from msgspec import Struct

from edgewright.devices.remote.link import Link, make_script
from edgewright.devices.sysfs import parse_int
from edgewright.errors import DeviceUnreachable

OLDEST_PYTHON = (3, 11)
RECORD = "setup.json"
_SCRIPT = """
say() { printf '%s\\n' "$1=$2"; }
case "$1" in /*) folder=$1 ;; *) folder=$HOME/$1 ;; esac
say folder "$folder"
say system "$(uname -s)"
say machine "$(uname -m)"
say node "$(cat /etc/machine-id 2>/dev/null || uname -n)"
say libc "$(getconf GNU_LIBC_VERSION 2>/dev/null || ldd --version 2>&1 | head -n 2 | tr '\\n' ' ')"
say bits "$(getconf LONG_BIT 2>/dev/null)"
say clock "$(date +%s)"
say free "$(df -Pk "$HOME" 2>/dev/null | tail -n 1 | awk '{print $4}')"
for one in python3 python3.14 python3.13 python3.12 python3.11; do
  found=$(command -v "$one" 2>/dev/null) && say python "$("$found" -I -S -c '
import sys, sysconfig
free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
print(".".join(map(str, sys.version_info[:3])), free_threaded, sys.implementation.name, sys.executable)' 2>/dev/null)"
done
say record "$(cat "$folder/setup.json" 2>/dev/null | tr -d '\\n')"
"""


class RuntimeSetup(Struct, frozen=True, kw_only=True):
    """A runtime that is installed on a device: the folders of its packages, and their versions by name."""

    requirements: str
    paths: tuple[str, ...]
    packages: dict[str, str]


class SetupRecord(Struct, frozen=True, kw_only=True):
    """The record of what is installed on a device; it lies beside it.

    Attributes:
        command: that starts Python.
        python: its version.
        source: folder of Edgewright's worker, named by its content.
        board: path of `board.py`.
        read_bytes_per_s: sequential read rate of the storage.
    """

    schema: str = "edgewright.device-setup/1"
    command: tuple[str, ...]
    python: str
    source: str
    board: str
    runtimes: dict[str, RuntimeSetup] = {}
    read_bytes_per_s: int | None = None


class BoardPython(NamedTuple):
    """A Python on the device that workers can run in."""

    path: str
    version: tuple[int, int, int]


class BoardInfo(NamedTuple):
    """What the script found.

    Attributes:
        folder: the one folder on the device for everything of ours.
        machine: of the kernel, such as `aarch64`.
        node: identifies the device.
        clock: its time, seconds since 1970.
        libc: `glibc` or `musl` with its version; None if unknown.
        python: None if there is none that is new enough.
        record: None before a setup, or if it cannot be read.
    """

    folder: str
    system: str
    machine: str
    node: str
    libc: tuple[str, int, int] | None
    clock: int | None
    free_bytes: int | None
    python: BoardPython | None
    record: SetupRecord | None


def probe(link: Link, folder: str, name: str) -> BoardInfo:
    """Return what the device is. Raises DeviceUnreachable if it has no POSIX shell or its answer makes no sense."""
    result = link.run(make_script(_SCRIPT, folder))
    values: dict[str, list[str]] = {}
    for line in result.stdout.decode(errors="replace").splitlines():
        key, _, value = line.partition("=")
        values.setdefault(key, []).append(value.strip())
    found = {key: given[0] for key, given in values.items()}
    free = parse_int(found.get("free"))
    if not found.get("folder", "").startswith("/") or not found.get("machine"):
        output = (result.stderr or result.stdout).decode(errors="replace").strip()[-300:]
        raise DeviceUnreachable(
            f"the device '{name}' cannot be used",
            f"it does not run a POSIX shell: {output or f'exit code {result.code}'}",
            "use a device with Linux and a shell",
        )
    return BoardInfo(
        folder=found["folder"],
        system=found.get("system", ""),
        machine=fix_machine(found["machine"], found.get("bits", "")),
        node=found.get("node", ""),
        libc=parse_libc(found.get("libc", "")),
        clock=parse_int(found.get("clock")),
        free_bytes=None if free is None else free * 1024,
        python=choose_python(values.get("python", ())),
        record=_read_record(found.get("record", "")),
    )


def fix_machine(machine: str, bits: str) -> str:
    """Return the machine of programs: a 64-bit kernel may run a 32-bit system, as on older boards."""
    if bits == "32":
        return {"aarch64": "armv7l", "x86_64": "i686"}.get(machine, machine)
    return {"arm64": "aarch64", "amd64": "x86_64"}.get(machine, machine)


def parse_libc(text: str) -> tuple[str, int, int] | None:
    """Return kind and version from the output of getconf or ldd."""
    kind = "musl" if "musl" in text.lower() else "glibc" if re.search(r"glibc|gnu libc", text, re.IGNORECASE) else ""
    version = re.search(r"(\d+)\.(\d+)", text)
    return (kind, int(version[1]), int(version[2])) if kind and version else None


def choose_python(lines: Sequence[str]) -> BoardPython | None:
    """Return the first Python that is new enough: CPython with its lock, for which wheels exist."""
    for line in lines:
        version, free_threaded, implementation, path = ([*line.split(" ", 3), "", "", "", ""])[:4]
        numbers = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", version)
        if numbers and free_threaded == "False" and implementation == "cpython" and path.startswith("/"):
            found = int(numbers[1]), int(numbers[2]), int(numbers[3])
            if found >= OLDEST_PYTHON:
                return BoardPython(path, found)
    return None


def _read_record(text: str) -> SetupRecord | None:
    try:
        return msgspec.json.decode(text, type=SetupRecord) if text else None
    except msgspec.MsgspecError:
        return None
