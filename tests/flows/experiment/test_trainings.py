"""Trainings side by side: how many, that they really overlap, and that the first end of one in trouble ends all."""

import os
from collections.abc import Iterator
from pathlib import Path
from threading import current_thread

import msgspec
import pytest

from edgewright.errors import DataError, WorkerCrashed
from edgewright.flows.experiment import trainings
from edgewright.flows.experiment.trainings import allocate_threads, count_processors, train_all, train_networks
from edgewright.runtimes.wire import ResidentMemory
from edgewright.training.job import CachedDataset, Settings, TrainJob, TrainReport
from tests.runtimes.workers import exists

linux = pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="memory of a process is read from /proc")

# What it does is the job's title; it writes when it began and ended, and a report with the threads it was given.
WORKER_MODULE = """
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
if what == "dies":
    os._exit(9)
if job["title"] in ("waits", "waits too"):
    time.sleep(600)
(out / "started").touch()
partner = {"meets": job["title"].translate(str.maketrans("1234", "2143")), "gathers": "gathers 3"}.get(what)
while partner and not (out.parent / partner / "started").exists():
    time.sleep(0.01)
    if time.monotonic() - began > 100:
        sys.exit("it never came")
time.sleep(0.5)  # until what the partner told was heard
step(2)
report = {"steps": job["settings"]["threads"], "planned": 2, "precision": "fp32", "metric": None, "best_step": 2,
          "seconds": 0, "resumed": 0, "parameters": 1, "zeros": 0, "curves": [], "notes": [job["title"]]}
(out / "span").write_text(f"{began} {time.monotonic()}")
(out / "report.json").write_text(json.dumps(report))
say({"type": "finished"})
"""


@pytest.fixture(autouse=True)
def worker_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "worker_trains.py").write_text(WORKER_MODULE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(trainings, "WORKER", "worker_trains")
    monkeypatch.setattr(trainings, "count_processors", lambda: 2)


def make_jobs(folder: Path, *titles: str, threads: int = 0) -> list[TrainJob]:
    dataset = CachedDataset(inputs={}, labels="", fit=(), held_out=(), indices=())
    return [
        TrainJob(
            title=title, shapes={}, task="{}", data=dataset, settings=Settings(threads=threads),
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
    assert allocate_threads(trainings, threads, processors) == shared


@pytest.mark.parametrize(
    ("name", "content", "environment", "cores"),
    [
        ("proc/none", "", {"OMP_NUM_THREADS": "1"}, 1),
        ("proc/none", "", {"OMP_NUM_THREADS": "many"}, 0),
        ("sys/devices/system/cpu/cpu0/topology/core_cpus_list", "0-4095", {}, 1),  # all are one core's
        ("dev/nvidiactl", "", {}, 1),
    ],
)
@linux
def test_cores_are_counted(name: str, content: str, environment: dict[str, str], cores: int, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert count_processors(tmp_path, environment) == (cores or len(os.sched_getaffinity(0)))


@linux
def test_two_at_a_time_in_the_order_of_their_jobs(tmp_path: Path) -> None:
    lines: list[tuple[str, str]] = []
    titles = ("meets 1", "meets 2", "meets 3", "meets 4")
    made = train_all(make_jobs(tmp_path, *titles), lambda text: lines.append((current_thread().name, text)))
    assert [one.report.notes for one in made] == [(title,) for title in titles]
    assert [one.report.steps for one in made] == [1, 1, 1, 1]  # threads
    first, second, third, _ = spans(tmp_path, *titles)
    assert third[0] > min(first[1], second[1])
    assert {name for name, _ in lines} == {current_thread().name}
    assert any("meets 1: " in text and "; meets 2: 1 of 2" in text for _, text in lines)
    assert train_all(make_jobs(tmp_path, *titles), lambda _: pytest.fail("it trained again")) == made


@linux
def test_two_of_many_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainings, "count_processors", lambda: 3)
    lines: list[str] = []
    train_all(make_jobs(tmp_path, "gathers 1", "gathers 2", "gathers 3"), lines.append)
    assert max(text.count("gathers") for text in lines) == 2
    assert any(text.endswith("; and 1 more") for text in lines)


@linux
def test_sides_come_back_as_they_were_given(tmp_path: Path) -> None:
    jobs = make_jobs(tmp_path, "a", "b", "c")
    made = train_networks({"one": jobs[:1], "two": jobs[1:], "none": []}, lambda _: None)
    assert {side: [one.report.notes[0] for one in own] for side, own in made.items()} == {
        "one": ["a"], "two": ["b", "c"], "none": [],
    }  # fmt: skip


def test_sides_that_are_not_alike_are_trained_by_themselves(tmp_path: Path) -> None:
    jobs = make_jobs(tmp_path, "long", "short")
    made = train_networks({"one": jobs[:1], "two": jobs[1:]}, lambda _: None, similar_cost=False)
    long, short = spans(tmp_path, "long", "short")
    assert short[0] > long[1]
    assert made["two"][0].report.steps == 0  # its threads are left to torch


@pytest.mark.parametrize(("threads", "free"), [(2, float("inf")), (0, 0.0)])
def test_one_after_the_other_where_there_is_no_memory(
    threads: int, free: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainings, "compute_free_bytes", lambda used: free)
    train_all(make_jobs(tmp_path, "first", "second", threads=threads), lambda _: None)
    first, second = spans(tmp_path, "first", "second")
    assert second[0] > first[1]


@linux
def test_memory_is_for_one_more_of_the_largest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []

    def measure(taken: int) -> float:
        used.append(taken)
        return 151.0

    monkeypatch.setattr(trainings, "count_processors", lambda: 3)
    monkeypatch.setattr(trainings, "_read_peak_bytes", lambda process: 100)
    monkeypatch.setattr(trainings, "compute_free_bytes", measure)
    train_all(make_jobs(tmp_path, "gathers 1", "gathers 2", "gathers 3"), lambda _: None)
    assert set(used) == {100, 200}


def test_free_memory_ends_where_the_group_s_limit_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainings, "read_memory", lambda root: {"memory_available_bytes": 900.0})
    monkeypatch.setattr(trainings, "read_resident_memory", lambda: ResidentMemory(rss=100, peak=None))
    for limits, free in (({}, 900), ({"memory_bytes": 1000.0}, 600), ({"memory_bytes": 5000.0}, 900)):
        monkeypatch.setattr(trainings, "read_cgroup_limits", lambda root, limits=limits: limits)
        assert trainings.compute_free_bytes(300, tmp_path) == free


@linux
def test_a_death_says_how_to_train_in_turns(tmp_path: Path) -> None:
    with pytest.raises(WorkerCrashed) as caught:
        train_all(make_jobs(tmp_path, "dies", "waits"), lambda _: None)
    assert "--train-threads 2" in caught.value.try_this


@linux
def test_the_first_error_ends_the_others(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no"):
        train_all(make_jobs(tmp_path, "waits", "fails", "never"), lambda _: None)
    assert not exists(int((tmp_path / "waits/pid").read_text()))
    assert not (tmp_path / "never").exists()


@linux
def test_a_stop_during_progress_ends_all(tmp_path: Path) -> None:
    def progress(text: str) -> None:
        if "; " in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_all(make_jobs(tmp_path, "waits", "waits too"), progress)
    assert not any(exists(int((tmp_path / title / "pid").read_text())) for title in ("waits", "waits too"))


def test_what_a_job_left_is_read_as_the_report_it_is(tmp_path: Path) -> None:
    (job,) = make_jobs(tmp_path, "alone")
    (made,) = train_all([job], lambda _: None)
    assert made.report == msgspec.json.decode((tmp_path / "alone/report.json").read_bytes(), type=TrainReport)
    assert made.report.steps == 0  # its threads are left to torch
