"""The answer of one stored run, which its page, JSON, report, `runs show` and `load_run` give alike."""

from typing import NamedTuple

import msgspec

from edgewright.flows.benchmark.answer import make_answer as answer_benchmark
from edgewright.flows.benchmark.report import make_row
from edgewright.flows.distill.report import DistillReport
from edgewright.flows.evaluate.answer import EvaluationSummary
from edgewright.flows.evaluate.answer import make_outcome as summarize_evaluation
from edgewright.flows.evaluate.report import MetricRow, PairedRow
from edgewright.flows.experiment.answer import make_outcome as summarize_experiment
from edgewright.flows.experiment.report import ExperimentReport
from edgewright.flows.prune.report import PruneReport
from edgewright.flows.quantize.answer import make_outcome as summarize_quantization
from edgewright.flows.quantize.report import QuantizeReport
from edgewright.report.numbers import format_value
from edgewright.report.outcome import Outcome, name_runtime
from edgewright.schema.metrics import get_metric_info
from edgewright.schema.run import Metric, Run
from edgewright.store.runs.queries import RunFilter
from edgewright.store.store import Store

MAX_REPORT_BYTES = 8 << 20
REPORT_TYPES: dict[str, type[QuantizeReport | PruneReport | DistillReport]] = {
    "quantize": QuantizeReport,
    "prune": PruneReport,
    "distil": DistillReport,
}
NOT_DONE, FAILED = "{kind} of {subject} is {state}.", "{kind} of {subject} {state}: {error}"
COMPILED = "{artifact} for {runtime}: {size}, {checked}."
CHECKED, UNCHECKED = "SQNR {sqnr} to the source", "not checked"
GATE = "{subject} {state} the gate."
POLICY = "{policy} in {scenario} ({evidence}): {on_time} of the frames on time, {missed} missed, {skipped} left out."
OTHER = "{kind} of {subject}: {state}."


class RunAnswer(NamedTuple):
    """The answer in one line; `outcome` has its phrases where the run changed or evaluated a model."""

    text: str
    outcome: Outcome | None = None


def load_report(run: Run, store: Store) -> QuantizeReport | PruneReport | DistillReport | None:
    """Return the report that a quantization, pruning or distillation stored; None if it cannot be read."""
    kind = REPORT_TYPES.get(run.kind)
    found = next((one for one in run.outputs if one.role == run.kind and one.bytes <= MAX_REPORT_BYTES), None)
    if kind is None or found is None:
        return None
    try:
        with store.open_blob(found.sha256) as file:
            return msgspec.json.decode(file.read(), type=kind)
    except Exception:  # a missing or invalid report must not hide the rest of the run
        return None


def answer_run(run: Run, store: Store) -> RunAnswer:
    """Return the answer of a run of any kind."""
    subject = " in ".join(filter(None, (run.model.name if run.model else "no model", run.runtime)))
    if run.state != "done" and run.error and run.kind not in REPORT_TYPES:
        return RunAnswer(FAILED.format(kind=run.kind, subject=subject, state=run.state, error=run.error))
    if run.state in ("queued", "running"):
        return RunAnswer(NOT_DONE.format(kind=run.kind, subject=subject, state=run.state))
    if run.kind == "benchmark":
        return RunAnswer(answer_benchmark([make_row(run)], ()))
    outcome = _summarize(run, store)
    if outcome is not None and outcome.changes:
        return RunAnswer(outcome.answer, outcome)
    if run.kind == "compile":
        return RunAnswer(_answer_compile(run))
    if run.kind == "policy":
        return RunAnswer(_answer_policy(run))
    if run.kind == "gate":
        return RunAnswer(GATE.format(subject=subject, state=run.tags.get("gate", run.state)))
    return RunAnswer(OTHER.format(kind=run.kind, subject=subject, state=run.state))


def _summarize(run: Run, store: Store) -> Outcome | None:
    if run.kind == "evaluate":
        return _summarize_evaluation(run, store)
    report = load_report(run, store)
    if isinstance(report, QuantizeReport):
        return summarize_quantization(report)
    return summarize_experiment(report) if isinstance(report, ExperimentReport) else None


def _summarize_evaluation(run: Run, store: Store) -> Outcome | None:
    metrics = {one.name: one for one in run.metrics}
    task = run.plan.get("task")
    metric = metrics.get(str(task.get("metric", "")) if isinstance(task, dict) else "")
    if metric is None or metric.value is None or metric.low is None or metric.high is None:
        return None
    row = MetricRow(
        name=metric.name, value=metric.value, low=metric.low, high=metric.high, n=metric.n,
        better=get_metric_info(metric.name).better or "higher",
    )  # fmt: skip
    return summarize_evaluation(EvaluationSummary(row, _make_pair(metrics), _name_reference(run, store)))


def _make_pair(metrics: dict[str, Metric]) -> PairedRow | None:
    one, p = metrics.get("difference"), metrics.get("difference.p")
    if one is None or one.value is None or one.low is None or one.high is None:
        return None
    return PairedRow(difference=one.value, low=one.low, high=one.high, p=(p and p.value) or 0.0, test="")


def _name_reference(run: Run, store: Store) -> str:
    """Return the name of the model that an evaluation is compared with: that of the session's first run."""
    rows = store.list_runs(RunFilter(ids=(run.parent_id,), metrics=())) if run.parent_id else []
    return next((row.model_name for row in rows if row.model_name), "the first model")


def _answer_policy(run: Run) -> str:
    metrics = {one.name.removeprefix("policy."): one.value for one in run.metrics}
    shares = {name: format_value(metrics.get(name), "share") for name in ("on_time", "missed", "skipped")}
    tags = {name: run.tags.get(name, "") for name in ("policy", "scenario", "evidence")}
    return POLICY.format(**tags, **shares)


def _answer_compile(run: Run) -> str:
    metrics = {one.name: one.value for one in run.metrics}
    sqnr = metrics.get("numerics.sqnr")
    checked = UNCHECKED if sqnr is None else CHECKED.format(sqnr=format_value(sqnr, "dB"))
    name = next((one.role.partition(":")[2] for one in run.outputs if one.role.startswith("artifact:")), "")
    return COMPILED.format(
        artifact=name or (run.model.name if run.model else "artifact"), runtime=name_runtime(run.runtime),
        size=format_value(metrics.get("artifact.bytes"), "bytes"), checked=checked,
    )  # fmt: skip
