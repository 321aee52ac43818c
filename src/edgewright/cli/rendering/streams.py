"""Wrappers of stdout and stderr that tolerate a closed pipe or terminal."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any, TextIO, cast

CLOSED_STREAM_ERRORS = (errno.EPIPE, errno.EIO)  # the pipe's reader exited; the terminal was closed


class ClosableStream:
    """Output stream that discards everything once its reader is gone, so that the command can finish."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._discard_output(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._discard_output(error)

    def _discard_output(self, error: OSError) -> None:
        """Redirect the file descriptor to the null device, also for data that Python flushes at exit."""
        if error.errno not in CLOSED_STREAM_ERRORS:
            raise error
        null_device = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null_device, self._stream.fileno())
        os.close(null_device)


@contextmanager
def tolerate_closed_streams() -> Iterator[None]:
    """Replace sys.stdout and sys.stderr by streams that tolerate a missing reader."""
    originals = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _wrap_stream(sys.stdout), _wrap_stream(sys.stderr)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        sys.stdout, sys.stderr = originals


def _wrap_stream(stream: TextIO) -> TextIO:
    """Wrap a stream, and replace what its encoding lacks; Python sets it to None if it was closed at startup."""
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="replace")
    return stream if stream is None else cast("TextIO", ClosableStream(stream))
