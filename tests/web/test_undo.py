"""Deleting with a way back."""

import pytest
from msgspec.structs import replace

from edgewright.errors import RunNotFound
from edgewright.store.store import Store
from edgewright.web.undo import Bin
from tests.web.records import Record, make_run


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
    assert bin_.empty(store, at_once=True) == 1
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
