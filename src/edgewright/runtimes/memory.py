"""Resident memory of this process."""

import sys

from edgewright.runtimes.wire import Memory

STATUS = "/proc/self/status"


def memory_now() -> Memory:
    """Bytes resident now and at the peak since this program was started.

    On Linux the peak is VmHWM and not `ru_maxrss`, which a process inherits from the one that started it
    (getrusage(2), proc_pid_status(5)).
    """
    if sys.platform == "linux":
        return parse_status(read_status())
    return Memory(rss=None, peak=peak_of_rusage())


def read_status() -> str:
    with open(STATUS) as file:  # noqa: PTH123 - called around the measured path, and Path costs ten times as much
        return file.read()


def parse_status(text: str) -> Memory:
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return Memory(rss=_bytes_of(fields.get("VmRSS")), peak=_bytes_of(fields.get("VmHWM")))


def _bytes_of(field: str | None) -> int | None:
    return int(field.split()[0]) * 1024 if field else None


def peak_of_rusage() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
