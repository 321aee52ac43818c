"""stdout and stderr whose reader may leave, as `head` does or a terminal that is closed."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

GONE = (errno.EPIPE, errno.EIO)  # a pipe's reader left; the terminal was closed


class Patient:
    """A stream to write on: once its reader is gone all goes nowhere, so that the command comes to its own end."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._go_on(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._go_on(error)

    def _go_on(self, error: OSError) -> None:
        """Point the file itself to nowhere: what is still buffered goes there too when Python ends."""
        if error.errno not in GONE:
            raise error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


@contextmanager
def readers_may_leave() -> Iterator[None]:
    """Within, sys.stdout and sys.stderr outlive their readers."""
    kept = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = patient(sys.stdout), patient(sys.stderr)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        sys.stdout, sys.stderr = kept


def patient(stream: TextIO) -> TextIO:
    """Python has None for a stream that was closed before it began."""
    return stream if stream is None else cast("TextIO", Patient(stream))
