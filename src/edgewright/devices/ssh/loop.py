"""One event loop in a thread of its own, for all SSH connections of this process."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from functools import cache
from os import getpid
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")


def submit(work: Coroutine[Any, Any, ResultT]) -> "Future[ResultT]":
    """Start a coroutine in the loop."""
    return asyncio.run_coroutine_threadsafe(work, _open_loop(getpid()))


@cache
def _open_loop(process: int) -> asyncio.AbstractEventLoop:
    """Return the running loop; `process` is this one: a fork does not have the threads of its parent."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name=f"edgewright-ssh-{process}", daemon=True).start()
    return loop
