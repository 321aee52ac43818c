"""How well models do on data, in the runtimes that will run them: each in one worker, all on the same samples."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
from msgspec import Struct
from numpy.typing import NDArray

from edgewright.bench.session import Tell
from edgewright.devices.contract import Device
from edgewright.errors import ConfigError, EdgewrightError, StoreError, UsageError
from edgewright.facts.model import Model, Signature
from edgewright.facts.plan import EvaluatePlan
from edgewright.facts.run import Run
from edgewright.facts.words import RunState
from edgewright.flows.chunks import Chunk, ReadAhead
from edgewright.flows.evaluation import (
    EvaluationReport,
    EvaluationRow,
    SkippedRow,
    metric_row,
    name_classes,
    paired_row,
    share_row,
    to_metrics,
    to_series,
)
from edgewright.flows.inference import Runner
from edgewright.flows.keeping import interrupts_held, kept_when_interrupted
from edgewright.flows.resolve import check_number, check_runs_here, read_models, source_signature
from edgewright.formats.artifacts import find_record
from edgewright.runtimes.table import check_options, runtime_info
from edgewright.store.ids import new_run_id
from edgewright.store.store import Store, utc_now
from edgewright.tasks.check import check_labels, check_task, output_name
from edgewright.tasks.contract import Classification, Task, label_names
from edgewright.tasks.data import Data, open_data, split
from edgewright.tasks.likeness import Likeness
from edgewright.tasks.metrics import Judged, join, judge, pair, settle, summarise, worst_classes

Array = NDArray[Any]


class Evaluated(Struct, frozen=True, kw_only=True):
    """The report, and what went wrong first, of a candidate or of the record; the others are evaluated all the same."""

    report: EvaluationReport
    error: EdgewrightError | None = None


@dataclass
class Lane:
    """One candidate on its way through the data."""

    runner: Runner
    run: Run
    likeness: Likeness
    judged: list[Judged] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)
    seconds: float = 0.0
    failure: EdgewrightError | None = None


def evaluate(plan: EvaluatePlan, device: Device, store: Store, tell: Tell, tags: Mapping[str, str] = {}) -> Evaluated:
    """Evaluate all candidates of a plan, chunk by chunk on the same samples, and record one run for each.

    Args:
        tell: is told how far it is, one line at a time.
        tags: put on every run.

    Raises:
        Cancelled: after Ctrl-C; what was evaluated is kept as `cancelled`.
        EdgewrightError: before anything ran, or where the data set fails. An error of one candidate is in the result.
    """
    task, models = resolve_evaluation(plan)
    with open_data(plan.data, task, plan.code) as data:
        indices = choose_samples(plan, data)
        data.check(indices)
        for candidate in plan.candidates:
            check_labels(data, task, source_signature(models[candidate.model]), indices)
        plan = msgspec.structs.replace(plan, data_fingerprint=data.fingerprint)
        session = Session(plan=plan, task=task, data=data, device=device, store=store, asked=len(indices))
        with ExitStack() as workers, kept_when_interrupted(session.finish):
            session.begin(models, workers, tags)
            with ReadAhead(data, indices) as chunks:
                session.run(chunks, store.telling(tell))
        return session.finish("done")


def resolve_evaluation(plan: EvaluatePlan) -> tuple[Task, dict[str, Model]]:
    """The task and the models, checked against each other. Starts and writes nothing."""
    try:
        task = msgspec.convert(plan.task, Task)
    except msgspec.ValidationError as error:
        raise ConfigError("the plan's task cannot be used", str(error), "docs/task.md has every key") from None
    for name in ("threads", "seed", "timeout_s"):
        check_number(name, getattr(plan, name))
    if not plan.candidates:
        raise UsageError("no model is given", "", "edgewright evaluate MODEL --task task.toml --data DATA")
    models = read_models([candidate.model for candidate in plan.candidates])
    for candidate in plan.candidates:
        info = runtime_info(candidate.runtime)
        check_runs_here(info)
        check_options(info, candidate.options)
        check_task(task, source_signature(models[candidate.model]))
    return task, models


def choose_samples(plan: EvaluatePlan, data: Data) -> Sequence[int]:
    """The samples that the plan wants, in its order.

    UsageError where two words of it exclude each other, or where none is left.
    """
    given = [
        name
        for name, value in (("samples", plan.samples), ("leave-out", plan.leave_out), ("indices", plan.indices))
        if value is not None
    ]
    if len(given) > 1:
        raise UsageError(f"--{given[0]} and --{given[1]} exclude each other", "each chooses the samples", "give one")
    chosen: Sequence[int] = range(len(data)) if plan.indices is None else plan.indices
    if plan.samples is not None:
        chosen = split(len(data), plan.samples, plan.seed)[0]
    if plan.leave_out is not None:
        chosen = split(len(data), plan.leave_out, plan.seed)[1]
    if not chosen:
        raise UsageError(f"--{given[0]} leaves no sample", f"{data.title} has {len(data)}", f"leave --{given[0]} out")
    return chosen


class Session:
    """The runs of one evaluation: begun together, ended once, in whatever state they are then."""

    def __init__(self, *, plan: EvaluatePlan, task: Task, data: Data, device: Device, store: Store, asked: int) -> None:
        self._plan, self._task, self._data = plan, task, data
        self._device, self._store, self._asked = device, store, asked
        self._lanes: list[Lane] = []
        self._began = monotonic()

    def begin(self, models: Mapping[str, Model], workers: ExitStack, tags: Mapping[str, str]) -> None:
        """Record one run for each candidate, and make ready for its worker."""
        facts, environment = self._device.facts(), self._device.environment()
        for candidate in self._plan.candidates:
            model = models[candidate.model]
            own = msgspec.structs.replace(self._plan, candidates=(candidate,))
            run = Run(
                id=new_run_id(),
                kind="evaluate",
                state="running",
                started_at=utc_now(),
                parent_id=self._lanes[0].run.id if self._lanes else None,
                model=model,
                device=facts,
                runtime=candidate.runtime,
                plan=msgspec.to_builtins(own),
                environment=environment,
                tags=dict(tags),
            )
            self._store.begin(run)
            runner = Runner(
                model,
                find_record(Path(model.path)),
                candidate.runtime,
                self._device,
                options=candidate.options,
                threads=self._plan.threads,
                timeout_s=self._plan.timeout_s,
            )
            likeness = Likeness(self._classes_of(source_signature(model)))
            self._lanes.append(Lane(runner=workers.enter_context(runner), run=run, likeness=likeness))

    def _classes_of(self, signature: Signature) -> str | None:
        """The output whose largest entry is a class."""
        return output_name(self._task, signature) if isinstance(self._task.output, Classification) else None

    def run(self, chunks: ReadAhead, tell: Tell) -> None:
        """Every chunk through every candidate that has not failed."""
        title = f"evaluate {len(self._lanes)} candidate{'s' if len(self._lanes) > 1 else ''}"
        tell(f"{title}: 0 of {self._asked} samples")
        done, began = 0, monotonic()
        for chunk in chunks:
            reference: dict[str, Array] | None = None
            for lane in self._lanes:
                outputs = self._run_chunk(lane, chunk, reference)
                reference = outputs if lane is self._lanes[0] else reference
            if all(lane.failure is not None for lane in self._lanes):
                return
            done += len(chunk.indices)
            left = (self._asked - done) * (monotonic() - began) / done
            tell(f"{title}: {done} of {self._asked} samples, {left:.0f} s left")

    def _run_chunk(self, lane: Lane, chunk: Chunk, reference: dict[str, Array] | None) -> dict[str, Array] | None:
        """The outputs; None where the candidate failed, which is written down."""
        if lane.failure is not None:
            return None
        began = monotonic()
        try:
            outputs = lane.runner.run(chunk.stack)
        except EdgewrightError as error:
            lane.failure = error
            return None
        seconds = monotonic() - began
        judged = judge(self._task, outputs, chunk.labels, self._plan.code)  # a label that does not fit fails for all
        if reference is not None:
            lane.likeness.add(reference, outputs)
        lane.seconds += seconds
        lane.judged.append(judged)
        lane.indices += chunk.indices
        return outputs

    def finish(self, state: RunState, error: str = "") -> Evaluated:
        """Sum up and write every run. A metric that cannot be summed up fails its run alone."""
        with interrupts_held():
            self._align()
            whole = [self._settle(lane) for lane in self._lanes]
            rows = [self._row(lane, own, whole[0], state, error) for lane, own in zip(self._lanes, whole, strict=True)]
            failures = [lane.failure for lane in self._lanes if lane.failure is not None]
            for lane, own, row in zip(self._lanes, whole, rows, strict=True):
                failures += self._save(lane, own, row)
        return Evaluated(report=self._report(rows), error=failures[0] if failures else None)

    def _align(self) -> None:
        """Drop the chunk that an interruption left to some of the candidates alone, so that they can be compared."""
        sound = [lane for lane in self._lanes if lane.failure is None]
        common = min((len(lane.judged) for lane in sound), default=0)
        for lane in sound:
            dropped = sum(len(one.values) for one in lane.judged[common:])
            lane.judged = lane.judged[:common]
            lane.indices = lane.indices[: len(lane.indices) - dropped]

    def _settle(self, lane: Lane) -> Judged | None:
        """All that was judged; None where nothing was."""
        if not lane.judged:
            return None
        try:
            return settle(self._task, join(lane.judged))
        except EdgewrightError as error:
            lane.failure = lane.failure or error
            return None

    def _row(self, lane: Lane, own: Judged | None, first: Judged | None, state: RunState, error: str) -> EvaluationRow:
        model, reference = lane.run.model, lane is self._lanes[0]
        paired = None
        if not reference and own is not None and first is not None and len(own.values) == len(first.values):
            paired = paired_row(pair(self._task, first, own))
        return EvaluationRow(
            run_id=lane.run.id,
            state="failed" if lane.failure is not None else state,
            error=str(lane.failure or error) or None,
            model=model.name if model else "",
            model_sha256=model.sha256 if model else "",
            runtime=lane.run.runtime,
            precision=model.precision if model else "",
            reference=reference,
            evaluated=len(lane.indices),
            metric=metric_row(summarise(self._task, own), higher=self._task.higher_is_better) if own else None,
            agreement=share_row(lane.likeness.agreement()),
            sqnr_db=lane.likeness.sqnr_db(),
            paired=paired,
            samples_per_second=len(lane.indices) / lane.seconds if lane.seconds else None,
            worst_classes=name_classes(worst_classes(own), label_names(self._task)) if own else (),
            notes=lane.runner.notes,
        )

    def _save(self, lane: Lane, own: Judged | None, row: EvaluationRow) -> list[EdgewrightError]:
        """Every run is tried, so that one that cannot be written does not cost the others."""
        run = msgspec.structs.replace(
            lane.run,
            state=row.state,
            finished_at=utc_now(),
            error=row.error,
            metrics=to_metrics(row, len(self._data.skipped)),
            series=to_series(lane.indices, own) if own is not None else (),
        )
        try:
            self._store.finish(run)
        except StoreError as failure:
            return [failure]
        return []

    def _report(self, rows: Sequence[EvaluationRow]) -> EvaluationReport:
        return EvaluationReport(
            task=self._task.name,
            metric=self._task.metric,
            data=self._plan.data,
            data_fingerprint=self._plan.data_fingerprint,
            samples=self._asked,
            evaluated=max((row.evaluated for row in rows), default=0),
            seconds=monotonic() - self._began,
            skipped=tuple(
                SkippedRow(index=index, name=one.name, why=one.why) for index, one in sorted(self._data.skipped.items())
            ),
            notes=self._data.notes,
            results=tuple(rows),
        )
