"""One thread that starts child processes, and lives as long as this process."""

from collections.abc import Callable
from concurrent.futures import Future
from functools import cache
from os import getpid
from queue import SimpleQueue
from subprocess import Popen
from threading import Thread

Start = Callable[[], Popen[bytes]]
_Queue = SimpleQueue[tuple[Start, Future[Popen[bytes]]]]


def start_process(start: Start) -> Popen[bytes]:
    """Return the process that `start` starts, in the thread for this; raises what `start` raises.

    On Linux, a process with `die_with_parent` ends with the thread that started it, so no thread that ends may.
    """
    found: Future[Popen[bytes]] = Future()
    _open_queue(getpid()).put((start, found))
    try:
        return found.result()
    except BaseException:  # an interrupt while it starts: nobody else knows of the process
        found.add_done_callback(_end)
        raise


def _end(found: Future[Popen[bytes]]) -> None:
    """End a process that was started for nobody."""
    if found.exception() is not None:
        return
    process = found.result()
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


@cache
def _open_queue(process: int) -> _Queue:
    """Return the queue of the thread; `process` is this one: a fork does not have the threads of its parent."""
    queue: _Queue = SimpleQueue()
    Thread(target=_serve, args=[queue], name=f"edgewright-starter-{process}", daemon=True).start()
    return queue


def _serve(queue: _Queue) -> None:
    while True:
        _answer(*queue.get())


def _answer(start: Start, found: Future[Popen[bytes]]) -> None:
    try:
        found.set_result(start())
    except BaseException as error:
        found.set_exception(error)
