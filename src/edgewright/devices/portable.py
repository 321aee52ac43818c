"""Facts of a machine without Linux's /proc and /sys (macOS, Windows), by psutil. Unknown facts are left out."""

import platform
from pathlib import Path
from typing import Any

import psutil


def is_without_proc(root: Path) -> bool:
    """Return whether this is the machine itself (not a copied tree) and its system is not Linux."""
    return root == Path("/") and platform.system() != "Linux"


def read_portable_facts() -> dict[str, Any]:
    """Return `logical_cores`, `physical_cores` (counts) and `memory_bytes`."""
    facts = {
        "logical_cores": psutil.cpu_count(),
        "physical_cores": psutil.cpu_count(logical=False),
        "memory_bytes": psutil.virtual_memory().total,
    }
    return {name: value for name, value in facts.items() if value}


def read_portable_state() -> dict[str, float]:
    """Return `load1` (a count), `memory_available_bytes` and `swap_used_bytes`, as `read_system_state` does."""
    return {
        "load1": psutil.getloadavg()[0],
        "memory_available_bytes": float(psutil.virtual_memory().available),
        "swap_used_bytes": float(psutil.swap_memory().used),
    }
