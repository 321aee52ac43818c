"""Devices by name."""

from edgewright.devices.contract import Device
from edgewright.errors import DeviceUnreachable


def open_device(word: str) -> Device:
    """The device that is meant; DeviceUnreachable where there is none of that name."""
    name = word.strip().lower()
    if name in ("local", "host", "localhost"):
        from edgewright.devices.local import LocalDevice

        return LocalDevice()
    if name == "pretend":
        from edgewright.devices.pretend import PretendDevice

        return PretendDevice()
    raise DeviceUnreachable(f"there is no device '{word}'", "known: local, and pretend for tests", "--on local")
