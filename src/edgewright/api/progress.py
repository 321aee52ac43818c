"""Progress in a terminal or a notebook."""

import shutil
import signal
import sys
from collections.abc import Callable
from threading import Event, Lock, Thread, current_thread, main_thread

from edgewright.schema.text import printable

POLL_S = 0.1
ShowText = Callable[[str], None]


class CallProgress:
    """The progress callback of a call.

    Args:
        given: a callback; True shows the text on one line of stderr, False nothing; None shows it where stderr is a
            terminal or this is a notebook.
        cancel: an event that raises KeyboardInterrupt at the next step once it is set.
    """

    def __init__(self, given: ShowText | bool | None, cancel: Event | None) -> None:
        self._own = (_is_interactive() if given is None else given) is True
        self._show = rewrite_line if self._own else given if callable(given) else None
        self._cancel = cancel

    def __call__(self, text: str) -> None:
        if self._cancel is not None and self._cancel.is_set():
            raise KeyboardInterrupt
        if self._show is not None:
            self._show(text)

    def end(self) -> None:
        """Remove the line."""
        if self._own:
            rewrite_line("")


def _is_interactive() -> bool:
    """Return whether stderr is a terminal, or this is a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def rewrite_line(text: str) -> None:
    """Overwrite the last line of the terminal."""
    text = printable(text)[: shutil.get_terminal_size().columns - 1]
    sys.stderr.write(f"\r\x1b[2K{text}")
    sys.stderr.flush()


class CancelWatch:
    """Interrupts the main thread, like Ctrl-C, when an event is set; in another thread the next step stops the call."""

    def __init__(self, cancel: Event | None) -> None:
        self._lock, self._is_done = Lock(), False
        if cancel is not None and current_thread() is main_thread() and sys.platform != "win32":
            Thread(target=self._wait, args=(cancel,), daemon=True).start()

    def _wait(self, cancel: Event) -> None:
        while not cancel.wait(POLL_S):
            if self._is_done:
                return
        with self._lock:
            if not self._is_done and sys.platform != "win32":
                signal.pthread_kill(main_thread().ident or 0, signal.SIGINT)

    def end(self) -> None:
        """Stop waiting. Raises KeyboardInterrupt if the interrupt is being sent, so that none comes later."""
        self._is_done = True
        with self._lock:
            pass
