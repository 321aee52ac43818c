"""Evaluation of models on data in their runtimes: each in one worker, all on the same samples."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from time import monotonic

import msgspec
import numpy as np
from msgspec import Struct

from edgewright.bench.feeds import fix_batch, make_fixed
from edgewright.bench.session import Progress
from edgewright.errors import ConfigError, EdgewrightError, StoreError, UsageError
from edgewright.flows.candidates import (
    check_input_names,
    check_number,
    check_runs_here,
    read_models,
    read_source_signature,
)
from edgewright.flows.evaluate.answer import make_answer
from edgewright.flows.evaluate.chunks import Chunk, ChunkPrefetcher
from edgewright.flows.evaluate.inference import Runner, SizedRunner, make_runner
from edgewright.flows.evaluate.report import (
    EvaluationReport,
    EvaluationRow,
    SkippedRow,
    find_guessing,
    make_metric_row,
    make_paired_row,
    make_share_row,
    name_classes,
    to_metrics,
    to_series,
)
from edgewright.flows.interrupts import defer_interrupts, finish_on_interrupt
from edgewright.flows.workspace import Workspace
from edgewright.kernels.preprocessing import prepare_with_kernels
from edgewright.runtimes.table import check_options, find_runtime
from edgewright.schema.arrays import Array
from edgewright.schema.model import Model, Signature
from edgewright.schema.plan import EvaluatePlan
from edgewright.schema.vocabulary import RunState
from edgewright.store.recording import Recording, RunStart
from edgewright.tasks.data.dataset import Dataset, open_dataset, split
from edgewright.tasks.metrics.metrics import compare_paired, find_worst_classes, summarize_results
from edgewright.tasks.metrics.samples import SampleResults, evaluate_samples, finalize_results, join
from edgewright.tasks.metrics.similarity import OutputAgreement
from edgewright.tasks.spec.check import check_labels, check_task, count_model_classes, get_output_name
from edgewright.tasks.spec.task import Classification, Task, read_label_names


class EvaluationResult(Struct, frozen=True, kw_only=True):
    """The report, and the first error of a candidate or the store; other candidates are evaluated in any case."""

    report: EvaluationReport
    error: EdgewrightError | None = None


@dataclass
class CandidateEvaluation:
    """The state of one candidate during the evaluation."""

    runner: Runner | SizedRunner
    run: Recording
    likeness: OutputAgreement
    fixed: Mapping[str, Array]
    scores: list[SampleResults] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)
    seconds: float = 0.0
    failure: EdgewrightError | None = None


def evaluate(plan: EvaluatePlan, workspace: Workspace, tags: Mapping[str, str] = {}) -> EvaluationResult:
    """Evaluate all candidates of a plan, chunk by chunk on the same samples, and record one run for each.

    Args:
        tags: put on every run.

    Raises:
        Cancelled: after Ctrl-C; partial results are stored as `cancelled`.
        EdgewrightError: before anything ran, or if the dataset fails. An error of one candidate is in the result.
    """
    task, models = _resolve_evaluation(plan)
    with open_dataset(plan.data, task, plan.code, prepare_with_kernels) as data:
        indices = choose_samples(plan, data)
        data.check(indices)
        for candidate in plan.candidates:
            check_labels(data, task, read_source_signature(models[candidate.model]), indices)
        plan = msgspec.structs.replace(plan, data_fingerprint=data.fingerprint)
        session = EvaluationSession(plan, task, data, workspace, requested=len(indices))
        with ExitStack() as workers, finish_on_interrupt(session.finish):
            session.begin(plan, models, workers, tags)
            with ChunkPrefetcher(data, indices) as chunks:
                session.run(chunks, workspace.store.publish_progress(workspace.progress))
        return session.finish("done")


def _resolve_evaluation(plan: EvaluatePlan) -> tuple[Task, dict[str, Model]]:
    """Return the task and the models, checked against each other, without starting or writing anything."""
    try:
        task = msgspec.convert(plan.task, Task)
    except msgspec.ValidationError as error:
        raise ConfigError("the plan's task cannot be used", str(error), "docs/task.md describes every key") from None
    for name in ("threads", "seed", "timeout_s"):
        check_number(name, getattr(plan, name))
    if not plan.candidates:
        raise UsageError("no model was given", "", "run edgewright evaluate MODEL --task task.toml --data DATA")
    models = read_models([candidate.model for candidate in plan.candidates], sets=True)
    check_input_names("--fix", plan.fixed, models)
    for candidate in plan.candidates:
        info = find_runtime(candidate.runtime)
        check_runs_here(info)
        check_options(info, candidate.options)
        signature = read_source_signature(models[candidate.model])
        free = tuple(spec for spec in signature.inputs if spec.name not in plan.fixed)
        check_task(task, msgspec.structs.replace(signature, inputs=free))
        _make_fixed_inputs(signature, plan.fixed)
    return task, models


def _make_fixed_inputs(signature: Signature, fixed: Mapping[str, Sequence[int | float]]) -> dict[str, Array]:
    """Return the fixed inputs that the model has; an artifact may have some of them as constants."""
    names = {spec.name for spec in signature.inputs}
    own = {name: values for name, values in fixed.items() if name in names}
    return make_fixed(signature, fix_batch(signature, {}), own)


def choose_samples(plan: EvaluatePlan, data: Dataset) -> Sequence[int]:
    """Return the indices of the plan's samples, in its order.

    Raises UsageError if options exclude each other, or no sample is left.
    """
    given = [
        name
        for name, value in (("samples", plan.samples), ("leave-out", plan.leave_out), ("indices", plan.indices))
        if value is not None
    ]
    if len(given) > 1:
        raise UsageError(
            f"--{given[0]} and --{given[1]} exclude each other", "each of them selects the samples", "use one of them"
        )
    chosen: Sequence[int] = range(len(data)) if plan.indices is None else plan.indices
    if plan.samples is not None:
        chosen = split(len(data), plan.samples, plan.seed)[0]
    if plan.leave_out is not None:
        chosen = split(len(data), plan.leave_out, plan.seed)[1]
    if not chosen:
        raise UsageError(f"--{given[0]} selects no sample", f"{data.title} has {len(data)}", f"remove --{given[0]}")
    return chosen


class EvaluationSession:
    """The stored runs of one evaluation: created together and finished once, whatever their state."""

    def __init__(self, plan: EvaluatePlan, task: Task, data: Dataset, workspace: Workspace, *, requested: int) -> None:
        self._source, self._code, self._task, self._data = plan.data, plan.code, task, data
        self._workspace, self._requested = workspace, requested
        self._evaluations: list[CandidateEvaluation] = []
        self._began = monotonic()

    def begin(
        self, plan: EvaluatePlan, models: Mapping[str, Model], workers: ExitStack, tags: Mapping[str, str]
    ) -> None:
        """Record one run for each candidate, and prepare its worker."""
        described = self._workspace.describe_device()
        for candidate in plan.candidates:
            model = models[candidate.model]
            known = msgspec.structs.replace(candidate, model_sha256=model.sha256)
            own = msgspec.structs.replace(plan, candidates=(known,))
            start: RunStart = {
                **described,
                "parent_id": self._evaluations[0].run.id if self._evaluations else None,
                "model": model,
                "runtime": candidate.runtime,
                "tags": dict(tags),
            }
            run = self._workspace.recording("evaluate", own, **start)
            runner = make_runner(
                model,
                candidate.runtime,
                self._workspace.device,
                options=candidate.options,
                threads=plan.threads,
                timeout_s=plan.timeout_s,
            )
            workers.enter_context(runner)
            likeness = OutputAgreement(self._get_class_output(read_source_signature(model)))
            fixed = _make_fixed_inputs(read_source_signature(model), plan.fixed)
            self._evaluations.append(CandidateEvaluation(runner=runner, run=run, likeness=likeness, fixed=fixed))

    def _get_class_output(self, signature: Signature) -> str | None:
        """Return the output whose largest entry is the class."""
        return get_output_name(self._task, signature) if isinstance(self._task.output, Classification) else None

    def run(self, chunks: ChunkPrefetcher, progress: Progress) -> None:
        """Run every chunk through every candidate that has not failed."""
        title = f"evaluate {len(self._evaluations)} candidate{'s' if len(self._evaluations) > 1 else ''}"
        progress(f"{title}: 0 of {self._requested} samples")
        done, began = 0, monotonic()
        for chunk in chunks:
            reference: dict[str, Array] | None = None
            for evaluation in self._evaluations:
                outputs = self._run_chunk(evaluation, chunk, reference)
                reference = outputs if evaluation is self._evaluations[0] else reference
            if all(evaluation.failure is not None for evaluation in self._evaluations):
                return
            done += len(chunk.indices)
            left = (self._requested - done) * (monotonic() - began) / done
            progress(f"{title}: {done} of {self._requested} samples, {left:.0f} s left")

    def _run_chunk(
        self, evaluation: CandidateEvaluation, chunk: Chunk, reference: dict[str, Array] | None
    ) -> dict[str, Array] | None:
        """Return the outputs; None if the candidate failed, which is recorded."""
        if evaluation.failure is not None:
            return None
        began = monotonic()
        try:
            count = len(chunk.indices)
            fixed = {name: np.repeat(value[None], count, axis=0) for name, value in evaluation.fixed.items()}
            outputs = evaluation.runner.run({**chunk.stack, **fixed})
        except EdgewrightError as error:
            evaluation.failure = error
            return None
        seconds = monotonic() - began
        scores = evaluate_samples(
            self._task, outputs, chunk.labels, self._code
        )  # an invalid label fails all candidates
        if reference is not None:
            evaluation.likeness.add(reference, outputs)
        evaluation.seconds += seconds
        evaluation.scores.append(scores)
        evaluation.indices += chunk.indices
        return outputs

    def finish(self, state: RunState, error: str = "") -> EvaluationResult:
        """Compute the metrics and write every run. A metric that cannot be computed fails only its run."""
        with defer_interrupts():
            self._align()
            whole = [self._summarize_scores(evaluation) for evaluation in self._evaluations]
            rows = [
                self._row(evaluation, own, whole[0], state, error)
                for evaluation, own in zip(self._evaluations, whole, strict=True)
            ]
            failures = [evaluation.failure for evaluation in self._evaluations if evaluation.failure is not None]
            for evaluation, own, row in zip(self._evaluations, whole, rows, strict=True):
                failures += self._save(evaluation, own, row)
        return EvaluationResult(report=self._report(rows), error=failures[0] if failures else None)

    def _align(self) -> None:
        """Drop the chunk that an interruption left incomplete, so that the candidates can be compared."""
        sound = [evaluation for evaluation in self._evaluations if evaluation.failure is None]
        common = min((len(evaluation.scores) for evaluation in sound), default=0)
        for evaluation in sound:
            dropped = sum(len(one.values) for one in evaluation.scores[common:])
            evaluation.scores = evaluation.scores[:common]
            evaluation.indices = evaluation.indices[: len(evaluation.indices) - dropped]

    def _summarize_scores(self, evaluation: CandidateEvaluation) -> SampleResults | None:
        """Return the metric over all evaluated samples; None without samples."""
        if not evaluation.scores:
            return None
        try:
            return finalize_results(self._task, join(evaluation.scores))
        except EdgewrightError as error:
            evaluation.failure = evaluation.failure or error
            return None

    def _row(
        self,
        evaluation: CandidateEvaluation,
        own: SampleResults | None,
        first: SampleResults | None,
        state: RunState,
        error: str,
    ) -> EvaluationRow:
        model, reference = evaluation.run.run.model, evaluation is self._evaluations[0]
        paired = None
        if not reference and own is not None and first is not None and len(own.values) == len(first.values):
            paired = make_paired_row(compare_paired(self._task, first, own))
        return EvaluationRow(
            run_id=evaluation.run.id,
            state="failed" if evaluation.failure is not None else state,
            error=str(evaluation.failure or error) or None,
            model=model.name if model else "",
            model_sha256=model.sha256 if model else "",
            runtime=evaluation.run.run.runtime,
            precision=model.precision if model else "",
            reference=reference,
            evaluated=len(evaluation.indices),
            metric=make_metric_row(summarize_results(self._task, own), higher=self._task.higher_is_better)
            if own
            else None,
            agreement=make_share_row(evaluation.likeness.agreement()),
            sqnr_db=evaluation.likeness.sqnr_db(),
            paired=paired,
            samples_per_second=len(evaluation.indices) / evaluation.seconds if evaluation.seconds else None,
            worst_classes=name_classes(find_worst_classes(own), read_label_names(self._task)) if own else (),
            notes=evaluation.runner.notes,
        )

    def _save(
        self, evaluation: CandidateEvaluation, own: SampleResults | None, row: EvaluationRow
    ) -> list[EdgewrightError]:
        """Write every run; an error with one run does not stop the others."""
        evaluation.run.add(
            metrics=to_metrics(row, len(self._data.skipped)),
            series=to_series(evaluation.indices, own) if own is not None else (),
        )
        try:
            evaluation.run.finish(row.state, row.error or "")
        except StoreError as failure:
            return [failure]
        return []

    def _count_classes(self) -> int:
        model = self._evaluations[0].run.run.model
        return count_model_classes(self._task, read_source_signature(model)) if model else 0

    def _report(self, rows: Sequence[EvaluationRow]) -> EvaluationReport:
        return EvaluationReport(
            task=self._task.name,
            metric=self._task.metric,
            data=self._source,
            data_fingerprint=self._data.fingerprint,
            samples=self._requested,
            evaluated=max((row.evaluated for row in rows), default=0),
            seconds=monotonic() - self._began,
            skipped=tuple(
                SkippedRow(index=index, name=one.name, why=one.why) for index, one in sorted(self._data.skipped.items())
            ),
            notes=(*self._data.notes, *find_guessing(rows[0].metric, self._count_classes())),
            results=tuple(rows),
            answer=make_answer(rows),
        )
