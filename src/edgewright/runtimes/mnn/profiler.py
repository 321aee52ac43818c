"""Per-operator times from MNN's own callbacks; runs in the worker."""

from collections.abc import Mapping
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import msgspec
from msgspec import Struct

from edgewright.runtimes.mnn.graph import MnnOperator
from edgewright.runtimes.mnn.session import DEBUG, MnnSession, find_requested_backend
from edgewright.runtimes.wire import SessionRequest
from edgewright.schema.arrays import Array

WARMUP_RUNS = 5
TRACE = "trace.json"


class MnnOperatorTimes(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One executed operator; times in microseconds, one for each profiled inference."""

    name: str
    op: str
    starts_us: tuple[float, ...]
    times_us: tuple[float, ...]


class MnnTrace(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The result of a profiling pass: the executed operators in order, and those of the file."""

    asked: str
    backend: str
    runs_us: tuple[float, ...]
    ran: tuple[MnnOperatorTimes, ...]
    operators: tuple[MnnOperator, ...]


class OperatorCallbacks:
    """The callbacks of consecutive inferences. They read the clock first or last, to include little overhead."""

    def __init__(self) -> None:
        self.names: list[tuple[str, str]] = []
        self.begins: list[int] = []
        self.ends: list[int] = []

    def begin(self, tensors: Any, info: Any) -> bool:
        self.names.append((info.getName(), info.getType()))
        self.begins.append(perf_counter_ns())
        return True

    def end(self, tensors: Any, info: Any) -> bool:
        self.ends.append(perf_counter_ns())
        return True


def profile_operators(request: SessionRequest, feeds: Mapping[str, Array], runs: int, folder: Path) -> None:
    """Write `trace.json` to `folder`."""
    session = MnnSession(request, DEBUG)
    session.bind(feeds)
    for _ in range(WARMUP_RUNS):
        _watch_run(session)
    watched = [_watch_run(session) for _ in range(runs)]
    trace = MnnTrace(
        asked=find_requested_backend(request.options),
        backend=session.backend,
        runs_us=tuple((end - begin) / 1e3 for begin, end, _ in watched),
        ran=_gather_times([(begin, watch) for begin, _, watch in watched]),
        operators=session.net.operators,
    )
    (folder / TRACE).write_bytes(msgspec.json.encode(trace))
    session.close()


def _watch_run(session: MnnSession) -> tuple[int, int, OperatorCallbacks]:
    """Return start and end of one inference in nanoseconds, and its callbacks."""
    watch = OperatorCallbacks()
    begin = perf_counter_ns()
    session.run_with(watch.begin, watch.end)
    return begin, perf_counter_ns(), watch


def _gather_times(watched: list[tuple[int, OperatorCallbacks]]) -> tuple[MnnOperatorTimes, ...]:
    """Return the operators of all inferences: MNN runs the same ones in the same order each time."""
    if not watched:
        return ()
    return tuple(
        MnnOperatorTimes(
            name=name,
            op=op,
            starts_us=tuple((watch.begins[i] - begin) / 1e3 for begin, watch in watched),
            times_us=tuple((watch.ends[i] - watch.begins[i]) / 1e3 for _, watch in watched),
        )
        for i, (name, op) in enumerate(watched[0][1].names)
    )
