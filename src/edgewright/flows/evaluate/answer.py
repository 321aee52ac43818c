"""The answer of an evaluation: each metric with its interval, and its difference to the reference."""

from collections.abc import Sequence
from typing import NamedTuple

from edgewright.flows.evaluate.report import EvaluationRow, MetricRow, PairedRow
from edgewright.report.outcome import Change, Difference, Outcome, describe_difference, show_value
from edgewright.schema.metrics import is_share

OF_MODEL = "{model} in {runtime}: {result}"
VALUE = "{value} on {count} samples"
AGAINST = "against {reference}"


class EvaluationSummary(NamedTuple):
    """One evaluated model: its metric, and the paired difference to the model named `reference`."""

    metric: MetricRow
    paired: PairedRow | None
    reference: str = "the first model"


def make_outcome(one: EvaluationSummary) -> Outcome:
    metric, paired = one.metric, one.paired
    text = VALUE.format(value=show_value(metric.name, metric.value, metric.low, metric.high), count=f"{metric.n:,}")
    changes = [Change(what="value", text=text)]
    if paired is not None:
        share = is_share(metric.name)
        factor, unit = (100.0, "points") if share else (1.0, "")
        value, low, high = (factor * number for number in (paired.difference, paired.low, paired.high))
        difference = Difference(metric.name, value, low, high, metric.better, unit)
        changes.append(describe_difference(difference, AGAINST.format(reference=one.reference)))
    return Outcome(changes=tuple(changes))


def make_answer(rows: Sequence[EvaluationRow]) -> str:
    """Return the outcome of every row; the error of one without a metric."""
    reference = rows[0].model if rows else ""
    return " ".join(_describe_row(row, reference) for row in rows)


def _describe_row(row: EvaluationRow, reference: str) -> str:
    if row.metric is None:
        return OF_MODEL.format(model=row.model, runtime=row.runtime, result=f"{row.error or row.state}.")
    outcome = make_outcome(EvaluationSummary(row.metric, row.paired, reference))
    return OF_MODEL.format(model=row.model, runtime=row.runtime, result=outcome.answer)
