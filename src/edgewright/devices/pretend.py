"""A simulated phone: its battery drains, its temperature rises, and its connection can fail.

It starts real workers on this machine and simulates everything else, so that code for devices
is tested without one.
"""

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from edgewright import __version__
from edgewright.devices.channel import Channel
from edgewright.devices.connection import Connection, start_worker
from edgewright.devices.protocol import Reading
from edgewright.errors import DeviceUnreachable
from edgewright.runtimes.environments import find_ready_locks, make_environment_command
from edgewright.schema.devices import DeviceCheck
from edgewright.schema.run import DeviceRecord as DeviceFacts
from edgewright.system.temporary import TemporaryFolder

ENERGY_PER_READING_UJ = 1000
DEGREES_PER_READING = 0.5
WORKER = ("-P", "-m", "edgewright.runtimes.worker")


# Moments at which a connection can be lost, and the command of the worker protocol that begins each.
Phase = Literal["never", "connect", "push", "start", "load", "measuring", "result"]
_COMMANDS: dict[Phase, bytes] = {"load": b'"type":"open"', "measuring": b'"type":"run"', "result": b'"type":"invoke"'}


class LosableChannel:
    """A channel whose device is lost when it is sent a certain command."""

    def __init__(self, channel: Channel, lost_at: bytes) -> None:
        self.limits_memory = channel.limits_memory
        self._channel, self._lost_at = channel, lost_at

    def send(self, data: bytes) -> None:
        if self._lost_at in data:
            self.end()
            raise _make_unreachable_error("the connection was lost")
        self._channel.send(data)

    def receive(self, seconds: float) -> bytes | None:
        return self._channel.receive(seconds)

    def wait(self, seconds: float) -> int | None:
        return self._channel.wait(seconds)

    def limit_memory(self, allowed: float) -> None:
        self._channel.limit_memory(allowed)

    def end(self) -> None:
        self._channel.end()


class PretendDevice:
    """A simulated phone; see `protocol.Device`.

    Args:
        reachable: if False, construction fails.
        workers: number of workers after which the connection fails; None for no limit.
        lost_in: phase in which the connection fails.
        environments: the folder of this machine's isolated environments for its workers.
    """

    def __init__(
        self,
        *,
        reachable: bool = True,
        workers: int | None = None,
        lost_in: Phase = "never",
        environments: Path | None = None,
    ) -> None:
        if not reachable or lost_in == "connect":
            raise _make_unreachable_error("it does not answer")
        self._left = workers
        self._lost_in = lost_in
        self._environments = environments
        self._readings = 0
        self._folder = TemporaryFolder("pretend")

    def facts(self) -> DeviceFacts:
        facts = {"model": "Pretend A1", "logical_cores": 8, "machine": "pretend"}
        return DeviceFacts(id="pretend-0001", name="pretend", kind="pretend", address="usb:0", facts=facts)

    def environment(self) -> dict[str, Any]:
        locks = find_ready_locks(self._environments)
        return {**self.facts().facts, "edgewright": __version__, **({"locks": locks} if locks else {})}

    def checks(self) -> list[DeviceCheck]:
        return [DeviceCheck(code="battery", state="warning", text="the battery has only 20 %", try_this="charge it")]

    def system_state(self) -> dict[str, float]:
        return {"load1": 0.0, "memory_available_bytes": 4e9}

    def prepare(self, runtime: str) -> None:
        """Do nothing: the user sets up this machine."""

    def push(self, path: Path, sha256: str, beside: Mapping[str, Path] = MappingProxyType({})) -> str:
        """Copy the files under their own names, as onto another disk, unless they are there already."""
        if self._lost_in == "push":
            raise _make_unreachable_error("the connection was lost")
        folder = self._folder.path / (sha256[:12] or "transient")
        for name, source in {**beside, path.name: path}.items():
            target = folder / name
            if not sha256 or not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
        return str(folder / path.name)

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
        if self._left == 0 or self._lost_in == "start":
            raise _make_unreachable_error("the connection was lost")
        if self._left is not None:
            self._left -= 1
        isolated = make_environment_command(self._environments, runtime, environment)
        command = isolated or [sys.executable, *WORKER, runtime]
        worker = start_worker(command, runtime, timeout_s, log, (), variables)
        if self._lost_in in _COMMANDS:
            worker.wrap_channel(lambda channel: LosableChannel(channel, _COMMANDS[self._lost_in]))
        return worker

    def sensors(self) -> Reading:
        """Return a reading with less charge and a higher temperature than the one before."""
        self._readings += 1
        return Reading(
            energy_uj=ENERGY_PER_READING_UJ * self._readings,
            temperature_c=30.0 + DEGREES_PER_READING * self._readings,
            frequency_khz=2_000_000.0,
            source="pretend:battery",
        )

    def close(self) -> None:
        self._folder.close()


def _make_unreachable_error(why: str) -> DeviceUnreachable:
    return DeviceUnreachable("the device 'pretend' is not reachable", why, "reconnect the cable")
