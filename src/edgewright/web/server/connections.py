"""Limits on the number of connections and on the time in which a request must arrive.

uvicorn has no such limits before the first complete request head. This module closes a connection with an incomplete
request after a timeout, or earlier if a new connection needs its slot; the one idle for the longest time goes first.
"""

import asyncio
import logging
import sys
from functools import cache
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 512
MIN_CONNECTIONS = 16
BACKLOG = 64  # accepted in one iteration of the event loop, before any can be rejected
RESERVED = 128 + BACKLOG  # descriptors for the store, files, jobs, and closing connections
HEAD_TIMEOUT_S = 10.0  # for a whole request head
BODY_TIMEOUT_S = 30.0  # between two pieces of a body
ACCEPT_FAILED = "socket.accept() out of system resource"
BUSY = b"All connections are in use. Try again in a moment.\n"
BUSY_RESPONSE = (
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 5\r\n"
    b"content-type: text/plain; charset=utf-8\r\ncontent-length: " + str(len(BUSY)).encode() + b"\r\n\r\n" + BUSY
)


class LimitedProtocol(H11Protocol):
    """Connection with a time limit for requests."""

    _timer: asyncio.TimerHandle | None = None
    _since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self._since = self.loop.time()
        self._timer = self.loop.call_later(HEAD_TIMEOUT_S, self.drop)
        if len(self.connections) > count_allowed_connections():
            self._close_oldest()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.get_protocol() is self:
            self._set_timer()
        else:  # it became a WebSocket, which has pings
            self._stop_timer()

    def on_response_complete(self) -> None:
        self._since = self.loop.time()
        super().on_response_complete()

    def drop(self) -> None:
        """Close the connection immediately."""
        self.connections.discard(self)
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    def _set_timer(self) -> None:
        """Start the timer for the rest of a request: a head from its first byte, a body from the last received byte."""
        state = self.conn.their_state
        if state is h11.IDLE:
            self._timer = self._timer or self.loop.call_later(HEAD_TIMEOUT_S, self.drop)
            return
        self._stop_timer()
        if state is h11.SEND_BODY:
            self._timer = self.loop.call_later(BODY_TIMEOUT_S, self._drop_idle)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _drop_idle(self) -> None:
        if self.flow.read_paused:  # the server paused reading
            self._timer = self.loop.call_later(BODY_TIMEOUT_S, self._drop_idle)
        else:
            self.drop()

    def _close_oldest(self) -> None:
        waiting = [one for one in self.connections if isinstance(one, LimitedProtocol) and one.is_waiting]
        oldest = min(waiting, key=lambda one: (one.conn.their_state is h11.SEND_BODY, one._since), default=self)
        if oldest is self:
            self.transport.write(BUSY_RESPONSE)
            self._stop_timer()
            self.connections.discard(self)
            self.transport.close()
        else:
            oldest.drop()

    @property
    def is_waiting(self) -> bool:
        """Return whether the rest of a request is missing."""
        return self.conn.their_state in (h11.IDLE, h11.SEND_BODY)


@cache
def count_allowed_connections() -> int:
    """Return the number of connections for which the process has descriptors, after raising the limit."""
    return max(MIN_CONNECTIONS, min(MAX_CONNECTIONS, _raise_descriptor_limit() - RESERVED))


def _raise_descriptor_limit() -> int:
    """Raise the process's descriptor limit as far as needed and allowed, and return it."""
    needed = MAX_CONNECTIONS + RESERVED
    if sys.platform == "win32":  # it has no such limit
        return needed
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return needed
    wanted = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        return soft
    return wanted


def report_accept_failure_once(loop: asyncio.AbstractEventLoop) -> None:
    """Log only once that no more connections can be accepted; asyncio retries each second."""
    reported = False

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal reported
        if context.get("message") != ACCEPT_FAILED:
            loop.default_exception_handler(context)
        elif not reported:
            reported = True
            logging.getLogger("uvicorn.error").error("New connections have to wait: %s", context.get("exception"))

    loop.set_exception_handler(handle)
