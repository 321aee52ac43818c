"""Gate: measure a model and the baseline's, check every goal, and record the result; or write the baseline."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import NamedTuple

import msgspec

from edgewright import __version__
from edgewright.bench.feeds import fix_batch
from edgewright.errors import ConfigError, GateFailed, UsageError
from edgewright.flows.benchmark.flow import benchmark, resolve_plan
from edgewright.flows.candidates import read_source_signature, split_options
from edgewright.flows.evaluate.flow import evaluate
from edgewright.flows.evaluate.report import EvaluationReport
from edgewright.flows.gate.baseline import (
    Baseline,
    describe_device,
    find_model,
    read_baseline,
    write_baseline,
)
from edgewright.flows.gate.checks import GateMeasurement, MeasuredModel, check_goal, check_units, make_figures
from edgewright.flows.gate.figures import TIMED, join_runs
from edgewright.flows.gate.plan import CompleteRequest
from edgewright.flows.gate.report import GateCheck, GateReport, describe_check
from edgewright.flows.workspace import Workspace
from edgewright.formats.files import hash_file, read_model
from edgewright.runtimes.table import find_runtime
from edgewright.schema.goals import Goal, parse_goals
from edgewright.schema.model import Model
from edgewright.schema.plan import BenchmarkPlan, Candidate, GatePlan
from edgewright.schema.run import Metric, Run
from edgewright.store.recording import utc_now
from edgewright.system.temporary import TemporaryFolder

MAX_SESSIONS = 3  # of processes, until every timed goal is met or missed
MEMORY_AND_TIMES = tuple(name for name in TIMED if name != "energy")


class CheckedGate(NamedTuple):
    """The report, and the error if the gate failed."""

    report: GateReport
    error: GateFailed | None


class _Session(NamedTuple):
    """Measurements of all candidates in order; None for those that were not needed."""

    runs: Sequence[Run] | None
    evaluation: EvaluationReport | None


def check_gate(plan: GatePlan, workspace: Workspace, notes: Sequence[str] = ()) -> CheckedGate:
    """Measure the model, with the baseline's if it is at hand, check every goal, and record the run.

    Raises:
        UsageError: a goal is not valid, or names a metric that cannot be produced here.
        ConfigError: the baseline is not valid, was changed since the plan was made, or belongs to another device.
        EdgewrightError: a measurement failed.
    """
    started, workspace = utc_now(), workspace.with_steps()
    path = Path(plan.baseline)
    baseline = read_baseline(path)
    if plan.baseline_sha256 not in ("", hash_file(path)):
        raise ConfigError(f"{path} changed since the plan was made", "its hash differs", "run edgewright gate again")
    goals = _parse_goals(plan, workspace)
    device = describe_device(plan.timing.device, workspace.device.facts().facts)
    if baseline.device.get("name") != plan.timing.device:
        named = str(baseline.device.get("name"))[:80]
        raise UsageError(f"{path} was measured on the device '{named}'", "times differ by device", f"add --on {named}")
    model = read_model(Path(plan.timing.candidates[0].model))
    with TemporaryFolder() as folder:
        found = find_model(baseline, path, Path(model.path), workspace.store, folder)
        first = () if found is None else (_make_reference(baseline, found),)
        candidates = (*first, *plan.timing.candidates)
        session = _measure(plan, candidates, {goal.metric for goal in goals}, workspace)
        data = session.evaluation
        measured = _split_session(session, [*([read_model(found)] if found else []), model])
        measurement = GateMeasurement(
            model=measured[-1],
            reference=measured[0] if found else None,
            baseline=baseline,
            is_same=_identify(plan.timing.candidates[0]) == _identify(first[0]) if first else False,
            device=device,
            metric=data.metric if data else "",
            data_fingerprint=data.data_fingerprint if data else "",
            differing=_list_differing(plan, baseline, path, model),
        )
        sessions = [session.runs or ()]
        while len(sessions) < MAX_SESSIONS and (undecided := _find_undecided(goals, measurement)):
            workspace.progress(f"{', '.join(undecided)}: not shown yet, measuring {len(sessions) + 1} times")
            sessions.append(_measure(plan, candidates, set(undecided), workspace).runs or ())
            measurement = _add_runs(measurement, sessions[-1])
    checks = tuple(check_goal(goal, measurement) for goal in goals)
    notes = [*notes, *_describe_reference(measurement)]
    if len(sessions) > 1:
        notes.append(f"{len(sessions)} sessions were measured, because a goal was not shown by the first")
    report = _make_report(plan, model, checks, measurement.model, notes)
    report = msgspec.structs.replace(report, runs=tuple(run.id for runs in sessions for run in runs))
    return _record(plan, model, report, started, workspace)


def _find_undecided(goals: Sequence[Goal], measurement: GateMeasurement) -> list[str]:
    """Return the timed metrics of goals inside an interval that more processes make narrower."""
    checks = [check_goal(goal, measurement) for goal in goals]
    return [one.metric for one in checks if one.state == "not shown" and one.metric in TIMED and one.low is not None]


def _add_runs(measurement: GateMeasurement, further: Sequence[Run]) -> GateMeasurement:
    """Return the measurement with the processes of a further session."""
    model, reference = measurement.model, measurement.reference
    model = model._replace(run=join_runs(model.run, further[-1]) if model.run else None)
    if reference is not None and reference.run is not None:
        reference = reference._replace(run=join_runs(reference.run, further[0]))
    return measurement._replace(model=model, reference=reference)


def record_baseline(complete: CompleteRequest, workspace: Workspace) -> GateReport:
    """Measure the model and write the baseline. Raises as `check_gate` does, and OutputError."""
    plan = complete.plan
    if plan.goals:
        _parse_goals(plan, workspace)
    model = read_model(Path(plan.timing.candidates[0].model))
    needed = {*TIMED, *(("metric",) if plan.evaluation else ())}
    session = _measure(plan, plan.timing.candidates, needed, workspace)
    (measured,) = _split_session(session, [model])
    data = session.evaluation
    baseline = Baseline(
        model=model.name,
        model_sha256=model.sha256,
        runtime=plan.timing.candidates[0].runtime,
        precision=model.precision,
        device=describe_device(plan.timing.device, workspace.device.facts().facts),
        date=datetime.now(UTC).date().isoformat(),
        edgewright=__version__,
        goals=plan.goals,
        metric=data.metric if data else "",
        data_fingerprint=data.data_fingerprint if data else "",
        options=complete.kept,
        figures=make_figures(measured),
    )
    write_baseline(Path(plan.baseline), baseline)
    report = _make_report(plan, model, (), measured, complete.notes)
    return msgspec.structs.replace(report, written=True, runs=tuple(run.id for run in session.runs or ()))


def _parse_goals(plan: GatePlan, workspace: Workspace) -> tuple[Goal, ...]:
    """Return the goals. Raises UsageError for a metric that cannot be produced here."""
    known = [*MEMORY_AND_TIMES, "bytes"]
    reading = workspace.device.sensors()
    if any(one is not None for one in (reading.energy_uj, reading.power_uw, plan.timing.power_w)):
        known.append("energy")
    if plan.evaluation is not None:
        known += ["metric", "drop"]
    try:
        goals = parse_goals(plan.goals, known)
    except UsageError as error:
        if plan.evaluation is None and "cannot produce" in error.what:
            why = f"{error.why}; with --task and --data also metric and drop, with a sensor or --power-w energy"
            raise UsageError(error.what, why, error.try_this) from None
        raise
    if plan.evaluation is not None:
        check_units(goals, str(plan.evaluation.task.get("metric", "")))
    return goals


def _make_reference(baseline: Baseline, path: Path) -> Candidate:
    info = find_runtime(baseline.runtime)
    options = split_options(baseline.options.option or (), [info])[info.name]
    return Candidate(model=str(path), model_sha256=baseline.model_sha256, runtime=info.name, options=options)


def _identify(candidate: Candidate) -> tuple[str, str, dict[str, str]]:
    return (candidate.model_sha256, candidate.runtime, candidate.options)


def _measure(plan: GatePlan, candidates: tuple[Candidate, ...], metrics: set[str], workspace: Workspace) -> _Session:
    """Benchmark and evaluate the candidates as far as the metrics require it."""
    tags = {"gate": Path(plan.baseline).name}
    timing = msgspec.structs.replace(plan.timing, candidates=candidates, shapes=_find_shapes(plan, candidates))
    runs: Sequence[Run] | None = None
    if metrics.isdisjoint(TIMED):
        resolve_plan(timing)
    else:
        outcome = benchmark(timing, workspace, tags)
        if outcome.error is not None:
            raise outcome.error
        runs = outcome.runs
    if plan.evaluation is None or metrics.isdisjoint(("metric", "drop")):
        return _Session(runs, None)
    result = evaluate(msgspec.structs.replace(plan.evaluation, candidates=candidates), workspace, tags)
    if result.error is not None:
        raise result.error
    return _Session(runs, result.report)


def _find_shapes(plan: GatePlan, candidates: Sequence[Candidate]) -> dict[str, tuple[int, ...]]:
    """Return the plan's shapes, and batch 1 for other inputs of the baseline's model."""
    shapes = dict(plan.timing.shapes)
    if plan.timing.inputs is None:
        for candidate in candidates:
            shapes |= fix_batch(read_source_signature(read_model(Path(candidate.model))), shapes)
    return shapes


def _split_session(session: _Session, models: Sequence[Model]) -> list[MeasuredModel]:
    return [
        MeasuredModel(
            run=session.runs[position] if session.runs else None,
            row=session.evaluation.results[position] if session.evaluation else None,
            bytes=float(model.bytes),
        )
        for position, model in enumerate(models)
    ]


def _describe_reference(found: GateMeasurement) -> list[str]:
    """Return what the model was compared with."""
    name = found.baseline.model
    if found.reference is not None:
        return [f"{name} of the baseline was measured in the same session"]
    return [
        f"{name} of the baseline is not at hand, neither beside the baseline nor in the store: its figures of "
        f"{found.baseline.date} are used, and intervals are wider by the drift between sessions"
    ]


def _make_report(
    plan: GatePlan, model: Model, checks: tuple[GateCheck, ...], measured: MeasuredModel, notes: Sequence[str]
) -> GateReport:
    allowed = ("met", "not shown") if plan.undecided == "pass" else ("met",)
    return GateReport(
        passed=all(check.state in allowed for check in checks),
        checks=checks,
        undecided=plan.undecided,
        model=model.name,
        model_sha256=model.sha256,
        runtime=plan.timing.candidates[0].runtime,
        precision=model.precision,
        device=plan.timing.device,
        baseline=plan.baseline,
        written=False,
        figures=make_figures(measured),
        notes=tuple(notes),
        run_id="",
        runs=(),
    )


def _record(plan: GatePlan, model: Model, report: GateReport, started: str, workspace: Workspace) -> CheckedGate:
    metrics = tuple(
        Metric(name=f"gate.{one.metric}", unit=one.unit or "1", value=one.value, low=one.low, high=one.high)
        for one in report.checks
    )
    tags = {"gate": "passed" if report.passed else "failed"}
    with workspace.recording(
        "gate", plan, id=workspace.part_of, started_at=started, model=model, runtime=report.runtime, tags=tags
    ) as run:  # fmt: skip
        run.add(metrics=metrics)
    report = msgspec.structs.replace(report, run_id=run.id)
    return CheckedGate(report, _find_failure(report))


def _list_differing(plan: GatePlan, baseline: Baseline, path: Path, model: Model) -> tuple[str, ...]:
    """Return the options that change what is timed, and are not those of the baseline at `path`."""
    timing, kept = plan.timing, baseline.options
    candidate = timing.candidates[0]
    if candidate.runtime != baseline.runtime:
        return ("runtime",)
    info = find_runtime(candidate.runtime)
    shapes, inputs = dict(kept.shape or {}), kept.inputs
    if inputs is None:
        shapes |= fix_batch(read_source_signature(model), shapes)
    pairs = {
        "option": (candidate.options, split_options(kept.option or (), [info])[info.name]),
        "shape": (timing.shapes, shapes),
        "fix": (timing.fixed, kept.fix or {}),
        "inputs": (timing.inputs, inputs and str((path.parent / inputs).absolute())),
        "threads": (timing.threads, kept.threads or BenchmarkPlan(candidates=()).threads),
    }
    return tuple(name for name, (own, other) in pairs.items() if own != other)


def _find_failure(report: GateReport) -> GateFailed | None:
    """Return the error that lists the goals that were missed; None if the gate passed."""
    if report.passed:
        return None
    states = ("missed",) if report.undecided == "pass" else ("missed", "not shown")
    failed = [check for check in report.checks if check.state in states]
    what = f"{report.model} fails {len(failed)} of {len(report.checks)} goal{'s' * (len(report.checks) > 1)}"
    write = f"edgewright gate MODEL --baseline {quote(report.baseline)} --write"
    hint = f"make the model better, or accept its figures: {write}"
    if not any(check.state == "missed" for check in failed):
        hint = "measure longer: give --processes or --seconds a larger number"
    return GateFailed(what, "\n".join(f"{check.goal} is {describe_check(check)}" for check in failed), hint)
