"""Report of quantization, as `edgewright quantize --json` prints it."""

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from edgewright.flows.compile.cells import supports_integer_io
from edgewright.flows.compile.flow import CellReport
from edgewright.flows.evaluate.report import EvaluationRow, MetricRow, PairedRow
from edgewright.quantization.job import QuantizationReport
from edgewright.schema.vocabulary import Precision
from edgewright.training.job import Curve

SCHEMA = "edgewright.quantize/1"
MAX_COSTLY_SHOWN = 5
QuantizeState = Literal["ok", "failed", "unsupported", "refused", "slower"]


class Speedup(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Time of the runtime's float artifact over that of the quantized one; `low` and `high` are a 99 % interval."""

    ratio: float
    low: float | None
    high: float | None
    verdict: str


class MetricWithReference(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The task's metric with its 95 % interval, and that of the float source on the same samples."""

    name: str
    value: float
    low: float
    high: float
    reference: float


class ProtectedOperator(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An operator with more precision than the rest, and the reason."""

    node: str
    op: str
    precision: str
    why: str


class QuantizedRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One artifact.

    Attributes:
        path: None if it failed or a gate rejected it.
        bytes_ratio: bytes of the source file over those of the artifact.
        agreement: share of the samples with the source's class; None without classes.
        sqnr_db: of its outputs against the source's, on the same samples.
        speedup: None if it was not measured.
        int8_share: share of the compute operators that ran in integer arithmetic, by the runtime's profiler; None if
            unknown.
        state: `refused` if its results do not pass the gate; `slower` if it was measured to be slower than the
            runtime's float artifact: it is published only with `--force`.
        paired: its metric minus that of the source, on the same samples.
        notes: of its converter, and why it has float inputs and outputs if integers were requested.
    """

    runtime: str
    precision: Precision
    path: str | None
    bytes: int | None
    bytes_ratio: float | None
    metric: MetricWithReference | None
    agreement: float | None
    sqnr_db: float | None
    speedup: Speedup | None
    int8_share: float | None
    kept: tuple[ProtectedOperator, ...]
    state: QuantizeState
    reason: str
    notes: tuple[str, ...] = ()
    run_id: str | None = None
    paired: PairedRow | None = None


class TriedPrecision(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A precision that was tried in a runtime, and its result, as in `QuantizedRow`."""

    runtime: str
    precision: Precision
    state: QuantizeState
    speedup: Speedup | None
    metric: MetricWithReference | None
    reason: str


class FinetuneReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Result of fine-tuning a quantized graph, in ONNX Runtime on the test samples.

    Attributes:
        before, after: the metric of the graph without it and with it.
        control: that of the float model trained for the same steps; None with `--no-control`.
        recovered: share of the quantization's accuracy drop that was recovered; None without a drop.
        trained_on, held_out: numbers of samples.
        steps, seconds, precision: of the training.
    """

    before: MetricRow
    after: MetricRow
    control: MetricRow | None
    recovered: float | None
    trained_on: int
    held_out: int
    steps: int
    seconds: float
    precision: str
    curves: tuple[Curve, ...]


class QuantizeReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The JSON of `edgewright quantize --json`.

    Attributes:
        precision: of the result; for `auto` the chosen one, with `why`.
        graph, recipe: paths of the QDQ graph and of its recipe; None if a gate rejected them.
        calibrated_on, evaluated_on: numbers of samples.
        quantization: treatment and cost of each operator and tensor, before fine-tuning; None for fp16.
        tuning: result of `--qat`.
        tried: every precision that was tried, by runtime, in order; more than one with `auto`.
        answer: what changed, in one line (`flows.quantize.answer`).
    """

    schema: str = SCHEMA
    source: str
    source_sha256: str
    precision: Precision
    why: str
    graph: str | None
    recipe: str | None
    calibrated_on: int
    evaluated_on: int
    seconds: float
    reference: MetricRow | None
    artifacts: tuple[QuantizedRow, ...]
    quantization: QuantizationReport | None
    tuning: FinetuneReport | None = None
    tried: tuple[TriedPrecision, ...] = ()
    run_id: str | None = None
    answer: str = ""


def list_protected(report: QuantizationReport | None) -> tuple[ProtectedOperator, ...]:
    if report is None:
        return ()
    return tuple(
        ProtectedOperator(node=site.node, op=site.op, precision=site.precision, why=site.kept)
        for site in report.sites
        if site.kept
    )


def list_notes(cell: CellReport, preparation: Sequence[str], *, integer_io: bool) -> tuple[str, ...]:
    """Return the notes on an artifact: on the preparation of its source, of its converter, and on its types."""
    notes = [*preparation, *cell.notes]
    if integer_io and not supports_integer_io(cell.runtime):
        notes.append(f"inputs and outputs stay float32: the converter for {cell.runtime} does not support io=integer")
    return tuple(dict.fromkeys(notes))


def describe_costly_operators(report: QuantizationReport) -> str:
    """Return the operators with the lowest SQNR as text, measured alone if possible, else at their outputs."""
    alone = sorted((site.sqnr_db, site.node, site.op) for site in report.sites if site.sqnr_db is not None)
    own = sorted((site.output_db, site.node, site.op) for site in report.sites if site.output_db is not None)
    words = "alone" if alone else "at its output"
    return ", ".join(f"{op} '{node}' ({db:.1f} dB {words})" for db, node, op in (alone or own)[:MAX_COSTLY_SHOWN])


def compare_metric(row: EvaluationRow, reference: MetricRow | None) -> MetricWithReference | None:
    if row.metric is None or reference is None:
        return None
    one = row.metric
    return MetricWithReference(name=one.name, value=one.value, low=one.low, high=one.high, reference=reference.value)


MAX_POINTS = 1.0  # allowed drop of a share in points, if the plan has none
MAX_RELATIVE_DROP = 0.01  # of any other metric, whose scale is unknown


def compute_drop(metric: MetricWithReference, reference: MetricRow, *, share: bool) -> float:
    """Return the drop in points of a share, or in the metric's unit."""
    worse = metric.reference - metric.value if reference.better == "higher" else metric.value - metric.reference
    return worse * 100 if share else worse


def find_gate_faults(
    row: QuantizedRow, reference: MetricRow, max_drop: float | None, least_agreement: float, *, share: bool
) -> Sequence[str]:
    """Return why a gate rejects an artifact; empty if it passes."""
    faults = []
    if row.agreement is not None and row.agreement < least_agreement:
        faults.append(
            f"its class agreement with the source model is only {row.agreement:.1%}, less than {least_agreement:.0%}"
        )
    if row.metric is not None:
        drop = compute_drop(row.metric, reference, share=share)
        if max_drop is not None:
            limit = f"--max-drop {max_drop:g}"
        else:
            max_drop = MAX_POINTS if share else MAX_RELATIVE_DROP * abs(row.metric.reference)
            limit = (
                f"{MAX_POINTS:g}" if share else f"{MAX_RELATIVE_DROP:.0%} of the float value {row.metric.reference:.4g}"
            )
        if not drop <= max_drop + 1e-9:  # rounding error of a share
            unit = " points" if share else ""
            shown = f"{drop:.2f}" if share else f"{drop:.4g}"
            changes = "drops" if reference.better == "higher" else "rises"
            faults.append(f"{row.metric.name} {changes} by {shown}{unit}, more than {limit}")
    return faults
