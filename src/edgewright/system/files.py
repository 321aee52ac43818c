"""Files that are written whole or not at all, and files that are read without waiting."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgewright.errors import OutputError, full_disk
from edgewright.system.temporary import beside


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a path to write to, whose file takes the name `path` at the end of the block.

    When the block fails, what stood at `path` is still there, and nothing else. A pipe or a device, such as
    `/dev/stdout`, is written to directly. Raises OutputError for what the file system refuses.
    """
    try:
        if is_special(path):
            yield path
            return
        target = Path(os.path.realpath(path))
        with beside(target) as part:
            yield part
            mode = target.stat().st_mode if target.exists() else None
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            if mode is not None:
                part.chmod(stat.S_IMODE(mode))
            part.replace(target)
    except OSError as error:
        raise output_error(path, error) from None


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file under its name only when it is whole. Raises OutputError."""
    data = content.encode() if isinstance(content, str) else content
    with written_whole(path) as part:
        part.write_bytes(data)


def output_error(path: Path, error: OSError) -> OutputError:
    """Return the error for a file or folder that cannot be written."""
    full = full_disk(error)
    hint = full.try_this if full else ""
    return OutputError(f"{path} cannot be written", error.strerror or str(error), hint)


def is_special(path: Path) -> bool:
    """Return whether something stands there that is neither a file nor a folder: a pipe, a device, a socket."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def read_regular(path: Path, most_bytes: int) -> bytes:
    """Return the bytes of a regular file. Raises OSError for anything else, and for more bytes than that.

    It never waits: a pipe without a writer would let an ordinary `open` wait for ever.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is no regular file")
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise OSError(f"{path} is larger than {most_bytes} bytes")
    return data
