"""The parent survives whatever happens to a worker, and leaves no process behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgewright.devices.connection import Connection, describe_exit, make_exit_hint, make_missing_error, start_worker
from edgewright.errors import (
    EdgewrightError,
    LimitReached,
    ModelRejected,
    RuntimeMissing,
    WorkerCrashed,
    WorkerError,
    WorkerTimeout,
)
from edgewright.limits import ResourceBudget
from edgewright.runtimes.table import TABLE
from edgewright.runtimes.wire import (
    PROTOCOL,
    Calibrate,
    ClockCalibration,
    CommandDone,
    Compile,
    Compiled,
    CompileRequest,
    Invoke,
    ReadMemory,
    TimeRuns,
    Times,
)
from tests.paths import ROOT
from tests.runtimes.workers import TIMEOUT_S, ends_soon, exists, is_running, open_pretend, start, start_script

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")

GREET = (
    f"""
import sys, json, os, time
PROTOCOL = {PROTOCOL}
"""
    + """
def say(**message): print(json.dumps(message), flush=True)
def greet(**changed):
    memory = {"rss": 1, "peak": 1}
    hello = dict(type="hello", protocol=PROTOCOL, runtime="pretend", version="1", pid=os.getpid(), python="3")
    hello |= dict(import_us=1.0)
    say(**{**hello, "memory": memory, **changed})
"""
)
DONE = '{"type": "done", "memory": {"rss": 1, "peak": 1}}'


@contextmanager
def failing(worker: Connection, kind: type[EdgewrightError]) -> Iterator[pytest.ExceptionInfo[EdgewrightError]]:
    """The block fails with just this error, and afterwards no process is left, not even as a zombie."""
    with worker, pytest.raises(kind) as failure:
        yield failure
    assert type(failure.value) is kind
    assert not exists(worker.hello.pid)


def test_a_segmentation_fault_is_named_with_the_last_words(tmp_path: Path) -> None:
    worker = start("pretend", tmp_path)
    open_pretend(worker, tmp_path, fail="segfault")
    with failing(worker, WorkerCrashed) as failure:
        worker.ask(TimeRuns(runs=5, seconds=9), Times)
    assert failure.value.what == "the pretend worker was ended by SIGSEGV while timing inferences"
    assert failure.value.why.endswith("pretend: about to read address zero")
    assert failure.value.exit_code == 1


def test_leaving_early_is_named_with_the_exit_code(tmp_path: Path) -> None:
    worker = start("pretend", tmp_path)
    open_pretend(worker, tmp_path, fail="exit")
    with failing(worker, WorkerCrashed) as failure:
        worker.ask(TimeRuns(runs=5, seconds=9), Times)
    assert "exited with code 3" in failure.value.what


def test_a_kill_hints_at_memory(tmp_path: Path) -> None:
    worker = start("pretend", tmp_path)
    open_pretend(worker, tmp_path, fail="oom")
    with failing(worker, WorkerCrashed) as failure:
        worker.ask(TimeRuns(runs=5, seconds=9), Times)
    assert "was ended by SIGKILL" in failure.value.what
    assert "memory runs out" in failure.value.try_this


@pytest.mark.parametrize(("expected_s", "kind"), [(0.1, LimitReached), (9.0, WorkerTimeout)])
def test_an_inference_ends_at_the_models_time_limit_beyond_what_was_expected(
    expected_s: float, kind: type[EdgewrightError], tmp_path: Path
) -> None:
    worker = start("pretend", tmp_path)
    open_pretend(worker, tmp_path, fail="hang")
    worker._inference = ResourceBudget(seconds=0.2)
    worker._timeout_s = 0.8  # what hangs does so from now on
    with failing(worker, kind) as failure:
        worker.ask(TimeRuns(runs=5, seconds=9), Times, expected_s)
    if kind is LimitReached:
        assert failure.value.what.endswith("in pretend, while timing inferences")
        assert failure.value.why == "the time limit is 0.2 s (EDGEWRIGHT_TIME_LIMIT)"
        assert "EDGEWRIGHT_TIME_LIMIT=" in failure.value.try_this
        assert failure.value.exit_code == 6
    else:
        assert failure.value.what == "the pretend worker gave no answer in 0.8 s while timing inferences"
        assert failure.value.exit_code == 124
        assert "--timeout" in failure.value.try_this


def test_a_converter_ends_at_the_models_time_limit_beyond_what_was_expected(tmp_path: Path) -> None:
    worker = start("pretend", tmp_path)
    worker._budget = ResourceBudget(seconds=0.2)
    request = CompileRequest(
        source=str(tmp_path / "m.onnx"), format="onnx", precision="fp32", shapes={}, folder=str(tmp_path), stem="m",
        options={"fail": "hang"},
    )  # fmt: skip
    with failing(worker, LimitReached) as failure:
        worker.ask(Compile(request=request), Compiled, expected_s=0.3)
    assert failure.value.what.endswith("m.onnx in pretend, while compiling")


def test_the_time_limit_comes_on_top_of_what_is_asked_for(tmp_path: Path) -> None:
    with start("pretend", tmp_path) as worker:
        open_pretend(worker, tmp_path)
        worker._inference = ResourceBudget(seconds=0.2)
        times = worker.ask(TimeRuns(runs=1_000_000, seconds=0.4), Times, expected_s=0.4)
        assert sum(times.wall_ns) > 0.2e9


def test_loading_and_the_first_inference_share_one_time_limit(tmp_path: Path) -> None:
    with start("pretend", tmp_path) as worker:
        open_pretend(worker, tmp_path)
        assert 0 < worker._inference.spent_seconds < worker._inference.seconds
        worker.ask(TimeRuns(runs=1, seconds=0.0), Times)
        assert worker._inference.spent_seconds == 0


def test_an_exception_of_the_library_leaves_the_worker_alive(tmp_path: Path) -> None:
    with start("pretend", tmp_path) as worker:
        open_pretend(worker, tmp_path, fail="run")
        with pytest.raises(ModelRejected, match="as requested by fail=run"):
            worker.ask(TimeRuns(runs=5, seconds=9), Times)
        assert worker.ask(ReadMemory(), CommandDone).memory.peak != 0
    assert "Traceback" in (tmp_path / "log").read_text()


def test_a_worker_that_died_between_two_commands_is_reported_at_the_next(tmp_path: Path) -> None:
    worker = start("pretend", tmp_path)
    os.kill(worker.hello.pid, signal.SIGTERM)
    assert ends_soon(worker.hello.pid)
    with failing(worker, WorkerCrashed) as failure:
        worker.ask(ReadMemory(), CommandDone)
    assert "was ended by SIGTERM" in failure.value.what


def test_leaving_ends_the_process_and_can_be_followed_by_end(tmp_path: Path) -> None:
    with start("pretend", tmp_path) as worker:
        worker.leave()
        assert not exists(worker.hello.pid)
    worker.end()


def test_any_exception_ends_the_worker(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), start("pretend", tmp_path) as worker:
        pid = worker.hello.pid
        raise KeyboardInterrupt
    assert not exists(pid)


def test_what_the_worker_started_ends_with_it(tmp_path: Path) -> None:
    script = GREET + "import subprocess; child = subprocess.Popen(['sleep', '600']); greet(version=str(child.pid))\n"
    worker = start_script(script + "time.sleep(600)", tmp_path)
    child = int(worker.hello.version)
    assert is_running(child)
    worker.end()
    assert not exists(worker.hello.pid)
    assert ends_soon(child)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("print('hello?')", "cannot be read"),
        ("print('{}')", "cannot be read"),
        ("print()", "cannot be read"),
        (GREET + "greet(protocol=99)", "uses protocol 99"),
        (GREET + "greet(unknown=1)", "cannot be read"),
        (GREET + f'greet(); sys.stdin.readline(); print(\'{{"id": 7, "result": {DONE}}}\')', "unexpected answer"),
        (GREET + f'greet(); sys.stdin.readline(); print(\'{{"id": 1, "result": {DONE}}}\')', "unexpected answer"),
        (GREET + "greet(); sys.stdin.readline(); print('what?')", "cannot be read"),
        (GREET + "greet(); sys.stdin.readline(); sys.stdout.buffer.write(b'\\xff\\n')", "cannot be read"),
    ],
    ids=["words", "empty", "blank", "protocol", "field", "number", "kind", "answer", "bytes"],
)
def test_a_worker_that_says_something_else_is_an_error(script: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match=message) as failure, start_script(script, tmp_path) as worker:
        worker.ask(Calibrate(runs=1), ClockCalibration)
    assert type(failure.value) is WorkerError


def test_a_long_answer_arrives_whole(tmp_path: Path) -> None:
    with start("pretend", tmp_path) as worker:
        open_pretend(worker, tmp_path, latency_us="0")
        assert len(worker.ask(TimeRuns(runs=100_000, seconds=60), Times).wall_ns) == 100_000


def test_an_answer_in_pieces_arrives_whole(tmp_path: Path) -> None:
    line = f'{{"id": 1, "result": {DONE}}}'
    script = (
        GREET + f"greet(); sys.stdin.readline()\nfor c in '{line}': print(c, end='', flush=True); time.sleep(0.002)\n"
    )
    with start_script(script + "print(flush=True); time.sleep(600)", tmp_path) as worker:
        assert worker.ask(ReadMemory(), CommandDone).memory.rss == 1


def test_a_closed_channel_is_reported_though_the_process_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgewright.devices.connection.SHUTDOWN_SECONDS", 0.2)
    worker = start_script(GREET + "greet(); sys.stdin.readline(); os.close(1); time.sleep(600)", tmp_path)
    with failing(worker, WorkerCrashed) as failure:
        worker.ask(ReadMemory(), CommandDone)
    assert "closed its channel" in failure.value.what


def test_a_worker_that_never_greets_is_ended(tmp_path: Path) -> None:
    script = f"echo $$ > '{tmp_path}/pid'; exec sleep 600"  # a shell has started long before
    with pytest.raises(WorkerTimeout, match="in 5 s while starting"):
        start_worker(["/bin/sh", "-c", script], "pretend", 5.0, tmp_path / "log")
    assert not exists(int((tmp_path / "pid").read_text()))


def test_a_worker_that_dies_at_once_is_reported_with_its_last_lines(tmp_path: Path) -> None:
    script = "import sys; [print('line', i, file=sys.stderr) for i in range(100)]; sys.exit('no library found')"
    with pytest.raises(WorkerCrashed, match="exited with code 1 while starting") as failure:
        start_script(script, tmp_path)
    lines = failure.value.why.splitlines()
    assert lines[-2:] == ["line 99", "no library found"]
    assert len(lines) == 12


def test_stderr_that_is_no_text_does_no_harm(tmp_path: Path) -> None:
    script = "import sys; sys.stderr.buffer.write(b'\\xff' * 100_000 + b'\\nlast'); sys.exit(1)"
    with pytest.raises(WorkerCrashed) as failure:
        start_script(script, tmp_path)
    assert failure.value.why.endswith("last")
    assert len(failure.value.why) <= 8192


def test_a_program_that_is_not_there_raises_what_the_system_says(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        start_worker(["/nonexistent/python"], "pretend", 5, tmp_path / "log")


@pytest.mark.parametrize("name", ["onnxruntime", "litert"])
def test_a_missing_library_reports_the_install_command(name: str) -> None:
    error = make_missing_error(TABLE[name], "No module named x")
    assert isinstance(error, RuntimeMissing)
    assert error.exit_code == 5
    assert error.try_this == {"onnxruntime": "pip install onnxruntime", "litert": "pip install ai-edge-litert"}[name]


def test_ends_are_reported_in_words() -> None:
    assert describe_exit(3) == "exited with code 3"
    assert describe_exit(-signal.SIGSEGV) == "was ended by SIGSEGV"
    assert describe_exit(-250) == "was ended by signal 250"
    assert make_exit_hint(-signal.SIGSEGV) == ""


def test_an_answer_too_late_is_not_taken_for_the_next_one(tmp_path: Path) -> None:
    late = tmp_path / "late"
    script = GREET + "greet()\nfor i, line in enumerate(sys.stdin, 1):\n"
    script += f"    while not os.path.exists({str(late)!r}): time.sleep(0.01)\n"
    script += f"    print('{{\"id\": ' + str(i) + ', \"result\": {DONE}}}', flush=True)"
    with start_script(script, tmp_path) as worker:
        worker._timeout_s = 0.5  # it has started: only the answer is late
        with pytest.raises(WorkerTimeout):
            worker.ask(ReadMemory(), CommandDone)
        late.touch()
        worker._timeout_s = TIMEOUT_S
        with pytest.raises(WorkerError, match="unexpected answer"):
            worker.ask(ReadMemory(), CommandDone)


def test_connections_in_several_threads_do_not_disturb_each_other(tmp_path: Path) -> None:
    counts: list[int] = []

    def measure(number: int) -> None:
        folder = tmp_path / str(number)
        folder.mkdir()
        with start("pretend", folder) as worker:
            open_pretend(worker, folder)
            counts.append(len(worker.ask(TimeRuns(runs=20 + number, seconds=60), Times).wall_ns))

    threads = [threading.Thread(target=measure, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(counts) == [20, 21, 22]


PARENT = """
import sys
from pathlib import Path
from edgewright.runtimes.wire import TimeRuns, Times
from tests.runtimes.workers import is_running, open_pretend, start
folder = Path(sys.argv[1])
with start("pretend", folder) as worker:
    open_pretend(worker, folder, fail=sys.argv[2], latency_us="1000")
    try:
        print(worker.hello.pid, flush=True)
        worker.ask(TimeRuns(runs=1_000_000, seconds=600), Times)
    except KeyboardInterrupt:
        print("alive" if is_running(worker.hello.pid) else "dead", flush=True)
        raise
"""


@contextmanager
def measuring_parent(folder: Path, how: str) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """A process of its own group in the middle of a measurement, and its worker's number."""
    command = [sys.executable, "-c", PARENT, str(folder), how]
    with subprocess.Popen(
        command,
        text=True,
        start_new_session=True,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as parent:
        try:
            assert parent.stdout is not None
            pid = int(parent.stdout.readline())
            time.sleep(0.3)  # so that it is in the middle
            assert is_running(pid)
            yield parent, pid
        finally:
            parent.kill()


@pytest.mark.parametrize("how", ["never", "hang"])
def test_the_worker_ends_when_its_parent_is_killed(how: str, tmp_path: Path) -> None:
    with measuring_parent(tmp_path, how) as (parent, pid):
        parent.kill()
        parent.wait()
        assert ends_soon(pid)


@pytest.mark.parametrize("how", ["never", "hang"])
def test_ctrl_c_reaches_the_parent_alone_and_the_parent_ends_the_worker(how: str, tmp_path: Path) -> None:
    with measuring_parent(tmp_path, how) as (parent, pid):
        assert os.getpgid(pid) != os.getpgid(parent.pid)
        os.killpg(parent.pid, signal.SIGINT)
        assert parent.stdout is not None
        assert parent.stdout.readline().strip() == "alive"
        assert parent.wait(20) != 0
        assert not exists(pid)


def test_files_that_cannot_be_written_are_an_error_and_not_the_end(tmp_path: Path) -> None:
    with start("pretend", tmp_path) as worker:
        open_pretend(worker, tmp_path)
        command = Invoke(feeds=str(tmp_path / "feeds.npz"), outputs=str(tmp_path / "absent" / "out.npz"))
        with pytest.raises(WorkerError, match="absent"):
            worker.ask(command, CommandDone)
        assert worker.ask(ReadMemory(), CommandDone).memory.peak != 0


@pytest.mark.parametrize(
    ("words", "limit", "kind"),
    [
        ("terminate called: std::bad_alloc", "64MB", LimitReached),
        ("terminate called: std::bad_alloc", "none", WorkerError),
        ("free(): invalid pointer", "64MB", WorkerCrashed),
    ],
)
def test_a_death_by_the_memory_limit_is_distinguished_from_others(
    words: str, limit: str, kind: type[EdgewrightError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEWRIGHT_MEMORY_LIMIT", limit)
    script = GREET + f"greet(); sys.stdin.readline(); print({words!r}, file=sys.stderr, flush=True); os.abort()"
    worker = start_script(script, tmp_path)
    with worker, pytest.raises(EdgewrightError) as failure:
        worker.ask(TimeRuns(runs=5, seconds=9), Times)
    assert type(failure.value) is kind
    assert words in failure.value.why
    assert (failure.value.exit_code == 6) == (kind is LimitReached)
