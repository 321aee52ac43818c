"""Jobs from a page: form, queue, child processes and their events."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from edgewright.cli.registry import find_command, list_options
from edgewright.errors import UsageError
from edgewright.flows.demo.flow import get_digits_folder
from edgewright.store.store import Store
from edgewright.web.jobs.choices import FormChoice
from edgewright.web.jobs.kinds import JOB_KINDS, parse_form_options
from edgewright.web.jobs.queue import JobQueue, QueuedJob
from tests.web.conftest import Pages
from tests.web.records import Record, measured, pretend_model

PATIENCE_S = 120.0
OFFERED = {
    "devices": [FormChoice("local", "this machine", "local"), FormChoice("pretend", "pretend, for tests", "pretend")],
    "tasks": [FormChoice("t1", "t.toml", "/w/t.toml")],
    "data": [FormChoice("d1", "calib", "/w/calib"), FormChoice("d2", "other", "/w/other")],
    "recipes": [FormChoice("r1", "r.toml", "/w/r.toml")],
}


def wait_for(what: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come to be in time")


def make_job(words: list[str], prepare: Any = None) -> QueuedJob:
    return QueuedJob(kind="benchmark", title="a job", shown=" ".join(words), prepare=prepare or (lambda folder: words))


@pytest.fixture
def reported() -> list[tuple[str, Any]]:
    return []


@pytest.fixture
def jobs(reported: list[tuple[str, Any]], own_home: Path) -> Any:
    queue = JobQueue(lambda event, data: reported.append((event, data)))
    yield queue
    queue.close()


def quick(model: Path, *words: str) -> list[str]:
    return [
        "benchmark",
        str(model),
        "--processes",
        "1",
        "--runs",
        "3",
        "--warmup-seconds",
        "0.01",
        "-p",
        "latency_us=20",
        "--no-layers",
        *words,
    ]


def test_every_row_of_the_table_is_a_command_with_these_options() -> None:
    for kind in JOB_KINDS.values():
        command = find_command(kind.name)
        assert command is not None, kind.name
        known = {option for one in list_options(command).values() for option in (*one.opts, *one.secondary_opts)}
        for field in kind.fields:
            assert field.option in known
            assert not field.off or field.off in known
        assert {word for word in kind.fixed if word.startswith("-")} <= known


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({"layers": ["on"]}, []),
        ({}, ["--no-layers"]),
        ({"layers": ["on"], "threads": ["2"], "seconds": ["0.5"]}, ["--threads", "2", "--seconds", "0.5"]),
        ({"layers": ["on"], "threads": [" 1 "]}, []),
        ({"layers": ["on"], "runtime": ["onnxruntime"]}, ["--runtime", "onnxruntime"]),
        ({"layers": ["on"], "on": ["local"]}, []),
        ({"layers": ["on"], "on": ["pretend"]}, ["--on", "pretend"]),
    ],
)
def test_options_of_a_form(fields: dict[str, list[str]], options: list[str]) -> None:
    assert [one.word for one in parse_form_options(JOB_KINDS["benchmark"], fields, OFFERED)] == options


def test_files_are_given_whole_and_shown_by_name() -> None:
    fields = {"task": ["t1"], "data": ["d1"], "samples": ["16"], "measure": ["on"]}
    options = parse_form_options(JOB_KINDS["quantize"], fields, OFFERED)
    assert [one.word for one in options] == ["--task", "/w/t.toml", "--data", "/w/calib", "--samples", "16"]
    assert [one.title for one in options] == ["--task", "t.toml", "--data", "calib", "--samples", "16"]
    assert (
        parse_form_options(JOB_KINDS["evaluate"], {"task": ["t1"], "data": ["d1"], "samples": [""]}, OFFERED)
        == options[:4]
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"data": ["d1"]},
        {"task": ["t1"]},
        {"task": ["t1"], "data": ["/w/calib"]},
        {"task": ["t1"], "data": ["calib"]},
        {"task": ["d1"], "data": ["t1"]},
        {"task": ["t1"], "data": ["d1", "d2"]},
        {"task": ["t1"], "data": ["d1"], "recipe": ["t1"]},
        {"task": ["t1"], "data": ["d1"], "precision": ["bf16"]},
        {"task": ["t1"], "data": ["d1"], "max_drop": ["-1"]},
    ],
)
def test_a_form_names_files_by_their_ids_alone(fields: dict[str, list[str]]) -> None:
    with pytest.raises(UsageError):
        parse_form_options(JOB_KINDS["quantize"], fields, OFFERED)


@pytest.mark.parametrize(
    "fields",
    [
        {"threads": ["0"]},
        {"threads": ["1.5"]},
        {"threads": ["x"]},
        {"seconds": ["nan"]},
        {"seconds": ["inf"]},
        {"runtime": ["--help"]},
        {"runtime": ["pretend"]},
        {"processes": ["1; rm"]},
        {"threads": ["9" * 5_000]},
        {"on": ["phone"]},
        {"on": ["local", "pretend"]},
    ],
)
def test_an_invalid_form(fields: dict[str, list[str]]) -> None:
    with pytest.raises(UsageError):
        parse_form_options(JOB_KINDS["benchmark"], {"layers": ["on"], **fields}, OFFERED)


def test_the_queue_survives_an_internal_error(jobs: JobQueue) -> None:
    def broken(folder: Path) -> list[str]:
        raise KeyError("model")

    first, second = jobs.add(make_job([], broken)), jobs.add(make_job(["--version"]))
    wait_for(lambda: first.finished_at and second.finished_at)
    assert (first.state, first.error) == ("failed", "Edgewright failed with an internal error: KeyError")


def test_job_runs_and_names_its_runs(
    jobs: JobQueue, reported: list[tuple[str, Any]], store: Store, tmp_path: Path
) -> None:
    job = jobs.add(make_job(quick(pretend_model(tmp_path))))
    wait_for(lambda: job.finished_at)
    assert (job.state, job.exit_code, job.error) == ("done", 0, ""), list(job.lines)
    (run_id,) = job.run_ids
    assert store.load(run_id).state == "done"
    assert any("process 1 of 1" in data["line"] for event, data in reported if event == "log")
    assert [data["state"] for event, data in reported if event == "job"] == ["queued", "running", "done"]


def test_jobs_wait_for_each_other_and_one_that_waits_can_be_cancelled(jobs: JobQueue, tmp_path: Path) -> None:
    model, go_on = pretend_model(tmp_path), threading.Event()
    words = quick(model)
    first = jobs.add(make_job(words, lambda folder: words if go_on.wait(PATIENCE_S) else []))
    second = jobs.add(make_job(words))
    jobs.cancel(second.id)
    go_on.set()
    wait_for(lambda: first.finished_at)
    assert (first.state, second.state, second.started_at) == ("done", "cancelled", None)


def test_cancelled_job_keeps_what_was_measured(jobs: JobQueue, store: Store, tmp_path: Path) -> None:
    words = [
        "benchmark",
        str(pretend_model(tmp_path)),
        "--processes",
        "500",
        "--runs",
        "50",
        "-p",
        "latency_us=2000",
        "--no-layers",
    ]
    job = jobs.add(make_job(words))
    wait_for(lambda: any("process" in line for line in job.lines))
    jobs.cancel(job.id)
    wait_for(lambda: job.finished_at)
    assert job.state == "cancelled"
    assert [row.state for row in store.list_runs()] == ["cancelled"]


def test_a_failed_job_has_a_reason(jobs: JobQueue, tmp_path: Path) -> None:
    job = jobs.add(make_job(["benchmark", str(tmp_path / "absent.onnx")]))
    wait_for(lambda: job.finished_at)
    assert (job.state, job.exit_code) == ("failed", 2)
    assert "there is no file" in job.error


def test_process_that_is_killed_is_named(jobs: JobQueue, tmp_path: Path) -> None:
    words = [
        "benchmark",
        str(pretend_model(tmp_path)),
        "--processes",
        "500",
        "--runs",
        "50",
        "-p",
        "latency_us=2000",
        "--no-layers",
    ]
    job = jobs.add(make_job(words))
    wait_for(lambda: any("process" in line for line in job.lines))
    process = jobs._process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: job.finished_at)
    assert job.state == "failed"
    assert "SIGKILL" in job.error


def test_job_that_cannot_be_prepared_fails_and_the_next_one_runs(jobs: JobQueue, tmp_path: Path) -> None:
    def reject(folder: Path) -> list[str]:
        raise UsageError("the model is gone", "it was deleted", "bring it again")

    first, second = jobs.add(make_job([], reject)), jobs.add(make_job(quick(pretend_model(tmp_path))))
    wait_for(lambda: second.finished_at)
    assert first.error == "the model is gone: it was deleted"
    assert second.state == "done"


def test_start_from_the_form_and_repeat_from_the_run(pages: Pages, tmp_path: Path) -> None:
    run_id = measured(pages.store, tmp_path)
    model = pages.store.load(run_id).model
    assert model is not None
    fields = [("kind", "benchmark"), ("model", model.sha256), ("processes", "1"), ("seconds", "0.001")]
    answer = pages.post("/work/start", fields)
    assert answer.status == 303
    job_id = answer.headers["location"].rpartition("/")[2]
    job = wait_for(lambda: (found := pages.get(f"/work/{job_id}.json").json()["job"])["finished_at"] and found)
    assert job["state"] == "done", pages.get(f"/work/{job_id}.json").json()["log"]
    assert job["shown"] == "edgewright benchmark m.pretend --processes 1 --seconds 0.001 --no-layers"
    assert pages.get(f"/work/{job_id}").status == pages.get("/work").status == 200
    again = pages.post(f"/runs/{run_id}/rerun").headers["location"]
    job = wait_for(lambda: (found := pages.get(f"{again}.json").json()["job"])["finished_at"] and found)
    assert job["state"] == "done"
    repeated = pages.store.load(job["run_ids"][-1])
    assert repeated.tags["rerun-of"] == run_id
    assert "repeats" in pages.get(f"/runs/{repeated.id}").text


def test_forms_that_start_nothing(pages: Pages, record: Record) -> None:
    for fields in (
        [("kind", "benchmark")],
        [("kind", "shell"), ("model", "a" * 64)],
        [("kind", "benchmark"), ("model", "../x")],
        [("kind", "compile"), ("model", "a" * 64), ("model", "b" * 64)],
        [("kind", "benchmark"), ("model", "b" * 64)],
    ):
        assert pages.post("/work/start", fields).status == 400, fields
    assert pages.get("/work.json").json()["jobs"] == []
    assert pages.get("/work/none").status == 404
    assert pages.post("/work/none/cancel").status == 404


def upload(pages: Pages, name: str, content: bytes) -> Any:
    return pages.ask(
        "POST", f"/models/upload?name={name}", content, content_type="application/octet-stream", x_csrf_token=pages.csrf
    ).json()


def test_upload_is_sniffed_and_named_by_us(pages: Pages) -> None:
    model = (get_digits_folder() / "digits.onnx").read_bytes()
    taken = upload(pages, "..%2F..%2Fmy%20net.onnx", model)
    assert [one["name"] for one in taken["inputs"]] == ["image"]
    path = Path(pages.app_state.uploads[taken["upload"]].path)
    assert path.parent.parent == pages.app_state.upload_folder
    assert path.name == "model.._.._my_net.onnx"
    assert "my_net.onnx" in pages.get(f"/work?model={taken['upload']}").text
    for name, content in (
        ("x.txt", b"words"),
        ("x.onnx", b""),
        ("x.onnx", b"\x08\x07 the begin of an ONNX file"),
        ("x.h5", b"\x89HDF\r\n\x1a\n"),
        ("x.pt", b"PK\x03\x04"),
    ):
        assert "error" in upload(pages, name, content), name
    assert len(pages.app_state.uploads) == 1


def test_upload_that_breaks_off_leaves_nothing(pages: Pages) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", pages.port)
    connection.putrequest("POST", "/models/upload?name=half.onnx")
    for name, value in (("content-type", "application/octet-stream"), ("content-length", "2000000")):
        connection.putheader(name, value)
    connection.putheader("x-csrf-token", pages.csrf)
    connection.endheaders(b"\x08" * 1_000_000)
    wait_for(lambda: list(pages.app_state.upload_folder.rglob("*.onnx")))
    connection.close()
    wait_for(lambda: not list(pages.app_state.upload_folder.iterdir()))


def test_upload_that_is_too_large(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgewright.web.pages.work.MAX_UPLOAD_BYTES", 1_000)
    reported = upload(pages, "big.onnx", b"\x08" * 2_000)
    assert reported["error"]["what"] == "the file is too large"
    assert list(pages.app_state.upload_folder.iterdir()) == []


def test_events_reach_every_watcher_and_end_with_the_server(pages: Pages, tmp_path: Path) -> None:
    run_id = measured(pages.store, tmp_path)
    model = pages.store.load(run_id).model
    assert model is not None
    with ExitStack() as stack:
        watchers = [http.client.HTTPConnection("127.0.0.1", pages.port, timeout=PATIENCE_S) for _ in range(3)]
        streams = []
        for one in watchers:
            stack.callback(one.close)
            one.request("GET", "/events")
            streams.append(stack.enter_context(one.getresponse()))
        assert all(stream.headers["content-type"].startswith("text/event-stream") for stream in streams)
        wait_for(lambda: pages.app_state.live.watchers == 3)
        fields = [("kind", "benchmark"), ("model", model.sha256), ("processes", "1"), ("seconds", "0.001")]
        pages.post("/work/start", fields)
        assert all({"running", "done"} <= states_until_done(stream) for stream in streams)
        pages.app_state.live.close()
        assert all(b"event: closed" in stream.read() for stream in streams)


def states_until_done(stream: http.client.HTTPResponse) -> set[str]:
    """Return the states of a job in a stream of events, until it is done."""
    seen: set[str] = set()
    while "done" not in seen:
        line = stream.readline().decode()
        assert line, seen
        if line == "event: job\n":
            seen.add(json.loads(stream.readline()[6:])["state"])
    return seen


def test_a_run_in_a_terminal_reports_its_progress(pages: Pages, tmp_path: Path) -> None:
    words = ["benchmark", str(pretend_model(tmp_path)), "--processes", "500", "--runs", "20", "--no-layers"]
    command = [sys.executable, "-m", "edgewright", *words, "-p", "latency_us=2000"]
    with ExitStack() as stack:
        connection = http.client.HTTPConnection("127.0.0.1", pages.port, timeout=PATIENCE_S)
        stack.callback(connection.close)
        connection.request("GET", "/events")
        stream = stack.enter_context(connection.getresponse())
        terminal = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stack.callback(terminal.wait)
        stack.callback(terminal.terminate)
        reported = next_progress(stream)
        assert [row.id for row in pages.store.list_runs()] == reported["runs"]
        assert re.fullmatch(r"m\.pretend in pretend: process \d+ of 500(: median .*)?", reported["line"])


def next_progress(stream: http.client.HTTPResponse) -> dict[str, Any]:
    """Return the first progress event."""
    while line := stream.readline().decode():
        if line.startswith("event: progress") and (found := json.loads(stream.readline()[6:])):
            first: dict[str, Any] = found[0]
            return first
    raise AssertionError("the stream ended before")


KILLED_SERVER = """
import os, signal, sys, threading
from edgewright.web.jobs.queue import QueuedJob, JobQueue
worked = threading.Event()
jobs = JobQueue(lambda event, data: worked.set() if event == "log" and "process 1" in data["line"] else None)
words = ["benchmark", sys.argv[1], "--processes", "99", "--seconds", "9"]
jobs.add(QueuedJob(kind="benchmark", title="a job", shown="", prepare=lambda folder: words))
worked.wait(60)
print(jobs._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_job_ends_with_a_server_that_is_killed(own_home: Path, tmp_path: Path) -> None:
    model = pretend_model(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", KILLED_SERVER, str(model)], stdout=subprocess.PIPE, text=True, timeout=100, check=False
    )
    job = done.stdout.strip()
    assert job.isdigit()
    wait_for(
        lambda: not environ_of(Path("/proc") / job / "environ")
    )  # it is empty for a process that was not waited for
    wait_for(
        lambda: not any(str(own_home).encode() in environ_of(path) for path in Path("/proc").glob("[0-9]*/environ"))
    )


def environ_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
