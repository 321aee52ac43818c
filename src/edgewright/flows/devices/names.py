"""Devices by name: this machine, the simulated one, and those that the user added."""

from collections.abc import Callable

from msgspec.structs import replace

from edgewright.devices.kinds import DeviceContext, load_kind
from edgewright.devices.lock import is_device_busy
from edgewright.devices.protocol import Device
from edgewright.errors import DeviceUnreachable
from edgewright.runtimes.environments import FOLDER
from edgewright.schema.devices import RegisteredDevice
from edgewright.schema.selection import SelectableDevice, choose_devices, parse_selection
from edgewright.store.location import find_home
from edgewright.store.recording import utc_now
from edgewright.store.store import Store

# Names that need no registration.
DEVICES = {"local": "this machine", "pretend": "pretend, for tests"}
_LOCAL_WORDS = ("local", "host", "localhost")


def _ignore(line: str) -> None:
    """Take a progress line of a command that shows none."""


def open_device(word: str, store: Store | None = None, progress: Callable[[str], None] = _ignore) -> Device:
    """Open the device of a name; DeviceUnreachable for an unknown name.

    Args:
        store: has the devices that the user added; without it, only `DEVICES` can be opened.
    """
    name = word.strip()
    if name.lower() in _LOCAL_WORDS:
        from edgewright.devices.local import LocalDevice

        return LocalDevice(environments=find_home() / FOLDER)
    if name.lower() == "pretend":
        from edgewright.devices.pretend import PretendDevice

        return PretendDevice(environments=find_home() / FOLDER)
    row = find_device(name, store)
    device = load_kind(row.kind).connect(row, DeviceContext(find_home(), progress))
    try:
        remember_facts(row, device, store, progress)
    except BaseException:
        device.close()
        raise
    return device


def remember_facts(row: RegisteredDevice, device: Device, store: Store | None, progress: Callable[[str], None]) -> None:
    """Store the facts of a connected device, and report those that changed since its last connection."""
    facts = device.facts().facts
    for name in sorted(row.facts.keys() & facts.keys()):
        if row.facts[name] != facts[name]:
            progress(f"{row.name}: {name} was {row.facts[name]} at {row.seen_at}, now it is {facts[name]}")
    if store is not None and not store.database.is_read_only:
        store.update_device(replace(row, facts=facts, seen_at=utc_now()))


def find_device(name: str, store: Store | None) -> RegisteredDevice:
    """Return the registered device of a name; DeviceUnreachable with the known names."""
    rows = store.list_registered_devices() if store else []
    found = next((row for row in rows if row.name == name), None)
    if found is None:
        known = ", ".join(["local", *(row.name for row in rows)])
        raise DeviceUnreachable(
            f"unknown device '{name[:80]}'",
            f"the devices are {known}",
            "edgewright devices add NAME ssh://USER@HOST adds one; --on local is this machine",
        )
    return found


def select_devices(text: str, store: Store) -> tuple[str, ...]:
    """Return the names of the devices that `--on` selects; see `schema.selection`.

    Raises UsageError for a text that cannot be read, DeviceUnreachable if too few devices fit.
    """
    rows = store.list_registered_devices()
    items = parse_selection(text)
    known = [SelectableDevice(row.name, row.facts) for row in rows]
    builtin = [SelectableDevice(name, {}) for name in DEVICES]
    plain = [item.name for item in items if item.name]
    words = {name: "local" if name.lower() in _LOCAL_WORDS else name for name in plain}
    named = [item if not item.name else type(item)(name=words[item.name]) for item in items]
    used = [one for one in builtin if one.name in words.values()]
    return choose_devices(named, [*used, *known], lambda name: _is_ready(name, store))


def _is_ready(name: str, store: Store) -> bool:
    if is_device_busy(find_home(), name):
        return False
    try:
        open_device(name, store).close()
    except DeviceUnreachable:
        return False
    return True
