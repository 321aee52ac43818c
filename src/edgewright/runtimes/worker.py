"""The process that runs a model: `python -m edgewright.runtimes.worker NAME`.

It reads one JSON request per line from stdin and answers on a private copy of stdout; file descriptor 1 itself
goes to stderr, so that native code that prints cannot corrupt the channel. Timing happens here, and the
protocol is never in the measured path. Only the named runtime is imported.
"""

import gc
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from time import perf_counter_ns, process_time_ns, sleep
from types import ModuleType

import msgspec

from edgewright.errors import LimitReached, find_full_disk_error
from edgewright.runtimes import wire
from edgewright.runtimes.contract import Mismatch, NotConvertible, Rejected, Session, VaryingOutput
from edgewright.runtimes.memory import read_resident_memory
from edgewright.runtimes.table import find_runtime, import_runtime
from edgewright.runtimes.tensor_file import SUFFIX, read_tensor_file, write_tensor_file
from edgewright.schema.arrays import Array
from edgewright.system.memory_limit import is_allocation_failure
from edgewright.system.parent import die_with_parent

REFERENCE_STEPS = 20_000
FAILURE_KINDS: dict[wire.FailureKind, type[Exception]] = {
    "model": Rejected,
    "input": Mismatch,
    "conversion": NotConvertible,
    "missing": ImportError,
    "memory": MemoryError,
    "limit": LimitReached,
}


def main() -> None:
    """Greet, then answer requests until stdin ends or `Close` comes."""
    channel = take_stdout()
    die_with_parent()
    gc.disable()  # a collection within a sample would be the harness's time, not the model's
    name = sys.argv[1]
    module = import_runtime(find_runtime(name))
    greeting = greet(name, module)
    send(channel, greeting)
    if isinstance(greeting, wire.Hello):
        _serve(channel, module)


def take_stdout() -> FileIO:
    """Return a private duplicate of stdout; descriptor 1 becomes stderr."""
    channel = os.dup(1)
    os.dup2(2, 1)
    return FileIO(channel, "w")


def send(channel: FileIO, message: object) -> None:
    """Write a message as a line of JSON."""
    left = memoryview(msgspec.json.encode(message) + b"\n")
    while left:
        left = left[channel.write(left) or 0 :]


def greet(name: str, module: ModuleType) -> wire.Greeting:
    began = perf_counter_ns()
    try:
        version = module.version()
    except ImportError as error:
        return wire.CommandFailed(kind="missing", why=str(error), trace=_trace_of_this())
    return wire.Hello(
        protocol=wire.PROTOCOL,
        runtime=name,
        version=version,
        pid=os.getpid(),
        python=sys.version.split()[0],
        import_us=(perf_counter_ns() - began) / 1e3,
        memory=read_resident_memory(),
    )


def _serve(channel: FileIO, module: ModuleType) -> None:
    decode = msgspec.json.Decoder(wire.Request).decode
    handler = RequestHandler(module)
    for line in sys.stdin.buffer:
        try:
            request = decode(line)
        except msgspec.MsgspecError as error:
            sys.exit(f"the worker exits: a request cannot be read: {error}")
        send(channel, wire.Answer(id=request.id, result=handler.answer(request.command)))
        if isinstance(request.command, wire.Close):
            return


class RequestHandler:
    """Answers commands; holds the one session of this worker."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        self.session: Session | None = None

    def answer(self, command: wire.Command) -> wire.Result:
        """Return the command's result; an exception becomes a `CommandFailed`."""
        try:
            return self.act(command)
        except Exception as error:
            return _report_failure(_kind_of(error), error, _hint_of(error))

    def act(self, command: wire.Command) -> wire.Result:
        match command:
            case wire.TimeRuns():
                return self.time_runs(command)
            case wire.Open():
                return self.open(command)
            case wire.Calibrate():
                return calibrate(command.runs)
            case wire.Invoke():
                return self.invoke(command)
            case wire.TimePhases():
                return self.time_phases(command)
            case wire.ProfileRuns():
                return self.profile(command)
            case wire.Compile():
                return self.compile(command)
            case wire.ReadMemory():
                return wire.CommandDone(memory=read_resident_memory())
            case wire.Close():
                return self.close()

    def open(self, command: wire.Open) -> wire.Opened:
        feeds = read_arrays(command.feeds)
        began = perf_counter_ns()
        session: Session = self.module.open_session(command.session)
        load_us = (perf_counter_ns() - began) / 1e3
        memory = read_resident_memory()
        self.session = session
        session.bind(feeds)
        notes = tuple(session.notes)
        return wire.Opened(load_us=load_us, memory=memory, signature=session.signature, notes=notes)

    def time_runs(self, command: wire.TimeRuns) -> wire.Times:
        run = self.loaded().run
        with reject_model_errors():
            for _ in range(command.settle):
                run()
            if command.interval_ns:
                return _time_frames(run, command)
            wall, cpu = _time_calls(run, command.runs, command.seconds)
        return wire.Times(wall_ns=tuple(wall), cpu_ns=tuple(cpu))

    def invoke(self, command: wire.Invoke) -> wire.CommandDone:
        feeds = read_arrays(command.feeds)
        outputs = run_stacked(self.loaded(), feeds) if command.stacked else _run_once(self.loaded(), feeds)
        write_arrays(command.outputs, outputs)
        return wire.CommandDone(memory=read_resident_memory())

    def time_phases(self, command: wire.TimePhases) -> wire.PhaseTimes:
        clock = _PhaseClock()
        write_arrays(command.outputs, run_stacked(self.loaded(), read_arrays(command.feeds), clock.run_once))
        bind, run, fetch = zip(*clock.times, strict=True)
        return wire.PhaseTimes(bind_ns=bind, run_ns=run, fetch_ns=fetch)

    def profile(self, command: wire.ProfileRuns) -> wire.CommandDone:
        feeds = read_arrays(command.feeds)
        folder = Path(command.folder)
        folder.mkdir(parents=True, exist_ok=True)
        with reject_model_errors():
            self.module.profile(command.session, feeds, command.runs, folder)
        return wire.CommandDone(memory=read_resident_memory())

    def compile(self, command: wire.Compile) -> wire.Compiled:
        gc.enable()  # nothing is timed here, and converters leave much garbage
        try:
            compiled: wire.Compiled = self.module.compile(command.request)
        except (NotConvertible, Rejected, MemoryError, ImportError, LimitReached):
            raise
        except Exception as error:  # each converter has exception classes of its own
            raise NotConvertible(f"{type(error).__name__}: {_last_line(error)}") from error
        return compiled

    def close(self) -> wire.CommandDone:
        if self.session is not None:
            self.session.close()
            self.session = None
        return wire.CommandDone(memory=read_resident_memory())

    def loaded(self) -> Session:
        if self.session is None:
            raise Rejected("no model is open")
        return self.session


@contextmanager
def reject_model_errors() -> Iterator[None]:
    """Convert exceptions of a library during an inference to failures of the model."""
    try:
        yield
    except (Rejected, Mismatch, MemoryError, ImportError):
        raise
    except Exception as error:  # each library has exception classes of its own
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise Rejected(why) from error


def _kind_of(error: Exception) -> wire.FailureKind:
    """Return the kind of failure of a command's exception; a full disk takes precedence over exceptions that it
    caused."""
    if find_full_disk_error(error):
        return "room"
    if is_allocation_failure(str(error)):
        return "memory"
    return next((kind for kind, classes in FAILURE_KINDS.items() if isinstance(error, classes)), "internal")


def _hint_of(error: Exception) -> str:
    """Return the remedy of an error, if it has one."""
    return error.try_this if isinstance(error, LimitReached) else getattr(error, "hint", "")


def _last_line(error: Exception) -> str:
    """Return the end of the error's text, where converters put the cause."""
    return (str(error).strip().splitlines() or ["no reason was reported"])[-1][:500]


def _report_failure(kind: wire.FailureKind, error: Exception, hint: str = "") -> wire.CommandFailed:
    why = str(error) or type(error).__name__
    return wire.CommandFailed(kind=kind, why=why, trace=_trace_of_this(), hint=hint)


def _trace_of_this() -> str:
    """Return the traceback of the exception being handled."""
    import traceback  # only a failure needs it, and it imports the tokenizer

    return traceback.format_exc()


def _time_calls(call: Callable[[], object], most: int, seconds: float) -> tuple[list[int], list[int]]:
    """Return wall and process CPU times in nanoseconds of up to `most` calls, begun within `seconds`; at least one.

    The CPU clock is read outside the wall clock's interval, since reading it is a system call.
    """
    wall: list[int] = []
    cpu: list[int] = []
    deadline = perf_counter_ns() + int(seconds * 1e9)
    for _ in range(most):
        cpu_begin = process_time_ns()
        begin = perf_counter_ns()
        call()
        end = perf_counter_ns()
        cpu.append(process_time_ns() - cpu_begin)
        wall.append(end - begin)
        if end >= deadline:
            break
    return wall, cpu


def _time_frames(call: Callable[[], object], command: wire.TimeRuns) -> wire.Times:
    """Time one call per interval. A frame whose call ends after the next frame is missed, and skips that frame."""
    wall: list[int] = []
    cpu: list[int] = []
    missed, frame = 0, 0
    began = perf_counter_ns()
    while len(wall) < command.runs and frame * command.interval_ns < command.seconds * 1e9:
        due = began + frame * command.interval_ns
        sleep(max(0, due - perf_counter_ns()) / 1e9)
        cpu_begin, begin = process_time_ns(), perf_counter_ns()
        call()
        end = perf_counter_ns()
        cpu.append(process_time_ns() - cpu_begin)
        wall.append(end - begin)
        late = max(0, (end - due - 1) // command.interval_ns)  # frames that came meanwhile
        missed += late
        frame += 1 + late
    return wire.Times(wall_ns=tuple(wall), cpu_ns=tuple(cpu), missed=missed)


def _do_nothing() -> None:
    """Do nothing; timed to measure the cost of timing."""


def calibrate(runs: int) -> wire.ClockCalibration:
    wall, cpu = _time_calls(_do_nothing, runs, 1.0)
    return wire.ClockCalibration(
        wall_ns=compute_median(wall),
        cpu_ns=compute_median(cpu),
        resolution_ns=_clock_step_ns(),
        reference_us=_reference_us(),
    )


def _clock_step_ns() -> int:
    """Return the smallest observed step of the clock."""
    seen = [perf_counter_ns() for _ in range(200)]
    return min(after - before for before, after in itertools.pairwise(seen) if after > before)


def _reference_us() -> float:
    """Return the best of 5 times of a fixed piece of arithmetic, the machine's current speed."""
    return min(_time_calls(_arithmetic, 5, 1.0)[0]) / 1e3


def _arithmetic() -> int:
    total = 0
    for step in range(REFERENCE_STEPS):
        total += step & 7
    return total


def compute_median(values: list[int]) -> float:
    """Return the median, without importing the statistics module."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def read_arrays(path: str) -> dict[str, Array]:
    """Return the arrays of a file in this machine's byte order, which runtimes require."""
    import numpy as np

    if path.endswith(SUFFIX):
        return read_tensor_file(Path(path))  # our own file
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return {name: array.astype(array.dtype.newbyteorder("="), copy=False) for name, array in arrays.items()}


def write_arrays(path: str, arrays: dict[str, Array]) -> None:
    """Write an .npz, or a tensor file by its suffix. (numpy.savez cannot write an array called `file`.)"""
    if path.endswith(SUFFIX):
        write_tensor_file(Path(path), arrays)
        return
    from zipfile import ZipFile

    import numpy as np

    with ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def _run_once(session: Session, feeds: dict[str, Array]) -> dict[str, Array]:
    session.bind(feeds)
    with reject_model_errors():
        session.run()
    return session.fetch()


RunOnce = Callable[[Session, dict[str, Array]], dict[str, Array]]


class _PhaseClock:
    """Runs samples like `_run_once` and keeps the nanoseconds of their steps."""

    def __init__(self) -> None:
        self.times: list[tuple[int, int, int]] = []

    def run_once(self, session: Session, feeds: dict[str, Array]) -> dict[str, Array]:
        begin = perf_counter_ns()
        session.bind(feeds)
        bound = perf_counter_ns()
        with reject_model_errors():
            session.run()
            ran = perf_counter_ns()
        outputs = session.fetch()
        self.times.append((bound - begin, ran - bound, perf_counter_ns() - ran))
        return outputs


def run_stacked(session: Session, feeds: dict[str, Array], run_once: RunOnce = _run_once) -> dict[str, Array]:
    """Run once for each entry of the arrays' leading axis, which the outputs get too."""
    import numpy as np

    counts = {len(array) if array.ndim else 0 for array in feeds.values()}
    if len(counts) != 1 or 0 in counts:
        raise Mismatch(f"stacked inputs need one leading axis of the same length, at least 1; found {sorted(counts)}")
    count = counts.pop()
    results = [run_once(session, {name: stack[i] for name, stack in feeds.items()}) for i in range(count)]
    for name, first in results[0].items():
        if other := next((one[name].shape for one in results if one[name].shape != first.shape), None):
            raise VaryingOutput(f"output '{name}' has the shapes {list(first.shape)} and {list(other)} for two inputs")
    return {name: np.stack([result[name] for result in results]) for name in results[0]}


if __name__ == "__main__":
    main()
