"""Attribution of failures to a full disk."""

import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from edgewright.errors import (
    FULL_DISK_ERRNOS,
    EdgewrightError,
    GateFailed,
    LimitReached,
    ModelError,
    ModelNotFound,
    OutputError,
    StoreError,
    WorkerError,
    WorkerTimeout,
    find_full_disk_error,
)
from edgewright.schema.units import show_bytes

MIN_FREE_BYTES = 1 << 20


def attribute_to_full_disk(
    error: EdgewrightError, folders: Iterable[Path] = (), needed_bytes: int = MIN_FREE_BYTES
) -> EdgewrightError:
    """Return OutputError in place of an error that a full disk has caused, or else the error itself.

    Native libraries write incomplete files, or fail without a message. If a model cannot be converted,
    read or run, or a worker crashes, and less than `needed_bytes` are free in one of the folders or in the temporary
    folder, the disk is named as the cause.
    """
    if full := find_full_disk_error(error):
        if isinstance(error, OutputError | StoreError):  # already names the disk
            return error
        full.why += f": {error.what}"
        full.__cause__ = error
        return full
    if not _may_be_disk_failure(error):
        return error
    for folder in (*folders, Path(tempfile.gettempdir())):
        free = count_free_bytes(folder)
        if free is not None and free < needed_bytes:
            why = f"{folder} has {show_bytes(free)} free, and this failed: {error.what}"
            full = OutputError("the disk is full", why, "free some space, then run the same command again")
            full.__cause__ = error
            return full
    return error


def preallocate(path: Path) -> None:
    """Allocate the disk space of a file. Raises OSError if it does not fit.

    A process that writes into a mapped sparse file on a full disk is killed by a signal.
    """
    size = path.stat().st_size
    if not hasattr(os, "posix_fallocate"):
        if size > shutil.disk_usage(path.parent).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return
    with path.open("rb+") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, max(size, 1))
        except OSError as error:
            if error.errno in FULL_DISK_ERRNOS:
                raise OSError(error.errno, error.strerror, str(path)) from None


def _may_be_disk_failure(error: EdgewrightError) -> bool:
    """Return whether an incomplete or unwritable file could have caused this error."""
    if isinstance(error, ModelNotFound | LimitReached | WorkerTimeout):
        return False
    return isinstance(error, ModelError | WorkerError | GateFailed) or type(error) is EdgewrightError


def count_free_bytes(folder: Path) -> int | None:
    """Return the bytes that this user can write in the folder, which need not exist; None if unknown."""
    nearest = next((one for one in (folder, *folder.absolute().parents) if one.is_dir()), None)
    with suppress(OSError):
        return shutil.disk_usage(nearest).free if nearest is not None else None
    return None


def check_free_bytes(folder: Path, needed: int, purpose: str) -> None:
    """Raise OutputError if the disk of `folder` has fewer bytes free than `needed`."""
    free = count_free_bytes(folder)
    if free is not None and free < needed:
        raise OutputError(
            f"not enough disk space in {folder} for {purpose}",
            f"{show_bytes(needed)} are needed, {show_bytes(free)} are free",
            "choose an --output folder on another disk",
        )


def is_read_only(path: Path) -> bool:
    """Return whether the disk of a path is mounted read-only; on Windows, where it is not known, False.

    Raises OSError if the path does not exist.
    """
    return sys.platform != "win32" and bool(os.statvfs(path).f_flag & os.ST_RDONLY)
