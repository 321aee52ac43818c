"""Finished runs that the database could not take."""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgewright.errors import StoreFull
from edgewright.schema.run import RunOutput
from edgewright.store.exports.portable import from_json, to_json
from edgewright.store.location import list_bad_files
from edgewright.store.recovery.unsaved import explain_saved_file, save_to_file
from edgewright.store.store import Store, open_store
from tests.contracts.sample_runs import begun_run, finished_run, saved_run


def test_run_that_could_not_be_saved_is_taken_in_later(store: Store, open_again: Callable[[], Store]) -> None:
    finished = finished_run(replace(begun_run(), parent_id=None))
    assert save_to_file(store.home, finished) == store.home / "unsaved" / f"{finished.id}.json"
    later = open_again()
    assert later.load(finished.id) == finished
    assert list((later.home / "unsaved").iterdir()) == []
    open_again()


@pytest.mark.parametrize(
    "data",
    [
        b"{half",
        b"",
        b"\xff",
        b"[" * 100_000,
        to_json(replace(finished_run(begun_run()), started_at="yesterday")),
        to_json(replace(finished_run(begun_run()), id="../../etc")),
        to_json(begun_run()),
        to_json(replace(finished_run(begun_run()), outputs=(RunOutput(role="x", sha256="d" * 64, bytes=1 << 63),))),
    ],
    ids=["half", "empty", "no text", "deep", "no time", "no id", "not finished", "too large a number"],
)
def test_bad_unsaved_run_is_put_away(store: Store, open_again: Callable[[], Store], data: bytes) -> None:
    finished, other = saved_run(store), finished_run(begun_run())
    bad = save_to_file(store.home, replace(other, id="00000000000000000000000000"))
    save_to_file(store.home, other)
    assert bad is not None
    bad.write_bytes(data)
    later = open_again()
    assert later.load(finished.id) == finished
    assert later.load(other.id) == other, "the good one behind it is taken in"
    assert [path.read_bytes() for path in list_bad_files(store.home)] == [data]
    assert len(list_bad_files(store.home)[0].with_suffix(".why").read_text()) > 10
    assert list((store.home / "unsaved").glob("*.json")) == []
    bad.write_bytes(data)
    open_again()
    assert len(list_bad_files(store.home)) == 2, "one of the same name is not overwritten"


def test_disk_that_fills_during_the_measurement(
    small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is kept elsewhere, the error says where, and doing what it says brings the run into the record."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    begun = begun_run()
    with open_store(small_disk / "home") as store:
        store.begin(begun)
        fill(small_disk / "filler")
        with pytest.raises(StoreFull) as raised:
            store.finish(finished_run(begun, samples=10_000))
    kept = tmp_path / f"edgewright-unsaved-{begun.id}.json"
    unsaved = small_disk / "home/unsaved"
    assert f"the run is kept in {kept}: move it into {unsaved}" in raised.value.try_this
    (small_disk / "filler").unlink()
    shutil.move(kept, unsaved / kept.name)
    with open_store(small_disk / "home") as store:
        assert store.load(begun.id) == finished_run(begun, samples=10_000)


def fill(file: Path) -> None:
    """Write until the disk has no byte left."""
    with suppress(OSError), file.open("wb", buffering=0) as full:
        while full.write(bytes(4096)):
            pass


def test_run_is_kept_where_there_is_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home that is not there stands for one that takes no file, for root too."""
    home, temporary, current = tmp_path / "absent", tmp_path / "temporary", tmp_path / "current"
    temporary.mkdir()
    current.mkdir()
    monkeypatch.chdir(current)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    run = finished_run(begun_run())
    kept = [save_to_file(home, run)]
    temporary.rename(tmp_path / "gone")
    kept += [save_to_file(home, run)]
    monkeypatch.setattr(os, "open", _refuse_to_open)
    kept += [save_to_file(home, run)]
    name = f"edgewright-unsaved-{run.id}.json"
    assert kept == [temporary / name, current / name, None]
    assert from_json((current / name).read_bytes()) == run
    assert (current / name).stat().st_mode & 0o077 == 0
    assert [path.name for path in current.iterdir()] == [name]


def _refuse_to_open(*_: object) -> int:
    raise OSError(errno.ENOSPC, "full")


def test_run_that_could_not_be_kept_is_said_to_be_lost(tmp_path: Path) -> None:
    failure = StoreFull("the run cannot be saved", "disk full")
    explain_saved_file(failure, tmp_path, None)
    assert failure.why == "disk full; the run is lost: its file could not be written to any folder"
