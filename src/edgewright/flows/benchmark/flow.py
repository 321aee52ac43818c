"""Benchmark: measure the candidates of a plan and record one run for each."""

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from os import cpu_count
from pathlib import Path

import msgspec
from msgspec import Struct

from edgewright.bench.energy import compute_energy
from edgewright.bench.feeds import write_feeds
from edgewright.bench.session import (
    CandidateProcesses,
    PreparedCandidate,
    Progress,
    capture_failure,
    measure,
    profile_layers,
)
from edgewright.bench.summary import (
    compute_chunk_medians,
    make_inference_series,
    make_metrics,
    make_moment_metrics,
    make_series,
)
from edgewright.bench.sustained import cool_down, make_sustained_series, sustain
from edgewright.bench.verdict import compare_paired
from edgewright.bench.warnings import TimingOptions, WarningContext, find_warnings
from edgewright.devices.connection import make_missing_error
from edgewright.devices.cpu import choose_cores
from edgewright.devices.local import check_affinity
from edgewright.devices.protocol import Device
from edgewright.errors import EdgewrightError, GateFailed, ModelUnreadable, RuntimeMissing, StoreError
from edgewright.flows.benchmark.phases import check_phases, make_phase_metrics, make_phase_series, time_phases
from edgewright.flows.benchmark.stored_files import save_files, save_log
from edgewright.flows.candidates import (
    check_plan,
    check_reads,
    check_runs_here,
    check_shape_names,
    fill_hashes,
    get_free_shapes,
    make_model_feeds,
    read_models,
)
from edgewright.flows.interrupts import defer_interrupts, finish_on_interrupt
from edgewright.flows.workspace import Workspace
from edgewright.formats.artifacts import find_record
from edgewright.formats.files import hash_file, hash_files, read_graph
from edgewright.runtimes.table import find_runtime
from edgewright.runtimes.wire import SessionRequest
from edgewright.schema.model import Model
from edgewright.schema.plan import BenchmarkPlan, Candidate
from edgewright.schema.run import Comparison, Metric, OutputCheck, Run
from edgewright.schema.vocabulary import RunState
from edgewright.store.recording import Recording, RunStart
from edgewright.system.temporary import TemporaryFolder


class BenchmarkOutcome(Struct, frozen=True, kw_only=True):
    """The runs of one session, the verdicts against the first, and the first error.

    `error` comes from a candidate, or from the store if a run could not be written; `runs` has all measurements in both
    cases.
    """

    runs: tuple[Run, ...]
    comparisons: tuple[Comparison, ...]
    error: EdgewrightError | None = None


def resolve_plan(plan: BenchmarkPlan) -> tuple[BenchmarkPlan, dict[str, Model]]:
    """Return the complete, checked plan and its models, without starting or writing anything.

    Raises UsageError, InputError, ConfigError or ModelError.
    """
    check_plan(plan)
    models = read_models([candidate.model for candidate in plan.candidates])
    for candidate in plan.candidates:
        check_reads(find_runtime(candidate.runtime), models[candidate.model])
    check_shape_names(plan, models)
    plan = fill_hashes(plan, models)
    for model in models.values():
        make_model_feeds(model, plan)
    check_phases(plan, models)
    return plan, models


CheckCandidate = Callable[[Candidate, Model, BenchmarkPlan, Device], OutputCheck]


def benchmark(
    plan: BenchmarkPlan, workspace: Workspace, tags: Mapping[str, str], check: CheckCandidate | None = None
) -> BenchmarkOutcome:
    """Measure all candidates, interleaved, and record one run for each.

    Args:
        plan: may be incomplete; see `resolve_plan`.
        tags: put on every run.
        check: compares a candidate's outputs on the device; one that differs is not measured.

    Raises:
        Cancelled: after Ctrl-C; the partial runs are stored as `cancelled`.
        EdgewrightError: before any measurement. An error of one candidate is in the outcome.
    """
    plan, models = resolve_plan(plan)
    device = workspace.device
    if plan.cores:
        plan = msgspec.structs.replace(plan, affinity=choose_cores(plan.cores, device.facts().facts))
    if plan.device == "local":
        check_host(plan, device)
    with TemporaryFolder() as folder:
        all_measured = _prepare_candidates(plan, models, device, folder)
        session = BenchmarkSession(
            plan=plan, workspace=workspace, all_measured=all_measured, before=device.system_state()
        )
        progress = workspace.store.publish_progress(workspace.progress)
        with finish_on_interrupt(session.finish):
            session.begin(plan, models, tags)
            if check is not None:
                _check_outputs(all_measured, plan, models, device, check)
            session.note = cool_down(device, plan, progress)
            measure(device, all_measured, plan, folder, progress)
            if plan.sustain_seconds or plan.rate:
                cool_down(device, plan, progress)
                sustain(device, all_measured, plan, folder, progress)
            if plan.phase_task is not None:
                time_phases(all_measured, plan, models, device, progress)
            if plan.layers:
                _profile_all(device, all_measured, plan, folder, progress)
            _check_unchanged(all_measured, plan, models)
        return session.finish("done")


def check_host(plan: BenchmarkPlan, device: Device) -> None:
    """Check that this machine can run the candidates, before any run starts.

    Raises RuntimeMissing, DeviceUnreachable for a runtime of another system, or UsageError for a missing processor.
    """
    check_affinity(plan.affinity)
    for candidate in plan.candidates:
        info = find_runtime(candidate.runtime)
        check_runs_here(info)
        absent = [name for name in info.needs if find_spec(name) is None]
        if absent and info.name not in device.environment().get("locks", {}):
            raise make_missing_error(info, f"{absent[0]} is not installed")


def _check_outputs(
    all_measured: Sequence[CandidateProcesses],
    plan: BenchmarkPlan,
    models: Mapping[str, Model],
    device: Device,
    check: CheckCandidate,
) -> None:
    """Fail the candidates whose outputs on the device differ: a fast wrong result is no result."""
    for candidate, measured in zip(plan.candidates, all_measured, strict=True):
        if measured.failure is not None:
            continue
        with capture_failure(measured):
            measured.check = check(candidate, models[candidate.model], plan, device)
            if measured.check.state == "failed":
                raise GateFailed(
                    f"{measured.entry.title} has other outputs on {plan.device} than on this machine",
                    measured.check.why,
                    "try another precision, other options or another version of the runtime",
                )


def _check_unchanged(
    all_measured: Sequence[CandidateProcesses], plan: BenchmarkPlan, models: Mapping[str, Model]
) -> None:
    """Fail the candidates whose model file changed during the session, since it is unknown what was measured."""
    for candidate, measured in zip(plan.candidates, all_measured, strict=True):
        model = models[candidate.model]
        if measured.failure is None and _hash_current_files(model) != model.sha256:
            measured.failure = ModelUnreadable(
                f"{model.name} changed while it was measured",
                "its hash differs from the one at the start",
                "run the benchmark again, and do not change the file meanwhile",
            )


def _hash_current_files(model: Model) -> str:
    path = Path(model.path)
    try:
        return hash_files([path, *(path.parent / name for name in model.data_files)])
    except OSError:
        return ""


def _prepare_candidates(
    plan: BenchmarkPlan, models: Mapping[str, Model], device: Device, folder: Path
) -> list[CandidateProcesses]:
    """Put models and inputs onto the device, and set up runtimes that it lacks."""
    prepared = [_prepare_candidate(plan, position, models, device, folder) for position in range(len(plan.candidates))]
    for measured in prepared:
        try:
            device.prepare(measured.entry.runtime)
        except RuntimeMissing as error:
            measured.failure = error
    return prepared


def _prepare_candidate(
    plan: BenchmarkPlan, position: int, models: Mapping[str, Model], device: Device, folder: Path
) -> CandidateProcesses:
    candidate = plan.candidates[position]
    model = models[candidate.model]
    feeds = make_model_feeds(model, plan)
    file = folder / f"feeds-{position}.npz"
    write_feeds(file, feeds)
    data_files = {name: Path(model.path).parent / name for name in model.data_files}
    request = SessionRequest(
        model=device.push(Path(model.path), model.sha256, data_files),
        threads=candidate.threads or plan.threads,
        options=candidate.options,
        shapes=get_free_shapes(model, feeds),
        model_bytes=model.bytes,
    )
    entry = PreparedCandidate(
        title=f"{model.name} in {candidate.runtime}{_name_threads(candidate)}",
        runtime=candidate.runtime,
        request=request,
        feeds=device.push(file, hash_file(file)),
        graph=read_graph(Path(model.path), model.format),
        origins=record.origins if (record := find_record(Path(model.path))) else {},
    )
    return CandidateProcesses(entry=entry)


def _name_threads(candidate: Candidate) -> str:
    return "" if candidate.threads is None else f" with {candidate.threads} threads"


def _profile_all(
    device: Device, all_measured: Sequence[CandidateProcesses], plan: BenchmarkPlan, folder: Path, progress: Progress
) -> None:
    for position, measured in enumerate(all_measured):
        if measured.failure is None:
            progress(f"{measured.entry.title}: layers")
            profile_layers(device, measured, plan, folder / f"layers-{position}")


class BenchmarkSession:
    """The stored runs of one benchmark: created together and finished once, whatever their state."""

    def __init__(
        self,
        plan: BenchmarkPlan,
        workspace: Workspace,
        all_measured: Sequence[CandidateProcesses],
        before: Mapping[str, float],
    ) -> None:
        self._workspace, self._power_w, self._threshold = workspace, plan.power_w, plan.threshold
        self._options = TimingOptions(plan.threads, plan.processes, plan.warmup_seconds, bool(plan.affinity))
        self._all_measured, self._before = all_measured, before
        self._runs: list[Recording] = []
        self.note = ""  # why the device was not as cool as asked

    def begin(self, plan: BenchmarkPlan, models: Mapping[str, Model], tags: Mapping[str, str]) -> None:
        """Record one run per candidate with its model and inputs, so that a full disk fails before any measurement."""
        described = self._workspace.describe_device()
        for candidate in plan.candidates:
            own = msgspec.structs.replace(plan, candidates=(candidate,))
            start: RunStart = {
                **described,
                "parent_id": self._runs[0].id if self._runs else None,
                "model": models[candidate.model],
                "runtime": candidate.runtime,
                "tags": dict(tags),
            }
            run = self._workspace.recording("benchmark", own, **start)
            self._runs.append(run)
            save_files(run, plan.inputs)

    def finish(self, state: RunState, error: str = "") -> BenchmarkOutcome:
        """Write every run with its measurements, and return the verdicts against the first."""
        with defer_interrupts():
            system_state = self._last_moment()
            failures: list[EdgewrightError] = []
            for run, measured in zip(self._runs, self._all_measured, strict=False):
                try:
                    self._end(run, measured, state, error, system_state)
                except StoreError as failure:  # the other runs are written all the same
                    failures.append(failure)
        failures += [measured.failure for measured in self._all_measured if measured.failure is not None]
        ended = tuple(run.run for run in self._runs)
        return BenchmarkOutcome(runs=ended, comparisons=self._compare(), error=failures[0] if failures else None)

    def _last_moment(self) -> Mapping[str, float]:
        """Return the final system state; a lost device does not prevent saving the measurements."""
        try:
            return self._workspace.device.system_state()
        except EdgewrightError:
            return self._before

    def _end(
        self,
        run: Recording,
        measured: CandidateProcesses,
        state: RunState,
        error: str,
        system_state: Mapping[str, float],
    ) -> None:
        energy = compute_energy(measured.processes, self._power_w)
        metrics = (
            *make_metrics(measured.processes, run.run.model.bytes if run.run.model else 0, energy, measured.report),
            *_make_check_metric(measured.check),
            *make_phase_metrics(measured.phases),
            *make_moment_metrics("before", self._before),
            *make_moment_metrics("after", system_state),
        )
        via = {"layers-via": measured.report.via} if measured.report else {}
        run.add(
            metrics=metrics,
            series=(
                *make_series(measured.processes, self._power_w),
                *make_inference_series(measured.report),
                *make_sustained_series(measured.sustained),
                *make_phase_series(measured.phases),
            ),
            layers=measured.report.layers if measured.report else (),
            warnings=find_warnings(self._make_warning_context(run.run, measured, metrics, system_state))
            if measured.failure is None
            else (),
            tags={
                "energy-source": energy.source,
                "energy-evidence": energy.evidence,
                **via,
                **_describe_check(measured),
                **({"cooling": self.note} if self.note else {}),
            },
        )
        if measured.failure is not None:
            save_log(run, measured)
        run.finish("failed" if measured.failure is not None else state, str(measured.failure or error))

    def _make_warning_context(
        self, run: Run, measured: CandidateProcesses, metrics: Sequence[Metric], system_state: Mapping[str, float]
    ) -> WarningContext:
        return WarningContext(
            options=self._options,
            processes=measured.processes,
            metrics={metric.name: metric for metric in metrics},
            before=self._before,
            after=system_state,
            cores=int((run.device.facts if run.device else {}).get("logical_cores") or cpu_count() or 1),
            report=measured.report,
            failure=measured.layer_failure,
        )

    def _compare(self) -> tuple[Comparison, ...]:
        """Compare every candidate with the first, without those that failed."""
        medians = [
            compute_chunk_medians(measured.processes) if measured.failure is None else []
            for measured in self._all_measured
        ]
        return tuple(
            compare_paired(self._runs[0].id, run.id, medians[0], own, self._threshold)
            for run, own in zip(self._runs[1:], medians[1:], strict=False)
            if own and medians[0]
        )


def _describe_check(measured: CandidateProcesses) -> dict[str, str]:
    """Return the tags of the comparison with this machine."""
    check = measured.check
    return {} if check is None else {"check": check.state, **({"check-why": check.why} if check.why else {})}


def _make_check_metric(check: OutputCheck | None) -> tuple[Metric, ...]:
    if check is None or check.sqnr_db is None:
        return ()
    return (Metric(name="check.sqnr", unit="dB", value=check.sqnr_db, n=1),)
