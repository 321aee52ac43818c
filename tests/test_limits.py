"""The budget of memory and time."""

import re
import signal
from contextlib import suppress
from math import inf

import pytest

from edgewright.errors import ConfigError, LimitReached
from edgewright.limits import (
    DEFAULT_BYTES,
    DEFAULT_SECONDS,
    ResourceBudget,
    TimeLimitExceeded,
    get_half_of_memory,
    interrupt_after,
    read_budget,
    suggest_bytes,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [("8GB", 8e9), ("64 mb", 64e6), ("512MiB", 512 * 2**20), ("1.5g", 1.5e9), ("20000000", 2e7), ("none", inf)],
)
def test_memory_limits_are_read(text: str, size: float) -> None:
    assert read_budget({"EDGEWRIGHT_MEMORY_LIMIT": text}).memory_bytes == size


@pytest.mark.parametrize("text", ["much", "-1GB", "1kB", "0", "nan", "1e9", "8GBit", "i"])
def test_sizes_that_are_none_are_rejected(text: str) -> None:
    with pytest.raises(ConfigError, match="EDGEWRIGHT_MEMORY_LIMIT"):
        read_budget({"EDGEWRIGHT_MEMORY_LIMIT": text})


@pytest.mark.parametrize("text", ["long", "-5", "0", "nan", "inf"])
def test_seconds_that_are_none_are_rejected(text: str) -> None:
    with pytest.raises(ConfigError, match="EDGEWRIGHT_TIME_LIMIT"):
        read_budget({"EDGEWRIGHT_TIME_LIMIT": text})


def test_defaults_fit_the_machine() -> None:
    assert read_budget({}) == ResourceBudget(min(DEFAULT_BYTES, get_half_of_memory()), DEFAULT_SECONDS)
    assert read_budget({"EDGEWRIGHT_TIME_LIMIT": "600"}).seconds == 600
    assert read_budget({"EDGEWRIGHT_TIME_LIMIT": "none"}).seconds == inf


def test_the_error_names_the_limit_the_need_and_how_to_raise_it() -> None:
    budget = ResourceBudget(memory_bytes=64_000_000, seconds=10)
    budget.check_bytes(64_000_000, "the input")
    with pytest.raises(LimitReached) as caught:
        budget.check_bytes(2e9, "the input", "give smaller sizes")
    assert caught.value.exit_code == 6
    assert "2.00 GB" in caught.value.why and "64.0 MB (EDGEWRIGHT_MEMORY_LIMIT)" in caught.value.why
    assert caught.value.try_this.startswith("give smaller sizes, or ")
    assert "EDGEWRIGHT_MEMORY_LIMIT=3GB" in caught.value.try_this
    slow = budget.time_error("reading")
    assert "10 s (EDGEWRIGHT_TIME_LIMIT)" in slow.why and "EDGEWRIGHT_TIME_LIMIT=20" in slow.try_this


def test_what_is_suggested_suffices() -> None:
    for needed in (17e6, 1e8, 9e8, 2e9, 3.3e10):
        assert read_budget({"EDGEWRIGHT_MEMORY_LIMIT": suggest_bytes(needed)}).memory_bytes >= needed
    assert suggest_bytes(inf) == "none"


def test_sizes_beyond_float_are_reported() -> None:
    with pytest.raises(LimitReached, match="memory limit reached: the input"):
        ResourceBudget(memory_bytes=1e9).check_bytes(10**400, "the input")


def test_a_child_reads_the_same_budget() -> None:
    budget = ResourceBudget(memory_bytes=64_000_000, seconds=40).after(10)
    assert read_budget(budget.environment()) == ResourceBudget(memory_bytes=64_000_000, seconds=30)
    assert read_budget(ResourceBudget().environment()) == ResourceBudget()


def test_python_that_hangs_is_interrupted() -> None:
    handler, timer = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    with pytest.raises(TimeLimitExceeded), interrupt_after(0.05), suppress(Exception):
        re.match("(a+)+$", "a" * 60 + "!")
    assert signal.getsignal(signal.SIGALRM) is handler
    with interrupt_after(60):
        pass
    assert bool(signal.getitimer(signal.ITIMER_REAL)[0]) is bool(timer[0])


def test_time_is_spent_and_grows_with_the_files() -> None:
    assert ResourceBudget(seconds=10).after(4).left_seconds == 6
    assert ResourceBudget(seconds=10).after(4).after(40).left_seconds == 0
    assert ResourceBudget(seconds=10).for_files(40_000_000).seconds == 12


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer of the system")
def test_the_timer_of_the_calling_program_goes_on() -> None:
    before = signal.signal(signal.SIGALRM, signal.SIG_IGN)
    timer = signal.setitimer(signal.ITIMER_REAL, 600, 300)
    try:
        with interrupt_after(60), interrupt_after(60):
            pass
        left, interval = signal.getitimer(signal.ITIMER_REAL)
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, before)
    assert 0 < left <= 600
    assert interval == 300
