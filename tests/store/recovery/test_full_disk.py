"""A full disk can be looked at, and freed by deleting runs."""

import os
from contextlib import suppress
from pathlib import Path

import pytest

from edgewright.errors import StoreFull
from edgewright.store.recovery.reserve import MIN_BYTES, Reserve
from edgewright.store.store import open_store
from tests.web.records import make_run


def fill_up(folder: Path) -> None:
    """Leave nothing at all."""
    with suppress(OSError), (folder / "filler").open("wb", buffering=0) as filler:
        while filler.write(bytes(4096)):
            pass


def test_runs_are_read_and_deleted_on_a_full_disk(small_disk: Path) -> None:
    runs = [make_run(samples=50, layers=2) for _ in range(3)]
    home = small_disk / "home"
    with open_store(home) as store:
        store.record(runs)
    fill_up(small_disk)
    for left in (2, 1):
        with open_store(home) as store:
            listed = store.list_runs()
            assert len(listed) == left + 1
            assert store.load(listed[0].id).series
            store.delete([listed[0].id])
            assert store.count_runs() == left
    with open_store(home) as store, pytest.raises(StoreFull):
        store.record([make_run(samples=100_000, layers=2)])


def test_a_full_disk_is_read_without_a_reserve(small_disk: Path) -> None:
    home = small_disk / "home"
    with open_store(home) as store:
        store.record([make_run(samples=50, layers=2)])
    (home / "edgewright.db.reserve").unlink()
    fill_up(small_disk)
    with open_store(home) as store:
        assert store.load(store.list_runs()[0].id).series


def test_a_reserve_takes_a_part_of_what_is_free(small_disk: Path) -> None:
    reserve = Reserve(small_disk / "edgewright.db")
    reserve.acquire()
    assert (small_disk / "edgewright.db.reserve").stat().st_size == (2 << 20) // 8
    assert reserve.release()
    assert not reserve.release()
    fill_up(small_disk)
    os.truncate(small_disk / "filler", (2 << 20) - 2 * MIN_BYTES)
    reserve.acquire()  # what was released, where nothing is plenty
    assert (small_disk / "edgewright.db.reserve").stat().st_size == 2 * MIN_BYTES
    Reserve(small_disk / "other.db").acquire()
    assert not (small_disk / "other.db.reserve").exists()
