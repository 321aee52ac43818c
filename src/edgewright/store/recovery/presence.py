"""How a killed process is found: each store that writes holds a lock on a file of its own while it is open.

The name of that file stands in the rows the store is responsible for. The system lets go of the lock when the
process ends, even by SIGKILL or a power cut, so a name whose lock can be had belongs to nobody who lives. Unlike
a process number this holds across reboots and containers. Names carry the id of the home they were made in:
only stores on the same home may judge them, since on PostgreSQL others may write from elsewhere.
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
    """The lock of one open store. Any thread may call; a forked child may not."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._folder = home / "processes"
        self._lock = threading.Lock()
        self._name = ""
        self._file: IO[bytes] | None = None
        self._progress_written_at = float("-inf")

    def name(self) -> str:
        """This store's name, its lock held; made at the first call, so that a reader leaves no trace."""
        with self._lock:
            if self._file is None:
                name = new_run_id()
                self._folder.mkdir(parents=True, exist_ok=True)
                self._file = self._create_file(name)
                self._name = f"{self._home_id()}/{name}"
            return self._name

    def _create_file(self, name: str) -> IO[bytes]:
        """The file of that name with its lock, which it has before its name: `sweep` meets no living one without."""
        if sys.platform == "win32":  # an open file is neither renamed nor removed there
            file = (self._folder / name).open("ab")
            try_lock(file)
            return file
        new = self._folder / f"{_NEW_PREFIX}{name}"
        file = new.open("ab")
        try_lock(file)
        new.rename(self._folder / name)
        return file

    def sweep(self) -> None:
        """Remove the files that killed stores left. The name of a store without a file counts as gone, too."""
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
        """Whether the store of that name was made in this home and no longer lives."""
        where, _, token = name.partition("/")
        if name == self._name or where != self._known_home_id():
            return False
        path = self._folder / token
        if not path.exists():
            return True
        with path.open("ab") as file:
            return try_lock(file)

    def write_progress(self, text: str) -> None:
        """Leave one line for the others of this home, if there is a name; a few a second are written, and none is
        worth an error."""
        with self._lock, suppress(OSError):
            if self._file is not None and time.monotonic() - self._progress_written_at >= _PROGRESS_INTERVAL_S:
                self._progress_written_at = time.monotonic()
                self._progress_path(self._name).write_text(
                    text[:_MAX_PROGRESS_LENGTH], encoding="utf-8", errors="replace"
                )

    def read_progress(self, name: str) -> str:
        """What the store of that name said last; empty where it said nothing, or was made in another home."""
        where, _, token = name.partition("/")
        with suppress(OSError):
            if where == self._known_home_id() and is_run_id(token):
                return self._progress_path(name).read_text(encoding="utf-8", errors="replace")[:_MAX_PROGRESS_LENGTH]
        return ""

    def _progress_path(self, name: str) -> Path:
        return self._folder / f"{name.rpartition('/')[2]}{_PROGRESS_SUFFIX}"

    def forget(self, name: str) -> None:
        """Remove the files of a store that is gone and stands in no row any more."""
        (self._folder / name.rpartition("/")[2]).unlink(missing_ok=True)
        self._progress_path(name).unlink(missing_ok=True)

    def close(self) -> None:
        """Let go: rows that still carry the name are then those of a store that is gone."""
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
