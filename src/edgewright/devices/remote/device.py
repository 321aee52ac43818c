"""A device behind a link: it needs a POSIX shell, and after its setup runs the same workers as this machine."""

import json
import secrets
import shutil
import tarfile
import time
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from edgewright.devices.checks import check_clock, check_storage, run_checks
from edgewright.devices.connection import Connection, greet_worker
from edgewright.devices.environment import read_device_facts, read_environment_facts
from edgewright.devices.kinds import DeviceContext
from edgewright.devices.lock import hold_device
from edgewright.devices.protocol import Reading
from edgewright.devices.remote.install import BoardFolder, Installer
from edgewright.devices.remote.keeper import Keeper
from edgewright.devices.remote.link import Link, make_script
from edgewright.devices.remote.mirror import FACTS, SENSORS, STATE, Mirror
from edgewright.devices.remote.probe import BoardInfo, SetupRecord, probe
from edgewright.devices.sensors import Sensors, find_sensors
from edgewright.devices.system_state import read_system_state
from edgewright.errors import DeviceUnreachable
from edgewright.runtimes.environments import WORKER
from edgewright.runtimes.table import RuntimeInfo, find_runtime
from edgewright.schema.devices import DeviceCheck, RegisteredDevice
from edgewright.schema.run import DeviceRecord
from edgewright.system.temporary import TemporaryFolder

FOLDER = ".edgewright-device"  # in the user's home folder on the device
TRIAL_SECONDS = 120.0
PULL = 'if [ -d "$1" ]; then printf d; tar -C "$1" -cf - .; else [ -f "$1" ] && printf f && cat "$1"; fi'


class RemoteDevice:
    """See `protocol.Device`.

    Args:
        row: `settings["root"]` is the folder that contains proc and sys, which a test can inject.
    """

    def __init__(self, link: Link, row: RegisteredDevice, context: DeviceContext, folder: str = FOLDER) -> None:
        self._link, self._row, self._context = link, row, context
        self._here = TemporaryFolder("remote")
        self._connected_at = time.time()
        self._lock: IO[bytes] | None = None
        self._board: BoardInfo = probe(link, folder, row.name)
        self._record: SetupRecord | None = self._board.record
        self._folder = BoardFolder(link, self._board.folder, row.name)
        self._work = f"{self._board.folder}/work/{secrets.token_hex(8)}"
        self._mirror = Mirror(link, row.settings.get("root", "/"))
        self._keeper: Keeper | None = None
        self._sensors: Sensors | None = None
        self._facts: DeviceRecord | None = None
        self._is_closed = False

    @property
    def link(self) -> Link:
        return self._link

    @property
    def record(self) -> SetupRecord | None:
        """Return what is installed; None before a setup."""
        return self._record

    def facts(self) -> DeviceRecord:
        """Return the stable facts. The device's address is only in the id, as a hash: exports of runs contain them."""
        if self._facts is None:
            self._mirror.fetch(FACTS)
            known = read_device_facts(self._mirror.path)
            facts = {"system": self._board.system, "machine": self._board.machine, **known}
            if self._record and self._record.read_bytes_per_s:
                facts["storage_read_bytes_per_s"] = self._record.read_bytes_per_s
            identity = sha256(f"{self._board.node} {facts.get('model')} {self._board.machine}".encode()).hexdigest()
            name, kind = self._row.name, self._row.kind
            self._facts = DeviceRecord(id=identity[:16], name=name, kind=kind, address=kind, facts=facts)
        return self._facts

    def environment(self) -> dict[str, Any]:
        """Return what can change a result; Python and packages are those of the device's workers."""
        self.facts()
        found = read_environment_facts(self._mirror.path, (), {})
        record = self._record
        found["python"] = {"version": record.python, "implementation": "CPython"} if record else {}
        found["packages"] = {
            name: version
            for one in (record.runtimes.values() if record else ())
            for name, version in one.packages.items()
        }
        return found

    def system_state(self) -> dict[str, float]:
        self._mirror.fetch(STATE)
        return read_system_state(self._mirror.path)

    def sensors(self) -> Reading:
        if self._sensors is None:
            self.facts()
            self._sensors = find_sensors(self._mirror.path)
        elif self._mirror.has(SENSORS):
            self._mirror.fetch(SENSORS)
        return self._sensors.read()

    def prepare(self, runtime: str) -> None:
        self.set_up([find_runtime(runtime)])

    def push(self, path: Path, sha256: str, beside: Mapping[str, Path] = MappingProxyType({})) -> str:
        folder = f"{self._folder.path}/files/{sha256}" if sha256 else self.workspace()
        target = f"{folder}/{path.name}"
        if sha256 and self._folder.exists(target):
            return target
        for name, source in beside.items():
            self._folder.send(source, f"{folder}/{name}")
        self._folder.send(path, target)  # last, since its presence means that all are there
        return target

    def pull(self, remote: str, path: Path) -> None:
        part = self._here.path / secrets.token_hex(8)
        result = self._link.receive(make_script(PULL, remote), part)
        self._folder.check(result, f"reading {remote}")
        try:
            _unpack_pulled(part, path)
        finally:
            part.unlink(missing_ok=True)

    def checks(self) -> list[DeviceCheck]:
        """Return what distorts measurements on the device now."""
        self._mirror.fetch(FACTS)
        clock, free = self._board.clock, self._board.free_bytes
        offset = None if clock is None else clock - self._connected_at
        return [*run_checks(self._mirror.path), check_storage(free), check_clock(offset)]

    def workspace(self) -> str:
        if self._keeper is None:
            self._lock = self._lock or hold_device(self._context.home, self._row.name)
            record = self.set_up(())
            self._folder.check(self._link.run(["mkdir", "-p", f"{self._work}/pids", f"{self._work}/results"]), "setup")
            log = self._here.path / "keeper.log"
            self._keeper = Keeper(self._link, [*record.command, record.board], self._work, log)
        return f"{self._work}/results"

    def set_up(self, runtimes: Sequence[RuntimeInfo]) -> SetupRecord:
        """Install the runtimes that are missing, and return what is installed.

        Raises RuntimeMissing if there are no packages for the device, DeviceUnreachable for what fails on it.
        """
        installer = Installer(self._folder, self._board, self._context.home, self._context.progress)
        record = self._record
        is_current = record is not None and not installer.is_outdated(record)
        missing = installer.find_missing(record, runtimes) if record is not None and is_current else list(runtimes)
        if record is None or missing or not is_current:
            self._lock = self._lock or hold_device(self._context.home, self._row.name)
            record = self._record = installer.install(record, missing)
            self._facts = None
        return record

    def start_worker(
        self,
        runtime: str,
        affinity: Sequence[int],
        timeout_s: float,
        log: Path,
        environment: str = "",
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> Connection:
        """Start a fresh worker, after the setup of its runtime if it is missing; `environment` has no meaning here."""
        record = self.set_up([find_runtime(runtime)])
        self.workspace()
        pid_file = f"{self._work}/pids/{secrets.token_hex(8)}"
        paths = [record.source, *record.runtimes[find_runtime(runtime).name].paths]
        settings = {
            "paths": paths,
            "cpus": list(affinity),
            "variables": {"PYTHONPATH": ":".join(paths), **variables},
            "pid_file": pid_file,
            "module": WORKER,
            "arguments": [runtime],
        }
        board = [*record.command, record.board]
        began_ns = time.perf_counter_ns()
        command = [*board, "worker", json.dumps(settings)]
        channel = self._link.start(command, log, [*board, "end_worker", pid_file, self._work])
        return greet_worker(channel, runtime, timeout_s, log, began_ns)

    def try_worker(self, info: RuntimeInfo) -> None:
        """Start a worker once, which proves the setup and compiles its modules. Raises as `start_worker`."""
        with self.start_worker(info.name, (), TRIAL_SECONDS, self._here.path / "trial.log") as worker:
            worker.leave()

    def remove(self) -> None:
        """Remove everything of ours from the device, and close."""
        self._end_keeper()
        self._folder.remove(self._folder.path)
        self.close()

    def _end_keeper(self) -> None:
        if self._keeper is not None:
            self._keeper.close()
            self._keeper = None

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._end_keeper()
            self._link.close()
            if self._lock is not None:
                self._lock.close()
            self._mirror.close()
            self._here.close()


def _unpack_pulled(part: Path, path: Path) -> None:
    """Write what was pulled: a file, or an archive of a folder."""
    with part.open("rb") as file:
        if file.read(1) == b"d":
            try:
                with tarfile.open(fileobj=file, mode="r|") as archive:
                    _unpack_folder(archive, path)
            except tarfile.TarError as error:
                raise DeviceUnreachable("what the device sent is not a folder", str(error)) from None
            return
        with path.open("wb") as target:
            while chunk := file.read(1 << 20):
                target.write(chunk)


def _unpack_folder(archive: tarfile.TarFile, path: Path) -> None:
    """Write the files of an archive; a link, a device or a name outside of the folder is an error.

    `extractall` has a filter for this from Python 3.11.4 on.
    """
    path.mkdir(parents=True, exist_ok=True)
    for member in archive:
        target = path / member.name
        if not (member.isfile() or member.isdir()) or not target.resolve().is_relative_to(path.resolve()):
            raise tarfile.TarError(f"it has {member.name[:200]!r}, which is no file in the folder")
        folder = target if member.isdir() else target.parent
        folder.mkdir(parents=True, exist_ok=True)
        content = archive.extractfile(member)
        if content is not None:
            with content, target.open("wb") as file:
                shutil.copyfileobj(content, file)
