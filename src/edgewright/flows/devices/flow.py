"""Devices that the user added: add, list, check, set up, remove."""

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from edgewright.devices.agent.device import AgentDevice
from edgewright.devices.kinds import DeviceContext, find_kind, get_state, load_kind
from edgewright.devices.lock import is_device_busy
from edgewright.devices.remote.device import RemoteDevice
from edgewright.errors import DeviceUnreachable, UsageError
from edgewright.flows.devices.browser import disconnect_browser
from edgewright.flows.devices.names import find_device, open_device, remember_facts
from edgewright.runtimes.table import find_runtime
from edgewright.schema.devices import DeviceCheck, DeviceState, RegisteredDevice, check_device_name
from edgewright.store.location import find_home
from edgewright.store.recording import utc_now
from edgewright.store.store import Store

Progress = Callable[[str], None]


class DeviceStatus(Struct, frozen=True, kw_only=True):
    """A device in a list: `facts` are those of the last connection, `why` is the reason of a state that is not
    ready."""

    name: str
    kind: str
    address: str
    state: DeviceState
    why: str = ""
    facts: dict[str, Any] = {}
    seen_at: str | None = None


class DeviceList(Struct, frozen=True, kw_only=True):
    """The JSON of `edgewright devices list --json`."""

    schema: str = "edgewright.devices/1"
    devices: tuple[DeviceStatus, ...]


class CheckReport(Struct, frozen=True, kw_only=True):
    """The JSON of `edgewright devices check --json`."""

    schema: str = "edgewright.device-check/1"
    name: str
    state: DeviceState
    checks: tuple[DeviceCheck, ...]


class SetupReport(Struct, frozen=True, kw_only=True):
    """The JSON of `edgewright devices setup --json`: versions of the packages of each runtime on the device."""

    schema: str = "edgewright.device-setup/1"
    name: str
    python: str
    runtimes: dict[str, dict[str, str]]
    sent_bytes: int


class DeviceAccess(Struct, frozen=True, kw_only=True):
    """What lets us into a new device.

    Attributes:
        key: path of a private key file; empty to use the agent and the configuration of ssh.
        code: pairing code that the device shows; empty if it has none.
    """

    key: str = ""
    code: str = ""


def add_device(name: str, address: str, access: DeviceAccess, store: Store, progress: Progress) -> DeviceStatus:
    """Connect to a device, read its facts and remember it.

    Raises UsageError for a name or an address that cannot be used, DeviceUnreachable if it cannot be reached; then
    nothing is stored.
    """
    check_device_name(name)
    if any(row.name == name for row in store.list_registered_devices()):
        raise UsageError(
            f"the device '{name}' exists already", "names are unique", f"edgewright devices remove {name} removes it"
        )
    info = find_kind(address)
    module = load_kind(info.kind)
    row = RegisteredDevice(
        name=name,
        kind=info.kind,
        address=module.check_address(address),
        credential=_find_key(access.key),
        added_at=utc_now(),
    )
    if access.code and info.kind != "agent":
        raise UsageError("--code cannot be used", f"{name} is of the kind {info.kind}", "only an agent shows a code")
    context = DeviceContext(find_home(), progress, access.code)
    row = module.prepare(row, context)
    with closing(module.connect(row, context)) as device:
        row = replace(row, facts=device.facts().facts, seen_at=utc_now())
    store.add_device(row)
    return _describe(row, "ready")


def _find_key(key: str) -> str:
    """Return the absolute path of a key file; UsageError if it cannot be read."""
    if not key:
        return ""
    path = Path(key).expanduser().absolute()
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise UsageError(
            f"--key {key} cannot be read", error.strerror or str(error), "give the file of a private key"
        ) from None
    return str(path)


def _describe(row: RegisteredDevice, state: DeviceState, why: str = "") -> DeviceStatus:
    return DeviceStatus(
        name=row.name, kind=row.kind, address=row.address, state=state, why=why, facts=row.facts, seen_at=row.seen_at
    )


def list_all_devices(store: Store) -> DeviceList:
    """Return this machine and all devices that were added, with their states now."""
    names = ("local", *(row.name for row in store.list_registered_devices()))
    return DeviceList(devices=tuple(show_device(name, store) for name in names))


def show_device(name: str, store: Store) -> DeviceStatus:
    """Return one device with its state now. Raises DeviceUnreachable for an unknown name."""
    if name == "local":
        with closing(open_device(name)) as device:
            return DeviceStatus(name=name, kind="local", address="", state="ready", facts=device.facts().facts)
    row = find_device(name, store)
    if is_device_busy(find_home(), name):
        return _describe(row, "busy", "another command of Edgewright uses it")
    try:
        open_device(name, store).close()
    except DeviceUnreachable as error:
        return _describe(row, get_state(error), str(error))
    return _describe(find_device(name, store), "ready")


def check_device(name: str, store: Store) -> tuple[CheckReport, DeviceUnreachable | None]:
    """Return the checks of a device, and the error of one that cannot be reached."""
    try:
        with closing(open_device(name, store)) as device:
            reached = DeviceCheck(code="connection", state="ok", text="the device can be reached")
            checks = (reached, *device.checks())
    except DeviceUnreachable as error:
        failed = DeviceCheck(code="connection", state="failed", text=str(error), try_this=error.try_this)
        return CheckReport(name=name, state=get_state(error), checks=(failed,)), error
    return CheckReport(name=name, state="ready", checks=checks), None


def set_up_device(name: str, runtimes: Sequence[str], store: Store, progress: Progress) -> SetupReport:
    """Install the workers of runtimes on a device, as far as they are missing.

    Raises DeviceUnreachable, and RuntimeMissing if a runtime has no packages for the device.
    """
    infos = [find_runtime(word) for word in dict.fromkeys(runtimes)]
    row = find_device(name, store)
    with closing(open_device(name, store, progress)) as device:
        if not isinstance(device, RemoteDevice):
            raise UsageError(f"the device '{name}' needs no setup", f"it is of the kind {row.kind}")
        record = device.set_up(infos)
        for info in infos:
            device.try_worker(info)
        remember_facts(row, device, store, progress)
        packages = {runtime: one.packages for runtime, one in record.runtimes.items()}
        return SetupReport(name=name, python=record.python, runtimes=packages, sent_bytes=device.link.sent_bytes)


def remove_device(name: str, store: Store, *, forget: bool) -> bool:
    """Remove everything of ours from a device, and forget it; return whether its files were removed.

    Args:
        forget: forget a device that cannot be reached, whose files then stay on it.

    Raises DeviceUnreachable if it cannot be reached, unless `forget`.
    """
    row = find_device(name, store)
    if row.kind == "browser":
        disconnect_browser(find_home(), name)
        return store.forget_device(name)
    is_clean = True
    try:
        with closing(open_device(name, store)) as device:
            if isinstance(device, RemoteDevice | AgentDevice):
                device.remove()
    except DeviceUnreachable as error:
        if not forget:
            error.try_this = f"{error.try_this}; edgewright devices remove {name} --forget forgets it anyway"
            raise
        is_clean = False
    store.forget_device(row.name)
    return is_clean
