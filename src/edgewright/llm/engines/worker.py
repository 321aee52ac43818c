"""The process that runs a language model: `python -m edgewright.llm.engines.worker ENGINE`.

It reads one JSON request per line from stdin and answers on a private copy of stdout; file descriptor 1 itself goes to
stderr, so that native code that prints cannot corrupt the channel.
"""

import gc
import os
import sys
from importlib import import_module
from io import FileIO
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from time import perf_counter_ns, process_time_ns
from typing import Literal

import msgspec

from edgewright.llm.engines.contract import Engine, EngineRejected, EngineSession
from edgewright.llm.engines.table import find_engine
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
from edgewright.runtimes.memory import read_resident_memory
from edgewright.runtimes.tensor_file import write_tensor_file
from edgewright.runtimes.wire import CommandFailed, Greeting
from edgewright.runtimes.worker import greet, send, take_stdout
from edgewright.system.parent import die_with_parent

Commands = SimpleQueue[EngineCommand | None]


class _Server:
    """The state of a worker: its channel, its engine, and the loaded model."""

    def __init__(self, channel: FileIO, engine: Engine) -> None:
        self.channel, self.engine = channel, engine
        self.session: EngineSession | None = None
        self.commands: Commands = SimpleQueue()

    def send(self, message: EngineAnswer | Greeting) -> None:
        send(self.channel, message)

    def read_commands(self) -> None:
        """Read stdin to its end, in a thread of its own, so that a generation can be stopped."""
        decode = msgspec.json.Decoder(EngineCommand).decode
        for line in sys.stdin.buffer:
            self.commands.put(decode(line))
        self.commands.put(None)

    def serve(self) -> None:
        while (command := self.commands.get()) is not None:
            if not isinstance(command, StopGenerating):
                self.send(self._answer(command))

    def _answer(self, command: EngineCommand) -> EngineAnswer:
        try:
            return self._run(command)
        except EngineRejected as error:
            return EngineFailed(kind="model", why=str(error))
        except ImportError as error:
            return EngineFailed(kind="missing", why=str(error))
        except MemoryError as error:
            return EngineFailed(kind="memory", why=str(error) or "the system did not provide the memory")
        except Exception as error:  # the library's own kinds of errors
            return EngineFailed(kind="engine", why=f"{type(error).__name__}: {error}")

    def _run(self, command: EngineCommand) -> EngineAnswer:
        began = perf_counter_ns()
        if isinstance(command, OpenEngine):
            self.session = None
            opened = self.session = self.engine.open_session(command, Path(command.folder, command.main))
            return EngineOpened(kv=opened.kv, context=opened.context, load_us=(perf_counter_ns() - began) / 1e3)
        if isinstance(command, ReadEngineMemory):
            memory = read_resident_memory()
            return EngineMemory(resident=memory.rss, peak=memory.peak)
        if self.session is None:
            return EngineFailed(kind="input", why="no model is open")
        if isinstance(command, ComputeLogits):
            return self._compute_logits(self.session, command)
        if isinstance(command, Generate):
            return self._generate(self.session, command)
        return EngineFailed(kind="input", why="unknown command")

    def _compute_logits(self, session: EngineSession, command: ComputeLogits) -> EngineAnswer:
        if failure := _check_length(session, len(command.tokens)):
            return failure
        began = perf_counter_ns()
        logits = session.logits(command.tokens)
        us = (perf_counter_ns() - began) / 1e3
        write_tensor_file(Path(command.path), {"logits": logits})
        return LogitsWritten(us=us)

    def _generate(self, session: EngineSession, command: Generate) -> EngineAnswer:
        if failure := _check_length(session, len(command.tokens)):
            return failure
        began, cpu = perf_counter_ns(), process_time_ns()
        reused = session.start(command.tokens, command.temperature, command.seed, reuse=command.reuse)
        tokens, times = list[int](), list[float]()
        count = min(command.count, session.context - len(command.tokens))
        end: Literal["count", "stop", "context", "stopped"] = "count" if count == command.count else "context"
        while len(tokens) < count:
            tokens.append(session.next_token())
            times.append((perf_counter_ns() - began) / 1e3)
            if command.stream:
                self.send(TokenWritten(token=tokens[-1]))
            if tokens[-1] in command.stop:
                end = "stop"
                break
            if self._is_stopped():
                end = "stopped"
                break
        return Generation(
            tokens=tuple(tokens),
            times_us=tuple(times),
            cpu_us=(process_time_ns() - cpu) / 1e3,
            reused=reused,
            end=end,
        )

    def _is_stopped(self) -> bool:
        """Return whether a command came during a generation: it can only be the one that stops it."""
        try:
            command = self.commands.get_nowait()
        except Empty:
            return False
        if command is None:  # stdin ended
            os._exit(0)
        return isinstance(command, StopGenerating)


def _check_length(session: EngineSession, tokens: int) -> EngineFailed | None:
    if 0 < tokens <= session.context:
        return None
    return EngineFailed(kind="input", why=f"the prompt has {tokens} tokens, and the context is {session.context}")


def main() -> None:
    """Greet, then answer requests until stdin ends."""
    channel = take_stdout()
    die_with_parent()
    gc.disable()  # a collection within a timed generation would be the harness's time, not the engine's
    name = sys.argv[1]
    module = import_module(find_engine(name).module)
    engine: Engine = module
    greeting = greet(name, module)
    server = _Server(channel, engine)
    server.send(greeting)
    if isinstance(greeting, CommandFailed):
        return
    Thread(target=server.read_commands, daemon=True).start()
    server.serve()


if __name__ == "__main__":
    main()
