"""An agent as a device: its workers are processes of the agent, which runs the same worker protocol in Kotlin."""

import secrets
import time
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import msgspec

from edgewright import __version__
from edgewright.devices.agent.channel import AgentChannel
from edgewright.devices.agent.link import AgentSocket, Place, enter, is_loopback, split_address
from edgewright.devices.agent.messages import (
    AgentStatus,
    Content,
    Done,
    FindFile,
    ForgetUs,
    Found,
    Get,
    Put,
    ReadStatus,
)
from edgewright.devices.checks import HealthCheck, check_battery, check_value
from edgewright.devices.connection import Connection, greet_worker
from edgewright.devices.kinds import DeviceContext
from edgewright.devices.lock import hold_device
from edgewright.devices.protocol import Reading
from edgewright.errors import DeviceUnauthorized, RuntimeMissing, UsageError
from edgewright.runtimes.worker import read_arrays
from edgewright.schema.devices import DeviceCheck, RegisteredDevice
from edgewright.schema.run import DeviceRecord
from edgewright.schema.text import printable

FOLDER = "agents"  # tokens, in the home folder
FINGERPRINT = "certificate_sha256"
HOT = 2  # Android's thermal status `moderate`
ARRAYS = (".npz", ".npys")
CHECKS = (
    HealthCheck(
        "charging",
        False,
        "the battery is not charging",
        "the battery is charging, which heats the device",
        "unplug it, or wait until it is full",
    ),
    HealthCheck("saver", False, "battery saver is off", "battery saver is on, which slows the device", "switch it off"),
    HealthCheck(
        "visible",
        True,
        "the agent is in the foreground",
        "the agent is in the background, where systems slow it down or end it",
        "open the agent on the device",
    ),
)


def check_address(address: str) -> str:
    """Return the address. Raises UsageError."""
    try:
        split_address(address)
    except ValueError as error:
        raise UsageError(
            "the address of an agent cannot be used", str(error), "agent://HOST:PORT, as the agent shows it"
        ) from None
    return address


def prepare(row: RegisteredDevice, context: DeviceContext) -> RegisteredDevice:
    """Pair with the agent by its code, and keep its token in a file that only the user can read."""
    if row.credential:
        raise UsageError("an agent has no key file", "it is paired by the code that it shows", "--code CODE")
    agent, welcome = enter(Place(row.name, row.address, context.code.strip().upper()), "pair")
    agent.close()
    if not welcome.token:
        raise DeviceUnauthorized(f"the agent '{row.name}' gave no token", "its answer has none", "update the agent")
    path = context.home / FOLDER / f"{row.name}.token"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.touch(0o600)
    path.write_text(welcome.token, encoding="utf-8")
    if agent.fingerprint:
        context.progress(f"SHA-256 of the agent's certificate, which it shows too: {agent.fingerprint}")
    return msgspec.structs.replace(row, credential=str(path), settings={FINGERPRINT: agent.fingerprint})


def connect(row: RegisteredDevice, context: DeviceContext) -> "AgentDevice":
    """Use the agent until the device is closed."""
    hint = f"edgewright devices remove {row.name} --forget, then add it again"
    try:
        token = Path(row.credential).read_text(encoding="utf-8")
    except OSError as error:
        raise DeviceUnauthorized(
            f"the token of the agent '{row.name}' cannot be read",
            f"{row.credential}: {error.strerror or error}",
            hint,
        ) from None
    place = Place(row.name, row.address, token, row.settings.get(FINGERPRINT, ""))
    if not is_loopback(split_address(row.address)[0]) and not place.fingerprint:
        raise DeviceUnauthorized(f"the certificate of '{row.name}' is not known", "its row has none", hint)
    return AgentDevice(place, context.home)


class AgentDevice:
    """A connected agent; see `protocol.Device`."""

    def __init__(self, place: Place, home: Path) -> None:
        self._place, self._home = place, home
        self._lock: IO[bytes] | None = None
        self._agent, welcome = enter(place, "control")
        self._work = welcome.work or "work/none"
        try:
            self._facts = self._read().facts
        except BaseException:
            self.close()
            raise

    def _read(self) -> AgentStatus:
        return self._agent.ask(ReadStatus(), AgentStatus)

    def facts(self) -> DeviceRecord:
        """Return what the agent says about itself, which is not verified."""
        plain = {**msgspec.to_builtins(self._facts), "units": list(self._facts.units)}
        identity = sha256(plain.pop("id").encode()).hexdigest()[:16]
        named = {"logical_cores": plain.pop("cores"), "reported_by": "the agent", **plain}
        facts = {key: printable(value) if isinstance(value, str) else value for key, value in named.items() if value}
        if self._facts.system == "Android":
            facts["android"] = self._facts.os.removeprefix("Android").strip()
        name = self._place.name
        return DeviceRecord(id=f"agent-{identity}", name=name, kind="agent", address="agent", facts=facts)

    def environment(self) -> dict[str, Any]:
        return {**self.facts().facts, "edgewright": __version__, "packages": self._facts.runtimes}

    def system_state(self) -> dict[str, float]:
        values = msgspec.to_builtins(self._read().state)
        return {name: float(value) for name, value in values.items() if isinstance(value, int | float) and value >= 0}

    def checks(self) -> list[DeviceCheck]:
        state = self._read().state
        reported = "the system does not report it"
        values = (check_value(one, getattr(state, one.code), reported) for one in CHECKS)
        return [check_battery(state.battery, reported), *values, _check_heat(state.thermal_status)]

    def prepare(self, runtime: str) -> None:
        """Raise RuntimeMissing for a runtime that the agent was not built with."""
        if runtime not in self._facts.runtimes:
            known = " and ".join(sorted(self._facts.runtimes)) or "none"
            raise RuntimeMissing(
                f"the agent '{self._place.name}' has no {runtime}",
                f"it was built with {known}",
                "choose one of them with --runtime, or build the agent with it",
            )

    def push(self, path: Path, sha256: str, beside: Mapping[str, Path] = MappingProxyType({})) -> str:
        folder = f"files/{sha256}" if sha256 else f"{self._work}-sent"
        target = f"{folder}/{path.name}"
        if sha256 and self._agent.ask(FindFile(path=target), Found).kind == "file":
            return target
        for name, source in {**beside, path.name: path}.items():  # the main file last: it means that all are there
            count = source.stat().st_size
            self._agent.send(msgspec.json.encode(Put(path=f"{folder}/{name}", bytes=count)) + b"\n")
            self._agent.send_file(source, count)
            self._agent.expect(Done)
        return target

    def pull(self, remote: str, path: Path) -> None:
        found = self._agent.ask(FindFile(path=remote), Found)
        if found.kind == "none":
            raise self._agent.fail(f"it has no file {remote}")
        if found.kind == "file":
            self._receive(remote, path)
            return
        path.mkdir(parents=True, exist_ok=True)
        for one in found.files:
            target = path / one.name
            if not one.name or not target.resolve().is_relative_to(path.resolve()):
                raise self._agent.fail(f"it named a file outside of the folder: {one.name!r}")
            target.parent.mkdir(parents=True, exist_ok=True)
            self._receive(f"{remote}/{one.name}", target)

    def _receive(self, remote: str, path: Path) -> None:
        """Write one file; arrays must be readable ones."""
        count = self._agent.ask(Get(path=remote), Content).bytes
        with path.open("wb") as file:
            for chunk in self._agent.read_content(count):
                file.write(chunk)
        if remote.startswith(f"{self._work}/") and remote.endswith(ARRAYS):
            _check_arrays(self._agent, path, remote)

    def workspace(self) -> str:
        return self._work

    def start_worker(
        self,
        runtime: str,
        affinity: Sequence[int],
        timeout_s: float,
        log: Path,
        environment: str = "",
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> Connection:
        """Start a fresh worker; see `protocol.Device`. Raises UsageError for `affinity`."""
        if affinity:
            raise UsageError("an agent cannot choose processors", "its system places its threads", "omit --affinity")
        self.prepare(runtime)
        self._lock = self._lock or hold_device(self._home, self._place.name)
        log.touch()
        began_ns = time.perf_counter_ns()
        agent, _ = enter(self._place, "worker", runtime)
        return greet_worker(AgentChannel(agent, log), runtime, timeout_s, log, began_ns)

    def sensors(self) -> Reading:
        state = self._read().state
        return Reading(
            power_uw=state.power_uw,
            temperature_c=state.temperature_c,
            frequency_khz=state.frequency_khz,
            source=printable(state.source),
        )

    def remove(self) -> None:
        """Remove everything of ours from the device and its token, and close."""
        self._agent.ask(ForgetUs(), Done)
        (self._home / FOLDER / f"{self._place.name}.token").unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        if self._lock is not None:
            self._lock.close()
        self._agent.close()


def _check_arrays(agent: AgentSocket, path: Path, remote: str) -> None:
    """Raise DeviceUnreachable for a file that has no arrays."""
    named = path.with_name(f".{secrets.token_hex(8)}{Path(remote).suffix}")
    path.rename(named)
    try:
        read_arrays(str(named))
    except Exception as error:  # the reader of a damaged archive raises a dozen classes
        raise agent.fail(f"its outputs cannot be read: {error}") from None
    finally:
        named.rename(path)


def _check_heat(status: int | None) -> DeviceCheck:
    if status is None:
        return DeviceCheck(code="temperature", state="unknown", text="the system does not report it")
    text = f"the thermal status is {status} of 6"
    if status < HOT:
        return DeviceCheck(code="temperature", state="ok", text=text)
    return DeviceCheck(code="temperature", state="warning", text=text, try_this="let the device cool")
