"""Locks on files: one open file holds one at a time, and the system releases it when the process ends in any way."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from edgewright.errors import StoreLocked

_PAUSE_S = 0.02

if sys.platform == "win32":
    import msvcrt

    def try_lock(file: IO[bytes]) -> bool:
        """Lock the file unless another open file of any process holds it."""
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def try_lock(file: IO[bytes]) -> bool:
        """Lock the file unless another open file of any process holds it."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@contextmanager
def hold_lock(path: Path, wait_s: float) -> Iterator[None]:
    """Hold the lock on `path`, created if absent, during the block. Raises StoreLocked after `wait_s`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + wait_s
    with path.open("ab") as file:
        while not try_lock(file):
            if time.monotonic() > end:
                raise StoreLocked(
                    "the record of runs is locked", f"another process held {path} for more than {wait_s:g} s"
                )
            time.sleep(_PAUSE_S)
        yield
