"""Result of `analyze`."""

from collections.abc import Sequence

from edgewright.api.results.base import Result, Table
from edgewright.flows.analyze.report import Analysis, RuntimeReport, UnitReport
from edgewright.schema.units import UNKNOWN, show_bytes, show_count

HEADERS = ("runtime", "unit", "backend", "operators", "partitions", "first reason", "fix")
STATE_NAMES = {"refused": "unsupported"}  # of states that JSON names otherwise


class AnalyzeResult(Result):
    """A model's costs, and its support by each runtime and unit, without running it."""

    report: Analysis

    @property
    def rows(self) -> Sequence[RuntimeReport]:
        return self.report.runtimes

    @property
    def verdicts(self) -> tuple[str, ...]:
        """Return the state of each runtime: `compiles`, `refused`, `needs shapes`, or `unknown`."""
        return tuple(report.state for report in self.rows)

    @property
    def answer(self) -> str:
        model, costs = self.report.model, self.report.costs
        states = ", ".join(f"{one.runtime} {STATE_NAMES.get(one.state, one.state)}" for one in self.rows)
        size = f"{show_count(costs.parameters)} parameters, {show_bytes(costs.weight_bytes)} of weights"
        return f"{model.name} has {model.operators} operators, {size}; {states}."

    def table(self) -> Table:
        rows = [row for report in self.rows for row in _make_runtime_rows(report)]
        return Table(HEADERS, rows, ("fix", "first reason"))


def _make_runtime_rows(report: RuntimeReport) -> list[tuple[str, ...]]:
    """Return one row per unit, or a single row for a runtime with unknown support."""
    if report.state == "unknown":
        return [(report.runtime, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, report.reason, "")]
    return [_make_unit_row(report, unit) for unit in report.units]


def _make_unit_row(report: RuntimeReport, unit: UnitReport) -> tuple[str, ...]:
    first = next(iter((*report.findings, *unit.findings)), None)
    count = UNKNOWN if unit.supported is None else f"{unit.supported} of {unit.operators}"
    reason = "" if first is None else f"{first.op}: {first.reason}" if first.op else first.reason
    partitions = UNKNOWN if unit.partitions is None or report.state == "refused" else str(unit.partitions)
    remedy = "" if first is None else first.remedy
    return (report.runtime, unit.unit, unit.backend, count, partitions, reason, remedy)
