"""Packed samples."""

import math
import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.store.runs.packing import pack, unpack


@given(st.lists(st.floats(width=64)))
def test_there_and_back(samples: list[float]) -> None:
    back = unpack(pack(samples))
    assert struct.pack(f"={len(back)}d", *back) == struct.pack(f"={len(samples)}d", *samples)


def test_bytes_are_little_endian_binary64() -> None:
    assert pack([1.0, -2.5]) == bytes.fromhex("000000000000f03f00000000000004c0")
    assert unpack(b"") == ()


def test_same_bytes_on_a_big_endian_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes turned twice are the bytes: the swap happens on the way in and on the way out."""
    little = pack([1.0, math.pi])
    monkeypatch.setattr(sys, "byteorder", "big" if sys.byteorder == "little" else "little")
    swapped = pack([1.0, math.pi])
    assert [swapped[i : i + 8][::-1] for i in (0, 8)] == [little[i : i + 8] for i in (0, 8)]
    assert unpack(swapped) == (1.0, math.pi)


def test_cut_short() -> None:
    with pytest.raises(ValueError, match="multiple"):
        unpack(b"1234567")
