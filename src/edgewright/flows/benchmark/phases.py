"""Times of an application's phases on real samples: from the encoded sample to the result."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter_ns
from typing import Any, NamedTuple

import msgspec
import numpy as np

from edgewright.bench.session import CandidateProcesses, Progress, capture_failure
from edgewright.bench.statistics import median_interval
from edgewright.devices.protocol import Device
from edgewright.errors import ConfigError, DataError, UsageError
from edgewright.flows.candidates import read_source_signature
from edgewright.formats.artifacts import find_record
from edgewright.kernels.operations import topk
from edgewright.kernels.preprocessing import prepare_with_kernels
from edgewright.runtimes.tensor_file import SUFFIX, read_tensor_file, write_tensor_file
from edgewright.runtimes.wire import Open, Opened, PhaseTimes, TimePhases
from edgewright.schema.arrays import Array
from edgewright.schema.artifact import IoMap
from edgewright.schema.model import Model
from edgewright.schema.plan import BenchmarkPlan
from edgewright.schema.run import Metric, Series
from edgewright.schema.vocabulary import PHASES
from edgewright.store.runs.ids import new_run_id
from edgewright.system.temporary import TemporaryFolder
from edgewright.tasks.data.dataset import open_dataset
from edgewright.tasks.data.ports import feed_artifact, read_artifact_outputs
from edgewright.tasks.metrics.detection import detect_boxes
from edgewright.tasks.spec.check import check_task
from edgewright.tasks.spec.task import Boxes, Classification, ImageInput, Task

SAMPLES, WARM_UP = 50, 5
MAX_BYTES = 256 << 20  # of the inputs of all samples
TOP = 5
NS_PER_US = 1e3


class PreparedSamples(NamedTuple):
    """Samples as inputs of the source, with the nanoseconds of both phases that made each."""

    feeds: Sequence[Mapping[str, Array]]
    decode_ns: Sequence[int]
    convert_ns: Sequence[int]


def check_phases(plan: BenchmarkPlan, models: Mapping[str, Model]) -> None:
    """Raise UsageError, ConfigError or DataError if the phases cannot be timed."""
    if plan.phase_task is None:
        return
    if plan.device != "local":
        why = "decoding and post-processing run on this machine"
        raise UsageError(f"--phases cannot be used on {plan.device}", why, "remove --phases or --on")
    task = _read_task(plan)
    for model in models.values():
        check_task(task, read_source_signature(model))
    open_dataset(plan.phase_data, task).close()


def _read_task(plan: BenchmarkPlan) -> Task:
    try:
        return msgspec.convert(plan.phase_task, Task)
    except msgspec.ValidationError as error:
        raise ConfigError("the plan's task cannot be used", str(error), "docs/task.md describes every key") from None


def time_phases(
    measured: Sequence[CandidateProcesses],
    plan: BenchmarkPlan,
    models: Mapping[str, Model],
    device: Device,
    progress: Progress,
) -> None:
    """Add the times of the phases to each candidate that did not fail; a failure is the candidate's."""
    task = _read_task(plan)
    samples = _prepare_samples(plan.phase_data, task)
    for candidate, one in zip(plan.candidates, measured, strict=True):
        if one.failure is None:
            progress(f"{one.entry.title}: phases")
            with capture_failure(one):
                one.phases = _time_candidate(one, samples, task, (models[candidate.model], plan), device)


def _prepare_samples(given: str, task: Task) -> PreparedSamples:
    """Read, decode and convert the first samples, the first of them twice: caches are cold before."""
    images = [one for one in task.inputs if isinstance(one, ImageInput)]
    spent: list[int] = []

    def prepare(image: Any, spec: ImageInput) -> Any:
        image.load()  # Pillow decodes at the first use
        begin = perf_counter_ns()
        result = prepare_with_kernels(image, spec)
        spent.append(perf_counter_ns() - begin)
        return result

    feeds: list[Mapping[str, Array]] = []
    decode, convert = list[int](), list[int]()
    with open_dataset(given, task, (), prepare) as data:
        count = min(SAMPLES, len(data))
        indices = [*range(min(WARM_UP, count)), *range(count)]
        reader = data.read(indices)
        held = 0
        while held < MAX_BYTES:
            spent.clear()
            begin = perf_counter_ns()
            sample = next(reader, None)
            total = perf_counter_ns() - begin
            if sample is None or (feeds and not _has_shapes(sample.feeds, feeds[0])):
                break
            feeds.append(sample.feeds)
            convert.append(sum(spent) if images else total)
            decode.append(total - convert[-1])
            held += sum(array.nbytes for array in sample.feeds.values())
    warm = min(WARM_UP, count, len(feeds) - 1)
    if warm < 0:
        raise DataError(f"{given} has no sample for --phases", "none could be read", "choose other data")
    return PreparedSamples(feeds[warm:], decode[warm:] if images else (), convert[warm:])


def _has_shapes(feeds: Mapping[str, Array], first: Mapping[str, Array]) -> bool:
    return all(array.shape == first[name].shape for name, array in feeds.items())


def _time_candidate(
    measured: CandidateProcesses, samples: PreparedSamples, task: Task, of: tuple[Model, BenchmarkPlan], device: Device
) -> dict[str, list[float]]:
    """Return the microseconds of each phase for each sample."""
    model, plan = of
    record = find_record(Path(model.path))
    moved = [_timed(feed_artifact, feeds, record.io_map) if record else (dict(feeds), 0) for feeds in samples.feeds]
    first = moved[0][0]
    stack = {name: np.stack([feeds[name] for feeds, _ in moved]) for name in first}
    entry, stem = measured.entry, new_run_id()
    with TemporaryFolder() as folder:
        paths = {name: folder / f"{stem}-{name}{SUFFIX}" for name in ("one", "all", "outputs")}
        write_tensor_file(paths["one"], first)
        write_tensor_file(paths["all"], stack)
        log = folder / "phases.log"
        with device.start_worker(entry.runtime, plan.affinity, plan.timeout_s, log) as worker:
            worker.ask(Open(session=entry.request, feeds=str(paths["one"])), Opened, expected_s=0.0)
            for _ in range(2):  # the first round warms up
                times = worker.ask(TimePhases(feeds=str(paths["all"]), outputs=str(paths["outputs"])), PhaseTimes)
            worker.leave()
        outputs = read_tensor_file(paths["outputs"])
    after = [
        _timed(
            _postprocess, {name: array[i] for name, array in outputs.items()}, task, record.io_map if record else None
        )
        for i in range(len(moved))
    ]
    converted = [own + extra for own, (_, extra) in zip(samples.convert_ns, moved, strict=True)]
    found = {
        "decode": samples.decode_ns,
        "convert": converted,
        "copy-in": times.bind_ns,
        "inference": times.run_ns,
        "copy-out": times.fetch_ns,
        "post-processing": [spent for _, spent in after],
    }
    return {name: [value / NS_PER_US for value in found[name]] for name in PHASES if len(found[name])}


def _timed(function: Any, *given: Any) -> tuple[Any, int]:
    begin = perf_counter_ns()
    result = function(*given)
    return result, perf_counter_ns() - begin


def _postprocess(outputs: Mapping[str, Array], task: Task, io_map: IoMap | None) -> Any:
    """Return what an application shows: the classes with the highest scores, boxes, or the values themselves."""
    found = read_artifact_outputs(outputs, io_map) if io_map else outputs
    match task.output:
        case Classification():
            scores = found[task.output.name] if task.output.name else next(iter(found.values()))
            return topk(scores, TOP)
        case Boxes():
            size = next((one.size for one in task.inputs if isinstance(one, ImageInput)), (1, 1))
            return detect_boxes(task.output, found, size)
        case _:
            return found


def make_phase_series(phases: Mapping[str, Sequence[float]]) -> tuple[Series, ...]:
    return tuple(Series(name=f"phase.{name}", unit="us", data=tuple(values)) for name, values in phases.items())


def make_phase_metrics(phases: Mapping[str, Sequence[float]]) -> tuple[Metric, ...]:
    """Return the median of each phase over the samples."""
    found = {name: median_interval(values) for name, values in phases.items()}
    return tuple(
        Metric(name=f"phase.{name}", unit="us", value=one.value, low=one.low, high=one.high, n=len(phases[name]))
        for name, one in found.items()
    )
