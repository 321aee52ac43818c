"""Measurement session: fresh processes of all candidates, interleaved, each warmed up until it is steady."""

from __future__ import annotations  # array takes a type argument at run time only from Python 3.12 on

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import monotonic

from msgspec import Struct
from msgspec.structs import replace

from edgewright.bench.steady_state import count_window_runs, is_steady
from edgewright.devices.connection import Connection
from edgewright.devices.protocol import Device, Reading
from edgewright.errors import EdgewrightError
from edgewright.limits import ResourceBudget, read_budget
from edgewright.runtimes.table import find_runtime, import_runtime
from edgewright.runtimes.wire import (
    Calibrate,
    ClockCalibration,
    CommandDone,
    Open,
    Opened,
    ProfileRuns,
    ReadMemory,
    SessionRequest,
    TimeRuns,
    Times,
)
from edgewright.schema.model import GraphNode, Signature
from edgewright.schema.plan import BenchmarkPlan
from edgewright.schema.run import LayerReport, OutputCheck

CALIBRATION_RUNS = 2000
CHUNKS = 8  # of one process; short, so that the candidates of a round run under the same conditions
CHUNK_SECONDS = 1.0
STARTED = "{}: process {} of {}"
FINISHED = "{}: process {} of {}: median {:.5g} µs"
SETTLING_RUNS = 2
MIN_RUNS, MAX_RUNS = 10, 1000
SETTLED_BELOW_US = 50_000.0
LIMIT_SHARE = 1 / 3  # of the model's time limit: its fewest samples in one process; its layer pass
MOST_EXECUTIONS = 200_000  # of nodes in one layer pass: profilers and the trace reader keep all of them in memory
PROFILED_TWICE = 2  # warm-up and profiling overhead take about as long as the profiled inferences
MIN_NS = 1.0  # the clock's resolution; ratios need times above zero

Progress = Callable[[str], None]


class PreparedCandidate(Struct, frozen=True, kw_only=True):
    """A candidate whose model and inputs are on the device at these paths.

    The layers are mapped to `graph`; `origins` maps that graph's nodes to the source's, if they differ.
    """

    title: str
    runtime: str
    request: SessionRequest
    feeds: str
    graph: Sequence[GraphNode] = ()
    origins: Mapping[str, tuple[str, ...]] = {}


@dataclass(slots=True)
class ProcessSamples:
    """Everything that one process measured, filled while it runs, so that an interruption keeps the partial data.

    Times are microseconds; the harness's own cost is already subtracted from `wall_us` and `cpu_us`. `chunks` holds the
    number of samples in each chunk, in order. `clock_error_us` is the error of the newest samples from a coarse clock.
    """

    log: Path
    start_us: float | None = None
    import_us: float | None = None
    load_us: float | None = None
    first_us: float | None = None
    steady: bool = False
    warmup_us: array[float] = field(default_factory=lambda: array("d"))
    wall_us: array[float] = field(default_factory=lambda: array("d"))
    cpu_us: array[float] = field(default_factory=lambda: array("d"))
    chunks: list[int] = field(default_factory=list)
    clock_error_us: float = 0.0
    calibration: ClockCalibration | None = None
    memory_before: int | None = None
    memory_loaded: int | None = None
    memory_peak: int | None = None
    readings: list[tuple[Reading, Reading, int, float]] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    signature: Signature | None = None


@dataclass(slots=True)
class CandidateProcesses:
    """The processes of one candidate in the session, and their results."""

    entry: PreparedCandidate
    processes: list[ProcessSamples] = field(default_factory=list)
    report: LayerReport | None = None
    layer_failure: str = ""
    failure: EdgewrightError | None = None
    check: OutputCheck | None = None
    sustained: list[dict[str, float]] = field(default_factory=list)
    phases: dict[str, list[float]] = field(default_factory=dict)


def measure(
    device: Device, candidates: Sequence[CandidateProcesses], plan: BenchmarkPlan, logs: Path, progress: Progress
) -> None:
    """Measure one process per candidate and round, in the order A B C, C B A, A B C, …

    Every second round is mirrored, so that a steady drift of the machine does not favor a candidate.

    A candidate that fails keeps its error and its data, and is not measured in the following rounds. After Ctrl-C the
    data measured so far is kept.
    """
    for number in range(plan.processes):
        order = mirror_order(range(len(candidates)), number)
        groups = [order] if plan.interleave == "chunks" else [[position] for position in order]
        for group in groups:
            _measure_round(device, {position: candidates[position] for position in group}, number, plan, logs, progress)


def _measure_round(
    device: Device,
    candidates: Mapping[int, CandidateProcesses],
    number: int,
    plan: BenchmarkPlan,
    logs: Path,
    progress: Progress,
) -> None:
    """Measure one fresh process of each candidate: all are started and warmed up in turn, then sampled alternately."""
    with ExitStack() as stack:
        at_work: dict[int, Connection] = {}
        for position, candidate in candidates.items():
            if candidate.failure is None:
                progress(STARTED.format(candidate.entry.title, number + 1, plan.processes))
                candidate.processes.append(ProcessSamples(log=logs / f"{position}-{number}.log"))
                with capture_failure(candidate):
                    worker = at_work[position] = stack.enter_context(_start_worker(device, candidate, plan))
                    with end_on_failure(worker):
                        _load_and_warm_up(worker, candidate.entry, candidate.processes[-1], plan)
        _take_samples(at_work, candidates, plan, device)
        for position, worker in at_work.items():
            candidate = candidates[position]
            with capture_failure(candidate):
                _finish_worker(worker, candidate)
                if wall_us := candidate.processes[-1].wall_us:
                    progress(FINISHED.format(candidate.entry.title, number + 1, plan.processes, median(wall_us)))


@contextmanager
def capture_failure(candidate: CandidateProcesses) -> Iterator[None]:
    """Store an exception as the candidate's failure, so that the others continue."""
    try:
        yield
    except EdgewrightError as error:
        candidate.failure = candidate.failure or error


@contextmanager
def end_on_failure(worker: Connection) -> Iterator[None]:
    """End a failed worker at once, since one that hangs would disturb the others of its round."""
    try:
        yield
    except EdgewrightError:
        worker.end()
        raise


def mirror_order(order: Iterable[int], number: int) -> list[int]:
    """Return the order in even rounds, and its reverse in odd ones."""
    return list(order) if number % 2 == 0 else list(order)[::-1]


def profile_layers(device: Device, candidate: CandidateProcesses, plan: BenchmarkPlan, folder: Path) -> None:
    """Profile the layers in a fresh worker, separately from the measurement, which profiling would disturb.

    The trace is written to `folder`. A failure is returned, not raised, since a run without layers is valid. Slow
    inferences, and those of very many nodes, are profiled fewer times than planned.
    """
    entry = candidate.entry
    remote = f"{device.workspace()}/{folder.name}"
    inference_s = median(candidate.processes[-1].wall_us) / 1e6 if candidate.processes else MIN_NS / 1e9
    try:
        runs = max(1, int(min(plan.layer_runs, _affordable_runs(entry, inference_s))))
        with device.start_worker(entry.runtime, plan.affinity, plan.timeout_s, folder.with_suffix(".log")) as worker:
            command = ProfileRuns(session=entry.request, feeds=entry.feeds, runs=runs, folder=remote)
            worker.ask(command, CommandDone, expected_s=PROFILED_TWICE * runs * inference_s)
            worker.leave()
        device.pull(remote, folder)
        report: LayerReport = import_runtime(find_runtime(entry.runtime)).layers(folder, entry.graph)
        candidate.report = _map_to_source_nodes(report, entry.origins)
    except EdgewrightError as error:
        candidate.layer_failure = str(error)
    except Exception as error:  # an unexpected trace may raise any error in its reader
        candidate.layer_failure = f"{type(error).__name__}: {error}"


def _affordable_runs(entry: PreparedCandidate, inference_s: float) -> float:
    """Return how many inferences can be profiled within the time limit and the memory; LimitReached if none."""
    budget = _limit_of(entry)
    affordable = LIMIT_SHARE * budget.seconds / (PROFILED_TWICE * inference_s)
    if affordable < 1:
        raise budget.time_error(f"profiling the layers of {entry.title}, where one inference takes {inference_s:.3g} s")
    return min(affordable, MOST_EXECUTIONS / (PROFILED_TWICE * max(1, len(entry.graph))))


def _limit_of(entry: PreparedCandidate) -> ResourceBudget:
    return read_budget().for_files(entry.request.model_bytes)


def _map_to_source_nodes(report: LayerReport, origins: Mapping[str, tuple[str, ...]]) -> LayerReport:
    """Return the report with source nodes instead of the artifact's; a node without an origin stays."""
    if not origins:
        return report
    layers = tuple(
        replace(
            layer, source_nodes=tuple(dict.fromkeys(n for own in layer.source_nodes for n in origins.get(own, (own,))))
        )
        for layer in report.layers
    )
    return replace(report, layers=layers)


def _start_worker(device: Device, candidate: CandidateProcesses, plan: BenchmarkPlan) -> Connection:
    return device.start_worker(candidate.entry.runtime, plan.affinity, plan.timeout_s, candidate.processes[-1].log)


@contextmanager
def load_worker(
    device: Device, candidate: CandidateProcesses, process: ProcessSamples, plan: BenchmarkPlan
) -> Iterator[Connection]:
    """Yield a fresh worker with the model loaded and warmed up, which is not one of the measured processes."""
    with device.start_worker(candidate.entry.runtime, plan.affinity, plan.timeout_s, process.log) as worker:
        _load_and_warm_up(worker, candidate.entry, process, plan)
        yield worker


def _load_and_warm_up(
    worker: Connection, entry: PreparedCandidate, process: ProcessSamples, plan: BenchmarkPlan
) -> None:
    """Load the model, run it for the first time, and warm up."""
    process.start_us, process.import_us = worker.start_us, worker.hello.import_us
    process.memory_before = worker.hello.memory.rss
    process.calibration = worker.ask(Calibrate(runs=CALIBRATION_RUNS), ClockCalibration)
    opened = worker.ask(Open(session=entry.request, feeds=entry.feeds), Opened, expected_s=0.0)
    process.load_us, process.notes, process.signature = opened.load_us, opened.notes, opened.signature
    process.memory_loaded = opened.memory.rss
    process.first_us = _time_inferences(worker, process, runs=1, seconds=0.0)[0][0]
    _warm_up(worker, process, plan.warmup_seconds)


def _finish_worker(worker: Connection, candidate: CandidateProcesses) -> None:
    if candidate.failure is None:
        candidate.processes[-1].memory_peak = worker.ask(ReadMemory(), CommandDone).memory.peak
        worker.leave()


def _time_inferences(
    worker: Connection, process: ProcessSamples, runs: int, seconds: float, settle: int = 0
) -> tuple[list[float], list[float]]:
    """Time up to `runs` inferences within `seconds`: wall and CPU microseconds without the harness's cost."""
    times = worker.ask(TimeRuns(runs=runs, seconds=seconds, settle=settle), Times, expected_s=seconds)
    process.clock_error_us = times.error_ns / 1e3
    own_wall, own_cpu = (process.calibration.wall_ns, process.calibration.cpu_ns) if process.calibration else (0.0, 0.0)
    wall = [max(MIN_NS, ns - own_wall) / 1e3 for ns in times.wall_ns]
    return wall, [max(0.0, ns - own_cpu) / 1e3 for ns in times.cpu_ns]


def _warm_up(worker: Connection, process: ProcessSamples, max_seconds: float) -> None:
    """Run windows of inferences until they are steady or the time limit is reached."""
    window = count_window_runs(process.first_us or 0.0)
    deadline = monotonic() + max_seconds
    while monotonic() < deadline:
        wall, _ = _time_inferences(worker, process, window, seconds=max(0.0, deadline - monotonic()))
        process.warmup_us.extend(wall)
        process.steady = is_steady(process.warmup_us, window)
        if process.steady and window >= count_window_runs(median(wall)):
            return
        window = max(window, count_window_runs(median(wall)))  # the first inference is slower than the following ones


def _take_samples(
    workers: Mapping[int, Connection], candidates: Mapping[int, CandidateProcesses], plan: BenchmarkPlan, device: Device
) -> None:
    """Sample the candidates chunk by chunk alternately, mirrored every second time, until each has enough samples."""
    unfinished = [position for position in workers if candidates[position].failure is None]
    iteration = 0
    while unfinished:
        for position in mirror_order(unfinished, iteration):
            with capture_failure(candidates[position]), end_on_failure(workers[position]):
                _take_chunk(workers[position], candidates[position], plan, device)
        unfinished = [
            p for p in unfinished if candidates[p].failure is None and count_runs_left(candidates[p], plan) > 0
        ]
        iteration += 1


def _take_chunk(worker: Connection, candidate: CandidateProcesses, plan: BenchmarkPlan, device: Device) -> None:
    """Take one chunk of samples, with sensor readings before and after."""
    process = candidate.processes[-1]
    settle = SETTLING_RUNS if (process.first_us or 0.0) < SETTLED_BELOW_US else 0
    runs = min(count_runs_left(candidate, plan), -(-(plan.runs or MAX_RUNS) // CHUNKS))
    before, began = device.sensors(), monotonic()
    wall, cpu = _time_inferences(
        worker, process, runs, plan.seconds / CHUNKS if plan.runs is None else CHUNK_SECONDS, settle
    )
    process.wall_us.extend(wall)
    process.cpu_us.extend(cpu)
    process.chunks.append(len(wall))
    process.readings.append((before, device.sensors(), len(wall) + settle, monotonic() - began))


def count_runs_left(candidate: CandidateProcesses, plan: BenchmarkPlan) -> int:
    """Return how many inferences the newest process still needs; 0 ends it.

    Slow inferences are fewer than `MIN_RUNS` if these would exceed their share of the time limit.
    """
    taken_us = candidate.processes[-1].wall_us
    if plan.runs is not None:
        return plan.runs - len(taken_us)
    seconds = sum(taken_us) / 1e6
    enough = max(plan.seconds, LIMIT_SHARE * _limit_of(candidate.entry).seconds)
    if seconds >= plan.seconds and (len(taken_us) >= MIN_RUNS or seconds >= enough):
        return 0
    return MAX_RUNS - len(taken_us)
