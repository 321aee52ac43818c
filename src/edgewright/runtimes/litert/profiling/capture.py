"""The process that reads operator times from LiteRT's C API.

It is started as `python -m edgewright.runtimes.litert.profiling.capture FOLDER`.

It is a separate process because a C API with changed structures may crash; the caller then falls back. FOLDER
has the request (`order.json`, `order.npz`); this writes `trace.json`, or `rejection.txt` with exit code 1.
"""

import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from time import perf_counter_ns
from typing import Any, TypeVar

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from edgewright.formats.tflite.reader import TfliteGraph, name_ports, read_tflite
from edgewright.runtimes.litert.profiling.capi import CApiUnavailable, CompiledModel
from edgewright.runtimes.litert.profiling.trace import C_API, LiteRtEvent, LiteRtTrace, ProfiledRun, write_trace
from edgewright.runtimes.wire import SessionRequest
from edgewright.system.parent import die_with_parent

ORDER_FILE, FEEDS_FILE, ERROR_FILE = "order.json", "order.npz", "rejection.txt"
WARMUP_RUNS, WARMUP_NS = 10, 500_000_000

Value = TypeVar("Value")


class CaptureRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request for a profile. No run begins later than `seconds` after the first, which is always made."""

    session: SessionRequest
    runs: int
    seconds: float


def main(folder: Path) -> int:
    """Execute the request in `folder`; return 0 if the trace is complete."""
    die_with_parent()
    request = msgspec.json.decode((folder / ORDER_FILE).read_bytes(), type=CaptureRequest)
    with np.load(folder / FEEDS_FILE, allow_pickle=False) as file:
        feeds = {name: file[name] for name in file.files}
    try:
        write_trace(_capture(request, feeds), folder)
    except CApiUnavailable as error_file:
        (folder / ERROR_FILE).write_text(str(error_file), encoding="utf-8")
        return 1
    return 0


def _capture(request: CaptureRequest, feeds: Mapping[str, NDArray[Any]]) -> LiteRtTrace:
    """Profile the runs of the request. Raises CApiUnavailable."""
    session = request.session
    graph = read_tflite(Path(session.model))
    model = open_compiled(session, graph)
    model.bind(by_index(graph, feeds))
    _warm_up(model)
    tags: dict[str, int] = {}
    runs: list[ProfiledRun] = []
    deadline = perf_counter_ns() + int(request.seconds * 1e9)
    while len(runs) < request.runs and (not runs or perf_counter_ns() < deadline):
        runs.append(_profile_run(model, tags))
    return LiteRtTrace(
        via=C_API,
        version=version("ai-edge-litert"),
        delegate=session.options.get("delegate", "xnnpack"),
        threads=session.threads,
        operators=tuple(operator.op for operator in graph.operators),
        tags=tuple(tags),
        runs=tuple(runs),
    )


def open_compiled(session: SessionRequest, graph: TfliteGraph) -> CompiledModel:
    return CompiledModel(
        Path(session.model),
        threads=session.threads,
        delegate=session.options.get("delegate", "xnnpack"),
        shapes=by_index(graph, session.shapes),
    )


def by_index(graph: TfliteGraph, values: Mapping[str, Value]) -> dict[int, Value]:
    """Return values keyed by an input's tensor index instead of its name."""
    names, _ = name_ports(graph)
    return {index: values[name] for index, name in zip(graph.inputs, names, strict=True) if name in values}


def _warm_up(model: CompiledModel) -> None:
    deadline = perf_counter_ns() + WARMUP_NS
    for _ in range(WARMUP_RUNS):
        model.run()
        if perf_counter_ns() > deadline:
            return


def _profile_run(model: CompiledModel, tags: dict[str, int]) -> ProfiledRun:
    model.start_profiler()
    begin = perf_counter_ns()
    model.run()
    whole_ns = perf_counter_ns() - begin
    events = tuple(_event(event, tags) for event in model.stop_profiler())
    return ProfiledRun(whole_ns=whole_ns, events=events)


def _event(event: Any, tags: dict[str, int]) -> LiteRtEvent:
    tag = (event.tag or b"").decode("utf-8", "replace")
    return LiteRtEvent(
        tag=tags.setdefault(tag, len(tags)),
        kind=event.kind,
        start_us=event.start_us,
        elapsed_us=event.elapsed_us,
        metadata1=event.metadata1,
        metadata2=event.metadata2,
        source=event.source,
    )


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
