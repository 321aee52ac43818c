"""A session that is broken off: what was measured is written down first."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from typing import Protocol

from edgewright.errors import Cancelled, EdgewrightError, StoreError
from edgewright.schema.vocabulary import RunState

STOP_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class SessionResult(Protocol):
    """What became of a session."""

    @property
    def error(self) -> EdgewrightError | None: ...


class FinishSession(Protocol):
    """Writes every run of a session, in the state that it is in then."""

    def __call__(self, state: RunState, error: str = "") -> SessionResult: ...


@contextmanager
def finish_on_interrupt(finish: FinishSession) -> Iterator[None]:
    """Whatever breaks the session off, `finish` is called first. Raises Cancelled after Ctrl-C, or the StoreError of
    runs that could not be written."""
    try:
        yield
    except KeyboardInterrupt:
        unsaved = finish("cancelled").error
        if isinstance(unsaved, StoreError):
            raise unsaved from None
        raise Cancelled("stopped by Ctrl-C", "the workers were ended") from None
    except BaseException as error:
        finish("failed", str(error))
        raise


@contextmanager
def defer_interrupts() -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP wait until what was measured is written down."""
    if current_thread() is not main_thread():  # only the main thread is told of signals
        yield
        return
    came: list[int] = []
    handlers = {number: signal.signal(number, lambda number, frame: came.append(number)) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt
