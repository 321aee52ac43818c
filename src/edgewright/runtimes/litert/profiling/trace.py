"""The result of a profiling pass: one JSON file with the events as the library reported them."""

from pathlib import Path

import msgspec
from msgspec import Struct

TRACE_FILE = "trace.json"
C_API = "c-api"
CUT_OUT = "cut-out"


class LiteRtEvent(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, array_like=True):
    """One event of LiteRT's profiler. `tag` is an index into the trace's tags; times are microseconds.

    `kind`, `metadata1`, `metadata2` and `source` are those of `ProfiledEventData` (see `capi.py`).
    """

    tag: int
    kind: int
    start_us: int
    elapsed_us: int
    metadata1: int
    metadata2: int
    source: int


class ProfiledRun(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One profiled inference: its time by our own clock, and its events in the order of their report."""

    whole_ns: int
    events: tuple[LiteRtEvent, ...]


class CutOut(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One operator run alone: its position in the file, its backend, and its times."""

    position: int
    delegated: bool
    times_ns: tuple[int, ...]


class LiteRtTrace(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A profiling pass.

    Attributes:
        via: `c-api` (operators timed in the model) or `cut-out` (each operator run alone).
        reason: why the C API was not used; empty if it was.
        version: of ai-edge-litert.
        delegate: the requested delegate, `xnnpack` or `none`.
        operators: the operators of the file by position.
        tags: the texts of the events.
        runs: profiled inferences; for cut-outs those of the whole model, without events.
        cut_outs: for `cut-out`, the operators that could be run alone.
    """

    via: str
    reason: str = ""
    version: str
    delegate: str
    threads: int
    operators: tuple[str, ...]
    tags: tuple[str, ...] = ()
    runs: tuple[ProfiledRun, ...]
    cut_outs: tuple[CutOut, ...] = ()


def write_trace(trace: LiteRtTrace, folder: Path) -> None:
    (folder / TRACE_FILE).write_bytes(msgspec.json.encode(trace))


def read_trace(folder: Path) -> LiteRtTrace:
    return msgspec.json.decode((folder / TRACE_FILE).read_bytes(), type=LiteRtTrace)
