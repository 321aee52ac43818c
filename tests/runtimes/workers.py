"""Starting workers in tests, and looking at what is left of them."""

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.devices.connection import Connection, start_worker
from edgewright.runtimes.wire import Open, Opened, SessionRequest

WORKER = ("-P", "-m", "edgewright.runtimes.worker")
TIMEOUT_S = 60.0
GONE_SECONDS = 20.0


def start(runtime: str, folder: Path, timeout_s: float = TIMEOUT_S) -> Connection:
    """A real worker whose stderr goes to the file `log` in the folder."""
    return start_worker([sys.executable, *WORKER, runtime], runtime, timeout_s, folder / "log")


def start_script(script: str, folder: Path, timeout_s: float = TIMEOUT_S) -> Connection:
    """Something else in the place of a worker."""
    return start_worker([sys.executable, "-c", script], "pretend", timeout_s, folder / "log")


def save_feeds(path: Path, feeds: Mapping[str, NDArray[Any]] | None = None) -> str:
    """An .npz; one small input where none is given."""
    np.savez(path, allow_pickle=False, **dict(feeds or {"x": np.ones(3, np.float32)}))
    return str(path)


def open_pretend(worker: Connection, folder: Path, **options: str) -> Opened:
    wish = {"latency-us": "10", **{name.replace("_", "-"): value for name, value in options.items()}}
    request = SessionRequest(model="m.pretend", options=wish)
    return worker.ask(Open(session=request, feeds=save_feeds(folder / "feeds.npz")), Opened)


def exists(pid: int) -> bool:
    """Whether there is such a process, a zombie included."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def is_running(pid: int) -> bool:
    """Whether the process is there and no zombie: an orphan waits for the system to reap it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def ends_soon(pid: int) -> bool:
    """Whether the process stops running before long."""
    deadline = time.monotonic() + GONE_SECONDS
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_running(pid)
