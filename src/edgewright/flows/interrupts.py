"""Saving the measurements of an interrupted session."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import current_thread, main_thread
from typing import Protocol

from edgewright.errors import Cancelled, EdgewrightError, StoreError
from edgewright.schema.vocabulary import RunState

STOP_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class SessionResult(Protocol):
    """The end state of a session."""

    @property
    def error(self) -> EdgewrightError | None: ...


class FinishSession(Protocol):
    """Function that writes every run of a session in its current state."""

    def __call__(self, state: RunState, error: str = "") -> SessionResult: ...


@contextmanager
def finish_on_interrupt(finish: FinishSession) -> Iterator[None]:
    """Call `finish` however the session ends. Raises Cancelled after Ctrl-C, or the StoreError of the runs."""
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
def offer_resume(memory: Path) -> Iterator[None]:
    """Raise Cancelled after Ctrl-C, with the folder of the results so far, from which the same command resumes."""
    try:
        yield
    except KeyboardInterrupt:
        why = f"the results so far are kept in {memory}" if memory.is_dir() else "nothing was computed yet"
        raise Cancelled("stopped by Ctrl-C", why, "run the same command again to resume") from None


@contextmanager
def defer_interrupts() -> Iterator[None]:
    """Delay Ctrl-C, SIGTERM and SIGHUP until the measurements are written."""
    if current_thread() is not main_thread():  # only the main thread receives signals
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
