"""Repetition of a run of any kind from its stored plan."""

from pathlib import Path
from typing import NamedTuple

import msgspec

from edgewright.errors import EdgewrightError, ModelNotFound, StoreError, UsageError
from edgewright.flows.compile.flow import compile_all
from edgewright.flows.compile.sources import hash_source
from edgewright.flows.distill.flow import distill
from edgewright.flows.evaluate.flow import evaluate
from edgewright.flows.gate.flow import check_gate
from edgewright.flows.prune.flow import prune
from edgewright.flows.quantize.flow import quantize
from edgewright.flows.workspace import Workspace
from edgewright.formats.files import read_model
from edgewright.schema.plan import CompilePlan, DistillPlan, EvaluatePlan, GatePlan, PrunePlan, QuantizePlan
from edgewright.schema.run import Metric, Run

Plan = CompilePlan | EvaluatePlan | QuantizePlan | PrunePlan | DistillPlan | GatePlan
PLANS: dict[str, type[Plan]] = {
    "compile": CompilePlan,
    "evaluate": EvaluatePlan,
    "quantize": QuantizePlan,
    "prune": PrunePlan,
    "distil": DistillPlan,
    "gate": GatePlan,
}


class RepeatedRun(NamedTuple):
    """The run that was made anew, the fields of the plan that differ, and the error of a failed result."""

    original: Run
    run: Run
    changed: tuple[str, ...]
    error: EdgewrightError | None


def _load_plan(run: Run) -> Plan:
    """Return the plan of a run that was made here.

    Raises:
        UsageError: the run was imported, is a benchmark, or its source has changed or is not there.
        StoreError: the plan cannot be read by this version.
    """
    what = f"run {run.id} cannot be repeated"
    if run.imported is not False:
        raise UsageError(what, "it was imported, and its plan names files of another machine", "repeat it there")
    try:
        plan = msgspec.convert(run.plan, PLANS[run.kind])
    except (KeyError, msgspec.ValidationError) as error:
        raise StoreError(
            what, f"its plan cannot be read: {error}", "use the Edgewright version that recorded it"
        ) from None
    try:
        sources = _hash_sources(plan)
    except ModelNotFound as error:
        raise UsageError(what, error.what, "run it in the folder of the first run, or run the command again") from None
    for path, now, recorded in sources:
        if now != recorded:
            raise UsageError(what, f"{path} has changed since", "restore the file, or run the command again")
    return plan


def _hash_sources(plan: Plan) -> list[tuple[str, str, str]]:
    """Return path, current hash and recorded hash of each model that the plan names."""
    if isinstance(plan, EvaluatePlan | GatePlan):
        candidates = plan.timing.candidates if isinstance(plan, GatePlan) else plan.candidates
        return [(one.model, read_model(Path(one.model)).sha256, one.model_sha256) for one in candidates]
    if isinstance(plan, DistillPlan):
        source, weights, recorded = plan.teacher, plan.teacher_weights, plan.teacher_sha256
    else:
        source, weights, recorded = plan.source, plan.weights, plan.source_sha256
    return [(source, hash_source(CompilePlan(source=source, weights=weights, cells=())), recorded)]


def repeat_run(original: Run, out: Path, workspace: Workspace) -> RepeatedRun:
    """Carry out the plan of a run again. Artifacts are written to the folder `out`. Raises as `_load_plan` does."""
    plan = _load_plan(original)
    run_id, error = _carry_out(plan, out, workspace)
    if run_id is None:
        if error is not None:
            raise error
        return RepeatedRun(original, original, (), None)  # the artifact is there, unchanged
    workspace.store.tag(run_id, "rerun-of", original.id)
    again = workspace.store.load(run_id)
    changed = tuple(name for name, value in original.plan.items() if again.plan.get(name) != value)
    return RepeatedRun(original, again, changed, error)


def pair_metrics(repeated: RepeatedRun) -> list[tuple[Metric, Metric]]:
    """Return the metrics that both runs have, of the original and of the new run."""
    known = {metric.name: metric for metric in repeated.run.metrics}
    return [(metric, known[metric.name]) for metric in repeated.original.metrics if metric.name in known]


def _carry_out(plan: Plan, out: Path, workspace: Workspace) -> tuple[str | None, EdgewrightError | None]:
    match plan:
        case CompilePlan():
            compiled, error = compile_all(plan, out, workspace)
            return compiled.artifacts[0].run_id, error
        case EvaluatePlan():
            evaluated = evaluate(plan, workspace)
            return evaluated.report.results[0].run_id, evaluated.error
        case QuantizePlan():
            report, error = quantize(plan, out, workspace)
            return report.run_id, error
        case PrunePlan():
            pruned, error = prune(plan, out, workspace)
            return pruned.run_id, error
        case GatePlan():
            checked = check_gate(plan, workspace)
            return checked.report.run_id, checked.error
        case DistillPlan():
            distilled, error = distill(plan, out, workspace)
            return distilled.run_id, error
