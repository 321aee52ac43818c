"""Deleting with a way back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Thread

import pytest
from msgspec.structs import replace

from edgewright.errors import RunNotFound, StoreLocked
from edgewright.store.store import Store
from edgewright.web import undo
from edgewright.web.undo import Bin
from tests.web.records import Record, make_run

BATCH = 4


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(undo, "BATCH", BATCH)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_runs_are_deleted_only_after_the_wait(store: Store, record: Record) -> None:
    clock = Clock()
    bin_ = Bin(60.0, clock)
    bin_.put([record.first.id])
    clock.now = 59.0
    assert bin_.empty(store) == 0
    assert store.load(record.first.id)
    clock.now = 60.0
    assert bin_.empty(store) == 1
    with pytest.raises(RunNotFound):
        store.load(record.first.id)
    assert bin_.hidden() == ()


def test_what_is_taken_back_stays(store: Store, record: Record) -> None:
    bin_ = Bin(60.0, Clock())
    bin_.put([record.first.id, record.second.id])
    assert bin_.take_back([record.first.id, "unknown"]) == [record.first.id]
    assert bin_.close(store) == 1
    assert store.load(record.first.id)


def test_one_that_is_gone_or_runs_does_not_stop_the_others(store: Store, record: Record) -> None:
    running = replace(make_run(), state="running", series=(), finished_at=None)
    store.begin(running)
    bin_ = Bin(0.0, Clock())
    bin_.put([running.id, "01M00000000000000000000000", record.first.id])
    bin_.empty(store)
    assert bin_.hidden() == ()
    assert store.load(running.id)
    assert store.known_ids([record.first.id, record.second.id]) == {record.second.id}
    store.finish(replace(running, state="done"))


@dataclass(frozen=True)
class SlowStore(Store):
    """The record, which calls `before` in front of each deletion."""

    before: Callable[[Sequence[str]], None]

    def delete(self, run_ids: Sequence[str], *, even_running: bool = False) -> None:
        self.before(run_ids)
        super().delete(run_ids, even_running=even_running)


def slow(store: Store, before: Callable[[Sequence[str]], None]) -> Store:
    return SlowStore(store.home, store.database, store.blobs, store.presence, before)


def many_runs(store: Store) -> list[str]:
    runs = [make_run(samples=3, layers=1) for _ in range(3 * BATCH)]
    store.record(runs)
    return [run.id for run in runs]


def test_undo_while_runs_are_being_deleted(store: Store) -> None:
    run_ids = many_runs(store)
    bin_, back, threads = Bin(0.0, Clock()), list[str](), list[Thread]()

    def press_undo(batch: Sequence[str]) -> None:
        threads.append(Thread(target=lambda: back.extend(bin_.take_back(run_ids))))
        threads[0].start()
        while len(bin_.hidden()) > len(batch):  # until the thread has what it can have without waiting
            pass

    bin_.put(run_ids)
    assert bin_.empty(slow(store, press_undo)) == BATCH
    threads[0].join()
    assert bin_.empty(store) == 0
    assert set(back) == store.known_ids(run_ids)
    assert len(back) == 2 * BATCH


def test_undo_waits_for_a_batch_that_is_not_deleted_after_all(store: Store) -> None:
    run_ids = many_runs(store)
    bin_, back, threads = Bin(0.0, Clock()), list[str](), list[Thread]()

    def press_undo(batch: Sequence[str]) -> None:
        threads.append(Thread(target=lambda: back.extend(bin_.take_back(run_ids))))
        threads[0].start()
        while len(bin_.hidden()) > len(batch):
            pass
        raise StoreLocked("no", "held")

    bin_.put(run_ids)
    assert bin_.empty(slow(store, press_undo)) == 0
    threads[0].join()
    assert back == run_ids
    assert bin_.hidden() == ()


def test_undo_of_runs_that_could_not_be_deleted_in_time(store: Store) -> None:
    run_ids = many_runs(store)
    bin_ = Bin(0.0, Clock())

    def locked(batch: Sequence[str]) -> None:
        raise StoreLocked("no", "held")

    bin_.put(run_ids)
    assert bin_.empty(slow(store, locked)) == 0
    assert bin_.take_back(run_ids) == run_ids
    assert bin_.empty(store) == 0


def test_deleting_ends_with_the_server(store: Store) -> None:
    run_ids = many_runs(store)
    bin_ = Bin(0.0, Clock())
    bin_.put(run_ids)
    assert bin_.empty(slow(store, lambda batch: bin_.stop())) == BATCH
    bin_.close(store, within_s=-1.0)
    assert len(store.known_ids(run_ids)) == 2 * BATCH
    assert bin_.hidden() == ()
