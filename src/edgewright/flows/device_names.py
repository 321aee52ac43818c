"""Devices by name."""

import os

from edgewright.devices.protocol import Device
from edgewright.errors import DeviceUnreachable
from edgewright.runtimes.environments import FOLDER
from edgewright.store.location import find_home

# The words of `--on`, as people know them.
DEVICES = {"local": "this machine", "pretend": "pretend, for tests"}


def open_device(word: str) -> Device:
    """The device that is meant; DeviceUnreachable where there is none of that name."""
    name = word.strip().lower()
    if name in ("local", "host", "localhost"):
        from edgewright.devices.local import LocalDevice

        return LocalDevice(environments=find_home(os.environ) / FOLDER)
    if name == "pretend":
        from edgewright.devices.pretend import PretendDevice

        return PretendDevice(environments=find_home(os.environ) / FOLDER)
    raise DeviceUnreachable(f"there is no device '{word}'", "known: local, and pretend for tests", "--on local")
