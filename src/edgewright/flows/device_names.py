"""Devices by name."""

from edgewright.devices.protocol import Device
from edgewright.errors import DeviceUnreachable
from edgewright.runtimes.environments import FOLDER
from edgewright.store.location import find_home

# Titles of the values of `--on`.
DEVICES = {"local": "this machine", "pretend": "pretend, for tests"}


def open_device(word: str) -> Device:
    """Open the device of a name; DeviceUnreachable for an unknown name."""
    name = word.strip().lower()
    if name in ("local", "host", "localhost"):
        from edgewright.devices.local import LocalDevice

        return LocalDevice(environments=find_home() / FOLDER)
    if name == "pretend":
        from edgewright.devices.pretend import PretendDevice

        return PretendDevice(environments=find_home() / FOLDER)
    raise DeviceUnreachable(
        f"unknown device '{word}'", "the devices are local and, for tests, pretend", "use --on local"
    )
