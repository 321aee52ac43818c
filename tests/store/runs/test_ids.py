"""Ids of runs."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from edgewright.store.runs.ids import IdGenerator, is_run_id, new_run_id
from tests.paths import ROOT


def test_example_of_the_specification() -> None:
    """01ARYZ6S41 spells 1469918176385 ms."""
    make = IdGenerator(lambda: 1469918176385, lambda bits: (1 << bits) - 1)
    assert make() == "01ARYZ6S41" + "Z" * 16


def test_ids_rise_within_a_millisecond_and_when_the_clock_goes_back() -> None:
    times = iter([5, 5, 5, 3, 6])
    make = IdGenerator(lambda: next(times), lambda bits: 1 << bits - 1)
    made = [make() for _ in range(5)]
    assert made == sorted(made)
    assert len(set(made)) == 5
    assert [one[:10] for one in made] == ["0000000005"] * 4 + ["0000000006"]


def test_threads_get_different_ids() -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: new_run_id(), range(4000)))
    assert len(set(made)) == 4000
    assert all(is_run_id(one) for one in made)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_forked_children_do_not_count_on_alike() -> None:
    script = """
import os
from edgewright.store.runs.ids import IdGenerator
make = IdGenerator(lambda: 1, lambda bits: int.from_bytes(os.urandom(bits // 8), "big"))
make()
if os.fork():
    os.wait()
print(make())
"""
    path = str(ROOT / "src")
    ran = subprocess.run([sys.executable, "-c", script], env={"PYTHONPATH": path}, capture_output=True, check=True)
    first, second = ran.stdout.split()
    assert first != second


@pytest.mark.parametrize("text", ["", "x", "01ARZ3NDEKTSV4RRFFQ69G5FA", "81ARZ3NDEKTSV4RRFFQ69G5FAV", "../" * 9])
def test_what_is_no_id(text: str) -> None:
    assert not is_run_id(text)
