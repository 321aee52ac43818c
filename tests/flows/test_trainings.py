"""Trainings side by side: how many, that they really overlap, and that the first end of one in trouble ends all."""

import os
from collections.abc import Iterator
from pathlib import Path
from threading import current_thread
from time import monotonic

import msgspec
import pytest

from edgewright.errors import DataError
from edgewright.flows import trainings
from edgewright.flows.trainings import count_processors, share_out, train_all, train_sides
from edgewright.training.job import Laid, Settings, TrainJob, TrainReport

linux = pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="memory of a process is read from /proc")

# What it does is the job's title; it writes when it began and ended, and a report with the threads it was given.
STRANGER = """
import json, os, sys, time
from pathlib import Path
job = json.loads(Path(sys.argv[1]).read_bytes())
out = Path(job["out"])
say = lambda word: print(json.dumps(word), flush=True)
step = lambda done: say({"type": "step", "stage": job["title"], "done": done, "of": 2, "left_s": 1.0})
began = time.monotonic()
(out / "pid").write_text(str(os.getpid()))
step(1)
what = job["title"].split()[0]
if what == "fails":
    say({"type": "trouble", "kind": "DataError", "what": "no", "why": "so", "try_this": "else"})
    sys.exit()
time.sleep(600 if what == "waits" else 0.6)
step(2)
report = {"steps": job["settings"]["threads"], "planned": 2, "precision": "fp32", "metric": None, "best_step": 2,
          "seconds": 0, "resumed": 0, "parameters": 1, "zeros": 0, "curves": [], "notes": [job["title"]]}
(out / "span").write_text(f"{began} {time.monotonic()}")
(out / "report.json").write_text(json.dumps(report))
say({"type": "finished"})
"""


@pytest.fixture(autouse=True)
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stranger_trains.py").write_text(STRANGER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(trainings, "WORKER", "stranger_trains")
    monkeypatch.setattr(trainings, "count_processors", lambda: 2)


def make_jobs(folder: Path, *titles: str, threads: int = 0) -> list[TrainJob]:
    laid = Laid(inputs={}, labels="", fit=(), held_out=(), indices=())
    return [
        TrainJob(
            title=title, shapes={}, task="{}", data=laid, settings=Settings(threads=threads),
            out=str(folder / title), memory=str(folder / f"{title}-memory"),
        )
        for title in titles
    ]  # fmt: skip


def spans(folder: Path, *titles: str) -> Iterator[tuple[float, float]]:
    for title in titles:
        began, ended = map(float, (folder / title / "span").read_text().split())
        yield began, ended


@pytest.mark.parametrize(
    ("trainings", "threads", "processors", "shared"),
    [
        (1, 0, 2, (1, 2)),
        (2, 0, 1, (1, 1)),
        (2, 0, 2, (2, 1)),
        (2, 0, 9, (2, 4)),
        (6, 0, 4, (3, 1)),  # two turns of three, not one of four and one of two
        (6, 0, 8, (6, 1)),
        (2, 2, 2, (1, 2)),  # who asks for all processors gets one after the other
        (6, 2, 8, (3, 2)),
        (2, 64, 8, (1, 64)),
        (0, 0, 2, (0, 2)),
    ],
)
def test_processors_are_shared_out(trainings: int, threads: int, processors: int, shared: tuple[int, int]) -> None:
    assert share_out(trainings, threads, processors) == shared


def test_an_accelerator_is_not_shared(tmp_path: Path) -> None:
    assert count_processors(tmp_path) == (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidiactl").touch()
    assert count_processors(tmp_path) == 1


@linux
def test_two_at_a_time_in_the_order_of_their_jobs(tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []
    titles = ("first", "second", "third", "fourth")
    made = train_all(make_jobs(tmp_path, *titles), lambda text: told.append((current_thread().name, text)))
    assert [one.report.notes for one in made] == [(title,) for title in titles]
    assert [one.report.steps for one in made] == [1, 1, 1, 1]  # threads
    first, second, third, fourth = spans(tmp_path, *titles)
    assert second[0] < first[1] and fourth[0] < third[1]
    assert third[0] > min(first[1], second[1])
    assert {name for name, _ in told} == {current_thread().name}
    assert any("first: " in text and "; second: 1 of 2" in text for _, text in told)
    assert train_all(make_jobs(tmp_path, *titles), lambda _: pytest.fail("it trained again")) == made


@linux
def test_sides_come_back_as_they_were_given(tmp_path: Path) -> None:
    jobs = make_jobs(tmp_path, "a", "b", "c")
    made = train_sides({"one": jobs[:1], "two": jobs[1:], "none": []}, lambda _: None)
    assert {side: [one.report.notes[0] for one in own] for side, own in made.items()} == {
        "one": ["a"], "two": ["b", "c"], "none": [],
    }  # fmt: skip


@pytest.mark.parametrize(("threads", "free"), [(2, float("inf")), (0, 0.0)])
def test_one_after_the_other_where_there_is_no_room(
    threads: int, free: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainings, "free_bytes", lambda used: free)
    train_all(make_jobs(tmp_path, "first", "second", threads=threads), lambda _: None)
    first, second = spans(tmp_path, "first", "second")
    assert second[0] > first[1]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@linux
def test_the_first_error_ends_the_others(tmp_path: Path) -> None:
    began = monotonic()
    with pytest.raises(DataError, match="no"):
        train_all(make_jobs(tmp_path, "waits", "fails", "never"), lambda _: None)
    assert monotonic() - began < 300  # what waits would take 600 s
    assert not is_alive(int((tmp_path / "waits/pid").read_text()))
    assert not (tmp_path / "never").exists()


@linux
def test_a_stop_while_it_tells_ends_all(tmp_path: Path) -> None:
    def tell(text: str) -> None:
        if "; " in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_all(make_jobs(tmp_path, "waits", "waits too"), tell)
    assert not any(is_alive(int((tmp_path / title / "pid").read_text())) for title in ("waits", "waits too"))


def test_what_a_job_left_is_read_as_the_report_it_is(tmp_path: Path) -> None:
    (job,) = make_jobs(tmp_path, "alone")
    (made,) = train_all([job], lambda _: None)
    assert made.report == msgspec.json.decode((tmp_path / "alone/report.json").read_bytes(), type=TrainReport)
    assert made.report.steps == 0  # its threads are left to torch
