"""Resident memory as reported by the system."""

import sys

import numpy as np
import pytest

from edgewright.runtimes.memory import parse_status, peak_of_rusage, read_resident_memory
from edgewright.runtimes.wire import ResidentMemory

STATUS = "Name:\tpython3\nVmPeak:\t  900000 kB\nVmHWM:\t   20480 kB\nVmRSS:\t   10240 kB\nThreads:\t1\n"


def test_status_is_read_in_bytes() -> None:
    assert parse_status(STATUS) == ResidentMemory(rss=10 << 20, peak=20 << 20)


@pytest.mark.parametrize("text", ["", "Name:\tx\n", "no colon at all\n"])
def test_what_the_system_does_not_report_is_unknown(text: str) -> None:
    assert parse_status(text) == ResidentMemory(rss=None, peak=None)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_peak_keeps_what_was_given_back() -> None:
    before = read_resident_memory()
    block = np.ones(64 << 20, np.uint8)
    during = read_resident_memory()
    del block
    after = read_resident_memory()
    assert before.rss is not None and during.rss is not None and after.rss is not None
    assert during.peak is not None and after.peak is not None
    assert during.rss - before.rss > 32 << 20
    assert during.rss - after.rss > 32 << 20
    assert after.peak > during.rss - (4 << 20)  # the kernel counts each processor's pages in batches


def test_the_way_without_proc_reports_a_peak() -> None:
    pytest.importorskip("resource", reason="not on this system")
    peak = peak_of_rusage()
    assert peak is not None and peak > 1 << 20
