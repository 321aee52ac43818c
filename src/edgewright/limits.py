"""Limits on the memory and time of one model, and the error that says how to raise them.

A small file can describe values of any size. The needs of a model are therefore compared with a budget before
allocation, and processes that load models run under a system limit that is derived from it.
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
MAX_SHOWN_BYTES = 10.0**24  # sizes in a file may be integers beyond the range of a float
BYTES_PER_SECOND = 20_000_000  # of the model's files: large weights take longer to read
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
UNLIMITED = "none"


@dataclass(frozen=True)
class ResourceBudget:
    """What one model may use in each process that handles it.

    Attributes:
        memory_bytes: for inputs, activations and computed constants, in addition to the bytes of the model's own files
            and what a runtime needs to start.
        seconds: for reading a model and inferring its shapes, and for running it for reference outputs.
        spent_seconds: seconds that have passed.
    """

    memory_bytes: float = inf
    seconds: float = inf
    spent_seconds: float = 0.0

    @property
    def left_seconds(self) -> float:
        """Return the remaining seconds."""
        return max(self.seconds - self.spent_seconds, 0.0)

    def check_bytes(self, needed: float, what: str, hint: str = "") -> None:
        """Raise LimitReached if `what` needs more memory than the budget; `hint` is an alternative remedy."""
        if needed > self.memory_bytes:
            raise self.memory_error(what, needed, hint)

    def memory_error(self, what: str, needed: float | None = None, hint: str = "") -> LimitReached:
        """Return the error for an exceeded memory limit."""
        limit = show_bytes(self.memory_bytes)
        needed = min(needed, MAX_SHOWN_BYTES) if needed is not None else None
        need = f"{show_bytes(needed)} is needed" if needed is not None else "more memory is needed"
        raised = f"{MEMORY_VARIABLE}={suggest_bytes(needed or 2 * self.memory_bytes)}"
        advice = f"raise it with the environment variable {raised}"
        return LimitReached(
            f"memory limit reached: {what}", f"{need}, and the memory limit is {limit} ({MEMORY_VARIABLE})",
            f"{hint}, or {advice}" if hint else advice,
        )  # fmt: skip

    def time_error(self, what: str) -> LimitReached:
        """Return the error for an exceeded time limit."""
        raised = f"{TIME_VARIABLE}={max(2 * self.seconds, 1):.0f}"
        return LimitReached(
            f"time limit reached: {what}", f"the time limit is {self.seconds:.3g} s ({TIME_VARIABLE})",
            f"raise it with the environment variable {raised}",
        )  # fmt: skip

    def for_files(self, size: int) -> "ResourceBudget":
        """Return the budget for a model of `size` bytes: large files may take longer."""
        return replace(self, seconds=self.seconds + size / BYTES_PER_SECOND)

    def environment(self) -> dict[str, str]:
        """Return the variables from which a child process reads the same budget."""
        memory = str(int(max(self.memory_bytes, MIN_BYTES))) if isfinite(self.memory_bytes) else UNLIMITED
        seconds = f"{max(self.left_seconds, 1):.3f}" if isfinite(self.seconds) else UNLIMITED
        return {MEMORY_VARIABLE: memory, TIME_VARIABLE: seconds}

    def after(self, seconds: float) -> "ResourceBudget":
        """Return the budget after `seconds` more."""
        return replace(self, spent_seconds=self.spent_seconds + seconds)


def read_budget(environ: Mapping[str, str] = os.environ) -> ResourceBudget:
    """Return the budget that the environment sets; ConfigError for an invalid value."""
    memory, seconds = environ.get(MEMORY_VARIABLE, ""), environ.get(TIME_VARIABLE, "")
    return ResourceBudget(
        memory_bytes=_parse_bytes(memory) if memory else min(DEFAULT_BYTES, get_half_of_memory()),
        seconds=_parse_seconds(seconds) if seconds else DEFAULT_SECONDS,
    )


@contextmanager
def interrupt_after(seconds: float) -> Iterator[None]:
    """Raise TimeLimitExceeded in the block after `seconds`, if it can be interrupted.

    Python code can be interrupted, including regular expressions; native code cannot. It uses a system timer, which
    works only in the main thread and not on Windows; elsewhere nothing happens.
    """
    if sys.platform == "win32" or current_thread() is not main_thread() or not isfinite(seconds):
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
        if left:  # a timer of the calling program
            signal.setitimer(signal.ITIMER_REAL, max(left - (monotonic() - began), 1e-3), interval)


def _raise_time_limit_exceeded(number: int, frame: object) -> NoReturn:
    raise TimeLimitExceeded


class TimeLimitExceeded(BaseException):
    """The time limit of `interrupt_after` was exceeded; not an Exception, so that libraries do not catch it."""


def get_half_of_memory() -> float:
    """Return half of the machine's memory in bytes; infinity if the system does not report it."""
    if sys.platform == "win32":
        return inf
    try:
        return max(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2, MIN_BYTES)
    except (ValueError, OSError):
        return inf


def _parse_bytes(text: str) -> float:
    """Return the bytes for `8GB`, `512MiB`, a plain number or `none`."""
    if text.strip().lower() == UNLIMITED:
        return inf
    size = parse_size(text)
    if size < MIN_BYTES:
        why = f"the memory limit must be a size of at least {show_bytes(MIN_BYTES)}, or {UNLIMITED}"
        raise ConfigError(f"{MEMORY_VARIABLE}={text[:60]} cannot be used", why, f"{MEMORY_VARIABLE}=8GB")
    return size


def parse_size(text: str) -> float:
    """Return the bytes for `8GB`, `512MiB` or a plain number; 0 for any other text."""
    match = fullmatch(r"([0-9]{1,18}(?:\.[0-9]{0,6})?) ?([kmgt]?i?)b?", text.strip().lower())
    return float(match[1]) * UNITS[match[2]] if match is not None and match[2] in UNITS else 0.0


def _parse_seconds(text: str) -> float:
    """Return the seconds of a time limit, infinity for `none`."""
    if text.strip().lower() == UNLIMITED:
        return inf
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not isfinite(seconds) or seconds < 1:
        why = f"the time limit must be a number of seconds of at least 1, or {UNLIMITED}"
        raise ConfigError(f"{TIME_VARIABLE}={text[:60]} cannot be used", why, f"{TIME_VARIABLE}=600")
    return seconds


def suggest_bytes(needed: float) -> str:
    """Return a limit a third above the needed bytes, in whole gigabytes, or megabytes below 1 GB."""
    if not isfinite(needed):
        return UNLIMITED
    whole = 1.33 * needed / 1e9
    return f"{ceil(whole)}GB" if whole >= 1 else f"{ceil(1000 * whole)}MB"
