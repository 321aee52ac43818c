"""This machine."""

import os
import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgewright.devices.checks import run_checks
from edgewright.devices.connection import Connection, start_worker
from edgewright.devices.cpu import read_cpu_facts
from edgewright.devices.environment import read_environment_facts
from edgewright.devices.portable import is_without_proc, read_portable_facts, read_portable_state
from edgewright.devices.protocol import Reading
from edgewright.devices.sensors import find_sensors
from edgewright.devices.system_state import read_system_state
from edgewright.errors import UsageError
from edgewright.runtimes.environments import find_ready_locks, make_environment_command
from edgewright.runtimes.table import TABLE
from edgewright.schema.devices import DeviceCheck
from edgewright.schema.run import DeviceRecord as DeviceFacts
from edgewright.system.temporary import TemporaryFolder

WORKER = ("-P", "-m", "edgewright.runtimes.worker")


class LocalDevice:
    """This machine; see `protocol.Device`.

    Args:
        root: folder of `/proc` and `/sys`, so that a test can replace them.
        environ: the environment variables.
        worker: arguments of our own interpreter that start a worker, without the runtime's name at the end.
        environments: the folder of the isolated environments; None to use none.
    """

    def __init__(
        self,
        root: Path = Path("/"),
        environ: Mapping[str, str] = os.environ,
        worker: Sequence[str] = WORKER,
        environments: Path | None = None,
    ) -> None:
        self._root = root
        self._environ = environ
        self._worker = tuple(worker)
        self._environments = environments
        self._sensors = find_sensors(root)
        self._folder = TemporaryFolder()

    def facts(self) -> DeviceFacts:
        """Return the stable facts. The host's name is only in the id, as a hash: exports of runs contain them."""
        known = read_portable_facts() if is_without_proc(self._root) else read_cpu_facts(self._root)
        facts = {**known, "system": platform.system(), "machine": platform.machine()}
        identity = sha256(f"{platform.node()} {facts.get('model')} {facts['machine']}".encode()).hexdigest()
        return DeviceFacts(id=identity[:16], name="local", kind="local", address="localhost", facts=facts)

    def environment(self) -> dict[str, Any]:
        packages = sorted({"numpy", "pillow", *(info.distribution for info in TABLE.values())})
        facts = read_environment_facts(self._root, packages, self._environ, find_ready_locks(self._environments))
        return {**facts, **read_portable_facts()} if is_without_proc(self._root) else facts

    def checks(self) -> list[DeviceCheck]:
        return [] if is_without_proc(self._root) else run_checks(self._root)

    def system_state(self) -> dict[str, float]:
        return read_portable_state() if is_without_proc(self._root) else read_system_state(self._root)

    def prepare(self, runtime: str) -> None:
        """Do nothing: the user sets up this machine."""

    def push(self, path: Path, sha256: str, beside: Mapping[str, Path] = MappingProxyType({})) -> str:
        """Return the path itself: the files are here already."""
        return str(path.absolute())

    def pull(self, remote: str, path: Path) -> None:
        if Path(remote).is_dir():
            shutil.copytree(remote, path, dirs_exist_ok=True)
        else:
            shutil.copyfile(remote, path)

    def workspace(self) -> str:
        return str(self._folder.path)

    def start_worker(
        self,
        runtime: str,
        affinity: Sequence[int],
        timeout_s: float,
        log: Path,
        environment: str = "",
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> Connection:
        isolated = make_environment_command(self._environments, runtime, environment)
        command = isolated or [sys.executable, *self._worker, runtime]
        return start_worker(command, runtime, timeout_s, log, check_affinity(affinity), variables)

    def sensors(self) -> Reading:
        return self._sensors.read()

    def close(self) -> None:
        self._folder.close()


def check_affinity(affinity: Sequence[int]) -> set[int]:
    """Return the processors as a set; UsageError for one that this process may not use, or a system without
    affinity."""
    if not affinity:
        return set()
    if not hasattr(os, "sched_getaffinity"):
        raise UsageError(
            "--affinity is not supported on this system",
            f"{platform.system()} cannot bind a process to processors",
            "omit --affinity",
        )
    allowed = os.sched_getaffinity(0)
    if forbidden := set(affinity) - allowed:
        raise UsageError(
            f"--affinity: processor {min(forbidden)} cannot be used",
            f"this process may use {sorted(allowed)}",
            "choose processors from this list",
        )
    return set(affinity)
