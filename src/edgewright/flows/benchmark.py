"""Measure the candidates of a plan, and keep what came of it."""

import traceback
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from os import cpu_count
from pathlib import Path

import msgspec
from msgspec import Struct

from edgewright.bench.energy import energy_of
from edgewright.bench.feeds import write_feeds
from edgewright.bench.session import Entry, Lane, Tell, measure, profile_layers
from edgewright.bench.summary import chunk_medians, make_metrics, make_series, moment_metrics
from edgewright.bench.verdict import compare_paired
from edgewright.bench.warnings import Case, find_warnings
from edgewright.devices.connection import missing_runtime
from edgewright.devices.contract import Device
from edgewright.devices.local import check_affinity
from edgewright.errors import EdgewrightError, ModelUnreadable, StoreError
from edgewright.facts.model import Model
from edgewright.facts.plan import BenchmarkPlan, plan_hash
from edgewright.facts.run import Comparison, Metric, Output, Run
from edgewright.facts.words import RunState
from edgewright.flows.keeping import interrupts_held, kept_when_interrupted
from edgewright.flows.resolve import (
    check_plan,
    check_reads,
    check_runs_here,
    check_shape_names,
    fill_hashes,
    free_shapes,
    model_feeds,
    read_models,
)
from edgewright.formats.artifacts import find_record, record_path
from edgewright.formats.files import hash_file, hash_files, read_graph
from edgewright.runtimes.table import runtime_info
from edgewright.runtimes.wire import SessionRequest
from edgewright.store.ids import new_run_id
from edgewright.store.store import Store, utc_now
from edgewright.system.temporary import TemporaryFolder

LOG_BYTES = 64 * 1024


class Outcome(Struct, frozen=True, kw_only=True):
    """The runs of one session, the verdicts against the first, and what went wrong.

    `error` is the first one of a candidate, or the record's where a run could not be written: what was measured is
    in `runs` all the same.
    """

    runs: tuple[Run, ...]
    comparisons: tuple[Comparison, ...]
    error: EdgewrightError | None = None


def resolve_plan(plan: BenchmarkPlan) -> tuple[BenchmarkPlan, dict[str, Model]]:
    """The plan with everything filled in and checked, and its models. Starts and writes nothing.

    Raises what can be known beforehand: UsageError, InputError, ConfigError, ModelError.
    """
    check_plan(plan)
    models = read_models([candidate.model for candidate in plan.candidates])
    for candidate in plan.candidates:
        check_reads(runtime_info(candidate.runtime), models[candidate.model])
    check_shape_names(plan, models)
    plan = fill_hashes(plan, models)
    for model in models.values():
        model_feeds(model, plan)
    return plan, models


def benchmark(plan: BenchmarkPlan, device: Device, store: Store, tell: Tell, tags: Mapping[str, str]) -> Outcome:
    """Measure all candidates, interleaved, and record one run for each.

    Args:
        plan: may be incomplete; see `resolve_plan`.
        tell: is told what is being done, one line at a time.
        tags: put on every run.

    Raises:
        Cancelled: after Ctrl-C; the partial runs are kept as `cancelled`.
        EdgewrightError: before anything was measured. An error of one candidate is in the outcome.
    """
    plan, models = resolve_plan(plan)
    if plan.device == "local":
        check_host(plan, device)
    with TemporaryFolder() as folder:
        lanes = make_lanes(plan, models, device, folder)
        session = Session(plan=plan, device=device, store=store, lanes=lanes, before=device.moment())
        tell = store.telling(tell)
        with kept_when_interrupted(session.finish):
            session.begin(models, tags)
            measure(device, lanes, plan, folder, tell)
            if plan.layers:
                profile_all(device, lanes, plan, folder, tell)
            check_unchanged(lanes, plan, models)
        return session.finish("done")


def check_host(plan: BenchmarkPlan, device: Device) -> None:
    """What this machine lacks, found before a run is begun: RuntimeMissing, DeviceUnreachable for a runtime of
    another system, or UsageError for a processor."""
    check_affinity(plan.affinity)
    for candidate in plan.candidates:
        info = runtime_info(candidate.runtime)
        check_runs_here(info)
        absent = [name for name in info.needs if find_spec(name) is None]
        if absent and info.name not in device.environment().get("locks", {}):
            raise missing_runtime(info, f"{absent[0]} is not installed")


def check_unchanged(lanes: Sequence[Lane], plan: BenchmarkPlan, models: Mapping[str, Model]) -> None:
    """Fail the lanes whose model file is not what it was at the beginning: nobody knows what was measured there."""
    for candidate, lane in zip(plan.candidates, lanes, strict=True):
        model = models[candidate.model]
        if lane.failure is None and hash_now(model) != model.sha256:
            lane.failure = ModelUnreadable(
                f"{model.name} changed while it was measured",
                "its content is not what it was at the beginning",
                "measure it again, and leave the file alone meanwhile",
            )


def hash_now(model: Model) -> str:
    path = Path(model.path)
    try:
        return hash_files([path, *(path.parent / name for name in model.data_files)])
    except OSError:
        return ""


def make_lanes(plan: BenchmarkPlan, models: Mapping[str, Model], device: Device, folder: Path) -> list[Lane]:
    """Bring models and inputs to the device."""
    return [make_lane(plan, position, models, device, folder) for position in range(len(plan.candidates))]


def make_lane(plan: BenchmarkPlan, position: int, models: Mapping[str, Model], device: Device, folder: Path) -> Lane:
    candidate = plan.candidates[position]
    model = models[candidate.model]
    feeds = model_feeds(model, plan)
    file = folder / f"feeds-{position}.npz"
    write_feeds(file, feeds)
    beside = {name: Path(model.path).parent / name for name in model.data_files}
    request = SessionRequest(
        model=device.push(Path(model.path), model.sha256, beside),
        threads=plan.threads,
        options=candidate.options,
        shapes=free_shapes(model, feeds),
        model_bytes=model.bytes,
    )
    entry = Entry(
        title=f"{model.name} in {candidate.runtime}",
        runtime=candidate.runtime,
        request=request,
        feeds=device.push(file, hash_file(file)),
        graph=read_graph(Path(model.path), model.format),
        origins=record.origins if (record := find_record(Path(model.path))) else {},
    )
    return Lane(entry=entry)


def profile_all(device: Device, lanes: Sequence[Lane], plan: BenchmarkPlan, folder: Path, tell: Tell) -> None:
    for position, lane in enumerate(lanes):
        if lane.failure is None:
            tell(f"{lane.entry.title}: layers")
            profile_layers(device, lane, plan, folder / f"layers-{position}")


class Session:
    """The runs of one benchmark in the store: begun together, ended once, in whatever state they are then."""

    def __init__(
        self, plan: BenchmarkPlan, device: Device, store: Store, lanes: Sequence[Lane], before: Mapping[str, float]
    ) -> None:
        self._plan, self._device, self._store = plan, device, store
        self._lanes, self._before = lanes, before
        self._runs: list[Run] = []

    def begin(self, models: Mapping[str, Model], tags: Mapping[str, str]) -> None:
        """Record one run per candidate with its model and inputs: a full disk shows before anything is measured."""
        facts, environment = self._device.facts(), self._device.environment()
        for candidate in self._plan.candidates:
            own = msgspec.structs.replace(self._plan, candidates=(candidate,))
            run = Run(
                id=new_run_id(),
                kind="benchmark",
                state="running",
                started_at=utc_now(),
                parent_id=self._runs[0].id if self._runs else None,
                model=models[candidate.model],
                device=facts,
                runtime=candidate.runtime,
                plan=msgspec.to_builtins(own),
                plan_hash=plan_hash(own),
                environment=environment,
                tags=dict(tags),
            )
            self._store.begin(run)
            self._runs.append(run)
            outputs = tuple(keep_files(self._store, run, self._plan))
            self._runs[-1] = msgspec.structs.replace(run, outputs=outputs)

    def finish(self, state: RunState, error: str = "") -> Outcome:
        """Write every run with all that was measured, and tell the verdicts against the first."""
        with interrupts_held():
            moment = self._last_moment()
            ended = tuple(
                self._end(run, lane, state, error, moment) for run, lane in zip(self._runs, self._lanes, strict=False)
            )
            failures: list[EdgewrightError] = [*self._save(ended)]
        failures += [lane.failure for lane in self._lanes if lane.failure is not None]
        return Outcome(runs=ended, comparisons=self._compare(), error=failures[0] if failures else None)

    def _save(self, ended: Sequence[Run]) -> list[StoreError]:
        """Every run is tried, so that one that cannot be written does not cost the others."""
        failures = []
        for run in ended:
            try:
                self._store.finish(run)
            except StoreError as failure:
                failures.append(failure)
        return failures

    def _last_moment(self) -> Mapping[str, float]:
        """A device that is gone does not keep what it gave from being written down."""
        try:
            return self._device.moment()
        except EdgewrightError:
            return self._before

    def _end(self, run: Run, lane: Lane, state: RunState, error: str, moment: Mapping[str, float]) -> Run:
        energy = energy_of(lane.tapes, self._plan.power_w)
        metrics = (
            *make_metrics(lane.tapes, run.model.bytes if run.model else 0, energy, lane.report),
            *moment_metrics("before", self._before),
            *moment_metrics("after", moment),
        )
        via = {"layers-via": lane.report.via} if lane.report else {}
        return msgspec.structs.replace(
            run,
            state="failed" if lane.failure is not None else state,
            finished_at=utc_now(),
            error=str(lane.failure or error) or None,
            metrics=metrics,
            series=make_series(lane.tapes),
            layers=lane.report.layers if lane.report else (),
            warnings=find_warnings(self._case(run, lane, metrics, moment)) if lane.failure is None else (),
            outputs=(*run.outputs, *self._keep_log(run, lane)),
            tags={**run.tags, "energy-source": energy.source, "energy-evidence": energy.evidence, **via},
        )

    def _case(self, run: Run, lane: Lane, metrics: Sequence[Metric], moment: Mapping[str, float]) -> Case:
        return Case(
            plan=self._plan,
            tapes=lane.tapes,
            metrics={metric.name: metric for metric in metrics},
            before=self._before,
            after=moment,
            cores=int((run.device.facts if run.device else {}).get("logical_cores") or cpu_count() or 1),
            report=lane.report,
            failure=lane.layer_failure,
        )

    def _keep_log(self, run: Run, lane: Lane) -> list[Output]:
        """What the failed worker said, and our own traceback; a log that cannot be kept costs no run."""
        if lane.failure is None:
            return []
        log = lane.tapes[-1].log if lane.tapes else None
        said = log.read_bytes()[-LOG_BYTES:] if log and log.is_file() else b""
        trace = "".join(traceback.format_exception(lane.failure)).encode()
        try:
            return [self._store.put_bytes(run.id, said + b"\n" + trace, role="log")]
        except StoreError:
            return []

    def _compare(self) -> tuple[Comparison, ...]:
        """Every candidate against the first; those that failed are left out."""
        medians = [chunk_medians(lane.tapes) if lane.failure is None else [] for lane in self._lanes]
        return tuple(
            compare_paired(self._runs[0].id, run.id, medians[0], own, self._plan.threshold)
            for run, own in zip(self._runs[1:], medians[1:], strict=False)
            if own and medians[0]
        )


def keep_files(store: Store, run: Run, plan: BenchmarkPlan) -> Iterator[Output]:
    """Put the model, its weight files and the user's inputs into the store, so that the run can be repeated."""
    if run.model is None:
        return
    path = Path(run.model.path)
    yield store.put_file(run.id, path, role="model", model_id=run.model.sha256)
    for name in run.model.data_files:
        yield store.put_file(run.id, path.parent / name, role=f"data:{name}")
    if find_record(path) is not None:
        yield store.put_file(run.id, record_path(path), role=f"data:{record_path(path).name}")
    if plan.inputs is not None:
        yield store.put_file(run.id, Path(plan.inputs), role="inputs")
