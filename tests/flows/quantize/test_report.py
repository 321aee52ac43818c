"""The report of a quantization: gates, the costliest operators, notes."""

from math import nan
from typing import Any

import pytest
from msgspec.structs import replace

from edgewright.flows.compile.flow import CellReport
from edgewright.flows.evaluate.report import EvaluationRow, MetricRow
from edgewright.flows.quantize.report import (
    MetricWithReference,
    QuantizedRow,
    compare_metric,
    compute_drop,
    describe_costly_operators,
    find_gate_faults,
    list_notes,
    list_protected,
)
from edgewright.quantization.job import FidelityReport, QuantizationReport, WeightNodeReport

METRIC = MetricRow(name="top1", value=0.9, low=0.8, high=0.95, n=100, better="higher")
MEASURED = MetricWithReference(name="top1", value=0.88, low=0.8, high=0.9, reference=0.9)
ROW = QuantizedRow(
    runtime="litert", precision="w8a8", path=None, bytes=None, bytes_ratio=None, metric=MEASURED, agreement=0.9,
    sqnr_db=None, speedup=None, int8_share=None, kept=(), state="ok", reason="",
)  # fmt: skip


def make_site(node: str, alone: float | None, own: float | None, kept: str = "") -> WeightNodeReport:
    return WeightNodeReport(
        node=node, op="Conv", precision="w8a8", kept=kept, sqnr_db=alone, weights_db=None, input_db=None,
        agreement=None, output_db=own, weight_bytes=1,
    )  # fmt: skip


def make_quantization(*sites: WeightNodeReport) -> QuantizationReport:
    fidelity = FidelityReport(sqnr_db=30.0, agreement=1.0, expected_flips=None)
    return QuantizationReport(
        precision="w8a8", fitted_on=1, checked_on=1, first=fidelity, final=fidelity, sites=sites, tensors=(),
        integer_operators=0, operators=0,
    )  # fmt: skip


def test_the_drop_is_in_points_or_in_the_metrics_unit() -> None:
    assert compute_drop(MEASURED, METRIC, share=True) == pytest.approx(2.0)
    assert compute_drop(MEASURED, METRIC, share=False) == pytest.approx(0.02)
    lower = replace(METRIC, better="lower")
    assert compute_drop(MEASURED, lower, share=True) == pytest.approx(-2.0)


@pytest.mark.parametrize(
    ("changes", "max_drop", "share", "faults"),
    [
        ({}, 2.0, True, []),  # both just allowed
        ({}, 1.9, True, ["top1 drops by 2.00 points, more than --max-drop 1.9"]),
        ({}, 0.01, False, ["top1 drops by 0.02, more than --max-drop 0.01"]),
        ({}, None, True, ["top1 drops by 2.00 points, more than 1"]),
        ({}, None, False, ["top1 drops by 0.02, more than 1% of the float value 0.9"]),
        ({"metric": replace(MEASURED, value=0.892)}, None, True, []),
        ({"metric": replace(MEASURED, value=0.892)}, None, False, []),
        ({"metric": replace(MEASURED, value=nan)}, 9.0, True, ["top1 drops by nan points, more than --max-drop 9"]),
        ({"agreement": 0.89}, 2.0, True, ["its class agreement with the source model is only 89.0%, less than 90%"]),
        ({"agreement": None, "metric": None}, 0.0, True, []),
    ],
)  # fmt: skip
def test_gates(changes: dict[str, Any], max_drop: float | None, *, share: bool, faults: list[str]) -> None:
    assert find_gate_faults(replace(ROW, **changes), METRIC, max_drop, 0.9, share=share) == faults


def test_the_metric_with_its_reference() -> None:
    row = EvaluationRow(
        run_id="r", state="done", error=None, model="m", model_sha256="", runtime="litert", precision="w8a8",
        reference=False, evaluated=100, metric=METRIC, agreement=None, sqnr_db=None, paired=None,
        samples_per_second=None, worst_classes=(), notes=(),
    )  # fmt: skip
    assert compare_metric(row, replace(METRIC, value=0.5)) == MetricWithReference(
        name="top1", value=0.9, low=0.8, high=0.95, reference=0.5
    )
    assert compare_metric(row, None) is None
    assert compare_metric(replace(row, metric=None), METRIC) is None


def test_the_costliest_operators_first() -> None:
    sites = [make_site(f"n{k}", 10.0 - k, None) for k in range(7)] + [make_site("other", None, 1.0)]
    assert describe_costly_operators(make_quantization(*sites)) == ", ".join(
        f"Conv 'n{k}' ({10 - k:.1f} dB alone)" for k in range(6, 1, -1)
    )
    own = [make_site("a", None, 2.0), make_site("b", None, None), make_site("c", None, 1.0)]
    assert (
        describe_costly_operators(make_quantization(*own))
        == "Conv 'c' (1.0 dB at its output), Conv 'a' (2.0 dB at its output)"
    )


def test_operators_with_more_precision_have_their_reason() -> None:
    found = list_protected(make_quantization(make_site("a", None, None), make_site("b", None, None, kept="a rule")))
    assert [(one.node, one.op, one.precision, one.why) for one in found] == [("b", "Conv", "w8a8", "a rule")]
    assert list_protected(None) == ()


@pytest.mark.parametrize(("runtime", "supported"), [("litert", True), ("ncnn", False)])
def test_a_note_says_where_inputs_stay_floats(runtime: str, *, supported: bool) -> None:
    cell = CellReport(
        runtime=runtime,
        precision="w8a8",
        shapes={},
        path=None,
        bytes=None,
        seconds=1.0,
        state="ok",
        reason="",
        notes=("first",),
    )
    assert list_notes(cell, ("random weights", "first"), integer_io=False) == ("random weights", "first")
    found = list_notes(cell, (), integer_io=True)
    assert found[0] == "first"
    assert len(found) == (1 if supported else 2)
    assert supported or f"the converter for {runtime} does not support io=integer" in found[1]
