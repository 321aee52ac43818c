"""Files that another file names, or that lie in a folder from elsewhere: opened only if ordinary, and not over a size.

A device never ends, and a FIFO waits for ever; neither is opened to be read.
"""

import errno
import os
import stat
from pathlib import Path
from typing import IO

MOST_TEXT_BYTES = 16 << 20  # of a list, table or record that is read as a whole


def open_ordinary(path: Path) -> IO[bytes]:
    """Open a file for reading. OSError, with the reason as its `strerror`, where it is a device, a FIFO or a folder."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
    try:
        _check_ordinary(path.stat(), path)  # some devices do something as soon as they are opened
        descriptor = os.open(path, flags)  # without waiting for the other end of a FIFO
    except ValueError as error:  # a zero byte in the name
        raise OSError(errno.EINVAL, str(error), str(path)) from None
    try:
        _check_ordinary(os.fstat(descriptor), path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _check_ordinary(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not an ordinary file", str(path))


def read_ordinary(path: Path, most: int = MOST_TEXT_BYTES) -> bytes:
    """Return the bytes of an ordinary file. OSError, with the reason as its `strerror`, also where it has over `most`
    bytes."""
    with open_ordinary(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it has over {most:,} bytes", str(path))
    return data
