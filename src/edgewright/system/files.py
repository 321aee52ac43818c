"""Atomic writing of files, and reading of files without blocking and up to a limit."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from edgewright.errors import OutputError, find_full_disk_error
from edgewright.system.temporary import create_sibling

MAX_TEXT_BYTES = 16 << 20  # limit of a text file that is read whole


@contextmanager
def replace_atomically(path: Path, *, follow: bool = False) -> Iterator[Path]:
    """Yield a path to write to, whose file is renamed to `path` at the end of the block.

    If the block fails, `path` is unchanged, and nothing else remains. Raises OutputError for errors of the file
    system.

    Args:
        follow: for a file that the user named. A link is followed, and a pipe or a device, such as
            `/dev/stdout`, is written to directly. Not for files in a folder that the user named: the folder
            may come from elsewhere, and a link in it may point outside. The new file replaces such a link.
    """
    try:
        if follow and _is_special(path):
            yield path
            return
        target = Path(os.path.realpath(path)) if follow else path
        with create_sibling(target) as part:
            yield part
            mode = target.lstat().st_mode if os.path.lexists(target) else None
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            if mode is not None and stat.S_ISREG(mode):
                part.chmod(stat.S_IMODE(mode))
            part.replace(target)
    except OSError as error:
        raise make_output_error(path, error) from None


@contextmanager
def create_folder_atomically(folder: Path, last: str) -> Iterator[Path]:
    """Yield a new folder, whose files are moved to `folder` at the end of the block, the one named `last` last.

    `folder` is absent or empty, and stays so if the block fails. Raises OSError for errors of the file system.
    """
    is_there = folder.is_dir()
    if not is_there:
        folder.parent.mkdir(parents=True, exist_ok=True)
    with create_sibling(folder / "files" if is_there else folder) as part:
        part.mkdir()
        yield part
        if not is_there:
            part.rename(folder)
            return
        for path in sorted(part.iterdir(), key=lambda path: path.name == last):
            path.rename(folder / path.name)


def write_atomically(path: Path, content: str | bytes, *, follow: bool = False) -> None:
    """Write a file completely or not at all; `follow` as in `replace_atomically`. Raises OutputError."""
    data = content.encode() if isinstance(content, str) else content
    with replace_atomically(path, follow=follow) as part:
        part.write_bytes(data)


def make_output_error(path: Path, error: OSError) -> OutputError:
    """Return the error for a file or folder that cannot be written."""
    full = find_full_disk_error(error)
    hint = full.try_this if full else ""
    return OutputError(f"{path} cannot be written", error.strerror or str(error), hint)


def _is_special(path: Path) -> bool:
    """Return whether the path is neither a file nor a folder, but for example a pipe, a device or a socket."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def open_regular(path: Path) -> IO[bytes]:
    """Open a file for reading. Raises OSError, with the reason as its `strerror`, for a device, a FIFO or a folder."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
    try:
        _check_regular(path.stat(), path)  # before opening, which has effects on some devices
        descriptor = os.open(path, flags)  # without waiting for the other end of a FIFO
    except ValueError as error:  # a NUL in the name
        raise OSError(errno.EINVAL, str(error), str(path)) from None
    try:
        _check_regular(os.fstat(descriptor), path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _check_regular(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))


def read_regular(path: Path, most: int = MAX_TEXT_BYTES) -> bytes:
    """Return the bytes of a regular file. Raises OSError, with the reason as its `strerror`, also if it has over `most`
    bytes."""
    with open_regular(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(
            errno.EINVAL, f"it has over {most:,} bytes", str(path)
        )  # not EFBIG, which `find_full_disk_error` reads as a full disk
    return data
