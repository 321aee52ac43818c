"""The thread that starts processes."""

import os
import signal
import sys
import time
from subprocess import PIPE, Popen

import pytest

from edgewright.system.starter import start_process


def test_an_interrupt_while_a_process_starts_ends_it() -> None:
    started: list[Popen[bytes]] = []

    def start() -> Popen[bytes]:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)  # the caller has its interrupt now
        started.append(Popen([sys.executable, "-c", "input()"], stdin=PIPE))
        return started[0]

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            start_process(start)
    finally:
        signal.signal(signal.SIGINT, before)
    end = time.monotonic() + 30
    while not (started and started[0].returncode is not None) and time.monotonic() < end:
        time.sleep(0.01)
    assert started[0].returncode == -signal.SIGKILL


def test_an_error_of_the_start_is_the_caller_s() -> None:
    def start() -> Popen[bytes]:
        raise FileNotFoundError("no such program")

    with pytest.raises(FileNotFoundError, match="no such program"):
        start_process(start)
