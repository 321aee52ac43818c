"""Ctrl-C at any moment.

Python raises KeyboardInterrupt wherever the main thread is, and some libraries swallow it while they are imported.
What came is therefore remembered, and raised again at the next stage.
"""

import signal
from types import FrameType

_came: list[int] = []


def watch_interrupts() -> None:
    """Remember every Ctrl-C from now on, beside raising it; one that the caller's shell ignores stays ignored."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _remember)


def _remember(number: int, frame: FrameType | None) -> None:
    _came.append(number)
    raise KeyboardInterrupt


def came() -> bool:
    """Whether there was a Ctrl-C, even one that somebody swallowed or turned into another exception."""
    return bool(_came)


def raise_if_came() -> None:
    """KeyboardInterrupt if one came that somebody swallowed."""
    if came():
        raise KeyboardInterrupt
