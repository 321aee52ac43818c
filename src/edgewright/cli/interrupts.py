"""Ctrl-C, SIGTERM and SIGHUP at any moment: each ends the command as one KeyboardInterrupt.

Python raises KeyboardInterrupt wherever the main thread is, and some libraries swallow it while they are imported.
What came is therefore remembered, and raised again at the next stage.
"""

import os
import signal
from types import FrameType

SIGNAL_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}

_received: list[int] = []


def watch_interrupts() -> None:
    """Remember every stop from now on, beside raising it; one that the caller's shell ignores stays ignored."""
    for number in SIGNAL_NAMES:
        if signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL):
            signal.signal(number, _remember)


def _remember(number: int, frame: FrameType | None) -> None:
    """The first ends the command; the second must not disturb that end; the third ends the process at once."""
    _received.append(number)
    if len(_received) == 1:
        raise KeyboardInterrupt
    if len(_received) > 2:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def restore_handlers() -> None:
    """For the moments in which Python ends: Ctrl-C would only print a traceback, the others end it as ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is _remember:
            signal.signal(number, signal.SIG_DFL)


def was_interrupted() -> bool:
    """Whether there was a stop, even one that somebody swallowed or turned into another exception."""
    return bool(_received)


def raise_if_interrupted() -> None:
    """KeyboardInterrupt if one came that somebody swallowed."""
    if was_interrupted():
        raise KeyboardInterrupt


def get_signal_name() -> str:
    """What stopped the command, as people call it."""
    return SIGNAL_NAMES[signal.Signals(_received[0])] if _received else SIGNAL_NAMES[signal.SIGINT]


def get_exit_code() -> int:
    """The exit code of a stopped command, as shells count it: 130, 143 or 129."""
    return 128 + (_received[0] if _received else signal.SIGINT)
