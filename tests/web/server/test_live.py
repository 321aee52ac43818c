"""Events that pages get, and when."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, cast

from edgewright.store.runs.browse import ProgressLine
from edgewright.store.store import Store
from edgewright.web.server.events import EventBroadcaster

PATIENCE_S = 60.0


class Record:
    """Stub of a store."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def list_running(self) -> list[tuple[str, str]]:
        return [(one, "running") for one in self.ids]

    def list_progress(self) -> list[ProgressLine]:
        return [ProgressLine(line="half", runs=tuple(self.ids))]


async def next_event(stream: AsyncIterator[bytes], name: str) -> Any:
    while True:
        message = (await asyncio.wait_for(anext(stream), PATIENCE_S)).decode()
        if message.startswith(f"event: {name}\n"):
            return json.loads(message.partition("data: ")[2])


async def watch() -> None:
    live, record = EventBroadcaster(every_s=0.01), Record()
    follower = asyncio.create_task(live.follow(cast(Store, record)))
    one, two = live.stream(), live.stream()
    # A run that starts after the page was rendered and before the first poll is published at that poll.
    record.ids = ["a"]
    assert await next_event(one, "runs") == {"running": ["a"]}
    assert await next_event(one, "progress") == [{"line": "half", "runs": ["a"]}]
    # A later page gets the running runs; the other pages do not get them again.
    assert await next_event(two, "runs") == {"running": ["a"]}
    record.ids = ["a", "b"]
    assert await next_event(one, "runs") == {"running": ["a", "b"]}
    assert await next_event(two, "runs") == {"running": ["a", "b"]}
    record.ids = []
    assert await next_event(two, "runs") == {"running": []}
    follower.cancel()
    with suppress(asyncio.CancelledError):
        await follower


def test_events_and_their_receivers() -> None:
    asyncio.run(watch())
