"""The pipes of a started worker, wherever it runs: on this machine, on a board, in a browser."""

import contextlib
import os
import selectors
import subprocess
from typing import Protocol

from edgewright.errors import WorkerError
from edgewright.system.memory_limit import THREAD_BYTES, limit_process, supports_limit
from edgewright.system.signals import kill_group

READ_BYTES = 1 << 20


class Channel(Protocol):
    """Standard input and output of one worker process.

    Every method raises DeviceUnreachable if the device is lost. What the worker writes to stderr goes to the log file
    that the channel was created with.

    Attributes:
        limits_memory: whether `limit_memory` has an effect.
    """

    limits_memory: bool

    def send(self, data: bytes) -> None:
        """Write to the worker's stdin. Raises BrokenPipeError if the worker does not read any more."""

    def receive(self, seconds: float) -> bytes | None:
        """Return the next bytes of its stdout: b"" at its end, None if none came within `seconds`."""

    def wait(self, seconds: float) -> int | None:
        """Return the exit code, or the negative number of the signal that ended it; None after `seconds`."""

    def limit_memory(self, allowed: float) -> None:
        """Let the worker allocate `allowed` bytes beyond what it has now."""

    def end(self) -> None:
        """End the worker and its child processes. May be called twice; raises nothing."""


class ProcessChannel:
    """The channel of a child process of ours, which is in a session of its own."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdout is None or process.stdin is None:
            raise WorkerError("the worker was started without pipes")
        self.limits_memory = supports_limit()
        self._process, self._stdin, self._stdout = process, process.stdin, process.stdout
        os.set_blocking(self._stdout.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._stdout, selectors.EVENT_READ)

    def send(self, data: bytes) -> None:
        self._stdin.write(data)
        self._stdin.flush()

    def receive(self, seconds: float) -> bytes | None:
        return os.read(self._stdout.fileno(), READ_BYTES) if self._selector.select(max(0.0, seconds)) else None

    def wait(self, seconds: float) -> int | None:
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def limit_memory(self, allowed: float) -> None:
        limit_process(self._process.pid, allowed + THREAD_BYTES * (os.cpu_count() or 1))

    def end(self) -> None:
        if self._process.poll() is None:  # the id of a process that was waited for may belong to another by now
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill_group(self._process.pid)
        with contextlib.suppress(BrokenPipeError):  # unsent data is not needed any more
            self._stdin.close()
        self._process.wait()
        self._selector.close()
        self._stdout.close()
