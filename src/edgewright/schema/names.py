"""Unique names."""

from collections.abc import Container
from itertools import count


def find_free_name(stem: str, taken: Container[str], mark: str = "#") -> str:
    """Return the stem, or if it is taken the stem, the mark and the first number from 2 with which it is not."""
    if stem not in taken:
        return stem
    return next(name for number in count(2) if (name := f"{stem}{mark}{number}") not in taken)
