"""The result of a profiling pass: the events of each inference, and the program's description."""

from pathlib import Path

import msgspec
from msgspec import Struct

from edgewright.runtimes.executorch.description import ProgramDescription

TRACE = "trace.json"


class ExecutorchEvent(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One operator of one inference; times are nanoseconds, `start` is relative to the inference.

    `instruction` is the number of its program instruction, `delegate` whether it ran in a delegate.
    """

    name: str
    instruction: int
    delegate: bool
    start: float
    duration: float


class ExecutorchTrace(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    runs_us: tuple[float, ...]
    runs: tuple[tuple[ExecutorchEvent, ...], ...]
    description: ProgramDescription | None


def write_trace(trace: ExecutorchTrace, folder: Path) -> None:
    (folder / TRACE).write_bytes(msgspec.json.encode(trace))


def read_trace(folder: Path) -> ExecutorchTrace:
    return msgspec.json.decode((folder / TRACE).read_bytes(), type=ExecutorchTrace)
