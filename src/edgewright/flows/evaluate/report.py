"""Results of an evaluation, as the documented JSON and as stored metrics."""

from collections.abc import Sequence
from math import isfinite
from typing import Any

from msgspec import Struct

from edgewright.schema.run import Metric, Series
from edgewright.schema.vocabulary import RunState
from edgewright.tasks.metrics.intervals import PairedDifference
from edgewright.tasks.metrics.metrics import ClassErrors, Score
from edgewright.tasks.metrics.samples import SampleResults

SCHEMA = "edgewright.evaluate/1"

GUESSING = 2.0  # times the share of right guesses


class MetricRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The task's metric with its 95 % interval."""

    name: str
    value: float
    low: float
    high: float
    n: int
    better: str


class ShareRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    value: float
    low: float
    high: float


class PairedRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The metric minus that of the reference, on the same samples; `p` is the p-value of no difference."""

    difference: float
    low: float
    high: float
    p: float
    test: str


class ClassReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    label: int
    name: str
    n: int
    correct: int
    taken_for: int
    taken_for_name: str
    times: int


class SkippedRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    index: int
    name: str
    why: str


class EvaluationRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One candidate. Agreement, SQNR and the paired difference are against the first candidate, which has none.

    `samples_per_second` includes the transport of tensors to the worker; it is not a benchmark.
    """

    run_id: str
    state: RunState
    error: str | None
    model: str
    model_sha256: str
    runtime: str
    precision: str
    reference: bool
    evaluated: int
    metric: MetricRow | None
    agreement: ShareRow | None
    sqnr_db: float | None
    paired: PairedRow | None
    samples_per_second: float | None
    worst_classes: tuple[ClassReport, ...]
    notes: tuple[str, ...]


class EvaluationReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The JSON of `edgewright evaluate --json`.

    `answer` is the result in one line (`flows.evaluate.answer`). `samples` is the number requested; `skipped` of them
    could not be read. `seconds` is the duration of the evaluation.
    """

    schema: str = SCHEMA
    task: str
    metric: str
    data: str
    data_fingerprint: str
    samples: int
    evaluated: int
    seconds: float
    skipped: tuple[SkippedRow, ...]
    notes: tuple[str, ...]
    results: tuple[EvaluationRow, ...]
    answer: str = ""


def make_metric_row(score: Score, *, higher: bool) -> MetricRow:
    return MetricRow(
        name=score.name,
        value=score.value,
        low=score.low,
        high=score.high,
        n=score.n,
        better="higher" if higher else "lower",
    )


def find_guessing(row: MetricRow | None, classes: int) -> tuple[str, ...]:
    """Return a note if a model is hardly better than guessing: a wrong task is the most frequent cause."""
    if row is None or row.name not in ("accuracy", "top1") or classes < 2 or row.high >= GUESSING / classes:
        return ()
    inputs = "mean, std, color and layout"
    return (f"{row.name} {row.value:.4g} is close to guessing among {classes} classes: check {inputs} in the task",)


def make_share_row(score: Score | None) -> ShareRow | None:
    return None if score is None else ShareRow(value=score.value, low=score.low, high=score.high)


def make_paired_row(difference: PairedDifference) -> PairedRow:
    return PairedRow(
        difference=difference.value,
        low=difference.low,
        high=difference.high,
        p=difference.p,
        test=difference.test,
    )


def name_classes(rows: Sequence[ClassErrors], names: Sequence[str]) -> tuple[ClassReport, ...]:
    def called(label: int) -> str:
        return names[label] if label < len(names) else ""

    return tuple(
        ClassReport(
            label=row.label,
            name=called(row.label),
            n=row.n,
            correct=row.correct,
            taken_for=row.taken_for,
            taken_for_name=called(row.taken_for),
            times=row.times,
        )
        for row in rows
    )


def to_metrics(row: EvaluationRow, skipped: int) -> tuple[Metric, ...]:
    """Return the metrics for the store."""
    found: list[Metric] = []
    if (metric := row.metric) is not None and isfinite(metric.value):
        found.append(
            Metric(name=metric.name, unit="1", value=metric.value, low=metric.low, high=metric.high, n=metric.n)
        )
    if (share := row.agreement) is not None:
        found.append(
            Metric(name="agreement", unit="1", value=share.value, low=share.low, high=share.high, n=row.evaluated)
        )
    if (pair := row.paired) is not None:
        found.append(
            Metric(name="difference", unit="1", value=pair.difference, low=pair.low, high=pair.high, n=row.evaluated)
        )
        found.append(Metric(name="difference.p", unit="1", value=pair.p, n=row.evaluated))
    plain: dict[str, tuple[str, Any]] = {
        "sqnr": ("dB", row.sqnr_db),
        "samples_per_second": ("1/s", row.samples_per_second),
    }
    found += [
        Metric(name=name, unit=unit, value=value, n=row.evaluated)
        for name, (unit, value) in plain.items()
        if value is not None
    ]
    return (*found, Metric(name="skipped", unit="1", value=float(skipped)))


def to_series(indices: Sequence[int], whole: SampleResults) -> tuple[Series, ...]:
    """Return the values per sample, so that a later run can be paired with this one."""
    found = [
        Series(name="sample.index", unit="1", data=tuple(map(float, indices))),
        Series(name="sample.value", unit="1", data=tuple(map(float, whole.values))),
    ]
    if len(whole.predicted) and len(whole.labels) == len(whole.predicted):
        found.append(Series(name="sample.label", unit="1", data=tuple(map(float, whole.labels))))
    if len(whole.predicted):
        found.append(Series(name="sample.predicted", unit="1", data=tuple(map(float, whole.predicted))))
    return tuple(found)
