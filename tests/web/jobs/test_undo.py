"""Deletion with undo."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Thread

import pytest
from msgspec.structs import replace

from edgewright.errors import RunNotFound, StoreLocked
from edgewright.store.store import Store
from edgewright.web.server import deletions
from edgewright.web.server.deletions import DeletionQueue
from tests.web.records import Record, make_run

BATCH = 4


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletions, "BATCH_RUNS", BATCH)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_runs_are_deleted_only_after_the_wait(store: Store, record: Record) -> None:
    clock = Clock()
    deletions = DeletionQueue(60.0, clock)
    deletions.put([record.first.id])
    clock.now = 59.0
    assert deletions.delete_due(store) == 0
    assert store.load(record.first.id)
    clock.now = 60.0
    assert deletions.delete_due(store) == 1
    with pytest.raises(RunNotFound):
        store.load(record.first.id)
    assert deletions.hidden() == ()


def test_what_is_taken_back_stays(store: Store, record: Record) -> None:
    deletions = DeletionQueue(60.0, Clock())
    deletions.put([record.first.id, record.second.id])
    assert deletions.restore([record.first.id, "unknown"]) == [record.first.id]
    assert deletions.close(store) == 1
    assert store.load(record.first.id)


def test_one_that_is_gone_or_runs_does_not_stop_the_others(store: Store, record: Record) -> None:
    running = replace(make_run(), state="running", series=(), finished_at=None)
    store.begin(running)
    deletions = DeletionQueue(0.0, Clock())
    deletions.put([running.id, "01M00000000000000000000000", record.first.id])
    deletions.delete_due(store)
    assert deletions.hidden() == ()
    assert store.load(running.id)
    assert store.find_existing_ids([record.first.id, record.second.id]) == {record.second.id}
    store.finish(replace(running, state="done"))


@dataclass(frozen=True)
class SlowStore(Store):
    """Store that calls `before` before each deletion."""

    before: Callable[[Sequence[str]], None]

    def delete(self, run_ids: Sequence[str], *, even_running: bool = False) -> None:
        self.before(run_ids)
        super().delete(run_ids, even_running=even_running)


def slow(store: Store, before: Callable[[Sequence[str]], None]) -> Store:
    return SlowStore(
        home=store.home, database=store.database, blobs=store.blobs, presence=store.presence, before=before
    )


def many_runs(store: Store) -> list[str]:
    runs = [make_run(samples=3, layers=1) for _ in range(3 * BATCH)]
    store.record(runs)
    return [run.id for run in runs]


def test_undo_while_runs_are_being_deleted(store: Store) -> None:
    run_ids = many_runs(store)
    deletions, back, threads = DeletionQueue(0.0, Clock()), list[str](), list[Thread]()

    def press_undo(batch: Sequence[str]) -> None:
        threads.append(Thread(target=lambda: back.extend(deletions.restore(run_ids))))
        threads[0].start()
        while len(deletions.hidden()) > len(batch):  # until the thread has what it can have without waiting
            pass

    deletions.put(run_ids)
    assert deletions.delete_due(slow(store, press_undo)) == BATCH
    threads[0].join()
    assert deletions.delete_due(store) == 0
    assert set(back) == store.find_existing_ids(run_ids)
    assert len(back) == 2 * BATCH


def test_undo_waits_for_a_batch_that_is_not_deleted_after_all(store: Store) -> None:
    run_ids = many_runs(store)
    deletions, back, threads = DeletionQueue(0.0, Clock()), list[str](), list[Thread]()

    def press_undo(batch: Sequence[str]) -> None:
        threads.append(Thread(target=lambda: back.extend(deletions.restore(run_ids))))
        threads[0].start()
        while len(deletions.hidden()) > len(batch):
            pass
        raise StoreLocked("no", "held")

    deletions.put(run_ids)
    assert deletions.delete_due(slow(store, press_undo)) == 0
    threads[0].join()
    assert back == run_ids
    assert deletions.hidden() == ()


def test_undo_of_runs_that_could_not_be_deleted_in_time(store: Store) -> None:
    run_ids = many_runs(store)
    deletions = DeletionQueue(0.0, Clock())

    def locked(batch: Sequence[str]) -> None:
        raise StoreLocked("no", "held")

    deletions.put(run_ids)
    assert deletions.delete_due(slow(store, locked)) == 0
    assert deletions.restore(run_ids) == run_ids
    assert deletions.delete_due(store) == 0


def test_deleting_ends_with_the_server(store: Store) -> None:
    run_ids = many_runs(store)
    deletions = DeletionQueue(0.0, Clock())
    deletions.put(run_ids)
    assert deletions.delete_due(slow(store, lambda batch: deletions.stop())) == BATCH
    deletions.close(store, within_s=-1.0)
    assert len(store.find_existing_ids(run_ids)) == 2 * BATCH
    assert deletions.hidden() == ()
