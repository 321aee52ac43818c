"""Detection of killed processes: each open store that writes locks a file.

Rows that the store writes contain the name of that file. The system releases the lock when the process ends, even by
SIGKILL or a power failure, so a file without a lock belongs to no running process. Unlike process ids this is valid
across reboots and containers. Names contain the id of their home: only stores with the same home check them, because on
PostgreSQL others may write from other machines.
"""

import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from edgewright.store.runs.ids import is_run_id, new_run_id
from edgewright.system.locks import hold_lock, try_lock

_WAIT_S = 10.0
_PROGRESS_SUFFIX = ".progress"
_NEW_PREFIX, _NEW_MAX_AGE_S = ".new-", 3600.0
_PROGRESS_INTERVAL_S = 0.25
_MAX_PROGRESS_LENGTH = 500


class Presence:
    """The lock of one open store. Safe for all threads, not for forked children."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._folder = home / "processes"
        self._lock = threading.Lock()
        self._name = ""
        self._file: IO[bytes] | None = None
        self._progress_written_at = float("-inf")

    def name(self) -> str:
        """Return this store's locked name; created at the first call, so that readers create no file."""
        with self._lock:
            if self._file is None:
                name = new_run_id()
                self._folder.mkdir(parents=True, exist_ok=True)
                self._file = self._create_file(name)
                self._name = f"{self._home_id()}/{name}"
            return self._name

    def _create_file(self, name: str) -> IO[bytes]:
        """Return the locked file of that name. It is locked before it gets its name, so that `sweep` finds no live one
        without."""
        if sys.platform == "win32":  # open files can be neither renamed nor removed there
            file = (self._folder / name).open("ab")
            try_lock(file)
            return file
        new = self._folder / f"{_NEW_PREFIX}{name}"
        file = new.open("ab")
        try_lock(file)
        new.rename(self._folder / name)
        return file

    def sweep(self) -> None:
        """Remove the files of killed stores. A name without a file also counts as gone."""
        with suppress(OSError):
            for path in list(self._folder.iterdir()):
                name = path.name.removeprefix(_NEW_PREFIX).removesuffix(_PROGRESS_SUFFIX)
                if is_run_id(name) and name != self._name.rpartition("/")[2]:
                    with suppress(OSError):
                        self._sweep_one(path)

    def _sweep_one(self, path: Path) -> None:
        if path.name.startswith(_NEW_PREFIX):
            if time.time() - path.stat().st_mtime > _NEW_MAX_AGE_S:
                path.unlink()
        elif path.suffix == _PROGRESS_SUFFIX:
            if not path.with_suffix("").exists():
                path.unlink()
        else:
            with path.open("rb+") as file:
                if try_lock(file):
                    path.unlink()

    def is_gone(self, name: str) -> bool:
        """Return whether the store of that name belongs to this home and no longer runs."""
        where, _, token = name.partition("/")
        if name == self._name or where != self._known_home_id():
            return False
        path = self._folder / token
        if not path.exists():
            return True
        with path.open("ab") as file:
            return try_lock(file)

    def write_progress(self, text: str) -> None:
        """Publish a progress line for other processes of this home, at most a few per second. Errors are ignored."""
        with self._lock, suppress(OSError):
            if self._file is not None and time.monotonic() - self._progress_written_at >= _PROGRESS_INTERVAL_S:
                self._progress_written_at = time.monotonic()
                self._progress_path(self._name).write_text(
                    text[:_MAX_PROGRESS_LENGTH], encoding="utf-8", errors="replace"
                )

    def read_progress(self, name: str) -> str:
        """Return the last progress line of a store; empty if there is none or it belongs to another home."""
        where, _, token = name.partition("/")
        with suppress(OSError):
            if where == self._known_home_id() and is_run_id(token):
                return self._progress_path(name).read_text(encoding="utf-8", errors="replace")[:_MAX_PROGRESS_LENGTH]
        return ""

    def _progress_path(self, name: str) -> Path:
        return self._folder / f"{name.rpartition('/')[2]}{_PROGRESS_SUFFIX}"

    def forget(self, name: str) -> None:
        """Remove the files of a store that is gone and in no row."""
        (self._folder / name.rpartition("/")[2]).unlink(missing_ok=True)
        self._progress_path(name).unlink(missing_ok=True)

    def close(self) -> None:
        """Release the lock; rows with the name then belong to a store that is gone."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self.forget(self._name)
                self._file, self._name = None, ""

    def _home_id(self) -> str:
        path = self._home / "id"
        with hold_lock(self._home / "id.lock", _WAIT_S):
            if not self._known_home_id():
                path.write_text(new_run_id(), encoding="ascii")
            return self._known_home_id()

    def _known_home_id(self) -> str:
        path = self._home / "id"
        return path.read_text(encoding="ascii", errors="replace").strip() if path.exists() else ""
