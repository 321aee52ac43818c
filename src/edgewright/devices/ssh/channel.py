"""The pipes of a worker on a board, through one SSH channel."""

import contextlib
import signal
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as WaitTimeout
from pathlib import Path
from typing import Any

import asyncssh

from edgewright.devices.ssh.loop import submit
from edgewright.errors import DeviceUnreachable
from edgewright.system.signals import KILLED

READ_BYTES = 1 << 20
LOG_BYTES = 4 << 20  # of stderr that are kept; a worker may write without end
SEND_SECONDS = 60.0
END_SECONDS = 5.0


class SshChannel:
    """See `channel.Channel`.

    Args:
        lost: creates the error of a lost device.
        stop: ends the process on the board, if it does not end by itself.
    """

    limits_memory = False

    def __init__(
        self,
        process: "asyncssh.SSHClientProcess[bytes]",
        log: Path,
        lost: Callable[[str], DeviceUnreachable],
        stop: Callable[[], None],
    ) -> None:
        self._process, self._lost, self._stop = process, lost, stop
        self._reading: Future[bytes] | None = None
        self._stderr = submit(_copy_stderr(process, log))
        self._is_ended = False

    def send(self, data: bytes) -> None:
        if not self._wait(submit(self._write(data)), SEND_SECONDS):
            if self.wait(END_SECONDS) is None:
                raise self._lost("the connection was lost")
            raise BrokenPipeError

    async def _write(self, data: bytes) -> bool:
        """Return whether the process took the data."""
        if self._process.stdin.is_closing():
            return False
        try:
            self._process.stdin.write(data)
            await self._process.stdin.drain()
        except BrokenPipeError:
            return False
        return True

    def receive(self, seconds: float) -> bytes | None:
        self._reading = self._reading or submit(self._process.stdout.read(READ_BYTES))
        chunk: bytes | None = self._wait(self._reading, seconds)
        if chunk is not None:
            self._reading = None
        if chunk == b"" and self.wait(END_SECONDS) is None:
            raise self._lost("the connection was lost")
        return chunk

    def wait(self, seconds: float) -> int | None:
        self._wait(submit(self._process.wait_closed()), seconds)
        if (found := self._process.exit_signal) is not None:
            return -int(getattr(signal, f"SIG{found[0]}", KILLED))
        return self._process.exit_status

    def limit_memory(self, allowed: float) -> None:
        """Do nothing: a board's memory is not ours to divide."""

    def _wait(self, work: "Future[Any]", seconds: float) -> Any:
        """Return the result, or None after `seconds`; a lost connection is the device's error."""
        try:
            return work.result(max(0.0, seconds))
        except WaitTimeout:
            return None
        except (asyncssh.Error, ConnectionError) as error:
            raise self._lost(str(error)) from None

    def end(self) -> None:
        if self._is_ended:
            return
        self._is_ended = True
        with contextlib.suppress(DeviceUnreachable, BrokenPipeError):
            if self.wait(0.0) is None:
                self._stop()
        self._process.close()
        with contextlib.suppress(Exception):  # its log is complete, or the connection is gone
            self._stderr.result(END_SECONDS)


async def _copy_stderr(process: "asyncssh.SSHClientProcess[bytes]", log: Path) -> None:
    """Append what the process writes to stderr to the log; beyond its limit only the end is kept."""
    with log.open("ab") as file, contextlib.suppress(asyncssh.Error, ConnectionError):
        kept = b""
        count = 0
        while chunk := await process.stderr.read(READ_BYTES):
            count += len(chunk)
            kept = (kept + chunk)[-READ_BYTES:]
            if count <= LOG_BYTES:
                file.write(chunk)
                file.flush()
        if count > LOG_BYTES:
            file.write(kept)
