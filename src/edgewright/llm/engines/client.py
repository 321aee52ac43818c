"""A command's end of an engine's worker."""

import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec
from msgspec import Struct

from edgewright.devices.connection import describe_exit, make_exit_hint, start_channel
from edgewright.errors import (
    EdgewrightError,
    InputError,
    LimitReached,
    ModelRejected,
    RuntimeMissing,
    WorkerCrashed,
    WorkerError,
    WorkerTimeout,
)
from edgewright.llm.engines.table import EngineInfo, find_engine
from edgewright.llm.engines.wire import (
    ComputeLogits,
    EngineAnswer,
    EngineCommand,
    EngineFailed,
    EngineMemory,
    EngineOpened,
    Generate,
    Generation,
    LogitsWritten,
    OpenEngine,
    ReadEngineMemory,
    StopGenerating,
    TokenWritten,
)
from edgewright.runtimes.environments import (
    environment_path,
    find_ready_locks,
    make_launch_command,
)
from edgewright.runtimes.tensor_file import SUFFIX, read_tensor_file
from edgewright.runtimes.wire import CommandFailed, Greeting
from edgewright.schema.arrays import Array
from edgewright.system.temporary import TemporaryFolder

WORKER = "edgewright.llm.engines.worker"
TIMEOUT_S = 600.0
END_S = 5.0
TAIL_BYTES = 2000
AnswerT = TypeVar("AnswerT", bound=Struct)


def make_engine_command(environments: Path | None, info: EngineInfo) -> list[str]:
    """Return the command that starts an engine's worker, in its environment or in our own interpreter.

    Raises RuntimeMissing with the command that sets the engine up.
    """
    if environments and info.environment in find_ready_locks(environments):
        return make_launch_command(environment_path(environments, info.environment), WORKER, info.name)
    absent = [name for name in info.needs if find_spec(name) is None]
    if absent:
        raise RuntimeMissing(
            f"{info.title} is not set up",
            f"the package {absent[0]} is not installed",
            f"edgewright runtimes setup {info.environment} --yes",
        )
    return [sys.executable, "-P", "-m", WORKER, info.name]


class EngineClient:
    """A started engine; the end of the `with` block ends its process.

    Args:
        environments: folder of the isolated environments; None to use none.
        engine: name of the engine.
        timeout_s: longest time without a message.

    Raises:
        RuntimeMissing: the engine is not set up.
        WorkerError: its process does not start.
    """

    def __init__(self, environments: Path | None, engine: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self.info = find_engine(engine)
        self._timeout_s = timeout_s
        command = make_engine_command(environments, self.info)
        self._folder = TemporaryFolder()
        self._log = self._folder.path / "worker.log"
        self._exchange = self._folder.path / f"logits{SUFFIX}"
        self._buffer = bytearray()
        began = time.perf_counter_ns()
        process, self._channel = start_channel(command, self._log)
        self.pid = process.pid
        try:
            self.version = self._read_greeting()
        except BaseException:
            self.close()
            raise
        self.start_us = (time.perf_counter_ns() - began) / 1e3

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process. May be called twice."""
        self._channel.end()
        self._folder.close()

    def open(self, request: OpenEngine) -> EngineOpened:
        """Load an artifact. Raises ModelRejected, LimitReached if memory is short, or WorkerCrashed."""
        return self._ask(request, EngineOpened)

    def logits(self, tokens: Sequence[int]) -> Array:
        """Return the logits after each token of one sequence, float32 [tokens, vocabulary].

        Raises InputError if the sequence is empty, or longer than the context.
        """
        self._ask(ComputeLogits(tokens=tuple(map(int, tokens)), path=str(self._exchange)), LogitsWritten)
        return read_tensor_file(self._exchange)["logits"]

    def generate(self, request: Generate, on_token: Callable[[int], bool] | None = None) -> Generation:
        """Write tokens after a prompt.

        Args:
            on_token: called with each token; it returns False to stop.

        Raises InputError if the prompt is empty, or longer than the context.
        """
        self._send(request)
        stopped = False
        while True:
            answer = self._receive_any()
            if not isinstance(answer, TokenWritten):
                return self._check(answer, Generation)
            if on_token is not None and not stopped and not on_token(answer.token):
                self._send(StopGenerating())
                stopped = True

    def memory(self) -> EngineMemory:
        """Return the memory of the process."""
        return self._ask(ReadEngineMemory(), EngineMemory)

    def _ask(self, command: EngineCommand, kind: type[AnswerT]) -> AnswerT:
        self._send(command)
        return self._receive(kind)

    def _send(self, command: EngineCommand) -> None:
        try:
            self._channel.send(msgspec.json.encode(command) + b"\n")
        except BrokenPipeError:
            raise self._make_crash_error() from None

    def _receive(self, kind: type[AnswerT]) -> AnswerT:
        return self._check(self._receive_any(), kind)

    def _read_greeting(self) -> str:
        """Return the version of the engine's library. Raises RuntimeMissing if it cannot be imported."""
        greeting = self._receive_message(Greeting)
        if isinstance(greeting, CommandFailed):
            raise self._make_error(EngineFailed(kind="missing", why=greeting.why))
        version: str = greeting.version
        return version

    def _receive_any(self) -> Any:
        return self._receive_message(EngineAnswer)

    def _receive_message(self, kind: Any) -> Any:
        while (end := self._buffer.find(b"\n")) < 0:
            chunk = self._channel.receive(self._timeout_s)
            if chunk is None:
                raise WorkerTimeout(f"{self.info.title} gave no answer in {self._timeout_s:g} s", self._read_tail())
            if not chunk:
                raise self._make_crash_error()
            self._buffer += chunk
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        try:
            return msgspec.json.decode(line, type=kind)
        except msgspec.MsgspecError as error:
            raise WorkerError(f"the message of {self.info.title} cannot be read", f"{error}: {line[:120]!r}") from None

    def _check(self, answer: Any, kind: type[AnswerT]) -> AnswerT:
        if isinstance(answer, EngineFailed):
            raise self._make_error(answer)
        if not isinstance(answer, kind):
            raise WorkerError(f"{self.info.title} sent an unexpected message", type(answer).__name__)
        return answer

    def _make_error(self, failed: EngineFailed) -> EdgewrightError:
        title, setup = self.info.title, f"edgewright runtimes setup {self.info.environment} --yes"
        match failed.kind:
            case "missing":
                return RuntimeMissing(f"{title} cannot be used here", failed.why, setup)
            case "model":
                why = f"{failed.why}\n{self._read_tail()}".strip()
                return ModelRejected(
                    f"{title} rejects the model", why, "compile the model again, or for another engine"
                )
            case "input":
                return InputError(
                    f"{title} cannot use the prompt", failed.why, "give a shorter prompt, of one token or more"
                )
            case "memory":
                return LimitReached(f"{title} needs more memory", failed.why, "use a smaller context or precision")
        return WorkerError(f"{title} failed", failed.why)

    def _make_crash_error(self) -> WorkerCrashed:
        code = self._channel.wait(END_S)
        how = "closed its channel" if code is None else describe_exit(code)
        return WorkerCrashed(f"the process of {self.info.title} {how}", self._read_tail(), make_exit_hint(code or 0))

    def _read_tail(self) -> str:
        try:
            return self._log.read_bytes()[-TAIL_BYTES:].decode(errors="replace").strip()
        except OSError:
            return ""
