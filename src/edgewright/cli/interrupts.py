"""Handling of Ctrl-C, SIGTERM and SIGHUP: each ends the command by one KeyboardInterrupt.

Python raises KeyboardInterrupt wherever the main thread is, and some libraries swallow it while they are imported.
The signal is therefore remembered, and KeyboardInterrupt is raised again at the next progress message.
"""

import os
import signal
import sys
from types import FrameType

SIGNAL_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
if sys.platform != "win32":
    SIGNAL_NAMES[signal.SIGHUP] = "SIGHUP"

_received: list[int] = []


def watch_interrupts() -> None:
    """Install handlers that remember each signal and raise KeyboardInterrupt; ignored signals stay ignored."""
    for number in SIGNAL_NAMES:
        if signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL):
            signal.signal(number, _remember)


def _remember(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt on the first signal, ignore the second during cleanup, kill the process on the third."""
    _received.append(number)
    if len(_received) == 1:
        raise KeyboardInterrupt
    if len(_received) > 2:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def restore_handlers() -> None:
    """Restore the handlers for interpreter shutdown, where Ctrl-C would print a traceback and is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in SIGNAL_NAMES:
        if signal.getsignal(number) is _remember:
            signal.signal(number, signal.SIG_DFL)


def was_interrupted() -> bool:
    """Return whether a signal arrived, even if a library swallowed or converted the exception."""
    return bool(_received)


def raise_if_interrupted() -> None:
    """Raise KeyboardInterrupt if a signal arrived and a library swallowed the exception."""
    if was_interrupted():
        raise KeyboardInterrupt


def get_signal_name() -> str:
    """Return the display name of the signal that stopped the command."""
    return SIGNAL_NAMES[signal.Signals(_received[0])] if _received else SIGNAL_NAMES[signal.SIGINT]


def get_exit_code() -> int:
    """Return the exit code of a stopped command by shell convention: 130, 143 or 129."""
    return 128 + (_received[0] if _received else signal.SIGINT)
