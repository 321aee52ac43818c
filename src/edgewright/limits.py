"""The memory and the time that one model may take, and the error that says how to raise them.

A small file can describe values of any size. What is needed for a model is therefore compared with one budget before
it is allocated, and processes that load models run under a limit of the system that is derived from it.
"""

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil, inf, isfinite
from re import fullmatch
from threading import current_thread, main_thread
from time import monotonic
from typing import NoReturn

from edgewright.errors import ConfigError, LimitReached
from edgewright.schema.units import show_bytes

MEMORY_VARIABLE = "EDGEWRIGHT_MEMORY_LIMIT"
TIME_VARIABLE = "EDGEWRIGHT_TIME_LIMIT"
DEFAULT_BYTES = 1_500_000_000
MIN_BYTES = 16_000_000  # below this no interpreter starts
DEFAULT_SECONDS = 45.0
MAX_SHOWN_BYTES = 10.0**24  # sizes in a file may be integers that no float holds
BYTES_PER_SECOND = 20_000_000  # of the model's files: large weights may take longer to read
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
UNLIMITED = "none"


@dataclass(frozen=True)
class ResourceBudget:
    """What one model may take in each process that handles it.

    Attributes:
        memory_bytes: inputs, activations and constants that are computed; the bytes of the model's own files and what a
            runtime needs to start come on top.
        seconds: reading a model and inferring its shapes; running it for reference outputs.
        spent_seconds: how many of them have passed.
    """

    memory_bytes: float = inf
    seconds: float = inf
    spent_seconds: float = 0.0

    @property
    def left_seconds(self) -> float:
        """Return the seconds that are left."""
        return max(self.seconds - self.spent_seconds, 0.0)

    def check_bytes(self, needed: float, what: str, hint: str = "") -> None:
        """Raise LimitReached where `what` needs more memory than there is; `hint` is another way out."""
        if needed > self.memory_bytes:
            raise self.memory_error(what, needed, hint)

    def memory_error(self, what: str, needed: float | None = None, hint: str = "") -> LimitReached:
        """Return the error for a memory limit that was reached."""
        limit = show_bytes(self.memory_bytes)
        needed = min(needed, MAX_SHOWN_BYTES) if needed is not None else None
        need = f"{show_bytes(needed)} are needed" if needed is not None else "more memory is needed"
        raised = f"{MEMORY_VARIABLE}={suggest_bytes(needed or 2 * self.memory_bytes)}"
        advice = f"set the environment variable {raised} to allow more"
        return LimitReached(
            f"the memory limit is reached: {what}", f"{need}, and the memory limit is {limit} ({MEMORY_VARIABLE})",
            f"{hint}, or {advice}" if hint else advice,
        )  # fmt: skip

    def time_error(self, what: str) -> LimitReached:
        """Return the error for a time limit that was reached."""
        raised = f"{TIME_VARIABLE}={max(2 * self.seconds, 1):.0f}"
        return LimitReached(
            f"the time limit is reached: {what}", f"the time limit is {self.seconds:.3g} s ({TIME_VARIABLE})",
            f"set the environment variable {raised} to allow more",
        )  # fmt: skip

    def for_files(self, size: int) -> "ResourceBudget":
        """Return the budget for a model of `size` bytes: large files may take longer."""
        return replace(self, seconds=self.seconds + size / BYTES_PER_SECOND)

    def environment(self) -> dict[str, str]:
        """Return the variables by which a child process reads the same budget."""
        memory = str(int(max(self.memory_bytes, MIN_BYTES))) if isfinite(self.memory_bytes) else UNLIMITED
        seconds = f"{max(self.left_seconds, 1):.3f}" if isfinite(self.seconds) else UNLIMITED
        return {MEMORY_VARIABLE: memory, TIME_VARIABLE: seconds}

    def after(self, seconds: float) -> "ResourceBudget":
        """Return the budget when `seconds` more have passed."""
        return replace(self, spent_seconds=self.spent_seconds + seconds)


def read_budget(environ: Mapping[str, str] = os.environ) -> ResourceBudget:
    """Return the budget that the environment sets; ConfigError for a value that is none."""
    memory, seconds = environ.get(MEMORY_VARIABLE, ""), environ.get(TIME_VARIABLE, "")
    return ResourceBudget(
        memory_bytes=_parse_bytes(memory) if memory else min(DEFAULT_BYTES, get_half_of_memory()),
        seconds=_parse_seconds(seconds) if seconds else DEFAULT_SECONDS,
    )


@contextmanager
def interrupt_after(seconds: float) -> Iterator[None]:
    """Raise OverTime in the block once `seconds` have passed, as far as what runs there can be interrupted.

    Python code can, regular expressions included; a call of native code cannot. It is done by a timer of the system,
    which is there for the main thread alone and not on Windows; elsewhere nothing happens.
    """
    if not hasattr(signal, "setitimer") or current_thread() is not main_thread() or not isfinite(seconds):
        yield
        return
    before, began = signal.signal(signal.SIGALRM, _raise_time_limit_exceeded), monotonic()
    left, interval = 0.0, 0.0
    try:
        left, interval = signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:  # a timer of the program that called us
            signal.setitimer(signal.ITIMER_REAL, max(left - (monotonic() - began), 1e-3), interval)


def _raise_time_limit_exceeded(number: int, frame: object) -> NoReturn:
    raise TimeLimitExceeded


class TimeLimitExceeded(BaseException):
    """What runs in `interrupt_after` took too long; a library's `except Exception` does not keep it."""


def get_half_of_memory() -> float:
    """Return half of the machine's memory in bytes; infinity where the system does not say."""
    if sys.platform == "win32":
        return inf
    try:
        return max(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2, MIN_BYTES)
    except (ValueError, OSError):
        return inf


def _parse_bytes(text: str) -> float:
    """Return the bytes that `8GB`, `512MiB`, a plain number or `none` stand for."""
    if text.strip().lower() == UNLIMITED:
        return inf
    match = fullmatch(r"([0-9]{1,18}(?:\.[0-9]{0,6})?) ?([kmgt]?i?)b?", text.strip().lower())
    size = float(match[1]) * UNITS[match[2]] if match is not None and match[2] in UNITS else 0.0
    if size < MIN_BYTES:
        why = f"a memory limit is a size of at least {show_bytes(MIN_BYTES)}, or {UNLIMITED}"
        raise ConfigError(f"{MEMORY_VARIABLE}={text[:60]} cannot be used", why, f"{MEMORY_VARIABLE}=8GB")
    return size


def _parse_seconds(text: str) -> float:
    """Return the seconds of a time limit, infinity for `none`."""
    if text.strip().lower() == UNLIMITED:
        return inf
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not isfinite(seconds) or seconds < 1:
        why = f"a time limit is a number of seconds of at least 1, or {UNLIMITED}"
        raise ConfigError(f"{TIME_VARIABLE}={text[:60]} cannot be used", why, f"{TIME_VARIABLE}=600")
    return seconds


def suggest_bytes(needed: float) -> str:
    """Return a limit in whole gigabytes that allows what is needed and a third more; below 1 GB in megabytes."""
    if not isfinite(needed):
        return UNLIMITED
    whole = 1.33 * needed / 1e9
    return f"{ceil(whole)}GB" if whole >= 1 else f"{ceil(1000 * whole)}MB"
