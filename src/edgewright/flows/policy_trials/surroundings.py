"""What surrounds a stream: competitors on all cores, or a group with a memory limit."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from edgewright.errors import UsageError

CGROUP = Path("/sys/fs/cgroup")
MEMORY_FILES = {"memory": "memory.limit_in_bytes", "": "memory.max"}  # version 1, version 2
LIMIT_SHARE = 0.6  # of what the full variant needs
SMALLEST_NEED = 20_000_000


@contextmanager
def run_competitors() -> Iterator[None]:
    """Keep each core busy with a process of its own for the time of the block."""
    with ExitStack() as stack:
        for _ in range(os.cpu_count() or 1):
            process = subprocess.Popen([sys.executable, "-P", "-m", "edgewright.flows.policy_trials.competitor"])
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield


@contextmanager
def open_limited_group(need_bytes: int) -> Iterator[Path]:
    """Create a cgroup whose memory limit is 60 % of a need. Raises UsageError where that is not possible."""
    if need_bytes < SMALLEST_NEED:
        why = f"the full variant needs only {need_bytes / 1e6:.0f} MB beside the program"
        raise UsageError("the scenario low-memory is not possible", why, "use a bundle with a larger variant")
    group = _create_group(round(need_bytes * LIMIT_SHARE))
    try:
        yield group
    finally:
        with suppress(OSError):
            group.rmdir()


def _create_group(limit_bytes: int) -> Path:
    why = "there is no memory controller"
    for controller, name in MEMORY_FILES.items():
        parent = _find_own_group(controller)
        if parent is None or not (parent / name).exists():
            continue
        group = parent / f"edgewright-{os.getpid()}"
        try:
            group.mkdir()
            (group / name).write_text(str(limit_bytes))
        except OSError as error:
            why = f"{group}: {error.strerror}"
            with suppress(OSError):
                group.rmdir()
            continue
        return group
    hint = "run as root, or in a cgroup of your own with the memory controller"
    raise UsageError("the scenario low-memory is not possible here", why, hint)


def _find_own_group(controller: str) -> Path | None:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == controller:
            return CGROUP / controller / path.lstrip("/")
    return None
