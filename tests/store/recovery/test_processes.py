"""Several processes at one record, and processes that are killed."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing

import pytest

from edgewright.errors import StoreLocked
from edgewright.store.recovery import presence
from edgewright.store.runs.browse import ProgressLine
from edgewright.store.runs.queries import RunFilter
from edgewright.store.store import KILLED, Store, open_store
from tests.contracts.sample_runs import begun_run, finished_run, read_blob
from tests.store.places import Place, start_child

_WRITE_20 = """
for minute in range(20):
    begun = begun_run(minute)
    store.begin(begun)
    output = store.put_bytes(begun.id, words[0].encode() * minute, role="log")
    store.finish(replace(finished_run(begun), outputs=(output,)))
    print(begun.id, flush=True)
store.close()
"""


def test_two_processes_write_at_once(place: Place) -> None:
    """Both also meet at the empty home, so both try to make the record."""
    children = [start_child(place, _WRITE_20, word) for word in ("a", "b")]
    lines = [child.communicate(timeout=120)[0].split() for child in children]
    assert [child.returncode for child in children] == [0, 0]
    with open_store(place.home, place.database_url) as store:
        assert {row.id for row in store.list_runs(RunFilter(limit=None))} == {*lines[0], *lines[1]}
        assert len(set(lines[0] + lines[1])) == 40
        for run_id in lines[0] + lines[1]:
            run = store.load(run_id)
            assert run.state == "done"
            assert len(run.series[0].data) == 20
            assert len(read_blob(store, run.outputs[0])) == run.outputs[0].bytes


def test_many_processes_open_an_empty_home_at_once(place: Place) -> None:
    children = [start_child(place, "print(len(store.list_runs())); store.close()") for _ in range(6)]
    assert [child.communicate(timeout=120)[0] for child in children] == ["0\n"] * 6


@pytest.mark.parametrize(
    "moment",
    [
        "event.listen(store.database.engine, 'commit', die)",
        "event.listen(store.database.engine, 'begin', die)",
        "event.listen(store.database.engine, 'after_cursor_execute', die_at_samples)",
    ],
    ids=["before the commit", "at the begin", "among the rows"],
)
def test_kill_inside_finish(place: Place, moment: str) -> None:
    body = f"""
begun = begun_run()
store.begin(begun)
print(begun.id, flush=True)
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
def die_at_samples(connection, cursor, statement, *_):
    if "INSERT INTO series" in statement:
        die()
{moment}
store.finish(finished_run(begun))
"""
    child = start_child(place, body)
    run_id = child.communicate(timeout=60)[0].strip()
    assert child.returncode == -signal.SIGKILL
    with open_store(place.home, place.database_url) as store:
        run = store.load(run_id)
        assert (run.state, run.error) == ("failed", KILLED)
        assert (run.metrics, run.series, run.outputs) == ((), (), ())
        assert list((place.home / "processes").iterdir()) == []


def test_kill_inside_begin(place: Place) -> None:
    body = """
event.listen(store.database.engine, "commit", lambda _: os.kill(os.getpid(), signal.SIGKILL))
store.begin(begun_run())
"""
    child = start_child(place, body)
    child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL
    with open_store(place.home, place.database_url) as store:
        assert store.list_runs() == []
        begun = begun_run()
        store.begin(begun)
        store.finish(finished_run(begun))


def test_kill_at_any_moment_loses_no_finished_run(place: Place) -> None:
    body = """
while True:
    begun = begun_run()
    store.begin(begun)
    output = store.put_bytes(begun.id, os.urandom(100_000), role="log")
    store.finish(replace(finished_run(begun), outputs=(output,)))
    print(begun.id, flush=True)
"""
    chance, finished = random.Random(7), []
    for _ in range(4):
        child = start_child(place, body)
        assert child.stdout is not None
        finished.append(child.stdout.readline().strip())
        time.sleep(chance.uniform(0, 0.1))
        child.kill()
        # An incomplete line belongs to a run without a known id.
        finished += [line.strip() for line in child.stdout.read().splitlines(keepends=True) if line[-1] == "\n"]
        child.stdout.close()
        child.wait(30)
    with open_store(place.home, place.database_url, busy_timeout_s=20) as store:
        rows = store.list_runs(RunFilter(limit=None))
        assert {row.state for row in rows} <= {"done", "failed"}
        assert set(finished) <= {row.id for row in rows if row.state == "done"}
        for row in rows:
            run = store.load(row.id)
            whole = len(run.series) == 2 and len(run.layers) == 2 and len(run.outputs) == 1
            assert whole if run.state == "done" else not (run.series or run.layers or run.outputs)
            assert all(len(read_blob(store, output)) == 100_000 for output in run.outputs)


def test_living_process_is_not_marked(place: Place) -> None:
    body = "begun = begun_run(); store.begin(begun); print(begun.id, flush=True); import time; time.sleep(600)"
    child = start_child(place, body)
    assert child.stdout is not None
    run_id = child.stdout.readline().strip()
    try:
        with open_store(place.home, place.database_url) as store:
            assert store.load(run_id).state == "running"
    finally:
        child.kill()
        child.communicate(timeout=120)
    with open_store(place.home, place.database_url) as store:
        assert store.load(run_id).error == KILLED


def test_store_of_another_home_is_not_checked(postgres_place: Place) -> None:
    begun = begun_run()
    with open_store(postgres_place.home, postgres_place.database_url) as store:
        store.begin(begun)
    elsewhere = postgres_place.home.with_name("elsewhere")
    with open_store(elsewhere, postgres_place.database_url) as store:
        assert store.load(begun.id).state == "running"


def test_locked_database(place: Place) -> None:
    begun = begun_run()
    with open_store(place.home, place.database_url, busy_timeout_s=0.1) as store:
        store.begin(begun)
        with closing(open_store(place.home, place.database_url)) as other:
            with other.database.writing("the other one holds it", exclusive=True):
                assert store.load(begun.id) == begun, "readers do not wait"
                with pytest.raises(StoreLocked) as raised:
                    store.finish(finished_run(begun))
            assert "unsaved" in raised.value.try_this
        assert (place.home / "unsaved" / f"{begun.id}.json").exists()
        with open_store(place.home, place.database_url) as later:
            assert later.load(begun.id) == finished_run(begun)


def test_interrupted_finish_keeps_the_run(store: Store, open_again: Callable[[], Store]) -> None:
    from sqlalchemy import event

    begun = begun_run()
    store.begin(begun)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    event.listen(store.database.engine, "commit", interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.finish(finished_run(begun))
    event.remove(store.database.engine, "commit", interrupt)
    assert open_again().load(begun.id) == finished_run(begun)


def test_what_a_process_says_is_heard_by_others_of_its_home(
    place: Place, open_again: Callable[[], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other, lines = open_again(), open_again(), list[str]()
    progress = store.publish_progress(lines.append)
    progress("before any run")
    assert other.list_progress() == []
    runs = [begun_run(minute) for minute in range(2)]
    for begun in runs:
        store.begin(begun)
    progress("m in r: process 1 of 9\0" + "x" * 1_000)
    progress("too soon after it")
    (heard,) = other.list_progress()
    assert heard.runs == tuple(sorted(begun.id for begun in runs))
    assert heard.line.startswith("m in r: process 1 of 9")
    assert len(heard.line) == 500
    monkeypatch.setattr(presence, "_PROGRESS_INTERVAL_S", 0.0)
    store.finish(finished_run(runs[0]))
    progress("process 3")
    assert other.list_progress() == [ProgressLine(line="process 3", runs=(runs[1].id,))]
    assert len(lines) == 4
    store.close()
    assert other.list_progress() == []
    assert [file.name for file in (place.home / "processes").iterdir()] == []


def test_nothing_is_heard_of_another_home_or_by_a_path(sqlite_place: Place) -> None:
    with open_store(sqlite_place.home) as store:
        store.begin(begun_run())
        store.publish_progress(lambda text: None)("a line")
        mine = store.presence.name()
        (sqlite_place.home / "processes" / "x.progress").write_text("no id")
        home, _, token = mine.partition("/")
        assert store.presence.read_progress(mine) == "a line"
        for name in (f"else/{token}", f"{home}/x", f"{home}/../processes/{token}", "", f"{home}/"):
            assert store.presence.read_progress(name) == ""


def test_a_line_that_cannot_be_written_costs_nothing(sqlite_place: Place) -> None:
    with open_store(sqlite_place.home) as store:
        store.begin(begun_run())
        (sqlite_place.home / "processes" / f"{store.presence.name().rpartition('/')[2]}.progress").mkdir()
        lines: list[str] = []
        store.publish_progress(lines.append)("a line")
        assert lines == ["a line"]
        (sqlite_place.home / "processes" / f"{store.presence.name().rpartition('/')[2]}.progress").rmdir()


def test_the_files_of_killed_processes_are_removed(sqlite_place: Place) -> None:
    """Also of those that no row names: killed before they wrote one, or whose runs were deleted."""
    folder = sqlite_place.home / "processes"
    script = (
        "import os, signal, sys; from pathlib import Path; from edgewright.store.store import open_store\n"
        "store = open_store(Path(sys.argv[1])); store.presence.name(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    with open_store(sqlite_place.home) as living:
        name = living.presence.name().rpartition("/")[2]
        subprocess.run([sys.executable, "-c", script, str(sqlite_place.home)], check=False)
        (folder / "01M00000000000000000000000.progress").write_text("of nobody")
        (folder / "notes.txt").write_text("of the user")
        assert len(list(folder.iterdir())) == 4
        with open_store(sqlite_place.home):
            assert sorted(path.name for path in folder.iterdir()) == [name, "notes.txt"]
        assert not living.presence.is_gone(living.presence.name())
