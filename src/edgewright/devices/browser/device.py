"""A browser as a device: its workers are web workers of a page that another process serves (`service.py`)."""

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from edgewright import __version__
from edgewright.devices.browser.checks import check_browser
from edgewright.devices.browser.messages import Browser, Lease, Leased, Push, Pushed, Started, StartWorker
from edgewright.devices.browser.service import HINT, ServiceCall, list_browsers
from edgewright.devices.connection import Connection, greet_worker
from edgewright.devices.kinds import DeviceContext
from edgewright.devices.lock import hold_device
from edgewright.devices.protocol import Reading
from edgewright.errors import DeviceUnreachable, RuntimeMissing, UsageError
from edgewright.runtimes.web import WEB_PACKAGES, list_web_runtimes
from edgewright.schema.devices import DeviceCheck, RegisteredDevice
from edgewright.schema.run import DeviceRecord as DeviceFacts
from edgewright.system.temporary import TemporaryFolder

ADDRESS = "browser:"


def check_address(address: str) -> str:
    """Return the address of a browser, which is always the same: the page finds us, not we the page."""
    if address != ADDRESS:
        raise UsageError(f"the address {address[:80]!r} cannot be used", "a browser has no address", "use --browser")
    return address


def prepare(row: RegisteredDevice, context: DeviceContext) -> RegisteredDevice:
    """Raise UsageError: a browser is added by pairing."""
    raise UsageError(f"the device '{row.name}' has no address", "a browser is added by pairing", "use --browser")


def connect(row: RegisteredDevice, context: DeviceContext) -> "BrowserDevice":
    """Use the browser until the device is closed."""
    return BrowserDevice(row.name, context.home)


class BrowserDevice:
    """A connected browser; see `protocol.Device`. Paths of pushed files are names that the server resolves."""

    def __init__(self, name: str, home: Path) -> None:
        self._name, self._home = name, home
        self._pushed: dict[str, Path] = {}
        self._lock: IO[bytes] | None = None
        self._folder = TemporaryFolder("browser")
        self._call = ServiceCall(home, Lease(name=name, folder=str(self._folder.path)))
        try:
            leased = self._call.require(Leased)
        except BaseException:
            self.close()
            raise
        self._lease, self._facts = leased.lease, leased.facts

    def facts(self) -> DeviceFacts:
        return DeviceFacts(
            id=f"browser-{self._name}", name=self._name, kind="browser", address=ADDRESS, facts=self._facts
        )

    def environment(self) -> dict[str, Any]:
        packages = {package.name: package.version for package in WEB_PACKAGES}
        return {**self._facts, "edgewright": __version__, "packages": packages}

    def system_state(self) -> dict[str, float]:
        """Return what the page reports: battery, and whether it is visible and keeps the screen on."""
        return {name: float(value) for name, value in self.read().health.items() if value is not None}

    def checks(self) -> list[DeviceCheck]:
        return check_browser(self.read().health, self._facts)

    def read(self) -> Browser:
        """Return the browser's present state. Raises DeviceUnreachable if its page is closed."""
        found = list_browsers(self._home).get(self._name)
        if found is None or found.state == "offline":
            raise _make_lost_error(self._name, found.why if found else "")
        return found

    def prepare(self, runtime: str) -> None:
        """Raise RuntimeMissing for a runtime that is not set up for browsers; nothing is downloaded."""
        if runtime not in (known := list_web_runtimes(self._home)):
            raise _make_runtime_error(runtime, set_up=bool(known))

    def push(self, path: Path, sha256: str, beside: Mapping[str, Path] = MappingProxyType({})) -> str:
        files = {name: str(file.absolute()) for name, file in beside.items()}
        remote = self._call.ask(Push(path=str(path.absolute()), sha256=sha256, beside=files), Pushed).remote
        folder = remote.partition("/")[0]
        self._pushed |= {remote: path, **{f"{folder}/{name}": file for name, file in beside.items()}}
        return remote

    def pull(self, remote: str, path: Path) -> None:
        """Copy what a worker wrote to the workspace, which is on this machine, or a pushed file."""
        source = self._pushed.get(remote, Path(remote))
        if source.is_dir():
            shutil.copytree(source, path, dirs_exist_ok=True)
        else:
            shutil.copyfile(source, path)

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
        """Start a fresh web worker; see `protocol.Device`. Raises UsageError for `affinity`."""
        if affinity:
            raise UsageError("a browser cannot choose processors", "its workers run on any of them", "omit --affinity")
        self.prepare(runtime)
        self._lock = self._lock or hold_device(self._home, self._name)
        began_ns = time.perf_counter_ns()
        log.touch()
        action = StartWorker(lease=self._lease, runtime=runtime, log=str(log.absolute()))
        call = ServiceCall(self._home, action)
        try:
            call.require(Started)
        except BaseException:
            call.close()
            raise
        return greet_worker(BrowserChannel(self, call), runtime, timeout_s, log, began_ns)

    def sensors(self) -> Reading:
        return Reading(source="a browser has no sensor of energy or temperature")

    def close(self) -> None:
        if self._lock is not None:
            self._lock.close()
        self._call.close()
        self._folder.close()


class BrowserChannel:
    """The messages of one web worker; see `channel.Channel`."""

    limits_memory = False

    def __init__(self, device: BrowserDevice, call: ServiceCall) -> None:
        self._device, self._call = device, call

    def send(self, data: bytes) -> None:
        try:
            self._call.send(data)
        except BrokenPipeError:
            self._device.read()
            raise

    def receive(self, seconds: float) -> bytes | None:
        chunk = self._call.receive(seconds)
        if chunk == b"":
            self._device.read()  # raises DeviceUnreachable if the page is closed, and not only its worker
        return chunk

    def wait(self, seconds: float) -> int | None:
        """Return None: web workers have no exit code."""
        return None

    def limit_memory(self, allowed: float) -> None:
        """Do nothing: the browser sets the limit of a page."""

    def end(self) -> None:
        self._call.close()


def _make_lost_error(name: str, why: str) -> DeviceUnreachable:
    """Return the error of a browser whose page is closed."""
    return DeviceUnreachable(f"the browser '{name}' is not connected", why or "its page is not open", HINT)


def _make_runtime_error(runtime: str, *, set_up: bool) -> RuntimeMissing:
    """Return the error of a runtime that a browser does not have."""
    names = " and ".join(dict.fromkeys(package.runtime for package in WEB_PACKAGES))
    if set_up:
        return RuntimeMissing(
            f"{runtime} does not run in a browser", f"the runtimes of browsers are {names}", "choose one"
        )
    return RuntimeMissing(
        f"{runtime} is not set up for browsers",
        "its files are not on this machine",
        "edgewright runtimes setup web",
    )
