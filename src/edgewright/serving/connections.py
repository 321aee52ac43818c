"""Connections of the server: a time limit for the head of a request, and a limit on their number."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_TIMEOUT_S = 10.0
MAX_CONNECTIONS = 2048


class ServingProtocol(HttpToolsProtocol):
    """A connection that is closed if the head of a request takes too long.

    If there are too many connections, the one that has waited longest for a head goes first.
    """

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self._start_timer()
        if len(self.connections) > MAX_CONNECTIONS:
            waiting = [one for one in self.connections if isinstance(one, ServingProtocol) and one._timer]
            min(waiting, key=lambda one: one._timer.when() if one._timer else 0.0, default=self).drop()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._start_timer()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._stop_timer()
        super().on_headers_complete()

    def drop(self) -> None:
        """Close the connection at once."""
        self.connections.discard(self)
        self.transport.abort()

    def _start_timer(self) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(HEAD_TIMEOUT_S, self.drop)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def tune_allocator() -> bool:
    """Keep large temporary arrays on the heap (glibc): a page fault for every page of every request costs more.

    Return whether the allocator took the settings.
    """
    import ctypes

    try:
        mallopt: Any = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    mmap_threshold, trim_threshold, top_pad = (-3, 32 << 20), (-1, 256 << 20), (-2, 16 << 20)
    return all(mallopt(key, value) == 1 for key, value in (mmap_threshold, trim_threshold, top_pad))
