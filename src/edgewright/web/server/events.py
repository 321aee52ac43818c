"""Server-sent events for open pages: one reader of the store for all pages, and none if no page is open."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from typing import Any

import msgspec
from anyio import to_thread

from edgewright.errors import StoreError
from edgewright.store.store import Store

POLL_INTERVAL_S = 1.0
HEARTBEAT_S = 15.0
MAX_WAITING = 100


class EventBroadcaster:
    """Queues of events for open pages. `publish` and `close` are thread-safe; the rest runs in the event loop."""

    def __init__(self, every_s: float = POLL_INTERVAL_S) -> None:
        self._every_s = every_s
        self._queues: set[asyncio.Queue[bytes]] = set()
        self._new: set[asyncio.Queue[bytes]] = set()  # their page may be older than their stream
        self._loop: asyncio.AbstractEventLoop | None = None
        self._open = True

    @property
    def watchers(self) -> int:
        return len(self._queues)

    def publish(self, event: str, data: Any) -> None:
        """Send an event to all pages, if the server runs."""
        if self._loop is not None and self._open:
            with suppress(RuntimeError):  # the loop has stopped
                self._loop.call_soon_threadsafe(self._put, _encode_event(event, data))

    async def follow(self, store: Store) -> None:
        """Poll the store once a second while a page is open, until the task is cancelled.

        Publishes the running runs to all pages when they change and to new pages, and the progress of the runs.
        """
        self._loop = asyncio.get_running_loop()
        before: list[tuple[str, str]] | None = None
        while True:
            await asyncio.sleep(self._every_s)
            if not self._queues:
                before = None
                continue
            with suppress(StoreError):
                new, self._new = self._new, set()
                running = await to_thread.run_sync(store.list_running)
                receivers = self._queues if running != before else self._queues & new
                self._put(_encode_event("runs", {"running": [run_id for run_id, _ in running]}), receivers)
                before = running
                if running:  # every time, since a page may have been opened meanwhile
                    self._put(_encode_event("progress", await to_thread.run_sync(store.list_progress)))

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield the events from now on, with heartbeats in between."""
        queue: asyncio.Queue[bytes] = asyncio.Queue(MAX_WAITING)
        self._queues.add(queue)
        self._new.add(queue)
        try:
            yield b"retry: 2000\n\n"
            while True:
                try:
                    message = await asyncio.wait_for(queue.get(), HEARTBEAT_S)
                except TimeoutError:
                    message = b": alive\n\n"
                yield message
                if not self._open and queue.empty():
                    break
        finally:
            self._queues.discard(queue)
            self._new.discard(queue)

    def close(self) -> None:
        """End every stream."""
        if self._loop is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._close)

    def _close(self) -> None:
        self._open = False
        self._put(_encode_event("closed", {}))

    def _put(self, message: bytes, to: Iterable[asyncio.Queue[bytes]] | None = None) -> None:
        for queue in self._queues if to is None else to:
            if queue.full():  # a page that does not read loses its oldest event
                queue.get_nowait()
            queue.put_nowait(message)


def _encode_event(event: str, data: Any) -> bytes:
    """Return one server-sent event; JSON has no line breaks."""
    return b"event: " + event.encode() + b"\ndata: " + msgspec.json.encode(data) + b"\n\n"
