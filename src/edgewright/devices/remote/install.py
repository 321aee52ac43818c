"""Setup of a remote device: Python, Edgewright's worker and the packages of runtimes, each sent once by its hash."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from edgewright.devices.remote.bundle import Wheel, collect_wheels, describe_packages, list_requirements, write_source
from edgewright.devices.remote.link import CommandResult, Link, make_script
from edgewright.devices.remote.probe import RECORD, BoardInfo, RuntimeSetup, SetupRecord
from edgewright.errors import DeviceUnreachable, find_full_disk_error
from edgewright.formats.files import hash_file
from edgewright.runtimes.table import RuntimeInfo
from edgewright.schema.units import show_bytes
from edgewright.system.temporary import TemporaryFolder

BOARD = Path(__file__).with_name("board.py")
UNPACK_SECONDS = 600.0
SEND = 'mkdir -p "$(dirname "$1")" && cat > "$1.part" && [ "$(wc -c < "$1.part")" -eq "$2" ] && mv "$1.part" "$1" || \
{ code=$?; rm -f "$1.part"; exit $code; }'


class BoardFolder(NamedTuple):
    """The one folder on the device, over a link.

    Attributes:
        name: of the device, for messages.
    """

    link: Link
    path: str
    name: str

    def check(self, result: CommandResult, doing: str) -> bytes:
        """Return what a command wrote; DeviceUnreachable with its reason if it failed."""
        if result.code == 0:
            return result.stdout
        why = result.stderr.decode(errors="replace").strip()[-500:] or f"exit code {result.code}"
        failed = DeviceUnreachable(f"{doing} on the device '{self.name}' failed", why)
        if find_full_disk_error(failed):
            failed.what = f"the storage of the device '{self.name}' is full"
            failed.try_this = f"free some space on it; edgewright devices remove {self.name} removes what is ours"
        raise failed

    def exists(self, path: str) -> bool:
        """Return whether a path exists, with one request."""
        return self.link.run(["test", "-e", path]).code == 0

    def send(self, source: Path, target: str) -> None:
        """Write a file on the device, complete or not at all."""
        size = str(source.stat().st_size)
        self.check(self.link.send(source, make_script(SEND, target, size)), f"writing {source.name}")

    def remove(self, path: str) -> None:
        self.check(self.link.run(["rm", "-rf", path]), f"removing {path}")


class Installer:
    """Sets up runtimes on a device."""

    def __init__(self, folder: BoardFolder, board: BoardInfo, home: Path, progress: Callable[[str], None]) -> None:
        self._folder, self._board, self._home, self._progress = folder, board, home, progress

    def find_missing(self, record: SetupRecord, runtimes: Sequence[RuntimeInfo]) -> list[RuntimeInfo]:
        """Return the runtimes that are absent or of other versions."""
        return [
            info
            for info in runtimes
            if (found := record.runtimes.get(info.name)) is None or found.requirements != self._describe(info)
        ]

    def is_outdated(self, record: SetupRecord) -> bool:
        """Return whether the device has another version of our worker."""
        board = f"{self._folder.path}/files/{hash_file(BOARD)}/{BOARD.name}"
        python = self._board.python
        is_other = python is not None and record.command[0] != python.path
        return is_other or record.board != board or record.source != self._get_package_path(write_source(self._home))

    def install(self, record: SetupRecord | None, runtimes: Sequence[RuntimeInfo]) -> SetupRecord:
        """Install runtimes and return the new record, which is written last.

        Raises RuntimeMissing if there are no packages, DeviceUnreachable for everything that fails on the device.
        """
        if record is None or self.is_outdated(record):
            fresh = self._prepare_python()
            kept = {} if record is None else {"runtimes": record.runtimes, "read_bytes_per_s": record.read_bytes_per_s}
            record = msgspec.structs.replace(fresh, **kept)
        source = self._install_wheel(write_source(self._home), record)
        installed = dict(record.runtimes)
        for info in runtimes:
            installed[info.name] = self._install_runtime(info, record)
        record = msgspec.structs.replace(record, source=source, runtimes=installed)
        if record.read_bytes_per_s is None:
            record = msgspec.structs.replace(record, read_bytes_per_s=self._measure_storage(record))
        self._write_record(record)
        return record

    def _prepare_python(self) -> SetupRecord:
        """Return the record of a device without runtimes, after sending `board.py`."""
        python = self._board.python
        if python is None:
            raise DeviceUnreachable(
                f"the device '{self._folder.name}' has no Python 3.11 or newer",
                "workers need it, and none can be brought for this platform",
                "install it with the device's package manager, for example apt install python3",
            )
        board = f"{self._folder.path}/files/{hash_file(BOARD)}/{BOARD.name}"
        if not self._folder.exists(board):
            self._folder.send(BOARD, board)
        version = ".".join(map(str, python.version))
        return SetupRecord(command=(python.path, "-I", "-S"), python=version, source="", board=board)

    def _install_runtime(self, info: RuntimeInfo, record: SetupRecord) -> RuntimeSetup:
        major, minor, patch = (int(part) for part in record.python.split("."))
        wheels = collect_wheels(info, self._board, (major, minor, patch), self._home, self._progress)
        size = show_bytes(sum(wheel.path.stat().st_size for wheel in wheels))
        self._progress(f"{self._folder.name}: setting up {info.title} ({len(wheels)} packages, {size})")
        paths = tuple(self._install_wheel(wheel, record) for wheel in wheels)
        return RuntimeSetup(requirements=self._describe(info), paths=paths, packages=describe_packages(wheels))

    def _get_package_path(self, wheel: Wheel) -> str:
        return f"{self._folder.path}/packages/{wheel.sha256}"

    def _install_wheel(self, wheel: Wheel, record: SetupRecord) -> str:
        """Send and unpack a wheel, unless it is there; return its folder."""
        target = self._get_package_path(wheel)
        if not self._folder.exists(target):
            archive = f"{self._folder.path}/incoming/{wheel.sha256}"
            self._folder.send(wheel.path, archive)
            try:
                command = [*record.command, record.board, "unpack", archive, target]
                self._folder.check(self._folder.link.run(command, UNPACK_SECONDS), f"unpacking {wheel.path.name}")
            finally:
                self._folder.remove(archive)
        return target

    def _measure_storage(self, record: SetupRecord) -> int | None:
        """Return the sequential read rate, of the largest file that was just written."""
        find = 'find "$1" -type f -size +4096k -exec ls -S {} + 2>/dev/null | head -n 1'
        found = self._folder.link.run(make_script(find, f"{self._folder.path}/packages")).stdout.decode().strip()
        if not found:
            return None
        result = self._folder.link.run([*record.command, record.board, "read_rate", found])
        text = result.stdout.decode(errors="replace").strip()
        return int(text) if result.code == 0 and text.isdecimal() else None

    def _write_record(self, record: SetupRecord) -> None:
        with TemporaryFolder() as folder:
            path = folder / RECORD
            path.write_text(json.dumps(msgspec.to_builtins(record)))
            self._folder.send(path, f"{self._folder.path}/{RECORD}")

    def _describe(self, info: RuntimeInfo) -> str:
        """Return what determines the packages of a runtime on this device."""
        python = self._board.python
        return " ".join([*list_requirements(info), "Python", *map(str, python.version if python else ())])
