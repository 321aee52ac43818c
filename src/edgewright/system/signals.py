"""Signals that not every system has."""

import os
import signal
import sys

KILLED = 9  # SIGKILL, which Windows has no name for


def kill_group(pid: int) -> None:
    """Kill a process with all of its group; on Windows, which has no groups, the process alone.

    Raises ProcessLookupError if there is none, and PermissionError.
    """
    if sys.platform == "win32":
        os.kill(pid, signal.SIGTERM)
    else:
        os.killpg(pid, signal.SIGKILL)
