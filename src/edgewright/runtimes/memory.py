"""Resident memory of this process."""

import os
import re
import sys

from edgewright.runtimes.wire import ResidentMemory

STATUS = "/proc/self/status"
STATUS_BYTES = 16384
RSS = re.compile(r"^VmRSS:\s*(\d+)", re.MULTILINE)
PEAK = re.compile(r"^VmHWM:\s*(\d+)", re.MULTILINE)


def read_resident_memory() -> ResidentMemory:
    """Return the current resident bytes and the peak since this program was started.

    On Linux the peak is VmHWM, not `ru_maxrss`, which a process inherits from its parent (getrusage(2),
    proc_pid_status(5)).
    """
    if sys.platform == "linux":
        return parse_status(_read_status())
    return ResidentMemory(rss=None, peak=peak_of_rusage())


def _read_status() -> str:
    """Return the kernel's text, read without Python's file objects, which use more memory than the text."""
    descriptor = os.open(STATUS, os.O_RDONLY)
    try:
        return os.read(descriptor, STATUS_BYTES).decode(errors="replace")
    finally:
        os.close(descriptor)


def parse_status(text: str) -> ResidentMemory:
    return ResidentMemory(rss=_bytes_of(RSS, text), peak=_bytes_of(PEAK, text))


def _bytes_of(field: re.Pattern[str], text: str) -> int | None:
    found = field.search(text)
    return int(found[1]) * 1024 if found else None


def peak_of_rusage() -> int | None:
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
