"""Temporary folders and files that are removed even if their process is killed.

Beside each folder is a lock file. The system releases its lock when the process ends in any way. The
first folder that a later process makes, and every command that opens the store, remove the folders of this user
whose lock is free. Files that must be elsewhere, beside the file that they will replace, are listed in such a folder.
"""

import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
import time
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import IO

from edgewright.system.locks import try_lock

PREFIX, NEW = "edgewright-", "edgewright-new-"
LOCK_FILE, SIBLING_FILE, FILES = "in-use", "elsewhere", "files"
FOLDER_NAME = re.compile(r"edgewright-(?:[a-z]+-)?[a-z0-9_]{8}")
SIBLING_NAME = re.compile(r"\.edgewright-[a-z0-9_]{8}(?:\..*)?", re.DOTALL)
# A folder gets its name after its lock. Windows renames no folder with an open file in it, so there a
# folder without a lock may be one that is being created.
MIN_AGE_S = 3600.0


class TemporaryFolder:
    """A folder that is removed by `close`, at the end of the `with` block or of the process, or by a later process."""

    def __init__(self, kind: str = "") -> None:
        remove_stale_folders_once()
        root, mark = _make_folder(f"{PREFIX}{kind}-" if kind else PREFIX)
        self._remove = weakref.finalize(self, _remove_folder, root, mark)
        self.path = root / FILES
        self.path.mkdir()

    def close(self) -> None:
        """Remove the folder; a second call does nothing."""
        self._remove()

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def create_sibling(target: Path) -> Iterator[Path]:
    """Yield an unused path in the same folder as `target`; a file or folder there is removed after the block.

    The block writes a file or folder there and renames it to `target` when it is complete.
    """
    token = secrets.token_hex(4)
    part = target.absolute().with_name(f".edgewright-{token}{target.suffix[:20]}")
    with ExitStack() as stack:
        with suppress(OSError):  # a full temporary folder is no error here
            ticket = stack.enter_context(TemporaryFolder())
            (ticket.parent / SIBLING_FILE).write_bytes(os.fsencode(part))
        try:
            yield part
        finally:
            _remove_path(part)


@cache
def remove_stale_folders_once() -> None:
    """Remove the folders of killed processes, at the first call in this process only."""
    remove_stale_folders()


def remove_stale_folders(folder: Path | None = None, now: float | None = None) -> None:
    """Remove the folders and files of killed processes of this user."""
    root = folder or Path(tempfile.gettempdir())
    moment = time.time() if now is None else now
    with suppress(OSError):
        with os.scandir(root) as found:
            names = [entry.name for entry in found if FOLDER_NAME.fullmatch(entry.name)]
        for name in names:
            with suppress(OSError):
                _remove_if_stale(root / name, moment)


def _remove_if_stale(path: Path, now: float) -> None:
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or (hasattr(os, "geteuid") and status.st_uid != os.geteuid()):
        return
    if (path.name.startswith(NEW) or sys.platform == "win32") and now - status.st_mtime < MIN_AGE_S:
        return
    if path.name.startswith(NEW) and not any(path.iterdir()):  # its process was killed before it made the lock file
        path.rmdir()
        return
    with (path / LOCK_FILE).open("rb+") as mark:
        if not try_lock(mark):
            return
        with suppress(FileNotFoundError):
            elsewhere = Path(os.fsdecode((path / SIBLING_FILE).read_bytes()))
            if SIBLING_NAME.fullmatch(elsewhere.name) and elsewhere.is_absolute():
                _remove_path(elsewhere)
    shutil.rmtree(path, ignore_errors=True)


def _make_folder(prefix: str) -> tuple[Path, IO[bytes]]:
    """Return a new folder and its open lock file."""
    new, mark = Path(tempfile.mkdtemp(prefix=NEW)), None
    try:
        mark = (new / LOCK_FILE).open("wb")
        with suppress(OSError):  # without file system locks no process gets one, so the folder stays
            try_lock(mark)
        if sys.platform == "win32":
            return new, mark
        path = new.with_name(prefix + new.name.removeprefix(NEW))
        new.rename(path)
    except BaseException:
        if mark is not None:
            mark.close()
        shutil.rmtree(new, ignore_errors=True)
        raise
    return path, mark


def _remove_folder(path: Path, mark: IO[bytes]) -> None:
    mark.close()
    shutil.rmtree(path, ignore_errors=True)


def _remove_path(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
