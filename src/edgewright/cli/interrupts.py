"""Ctrl-C, SIGTERM and SIGHUP at any moment: each ends the command as one KeyboardInterrupt.

Python raises KeyboardInterrupt wherever the main thread is, and some libraries swallow it while they are imported.
What came is therefore remembered, and raised again at the next stage.
"""

import os
import signal
from types import FrameType

STOPS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}

_came: list[int] = []


def watch_interrupts() -> None:
    """Remember every stop from now on, beside raising it; one that the caller's shell ignores stays ignored."""
    for number in STOPS:
        if signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL):
            signal.signal(number, _remember)


def _remember(number: int, frame: FrameType | None) -> None:
    """The first ends the command; the second must not disturb that end; the third ends the process at once."""
    _came.append(number)
    if len(_came) == 1:
        raise KeyboardInterrupt
    if len(_came) > 2:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def forget_interrupts() -> None:
    """For the moments in which Python ends: Ctrl-C would only print a traceback, the others end it as ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is _remember:
            signal.signal(number, signal.SIG_DFL)


def came() -> bool:
    """Whether there was a stop, even one that somebody swallowed or turned into another exception."""
    return bool(_came)


def raise_if_came() -> None:
    """KeyboardInterrupt if one came that somebody swallowed."""
    if came():
        raise KeyboardInterrupt


def stop_name() -> str:
    """What stopped the command, as people call it."""
    return STOPS[signal.Signals(_came[0])] if _came else STOPS[signal.SIGINT]


def stop_code() -> int:
    """The exit code of a stopped command, as shells count it: 130, 143 or 129."""
    return 128 + (_came[0] if _came else signal.SIGINT)
