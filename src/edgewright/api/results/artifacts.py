"""Results that are artifacts: of `compile` and `quantize`."""

from collections.abc import Sequence
from typing import Any

from edgewright.api.results.base import Result, Table
from edgewright.flows.compile.flow import CellReport, CompileReport
from edgewright.flows.compile.sizes import SetReport
from edgewright.flows.quantize.report import QuantizedRow, QuantizeReport
from edgewright.schema.units import UNKNOWN, show_bytes, show_number, show_share

COMPILE_HEADERS = (
    "runtime", "precision", "state", "size", "seconds", "cosine", "SQNR", "max abs", "argmax agreement", "artifact",
)  # fmt: skip
QUANTIZE_HEADERS = (
    "runtime", "precision", "state", "size", "compression", "metric", "interval", "float", "agreement", "SQNR",
    "speedup", "integer share", "artifact",
)  # fmt: skip
DROPPABLE = {"compile": ("max abs", "seconds", "cosine"), "quantize": ("interval", "integer share", "size", "SQNR")}


class ArtifactsResult(Result):
    """The artifacts of one model, a row for each."""

    @property
    def rows(self) -> Sequence[Any]:
        return tuple(self.report.artifacts)

    @property
    def artifacts(self) -> Sequence[Any]:
        return self.rows

    @property
    def verdicts(self) -> tuple[str, ...]:
        """Return of each artifact `ok`, `failed` or `unsupported`; of quantized ones also `refused` or `slower`."""
        return tuple(row.state for row in self.rows)


class CompileResult(ArtifactsResult):
    """The artifacts of one model, each compared with its source; of several sizes also their set files."""

    report: CompileReport

    @property
    def artifacts(self) -> Sequence[CellReport | SetReport]:
        return (*self.report.sets, *self.report.artifacts)

    @property
    def answer(self) -> str:
        return "; ".join(map(_describe_cell, self.rows)) + "."

    def table(self) -> Table:
        rows = list(map(_make_cell_row, self.rows))
        if not any(one.shapes != self.rows[0].shapes for one in self.rows):
            return Table(COMPILE_HEADERS, rows, DROPPABLE["compile"])
        shapes = [" ".join(f"{name}={_join(sizes)}" for name, sizes in one.shapes.items()) for one in self.rows]
        sized = [(*row[:2], shape, *row[2:]) for row, shape in zip(rows, shapes, strict=True)]
        return Table((*COMPILE_HEADERS[:2], "shapes", *COMPILE_HEADERS[2:]), sized, DROPPABLE["compile"])


class QuantizeResult(ArtifactsResult):
    """The quantized artifacts of one model, each evaluated and compared with the float model."""

    report: QuantizeReport

    @property
    def answer(self) -> str:
        return self.report.answer

    def table(self) -> Table:
        return Table(QUANTIZE_HEADERS, list(map(_make_quantized_row, self.rows)), DROPPABLE["quantize"])

    def _draw(self) -> Sequence[str]:
        """Draw the quantization error of each operator."""
        from edgewright.web.pages.quantization import make_quantization_context

        return [make_quantization_context(self.report.quantization)["bars"]] if self.report.quantization else ()

    def _render(self) -> str:
        from edgewright.web.pages.quantization import render_quantization

        return render_quantization(self.report)


def _describe_cell(cell: CellReport) -> str:
    name = f"{cell.runtime} {cell.precision}"
    if cell.state != "ok" or cell.bytes is None:
        return f"{name}: {cell.state}, {next(iter(cell.reason.splitlines()), '')}"
    checked = "not checked" if cell.numerics is None else f"SQNR {cell.numerics.sqnr_db:.1f} dB against the source"
    return f"{name}: {show_bytes(cell.bytes)}, {checked}"


def _join(sizes: Sequence[int]) -> str:
    return ",".join(map(str, sizes))


def _make_cell_row(cell: CellReport) -> tuple[str, ...]:
    state = "cached" if cell.cached else cell.state
    figures = (UNKNOWN,) * 4
    if (n := cell.numerics) is not None:
        agreement = UNKNOWN if n.argmax_agreement is None else show_share(n.argmax_agreement)
        figures = (f"{n.cosine:.6f}", f"{n.sqnr_db:.1f} dB", f"{n.max_abs:.2g}", agreement)
    size = UNKNOWN if cell.bytes is None else show_bytes(cell.bytes)
    return (cell.runtime, cell.precision, state, size, f"{cell.seconds:.1f}", *figures, cell.path or UNKNOWN)


def _make_quantized_row(row: QuantizedRow) -> tuple[str, ...]:
    metric, speed = row.metric, row.speedup
    return (
        row.runtime,
        row.precision,
        row.state,
        show_bytes(row.bytes) if row.bytes is not None else "–",
        f"{row.bytes_ratio:.2f}×" if row.bytes_ratio else "–",
        f"{metric.name} {show_number(metric.value)}" if metric else "–",
        f"{show_number(metric.low)}–{show_number(metric.high)}" if metric else "–",
        show_number(metric.reference) if metric else "–",
        f"{row.agreement:.2%}" if row.agreement is not None else "–",
        f"{row.sqnr_db:.1f} dB" if row.sqnr_db is not None else "–",
        f"{speed.ratio:.2f}×" if speed else "–",
        f"{row.int8_share:.0%}" if row.int8_share is not None else "–",
        row.path or "–",
    )
