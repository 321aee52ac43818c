"""The worker: its greeting, its answers, its limits, and what it does with rubbish."""

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import msgspec
import numpy as np
import pytest

from edgewright.errors import InputError, LimitReached, ModelRejected, WorkerError
from edgewright.formats.onnx.reader import OnnxFile
from edgewright.runtimes import onnxruntime, wire, worker
from edgewright.runtimes.contract import Mismatch, NotConvertible, Rejected
from edgewright.schema.arrays import Array
from edgewright.schema.model import Signature, TensorSpec
from tests.models.onnx_files import (
    node,
    normal_feed,
    value,
    write_conv_net,
    write_expand,
    write_identity,
    write_many_outputs,
    write_named,
    write_no_input,
    write_onnx,
    write_residual_net,
    write_wide_net,
)
from tests.runtimes.workers import WORKER, open_pretend, save_feeds, start

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
CLOSE = b'{"id": 1, "command": {"type": "close"}}\n'


def speak(lines: bytes, runtime: str = "pretend") -> subprocess.CompletedProcess[bytes]:
    """All that a worker says to these lines until it leaves."""
    command = [sys.executable, *WORKER, runtime]
    return subprocess.run(command, input=lines, capture_output=True, timeout=60, check=False)


class CountingSession:
    """Counts its inferences, each `seconds` long; doubles its input."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.signature = Signature(inputs=(TensorSpec(name="x", dtype="float64", shape=()),), outputs=())
        self.notes: Sequence[str] = ("a note",)
        self.seconds, self.runs, self.closed = seconds, 0, False
        self.feeds: Mapping[str, Array] = {}

    def bind(self, feeds: Mapping[str, Array]) -> None:
        self.feeds = feeds

    def run(self) -> None:
        self.runs += 1
        time.sleep(self.seconds)

    def fetch(self) -> dict[str, Array]:
        return {"y": np.asarray(self.feeds["x"] * 2)}

    def close(self) -> None:
        self.closed = True


def open_handler(session: CountingSession, folder: Path) -> worker.RequestHandler:
    """A request handler with the session open."""
    handler = worker.RequestHandler(cast(ModuleType, SimpleNamespace(open_session=lambda request: session)))
    feeds = save_feeds(folder / "feeds.npz", {"x": np.array(1.0)})
    opened = handler.answer(wire.Open(session=wire.SessionRequest(model="m"), feeds=feeds))
    assert isinstance(opened, wire.Opened)
    assert opened.notes == ("a note",)
    return handler


def test_the_greeting_comes_first_and_identifies_the_worker() -> None:
    done = speak(b"")
    (line,) = done.stdout.splitlines()
    hello = msgspec.json.decode(line, type=wire.Hello)
    assert (hello.protocol, hello.runtime) == (wire.PROTOCOL, "pretend")
    assert hello.python == sys.version.split()[0]
    assert hello.pid != os.getpid()
    assert hello.import_us > 0
    assert done.returncode == 0
    assert done.stderr == b""


def test_it_leaves_after_close_and_says_nothing_more() -> None:
    done = speak(CLOSE + CLOSE)
    assert len(done.stdout.splitlines()) == 2
    assert done.returncode == 0


@pytest.mark.parametrize(
    "line",
    [
        b"hello?\n",
        b"\n",
        b"\x00\xff\xfe\n",
        b'{"id": 1, "command": {"type": "dance"}}\n',
        b'{"id": 1, "command": {"type": "close", "unknown": 1}}\n',
        b'{"id": 1, "command": {"type": "run", "runs": "many", "seconds": 1}}\n',
        b'{"id": 1, "command": {"type": "close"}',
        b"[" * 100_000 + b"\n",
    ],
    ids=["words", "empty", "binary", "command", "field", "type", "cut off", "deep"],
)
def test_rubbish_ends_it_with_one_line_that_says_why(line: bytes) -> None:
    done = speak(line + CLOSE)
    assert len(done.stdout.splitlines()) == 1
    assert done.returncode == 1
    (why,) = done.stderr.decode().splitlines()
    assert why.startswith("the worker exits: a request cannot be read: ")


def test_native_code_that_prints_does_not_corrupt_the_channel(tmp_path: Path) -> None:
    with start("pretend", tmp_path) as connection:
        open_pretend(connection, tmp_path, fail="chatter")
        assert len(connection.ask(wire.TimeRuns(runs=3, seconds=60), wire.Times).wall_ns) == 3
        assert connection.ask(wire.ReadMemory(), wire.CommandDone).memory.peak != 0
    assert (tmp_path / "log").read_text().count("native code that prints to stdout") == 3


def test_each_run_gives_one_wall_and_one_cpu_time(tmp_path: Path) -> None:
    with start("pretend", tmp_path) as connection:
        open_pretend(connection, tmp_path)
        for runs in (1, 7, 50):
            times = connection.ask(wire.TimeRuns(runs=runs, seconds=60), wire.Times)
            assert len(times.wall_ns) == len(times.cpu_ns) == runs
            assert all(ns >= 10_000 for ns in times.wall_ns)  # the pretend inference waits for 10 µs at the median
            assert all(ns >= 0 for ns in times.cpu_ns)


def test_runs_that_settle_are_run_and_not_timed(tmp_path: Path) -> None:
    session = CountingSession()
    times = open_handler(session, tmp_path).answer(wire.TimeRuns(runs=5, seconds=60, settle=3))
    assert isinstance(times, wire.Times)
    assert len(times.wall_ns) == 5
    assert session.runs == 8


def test_the_time_limit_ends_a_series_early_and_never_before_one_run(tmp_path: Path) -> None:
    session = CountingSession(seconds=0.01)
    handler = open_handler(session, tmp_path)
    some = handler.answer(wire.TimeRuns(runs=1000, seconds=0.05))
    one = handler.answer(wire.TimeRuns(runs=1000, seconds=0))
    assert isinstance(some, wire.Times) and isinstance(one, wire.Times)
    assert 1 <= len(some.wall_ns) <= 5
    assert len(one.wall_ns) == 1


def test_calibration_reports_the_cost_of_timing_nothing() -> None:
    reported = worker.calibrate(500)
    assert 0 < reported.wall_ns < 1e6
    assert 0 <= reported.cpu_ns < 1e6
    assert reported.resolution_ns > 0
    assert reported.reference_us > 0


@pytest.mark.parametrize(("values", "median"), [([3], 3), ([4, 1], 2.5), ([9, 1, 5], 5), ([1, 2, 3, 10], 2.5)])
def test_the_middle_is_the_median(values: list[int], median: float) -> None:
    assert worker.compute_median(values) == median


@pytest.mark.parametrize(
    "command",
    [
        wire.TimeRuns(runs=1, seconds=1),
        wire.Invoke(feeds="feeds.npz", outputs="out.npz"),
    ],
)
def test_without_a_model_it_rejects_and_lives_on(
    command: wire.Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_feeds(tmp_path / "feeds.npz")
    with start("pretend", tmp_path) as connection:
        with pytest.raises(ModelRejected, match="no model is open"):
            connection.ask(command, wire.Times)
        assert open_pretend(connection, tmp_path).load_us > 0


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Rejected("r"), "model"),
        (Mismatch("m"), "input"),
        (ImportError("i"), "missing"),
        (ModuleNotFoundError("n"), "missing"),
        (MemoryError(), "memory"),
        (KeyError("k"), "internal"),
        (RecursionError(), "internal"),
    ],
)
def test_every_failure_becomes_a_rejection_with_its_kind(error: Exception, kind: str, tmp_path: Path) -> None:
    def fail(request: wire.SessionRequest) -> None:
        raise error

    handler = worker.RequestHandler(cast(ModuleType, SimpleNamespace(open_session=fail)))
    feeds = save_feeds(tmp_path / "feeds.npz")
    rejected = handler.answer(wire.Open(session=wire.SessionRequest(model="m"), feeds=feeds))
    assert isinstance(rejected, wire.CommandFailed)
    assert rejected.kind == kind
    assert rejected.why
    assert type(error).__name__ in rejected.trace


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("Gather: indices element out of data bounds\nsecond line"), "model"),
        (RuntimeError("Failed to allocate memory for requested buffer"), "memory"),
        (MemoryError("std::bad_alloc"), "memory"),
        (ImportError("i"), "missing"),
    ],
)
def test_what_a_library_raises_in_an_inference_is_a_failure_of_the_model(
    error: Exception, kind: str, tmp_path: Path
) -> None:
    def fail() -> None:
        raise error

    session = CountingSession()
    handler = open_handler(session, tmp_path)
    session.run = fail  # type: ignore[method-assign]  # the stand-in for a library's failure
    rejected = handler.answer(wire.TimeRuns(runs=1, seconds=1))
    assert isinstance(rejected, wire.CommandFailed)
    assert rejected.kind == kind
    assert "second line" not in rejected.why


def test_memory_that_cannot_be_allocated_is_reported_as_such(tmp_path: Path) -> None:
    model = write_expand(tmp_path / "m.onnx")
    feeds = tmp_path / "feeds.npz"
    np.savez(feeds, size=np.array([1 << 22, 1 << 22]))
    handler = worker.RequestHandler(onnxruntime)
    handler.answer(wire.Open(session=wire.SessionRequest(model=str(model)), feeds=str(feeds)))
    rejected = handler.answer(wire.TimeRuns(runs=1, seconds=1))
    assert isinstance(rejected, wire.CommandFailed)
    assert rejected.kind == "memory"


def test_close_frees_the_session(tmp_path: Path) -> None:
    session = CountingSession()
    handler = open_handler(session, tmp_path)
    assert isinstance(handler.answer(wire.Close()), wire.CommandDone)
    assert session.closed
    assert isinstance(handler.answer(wire.Close()), wire.CommandDone)
    assert isinstance(handler.answer(wire.TimeRuns(runs=1, seconds=1)), wire.CommandFailed)


def invoke(model: Path, feeds: dict[str, Any], folder: Path, stacked: bool = False) -> dict[str, Any]:
    """The outputs by a real worker."""
    first = {name: array[0] for name, array in feeds.items()} if stacked else feeds
    session = wire.SessionRequest(model=str(model))
    with start("onnxruntime", folder) as connection:
        opened = worker_feeds(folder / "open.npz", first)
        connection.ask(wire.Open(session=session, feeds=opened), wire.Opened)
        given, outputs = worker_feeds(folder / "given.npz", feeds), folder / "out.npz"
        connection.ask(wire.Invoke(feeds=given, outputs=str(outputs), stacked=stacked), wire.CommandDone)
    return worker.read_arrays(str(outputs))


def worker_feeds(path: Path, feeds: dict[str, Any]) -> str:
    worker.write_arrays(str(path), feeds)
    return str(path)


@pytest.mark.parametrize("name", ["a b", "größe", "two\nlines", "file", "allow_pickle", "x.npy", "a/b:0", "../up"])
def test_arrays_keep_their_names_on_the_way(name: str, tmp_path: Path) -> None:
    model = write_named(tmp_path / "m.onnx", name, f"{name}!")
    outputs = invoke(model, {name: np.array([1, 2], np.float32)}, tmp_path)
    assert {key: array.tolist() for key, array in outputs.items()} == {f"{name}!": [-1.0, -2.0]}


def test_text_and_scalars_and_nothing_travel_as_they_are(tmp_path: Path) -> None:
    text = invoke(write_identity(tmp_path / "s.onnx", "STRING"), {"x": np.array(["größe", ""])}, tmp_path)
    scalar = invoke(write_identity(tmp_path / "0.onnx", "FLOAT", ()), {"x": np.array(3, np.float32)}, tmp_path)
    empty = invoke(write_identity(tmp_path / "e.onnx", "BOOL", (0, 2)), {"x": np.zeros((0, 2), bool)}, tmp_path)
    nothing = invoke(write_no_input(tmp_path / "n.onnx"), {}, tmp_path)
    assert text["y"].tolist() == ["größe", ""]
    assert (scalar["y"].shape, scalar["y"].tolist()) == ((), 3.0)
    assert (empty["y"].shape, empty["y"].dtype) == ((0, 2), bool)
    assert nothing["y"].tolist() == [1.0, 2.0]


def test_arrays_of_another_byte_order_are_turned(tmp_path: Path) -> None:
    model = write_identity(tmp_path / "m.onnx", "FLOAT")
    for order in "<>":
        assert invoke(model, {"x": np.array([1, 2], f"{order}f4")}, tmp_path)["y"].tolist() == [1.0, 2.0]


def test_a_stack_runs_the_model_once_for_each_entry(tmp_path: Path) -> None:
    model, images = write_conv_net(tmp_path / "m.onnx"), normal_feed(4, 1, 3, 8, 8)
    stacked = invoke(model, {"x": images}, tmp_path, stacked=True)["y"]
    assert stacked.shape == (4, 1, 5)
    for image, scores in zip(images, stacked, strict=True):
        np.testing.assert_array_equal(invoke(model, {"x": image}, tmp_path)["y"], scores)


@pytest.mark.parametrize(
    "feeds",
    [{}, {"x": np.ones(())}, {"x": np.ones((0, 2))}, {"x": np.ones(2), "z": np.ones(3)}],
    ids=["none", "scalar", "empty", "unequal"],
)
def test_a_stack_that_is_none_is_a_mismatch(feeds: dict[str, Array]) -> None:
    with pytest.raises(Mismatch, match="leading axis"):
        worker.run_stacked(CountingSession(), feeds)


def test_outputs_of_different_shapes_are_named(tmp_path: Path) -> None:
    nodes = [node("NonZero", ["x"], ["y"], "found")]
    model = write_onnx(tmp_path / "m.onnx", nodes, [value("x", (3,))], [value("y", None, "INT64")])
    with pytest.raises(WorkerError) as caught:
        invoke(model, {"x": np.array([[1, 1, 0], [1, 0, 0]], np.float32)}, tmp_path, stacked=True)
    assert caught.value.why == "output 'y' has the shapes [1, 2] and [1, 1] for two inputs"
    assert "compile --samples 1" in caught.value.try_this


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04"], ids=["empty", "text", "cut off"])
def test_feeds_that_cannot_be_read_are_a_rejection(content: bytes, tmp_path: Path) -> None:
    feeds = tmp_path / "bad.npz"
    feeds.write_bytes(content)
    with start("pretend", tmp_path) as connection:
        with pytest.raises(WorkerError):
            connection.ask(wire.Open(session=wire.SessionRequest(model="m"), feeds=str(feeds)), wire.Opened)
        assert open_pretend(connection, tmp_path).load_us > 0


def test_pickled_feeds_are_never_unpickled(tmp_path: Path) -> None:
    feeds = tmp_path / "feeds.npz"
    np.savez(feeds, x=np.array([{"a": 1}], dtype=object))
    with start("pretend", tmp_path) as connection, pytest.raises(WorkerError, match="allow_pickle"):
        connection.ask(wire.Open(session=wire.SessionRequest(model="m"), feeds=str(feeds)), wire.Opened)


def test_rejections_of_a_real_runtime_have_their_error(tmp_path: Path) -> None:
    request = wire.SessionRequest(model=str(write_many_outputs(tmp_path / "m.onnx")))
    good = save_feeds(tmp_path / "good.npz", {"ids": np.array([1]), "mask": np.array([True])})
    out_of_table = save_feeds(tmp_path / "bad.npz", {"ids": np.array([9]), "mask": np.array([True])})
    expand = wire.SessionRequest(model=str(write_expand(tmp_path / "e.onnx")))
    huge = save_feeds(tmp_path / "huge.npz", {"size": np.array([1 << 22, 1 << 22])})
    with start("onnxruntime", tmp_path) as connection:
        with pytest.raises(InputError, match="ids"):
            connection.ask(wire.Open(session=request, feeds=huge), wire.Opened)
        connection.ask(wire.Open(session=request, feeds=out_of_table), wire.Opened)
        with pytest.raises(ModelRejected, match="out of data bounds"):
            connection.ask(wire.TimeRuns(runs=2, seconds=9), wire.Times)
        connection.ask(wire.Open(session=expand, feeds=huge), wire.Opened)
        with pytest.raises(LimitReached, match="memory limit reached"):
            connection.ask(wire.TimeRuns(runs=2, seconds=9), wire.Times)
        connection.ask(wire.Open(session=request, feeds=good), wire.Opened)
        assert len(connection.ask(wire.TimeRuns(runs=2, seconds=9), wire.Times).wall_ns) == 2
    assert "Traceback" in (tmp_path / "log").read_text()


@LINUX
def test_memory_is_the_worker_s_own_and_not_inherited_from_a_fat_parent(tmp_path: Path) -> None:
    fat = np.ones(300 << 20, np.uint8)
    with start("onnxruntime", tmp_path) as connection:
        memory = connection.hello.memory
    assert fat[-1] == 1
    assert memory.rss is not None and memory.peak is not None
    assert 5 << 20 < memory.rss <= memory.peak + (4 << 20) < 250 << 20


@LINUX
def test_memory_grows_with_what_the_worker_does(tmp_path: Path) -> None:
    feeds = {"x": np.ones((4 << 20,), np.float32)}
    request = wire.SessionRequest(model=str(write_identity(tmp_path / "m.onnx", "FLOAT", ("n",))))
    with start("onnxruntime", tmp_path) as connection:
        before = connection.hello.memory.peak or 0
        given = save_feeds(tmp_path / "feeds.npz", feeds)
        connection.ask(wire.Open(session=request, feeds=given), wire.Opened)
        connection.ask(wire.TimeRuns(runs=1, seconds=9), wire.Times)
        after = connection.ask(wire.ReadMemory(), wire.CommandDone).memory.peak or 0
    assert after - before > 24 << 20  # 16 MiB of input and as much of output


def count_threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


@LINUX
def test_threads_are_as_many_as_were_asked_for(tmp_path: Path) -> None:
    feeds = save_feeds(tmp_path / "feeds.npz", {"x": normal_feed(64, 128)})
    model = str(write_wide_net(tmp_path / "m.onnx"))
    counts = []
    for threads in (1, 2, 4):
        with start("onnxruntime", tmp_path) as connection:
            request = wire.SessionRequest(model=model, threads=threads)
            connection.ask(wire.Open(session=request, feeds=feeds), wire.Opened)
            connection.ask(wire.TimeRuns(runs=2, seconds=9), wire.Times)
            counts.append(count_threads(connection.hello.pid))
    assert [count - counts[0] for count in counts] == [0, 1, 3]


def test_options_reach_the_profiled_session(tmp_path: Path) -> None:
    model = write_residual_net(tmp_path / "m.onnx")
    feeds = save_feeds(tmp_path / "feeds.npz", {"x": normal_feed(1, 16, 8, 8)})
    rows = {}
    for level in ("all", "disable"):
        request = wire.SessionRequest(model=str(model), options={"optimization": level})
        folder = tmp_path / "deep" / level
        with start("onnxruntime", tmp_path) as connection:
            connection.ask(wire.ProfileRuns(session=request, feeds=feeds, runs=2, folder=str(folder)), wire.CommandDone)
        rows[level] = onnxruntime.layers(folder, OnnxFile(model).nodes()).layers
    assert len(rows["disable"]) == len(OnnxFile(model).nodes()) > len(rows["all"])


def test_a_note_travels(tmp_path: Path) -> None:
    model = str(write_conv_net(tmp_path / "m.onnx"))
    feeds = save_feeds(tmp_path / "feeds.npz", {"x": normal_feed(1, 3, 8, 8)})
    with start("onnxruntime", tmp_path) as connection:
        request = wire.SessionRequest(model=model, options={"provider": "NNAPI"})
        (note,) = connection.ask(wire.Open(session=request, feeds=feeds), wire.Opened).notes
    assert "NnapiExecutionProvider" in note


def test_a_worker_that_measures_loads_neither_profiler_nor_onnx() -> None:
    script = "import sys; sys.argv[1:] = ['onnxruntime']; sys.stdin.close(); sys.stdin = open('/dev/null')\n"
    script += "from edgewright.runtimes import worker; worker.main()\n"
    script += "import json; print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(json.loads(done.stderr))
    assert "onnxruntime" in loaded
    assert not {"onnx", "sqlalchemy", "click", "edgewright.devices", "edgewright.runtimes.onnxruntime.rows"} & loaded


class Wrapped(Exception):
    """Of a class that the worker does not know."""


def broken_off(cause: Exception) -> Exception:
    """What a compiler makes of the failure of its library."""
    error = NotConvertible("it cannot be converted")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "raised",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OSError("4800 requested and 3040 written"),  # numpy
        Wrapped("[Errno 28] No space left on device: 'model.bin'"),
        Wrapped("File system error: write failed (os error 28)"),
    ],
    ids=["full", "quota", "numpy", "text", "rust"],
)
@pytest.mark.parametrize(
    "wrap",
    [broken_off, lambda cause: Rejected(str(cause)), lambda cause: cause],
    ids=["broken off", "rejected", "plain"],
)
def test_a_full_disk_is_no_rejection(raised: Exception, wrap: Any) -> None:

    def fail(request: wire.CompileRequest) -> wire.Compiled:
        raise wrap(raised)

    module = cast(ModuleType, SimpleNamespace(compile=fail))
    request = wire.CompileRequest(source="s", format="onnx", precision="fp32", shapes={}, folder="f", stem="s")
    reported = worker.RequestHandler(module).answer(wire.Compile(request=request))
    assert isinstance(reported, wire.CommandFailed)
    assert reported.kind == "room"
