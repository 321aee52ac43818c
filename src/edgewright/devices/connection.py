"""The parent's connection to a worker: commands, answers, and the worker's failures."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from math import inf, isfinite
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self, TypeVar

import msgspec

from edgewright.devices.channel import Channel, ProcessChannel
from edgewright.errors import (
    EdgewrightError,
    InputError,
    LimitReached,
    ModelNotConvertible,
    ModelRejected,
    OutputError,
    RuntimeMissing,
    WorkerCrashed,
    WorkerError,
    WorkerTimeout,
)
from edgewright.formats.memory_estimate import check_file_memory
from edgewright.limits import read_budget
from edgewright.runtimes import wire
from edgewright.runtimes.table import RuntimeInfo, find_runtime, make_install_command
from edgewright.system.memory_limit import (
    CONVERTER_COPIES,
    CONVERTER_SPARE_BYTES,
    MODEL_COPIES,
    SPARE_BYTES,
    is_allocation_failure,
)
from edgewright.system.signals import KILLED
from edgewright.system.starter import start_process

TAIL_LINES = 12
TAIL_BYTES = 8192
SHUTDOWN_SECONDS = 5.0
MOST_NS = 1e15  # 11 days; no inference takes longer
MAX_LINE_BYTES = 256 << 20  # an answer with a million samples has 25 MB; a worker without end must not fill our memory

COMMAND_DESCRIPTIONS: dict[type[wire.Command], str] = {
    wire.Open: "opening the model",
    wire.TimeRuns: "timing inferences",
    wire.Calibrate: "timing empty inferences",
    wire.Invoke: "running the model",
    wire.TimePhases: "timing the phases",
    wire.ProfileRuns: "profiling",
    wire.Compile: "compiling",
    wire.ReadMemory: "reading its memory",
    wire.Close: "shutting down",
}

ResultT = TypeVar(
    "ResultT", wire.Opened, wire.Times, wire.PhaseTimes, wire.ClockCalibration, wire.Compiled, wire.CommandDone
)


class Connection:
    """A started worker.

    `ask` sends one command and waits for its answer; nothing else writes to the channel. If the worker ends
    early, an error with the last lines of its stderr is raised. The end of the `with` block
    ends the worker, as does any exception, including Ctrl-C.

    Attributes:
        hello: the worker's greeting.
        start_us: time from the start of the process to its greeting, for interpreter and import.
    """

    def __init__(self, channel: Channel, runtime: str, log: Path, timeout_s: float) -> None:
        self._channel = channel
        self._runtime = runtime
        self._log = log
        self._timeout_s = timeout_s
        self._budget = read_budget()
        self._inference = self._budget  # for loading plus the first inference, then for each following one
        self._model: tuple[Path, Mapping[str, Sequence[int]]] = (Path(), {})
        self._buffer = bytearray()
        self._next_id = 1
        self._decode = msgspec.json.Decoder(wire.Answer).decode
        self.hello: wire.Hello
        self.start_us = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def wrap_channel(self, wrap: Callable[[Channel], Channel]) -> None:
        """Replace the channel by one around it."""
        self._channel = wrap(self._channel)

    def read_greeting(self, began_ns: int) -> None:
        """Wait for the greeting; RuntimeMissing where the runtime cannot be imported."""
        line = self._read_line("starting")
        self.start_us = (time.perf_counter_ns() - began_ns) / 1e3
        greeting: wire.Greeting = self._parse(line, wire.Greeting)
        if isinstance(greeting, wire.CommandFailed):
            raise make_missing_error(find_runtime(self._runtime), greeting.why)
        if greeting.protocol != wire.PROTOCOL:
            raise WorkerError(
                f"the worker uses protocol {greeting.protocol}, this Edgewright uses {wire.PROTOCOL}",
                "the worker's environment has another version of Edgewright",
                "install the same version in both environments",
            )
        self.hello = greeting

    def ask(self, command: wire.Command, kind: type[ResultT], expected_s: float = inf) -> ResultT:
        """Send a command and wait for its answer, which is a `kind`; a rejection is raised as its error.

        Args:
            expected_s: expected duration. The time limit of one inference is added to it; if both have
                passed, LimitReached is raised. Loading a model and its first inference share one limit.
        """
        number, self._next_id = self._next_id, self._next_id + 1
        self._limit_model(command)
        self._send(msgspec.json.encode(wire.Request(id=number, command=command)) + b"\n")
        activity, began = COMMAND_DESCRIPTIONS[type(command)], time.monotonic()
        line = self._read_line(activity, expected_s + self._inference.left_seconds)
        answer: wire.Answer = self._parse(line, wire.Answer)
        spent = time.monotonic() - began if isinstance(command, wire.Open) else 0.0
        self._inference = replace(self._inference, spent_seconds=spent)
        if isinstance(answer.result, wire.CommandFailed):
            raise self._make_rejection_error(answer.result)
        if answer.id != number or not isinstance(answer.result, kind):
            raise WorkerError(
                f"the {self._runtime} worker sent an unexpected answer while {activity}", repr(answer)[:200]
            )
        return answer.result

    def _limit_model(self, command: wire.Command) -> None:
        """Set a model's time limit before it is loaded, and the worker's memory limit from the budget and the model's
        size."""
        match command:
            case wire.Open(session=opened) | wire.ProfileRuns(session=opened):
                allowed = SPARE_BYTES + MODEL_COPIES * opened.model_bytes
                self._inference = self._budget.for_files(opened.model_bytes)
                self._model = Path(opened.model), opened.shapes
            case wire.Compile(request=request):
                allowed = CONVERTER_SPARE_BYTES + CONVERTER_COPIES * request.model_bytes
                self._inference = self._budget.for_files(request.model_bytes)
                self._model = Path(request.source), request.shapes
            case _:
                return
        self._channel.limit_memory(allowed + self._budget.memory_bytes)

    def _memory_error(self, why: str) -> EdgewrightError:
        """Return the error of a failed allocation, with the need of the model where our own limit caused it."""
        if not self._channel.limits_memory or not isfinite(self._budget.memory_bytes):
            return WorkerError(f"the {self._runtime} worker ran out of memory", why, "use a smaller model or batch")
        error = self._budget.memory_error(f"{self._model[0].name} in {self._runtime}")
        error.why = "\n".join(filter(None, (error.why, why)))
        return self._find_limit_error(why) or error

    def _find_limit_error(self, why: str) -> LimitReached | None:
        """Return the error of a failed model that is known to need more memory than its limit; else None.

        Not every library reports a failed allocation.
        """
        if not self._channel.limits_memory:
            return None
        try:
            check_file_memory(*self._model, self._budget)
        except LimitReached as error:
            error.why = "\n".join(filter(None, (error.why, why)))
            return error
        return None

    def end(self) -> None:
        """End the worker and its child processes."""
        self._channel.end()

    def leave(self) -> None:
        """Ask the worker to leave and wait a moment for it."""
        self.ask(wire.Close(), wire.CommandDone)
        self._channel.wait(SHUTDOWN_SECONDS)

    def _send(self, line: bytes) -> None:
        try:
            self._channel.send(line)
        except BrokenPipeError:
            raise self._make_crash_error("before the next command") from None

    def _read_line(self, activity: str, allowed_s: float = inf) -> bytes:
        deadline = time.monotonic() + min(allowed_s, self._timeout_s)
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            chunk = self._channel.receive(max(0.0, deadline - time.monotonic()))
            if chunk is None:
                raise self._late(activity, limited=allowed_s < self._timeout_s)
            self._keep(chunk, activity)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def _late(self, activity: str, *, limited: bool) -> EdgewrightError:
        if limited:
            return self._inference.time_error(f"{self._model[0].name} in {self._runtime}, while {activity}")
        return WorkerTimeout(
            f"the {self._runtime} worker gave no answer in {self._timeout_s:g} s while {activity}",
            self._tail() or "it wrote nothing to stderr",
        )

    def _keep(self, chunk: bytes, activity: str) -> None:
        """Add what the worker sent to the buffer; WorkerCrashed at its end, WorkerError for a message without end."""
        if not chunk:
            raise self._make_crash_error(f"while {activity}")
        self._buffer += chunk
        if len(self._buffer) > MAX_LINE_BYTES:
            raise WorkerError(
                f"the {self._runtime} worker sent too much while {activity}",
                f"one message has more than {MAX_LINE_BYTES >> 20} MiB",
            )

    def _parse(self, line: bytes, kind: Any) -> Any:
        """Return the line as a message of this kind; an unreadable line is the worker's failure."""
        try:
            return msgspec.json.decode(line, type=kind)
        except msgspec.MsgspecError as error:
            raise WorkerError(
                f"the {self._runtime} worker sent a message that cannot be read", f"{error}: {line[:120]!r}"
            ) from None

    def _make_crash_error(self, moment: str) -> EdgewrightError:
        code = self._channel.wait(SHUTDOWN_SECONDS)
        if code is None:
            return WorkerCrashed(f"the {self._runtime} worker closed its channel {moment}", self._tail())
        tail = self._tail()
        if is_allocation_failure(tail):
            return self._memory_error(tail)
        crashed = WorkerCrashed(
            f"the {self._runtime} worker {describe_exit(code)} {moment}", tail, make_exit_hint(code)
        )
        return (self._find_limit_error(tail) if code < 0 else None) or crashed

    def _make_rejection_error(self, rejection: wire.CommandFailed) -> EdgewrightError:
        with contextlib.suppress(OSError), self._log.open("a") as log:  # a full disk must not hide the rejection
            log.write(rejection.trace)
        match rejection.kind:
            case "model":
                rejected = ModelRejected(f"{self._runtime} rejects the model", rejection.why, rejection.hint)
                return self._find_limit_error(rejection.why) or rejected
            case "input":
                return InputError(
                    "the inputs do not fit the model",
                    rejection.why,
                    "write them with numpy.savez(FILE, name=array): one array for each input, in its dtype and shape",
                )
            case "conversion":
                title = find_runtime(self._runtime).title
                return ModelNotConvertible(f"{title} does not support the model", rejection.why, rejection.hint)
            case "missing":
                return make_missing_error(find_runtime(self._runtime), rejection.why)
            case "memory":
                return self._memory_error(rejection.why)
            case "limit":
                return LimitReached(f"the model is too large for {self._runtime}", rejection.why, rejection.hint)
            case "room":
                return OutputError(
                    "the disk is full", rejection.why, "free some space, then run the same command again"
                )
            case "internal":
                return WorkerError(f"{self._runtime} failed", rejection.why, rejection.hint)

    def _tail(self) -> str:
        """Return the last lines that the worker wrote to stderr."""
        try:
            with self._log.open("rb") as log:
                log.seek(0, os.SEEK_END)
                log.seek(max(0, log.tell() - TAIL_BYTES))
                lines = log.read().decode(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-TAIL_LINES:])


def describe_exit(code: int) -> str:
    if code >= 0:
        return f"exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was ended by {name}"


def make_exit_hint(code: int) -> str:
    if code == -KILLED:
        return "the system kills a process when memory runs out: free memory, or use a smaller model or batch"
    return ""


def make_missing_error(info: RuntimeInfo, why: str) -> RuntimeMissing:
    return RuntimeMissing(f"the runtime {info.name} cannot be used here", why, make_install_command(info))


def start_worker(
    command: Sequence[str],
    runtime: str,
    timeout_s: float,
    log: Path,
    affinity: Collection[int] = (),
    variables: Mapping[str, str] = MappingProxyType({}),
) -> Connection:
    """Start `command` as a worker in a session of its own and wait for its greeting.

    Because of the session, the terminal's Ctrl-C does not reach the worker: the parent ends it. On Linux
    a worker ends with the thread that started it (prctl(2), PR_SET_PDEATHSIG): that of `start_process`.
    """
    began_ns = time.perf_counter_ns()
    process, channel = start_channel(command, log, variables)
    # Before the process imports anything, so that its threads inherit it; `check_affinity` rejects other systems.
    if affinity and hasattr(os, "sched_setaffinity"):
        try:
            os.sched_setaffinity(process.pid, affinity)
        except BaseException:
            channel.end()
            raise
    return greet_worker(channel, runtime, timeout_s, log, began_ns)


def start_channel(
    command: Sequence[str], log: Path, variables: Mapping[str, str] = MappingProxyType({})
) -> tuple[subprocess.Popen[bytes], ProcessChannel]:
    """Start `command` with pipes in a session of its own; what it writes to stderr goes into `log`."""
    with log.open("ab") as stderr:
        process = start_process(
            lambda: subprocess.Popen(  # noqa: S603 - the command is our own worker
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
                env={**os.environ, **variables},
            )
        )
    return process, ProcessChannel(process)


def greet_worker(channel: Channel, runtime: str, timeout_s: float, log: Path, began_ns: int) -> Connection:
    """Return the connection to a worker that was started at `began_ns`, after its greeting."""
    connection = Connection(channel, runtime, log, timeout_s)
    try:
        connection.read_greeting(began_ns)
    except BaseException:
        connection.end()
        raise
    return connection


def are_times_possible(command: wire.Command, result: wire.Result) -> bool:
    """Return whether times answer the command and lie in a range that clocks have; True for other results."""
    if not isinstance(command, wire.TimeRuns) or not isinstance(result, wire.Times):
        return True
    wall, cpu = result.wall_ns, result.cpu_ns
    in_range = all(0 <= one < MOST_NS for one in (*wall, *cpu, result.missed))
    return 0 < len(wall) <= command.runs and len(cpu) in (0, len(wall)) and in_range and 0 <= result.error_ns < 1e12
