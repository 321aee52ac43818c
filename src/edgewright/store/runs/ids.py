"""Run ids: ULIDs (github.com/ulid/spec), 48 bits of time and 80 random bits, so that ids sort by age."""

import os
import re
import secrets
import threading
import time
from collections.abc import Callable

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LENGTH = 26
_RANDOM_BITS = 80
_SHAPE = re.compile(f"[0-7][{ALPHABET}]{{{LENGTH - 1}}}")


class IdGenerator:
    """Generator of ids that increase strictly in one process, for all threads, even if the clock goes back.

    Args:
        now_ms: milliseconds since 1970.
        random_bits: returns an integer with this number of random bits.
    """

    def __init__(self, now_ms: Callable[[], int], random_bits: Callable[[int], int]) -> None:
        self._now_ms = now_ms
        self._random_bits = random_bits
        self._lock = threading.Lock()
        self._last = 0
        self._process = os.getpid()

    def __call__(self) -> str:
        with self._lock:
            if self._process != os.getpid():  # a forked child must not continue from its parent's last id
                self._process, self._last = os.getpid(), 0
            fresh = self._now_ms() << _RANDOM_BITS | self._random_bits(_RANDOM_BITS)
            # The next integer if this millisecond (or a later one) already has an id.
            newer = fresh >> _RANDOM_BITS > self._last >> _RANDOM_BITS
            self._last = fresh if newer else self._last + 1
            return _encode_base32(self._last)


def _encode_base32(number: int) -> str:
    """Encode in Crockford's base 32, most significant digit first."""
    return "".join(ALPHABET[number >> 5 * index & 31] for index in reversed(range(LENGTH)))


def is_run_id(text: str) -> bool:
    """Return whether the text has the form of a run id."""
    return _SHAPE.fullmatch(text) is not None


new_run_id = IdGenerator(lambda: time.time_ns() // 1_000_000, secrets.randbits)
