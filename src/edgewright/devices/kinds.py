"""The kinds of device as a table; a kind's module is imported only for a device of that kind.

A kind's module has the functions of `DeviceModule`. To add a kind: a module, a row in `KINDS`, a test class that
inherits `tests/contracts/device_contract.py`, and its independence in `[tool.importlinter]`.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, Protocol, cast

from edgewright.devices.protocol import Device
from edgewright.errors import DeviceBusy, DeviceUnauthorized, DeviceUnreachable, RuntimeMissing, UsageError
from edgewright.schema.devices import DeviceKind, DeviceState, RegisteredDevice


class DeviceContext(NamedTuple):
    """What a device uses of this machine.

    Attributes:
        home: folder of the user's data; kinds keep their own files in folders below it.
        progress: called with one line of text at each step that takes time.
        code: that the user read from a new device; empty if it has none.
    """

    home: Path
    progress: Callable[[str], None]
    code: str = ""


class DeviceModule(Protocol):
    """The module of one kind of device."""

    def check_address(self, address: str) -> str:
        """Return the address in its full form. Raises UsageError, also for an address that contains a secret."""

    def prepare(self, row: RegisteredDevice, context: DeviceContext) -> RegisteredDevice:
        """Return the row of a new device with what later connections require, such as its host key; no secret.

        Raises as `connect`.
        """

    def connect(self, row: RegisteredDevice, context: DeviceContext) -> Device:
        """Connect to the device, without installing anything on it.

        Raises DeviceUnreachable (state offline), DeviceUnauthorized or DeviceBusy.
        """


class KindInfo(NamedTuple):
    """A kind of device.

    Attributes:
        schemes: beginnings of its addresses.
        needs: import names of the packages that it requires, from the extra `devices`.
    """

    kind: DeviceKind
    module: str
    schemes: tuple[str, ...]
    needs: tuple[str, ...] = ()


KINDS: dict[str, KindInfo] = {
    "ssh": KindInfo("ssh", "edgewright.devices.ssh", ("ssh://",), ("asyncssh",)),
    "browser": KindInfo("browser", "edgewright.devices.browser", ("browser:",)),
    "agent": KindInfo("agent", "edgewright.devices.agent", ("agent://",)),
}


def find_kind(address: str) -> KindInfo:
    """Return the kind of an address. Raises UsageError with the known forms."""
    found = next((info for info in KINDS.values() if address.startswith(info.schemes)), None)
    if found is None:
        known = ", ".join(scheme for info in KINDS.values() for scheme in info.schemes)
        raise UsageError(
            f"the address {address[:80]!r} cannot be used",
            f"addresses begin with {known}",
            "write it like ssh://USER@HOST:PORT",
        )
    return found


def load_kind(kind: str) -> DeviceModule:
    """Import and return the module of a kind. Raises RuntimeMissing if a package is absent."""
    info = KINDS[kind]
    if absent := next((name for name in info.needs if find_spec(name) is None), ""):
        raise RuntimeMissing(
            f"devices of the kind {kind} cannot be used here",
            f"{absent} is not installed",
            "pip install 'edgewright[devices]'",
        )
    return cast(DeviceModule, import_module(info.module))


def get_state(error: DeviceUnreachable) -> DeviceState:
    """Return the state of a device whose connection failed with this error."""
    match error:
        case DeviceUnauthorized():
            return "unauthorized"
        case DeviceBusy():
            return "busy"
    return "offline"
