"""The lock of a device: two commands that measure on it at once would distort each other."""

from pathlib import Path
from typing import IO

from edgewright.errors import DeviceBusy
from edgewright.system.locks import try_lock

FOLDER = "devices/locks"


def hold_device(home: Path, name: str) -> IO[bytes]:
    """Return a file whose lock is held until it is closed. Raises DeviceBusy if another command holds it."""
    path = home / FOLDER / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("ab")
    if not try_lock(file):
        file.close()
        raise DeviceBusy(f"the device '{name}' is busy", "another command of Edgewright uses it")
    return file


def is_device_busy(home: Path, name: str) -> bool:
    """Return whether another command measures on the device."""
    if not (home / FOLDER / f"{name}.lock").exists():
        return False
    try:
        hold_device(home, name).close()
    except DeviceBusy:
        return True
    return False
