"""stdout and stderr whose reader may leave, as `head` does or a terminal that is closed."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

CLOSED_STREAM_ERRORS = (errno.EPIPE, errno.EIO)  # a pipe's reader left; the terminal was closed


class ClosableStream:
    """A stream to write on: once its reader is gone all goes nowhere, so that the command comes to its own end."""

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
        """Point the file itself to nowhere: what is still buffered goes there too when Python ends."""
        if error.errno not in CLOSED_STREAM_ERRORS:
            raise error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


@contextmanager
def tolerate_closed_streams() -> Iterator[None]:
    """Within, sys.stdout and sys.stderr outlive their readers."""
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
    """Python has None for a stream that was closed before it began."""
    return stream if stream is None else cast("TextIO", ClosableStream(stream))
