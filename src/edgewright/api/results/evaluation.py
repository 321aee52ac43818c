"""Results of `evaluate` and `invoke`."""

from collections.abc import Sequence
from typing import Any

from edgewright.api.results.base import Result, Table
from edgewright.api.results.measurement import StoredRunsResult, name_difference
from edgewright.flows.evaluate.report import EvaluationReport, EvaluationRow, PairedRow
from edgewright.schema.metrics import is_share
from edgewright.schema.units import UNKNOWN, show_number, show_share

HEADERS = (
    "model", "runtime", "precision", "samples", "metric", "interval", "difference", "p", "agreement", "SQNR",
    "samples/s", "run",
)  # fmt: skip
DROPPABLE = ("samples/s", "p", "precision", "interval")


class EvaluateResult(StoredRunsResult):
    """The metric of each model on the same samples, with its 95 % interval."""

    report: EvaluationReport

    @property
    def rows(self) -> Sequence[EvaluationRow]:
        return self.report.results

    @property
    def verdicts(self) -> tuple[str, ...]:
        """Return of each model after the first whether it is `better`, `worse` or `inconclusive`."""
        return tuple(map(_judge_row, self.rows[1:]))

    @property
    def answer(self) -> str:
        return self.report.answer

    def table(self) -> Table:
        headers = [self.report.metric if header == "metric" else header for header in HEADERS]
        return Table(headers, list(map(_make_row, self.rows)), DROPPABLE, ("run",))


class InvokeResult(Result):
    """The outputs of one inference.

    Attributes:
        outputs: arrays by the source's names.
        notes: of the runtime's session.
    """

    def __init__(self, report: dict[str, Any], outputs: dict[str, Any], notes: Sequence[str]) -> None:
        super().__init__(report)
        self.outputs, self.notes = outputs, tuple(notes)

    @property
    def rows(self) -> Sequence[Any]:
        found: Sequence[Any] = self.report["outputs"]
        return found

    @property
    def verdicts(self) -> tuple[str, ...]:
        """Return `ok`: an inference that failed raises an error."""
        return ("ok",)

    @property
    def answer(self) -> str:
        shown = ", ".join(f"{row['name']} {row['dtype']}{row['shape']}" for row in self.rows)
        return f"{self.report['runtime']} returned {shown}."

    def table(self) -> Table:
        return Table(("output", "type", "shape"), [(row["name"], row["dtype"], str(row["shape"])) for row in self.rows])


def _judge_row(row: EvaluationRow) -> str:
    if row.paired is None or row.metric is None:
        return "inconclusive"
    return name_difference(row.paired.low, row.paired.high, higher_is_better=row.metric.better == "higher")


def _format_metric(row: EvaluationRow, value: float) -> str:
    return f"{value:.2%}" if _is_share(row) else show_number(value)


def _is_share(row: EvaluationRow) -> bool:
    return row.metric is not None and is_share(row.metric.name)


def _make_row(row: EvaluationRow) -> tuple[str, ...]:
    metric, paired = row.metric, row.paired
    share = _is_share(row)
    return (
        row.model,
        row.runtime,
        row.precision,
        str(row.evaluated),
        row.state if metric is None else _format_metric(row, metric.value),
        UNKNOWN if metric is None else f"{_format_metric(row, metric.low)}–{_format_metric(row, metric.high)}",
        ("reference" if row.reference else UNKNOWN) if paired is None else _format_difference(paired, share=share),
        UNKNOWN if paired is None else f"{paired.p:.2g}",
        UNKNOWN if row.agreement is None else show_share(row.agreement.value),
        UNKNOWN if row.sqnr_db is None else f"{row.sqnr_db:.1f} dB",
        UNKNOWN if row.samples_per_second is None else f"{row.samples_per_second:.0f}",
        row.run_id,
    )


def _format_difference(paired: PairedRow, *, share: bool) -> str:
    """Return the difference with its interval; for shares in percentage points."""
    value, low, high = paired.difference, paired.low, paired.high
    if share:
        return f"{value * 100:+.2f} pt ({low * 100:+.2f} to {high * 100:+.2f})"
    return f"{value:+.4g} ({low:+.4g} to {high:+.4g})"
