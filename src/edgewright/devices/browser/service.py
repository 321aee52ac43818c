"""Calls to the server that holds the browsers: `edgewright devices serve`, or `edgewright ui`.

The server listens for commands on a loopback port; the port and a token are in a file of the home folder that only the
user can read.
"""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import msgspec
from msgspec import Struct

from edgewright.devices.browser.messages import (
    ActionFailed,
    Browser,
    Browsers,
    Forget,
    Lease,
    ListBrowsers,
    OfferCode,
    Push,
    Reply,
    ServiceRequest,
    StartWorker,
)
from edgewright.errors import DeviceBusy, DeviceUnauthorized, DeviceUnreachable

SERVICE_FILE = "browsers.json"  # in the home folder
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 30.0
READ_BYTES = 1 << 20
HINT = "start it with edgewright devices serve, and open the page of the device"

ReplyT = TypeVar("ReplyT", bound=Struct)


class ServiceInfo(Struct, frozen=True, kw_only=True):
    """The content of the server's file. `url` is the address of its pages."""

    port: int
    token: str
    url: str
    pid: int


@contextlib.contextmanager
def publish_service(home: Path, info: ServiceInfo) -> Iterator[None]:
    """Write the server's file, and remove it after the block unless it is another server's by then."""
    path = home / SERVICE_FILE
    part = path.with_name(f".{path.name}.{os.getpid()}")
    home.mkdir(parents=True, exist_ok=True)
    part.unlink(missing_ok=True)
    part.touch(0o600)
    part.write_bytes(msgspec.json.encode(info))
    part.replace(path)
    try:
        yield
    finally:
        if read_service(home) == info:
            path.unlink(missing_ok=True)


def read_service(home: Path) -> ServiceInfo | None:
    """Return the content of the server's file; None without a valid one."""
    try:
        return msgspec.json.decode((home / SERVICE_FILE).read_bytes(), type=ServiceInfo)
    except (OSError, msgspec.MsgspecError):
        return None


class ServiceCall:
    """A connection to the server for one action. Every method raises DeviceUnreachable if the server is gone."""

    def __init__(self, home: Path, action: OfferCode | ListBrowsers | Lease | StartWorker | Forget) -> None:
        info = read_service(home)
        try:
            if info is None:
                raise ConnectionRefusedError
            self._socket = socket.create_connection(("127.0.0.1", info.port), CONNECT_SECONDS)
        except OSError:
            raise DeviceUnreachable("no server holds the browsers", "its port does not answer", HINT) from None
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()
        try:
            self.send(msgspec.json.encode(ServiceRequest(token=info.token, action=action)) + b"\n")
        except BrokenPipeError:
            raise _make_gone_error() from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        """Send lines. Raises BrokenPipeError if the connection is closed."""
        try:
            self._socket.settimeout(ANSWER_SECONDS)
            self._socket.sendall(data)
        except OSError:
            raise BrokenPipeError from None

    def receive(self, seconds: float) -> bytes | None:
        """Return the next bytes: b"" at the end, None if none came within `seconds`."""
        if self._buffer:
            left, self._buffer = bytes(self._buffer), bytearray()
            return left
        return self._receive(seconds)

    def _receive(self, seconds: float) -> bytes | None:
        self._socket.settimeout(min(max(seconds, 1e-3), 1e6))
        try:
            return self._socket.recv(READ_BYTES)
        except TimeoutError:
            return None
        except OSError:
            return b""

    def read(self, kind: type[ReplyT], seconds: float = ANSWER_SECONDS) -> ReplyT | None:
        """Return the next reply, which is a `kind`; None if none came within `seconds`.

        Raises DeviceUnreachable, DeviceBusy or DeviceUnauthorized for a failure.
        """
        deadline = time.monotonic() + seconds
        while (end := self._buffer.find(b"\n")) < 0:
            chunk = self._receive(deadline - time.monotonic())
            if chunk is None:
                return None
            if not chunk:
                raise _make_gone_error()
            self._buffer += chunk
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        reply = msgspec.json.decode(line, type=Reply)
        if isinstance(reply, ActionFailed):
            raise _make_action_error(reply)
        if not isinstance(reply, kind):
            raise DeviceUnreachable("the server of the browsers sent another answer", repr(reply)[:200], HINT)
        return reply

    def ask(self, push: Push, kind: type[ReplyT]) -> ReplyT:
        """Send a request of a lease and return its reply."""
        try:
            self.send(msgspec.json.encode(push) + b"\n")
        except BrokenPipeError:
            raise _make_gone_error() from None
        return self.require(kind)

    def require(self, kind: type[ReplyT]) -> ReplyT:
        """Return the next reply; DeviceUnreachable if none comes."""
        reply = self.read(kind)
        if reply is None:
            raise _make_gone_error()
        return reply

    def close(self) -> None:
        self._socket.close()


def _make_gone_error() -> DeviceUnreachable:
    return DeviceUnreachable("the server of the browsers ended", "its connection was closed", HINT)


def _make_action_error(failure: ActionFailed) -> DeviceUnreachable:
    """Return the error of a browser that cannot be used."""
    kinds = {"busy": DeviceBusy, "unauthorized": DeviceUnauthorized}
    hints = {"busy": "wait until the other command ends", "unauthorized": "pair the browser again"}
    error = kinds.get(failure.state, DeviceUnreachable)
    return error("the browser cannot be used", failure.why, hints.get(failure.state, HINT))


def list_browsers(home: Path) -> dict[str, Browser]:
    """Return the browsers that the server knows, by name; DeviceUnreachable without a server."""
    with ServiceCall(home, ListBrowsers()) as call:
        return {one.name: one for one in call.require(Browsers).browsers}
