"""What a quantisation gives, as `edgewright quantize --json` prints it."""

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from edgewright.flows.compile.cells import supports_integer_io
from edgewright.flows.compile.flow import CellReport
from edgewright.flows.evaluate.report import EvaluationRow, MetricRow
from edgewright.quantization.job import QuantizationReport
from edgewright.schema.vocabulary import Precision
from edgewright.training.job import Curve

SCHEMA = "edgewright.quantize/1"
MAX_COSTLY_SHOWN = 5
QuantizeState = Literal["ok", "failed", "unsupported", "refused"]


class Speedup(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Time of the same runtime's float artifact over that of the quantised one; `low` and `high` are 99 %."""

    ratio: float
    low: float | None
    high: float | None
    verdict: str


class MetricWithReference(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The task's metric with its 95 % interval, beside that of the source in float on the same samples."""

    name: str
    value: float
    low: float
    high: float
    reference: float


class ProtectedOperator(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An operator that was treated better than the rest, and why."""

    node: str
    op: str
    precision: str
    why: str


class QuantizedRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One artifact.

    Attributes:
        path: None where there is none: it failed, or a gate kept it back.
        bytes_ratio: of the source file over it.
        agreement: share of the samples whose class is the source's; None where there are no classes.
        sqnr_db: of its outputs against the source's, on the same samples.
        speedup: None where it was not measured.
        int8_share: share of the computing operators that ran on integers, as the runtime's profiler tells; None where
            it does not tell.
        state: `refused` where a gate kept it back.
        notes: what its compiler tells, and why it takes and gives floats where integers were asked for.
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


class FinetuneReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What fine-tuning a quantised graph gave, in ONNX Runtime on the samples that judge.

    Attributes:
        before, after: the metric of the graph without it and with it.
        control: that of the float model trained for the same steps; None with `--no-control`.
        recovered: share of what quantising had lost that came back; None where it had lost nothing.
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
    """What `edgewright quantize --json` prints.

    Attributes:
        precision: that was carried out; of `auto` the one that was chosen, with `why`.
        graph, recipe: paths of the QDQ graph and of its recipe; None where a gate kept them back.
        calibrated_on, evaluated_on: numbers of samples.
        quantization: what was done to each operator and tensor, and what each costs, before any fine-tuning; None of
            fp16.
        tuning: what `--qat` gave.
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
    run_id: str | None = None


def list_protected(report: QuantizationReport | None) -> tuple[ProtectedOperator, ...]:
    if report is None:
        return ()
    return tuple(
        ProtectedOperator(node=site.node, op=site.op, precision=site.precision, why=site.kept)
        for site in report.sites
        if site.kept
    )


def list_notes(cell: CellReport, *, integer_io: bool) -> tuple[str, ...]:
    """What is to be told of an artifact."""
    if not integer_io or supports_integer_io(cell.runtime):
        return cell.notes
    return (*cell.notes, f"its inputs and outputs stay float32: the compiler for {cell.runtime} has no io=integer")


def describe_costly_operators(report: QuantizationReport) -> str:
    """The operators that cost most, in words: by themselves where that was measured, else those that come out worst."""
    alone = sorted((site.sqnr_db, site.node, site.op) for site in report.sites if site.sqnr_db is not None)
    own = sorted((site.output_db, site.node, site.op) for site in report.sites if site.output_db is not None)
    words = "alone" if alone else "at its output"
    return ", ".join(f"{op} '{node}' ({db:.1f} dB {words})" for db, node, op in (alone or own)[:MAX_COSTLY_SHOWN])


def compare_metric(row: EvaluationRow, reference: MetricRow | None) -> MetricWithReference | None:
    if row.metric is None or reference is None:
        return None
    one = row.metric
    return MetricWithReference(name=one.name, value=one.value, low=one.low, high=one.high, reference=reference.value)


def compute_drop(metric: MetricWithReference, reference: MetricRow, *, share: bool) -> float:
    """How much worse it is, in points of a share or in the metric's unit."""
    worse = metric.reference - metric.value if reference.better == "higher" else metric.value - metric.reference
    return worse * 100 if share else worse


def find_gate_faults(
    row: QuantizedRow, reference: MetricRow, max_drop: float, least_agreement: float, *, share: bool
) -> Sequence[str]:
    """Why a gate keeps an artifact back; empty where it passes."""
    faults = []
    if row.agreement is not None and row.agreement < least_agreement:
        faults.append(f"only {row.agreement:.1%} of its classes are the source's, less than {least_agreement:.0%}")
    if row.metric is not None:
        drop = compute_drop(row.metric, reference, share=share)
        if not drop <= max_drop + 1e-9:  # a share of n samples is not exact in binary
            unit = " points" if share else ""
            faults.append(f"{row.metric.name} drops by {drop:.2f}{unit}, more than --max-drop {max_drop:g}")
    return faults
