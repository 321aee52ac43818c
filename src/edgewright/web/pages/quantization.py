"""Quantization error by operator and tensor: section of the run's page, and HTML report."""

from pathlib import PurePath
from typing import Any

import msgspec
from markupsafe import Markup

from edgewright.flows.answers import load_report
from edgewright.flows.quantize.answer import make_outcome
from edgewright.flows.quantize.report import QuantizeReport
from edgewright.quantization.job import QuantizationReport, TensorReport, WeightNodeReport
from edgewright.report.charts.quantization import OperatorNoise, draw_operator_bars, draw_value_histogram
from edgewright.report.numbers import format_value
from edgewright.schema.run import Run
from edgewright.store.store import Store
from edgewright.web.server.assets import read_style
from edgewright.web.server.links import SingleFileLinks
from edgewright.web.server.responses import render

REPORT_ROLE = "quantization"
MAX_BYTES = 8 << 20
MAX_BARS, MAX_ROWS, MAX_TENSORS = 40, 500, 48


def render_quantization(report: QuantizeReport) -> str:
    """Return a self-contained HTML report without scripts and links."""
    style = Markup(read_style())  # noqa: S704 - our own file
    named = msgspec.structs.replace(
        report, source=PurePath(report.source).name
    )  # without local folders, because reports are shared
    context = {"page": "runs", "style": style, "csrf": "", "json_address": "", "report": named}
    context["outcome"] = make_outcome(report)
    tuned = report.tuning is not None
    found = make_quantization_context(report.quantization, tuned=tuned) if report.quantization else None
    return render("quantization_report.html", SingleFileLinks(), {**context, "quantization": found})


def make_quantization_context(report: QuantizationReport, *, tuned: bool = False) -> dict[str, Any]:
    """Return the variables of the template: operators in higher precision first, then by error; tensors by clipping.

    Args:
        tuned: whether the graph was fine-tuned after the report.
    """
    sites = sorted(report.sites, key=lambda one: (not one.kept, one.sqnr_db if one.sqnr_db is not None else 1e9))
    tensors = sorted(report.tensors, key=lambda one: -one.clipped)
    return {
        "report": report,
        "tuned": tuned,
        "sites": sites[:MAX_ROWS],
        "more_sites": max(len(sites) - MAX_ROWS, 0),
        "bars": draw_operator_bars(
            [_make_operator_noise(node_report) for node_report in sites if node_report.sqnr_db is not None][:MAX_BARS]
        ),
        "tensors": [(one, _draw_tensor(one)) for one in tensors[:MAX_TENSORS]],
        "more_tensors": max(len(tensors) - MAX_TENSORS, 0),
    }


def load_noise(run: Run, store: Store) -> dict[str, float]:
    """Return the share of the quantization error by node, each operator quantized alone; empty without a report."""
    found = load_quantization(run, store) if run.kind == "quantize" else None
    sites = found["report"].sites if found else ()
    power = {one.node: 10 ** (-one.sqnr_db / 10) for one in sites if one.sqnr_db is not None}
    total = sum(power.values())
    return {name: value / total for name, value in power.items()} if total else {}


def _make_operator_noise(node_report: WeightNodeReport) -> OperatorNoise:
    parts = [
        f"{node_report.node} ({node_report.op}, {node_report.precision})",
        f"SQNR alone {format_value(node_report.sqnr_db, 'dB')}",
    ]
    parts += [
        f"weights {format_value(node_report.weights_db, 'dB')}",
        f"input {format_value(node_report.input_db, 'dB')}",
    ]
    if node_report.kept:
        parts.append(f"kept: {node_report.kept}")
    return OperatorNoise(node_report.node, "; ".join(parts), node_report.sqnr_db or 0.0, bool(node_report.kept))


def _draw_tensor(one: TensorReport) -> Markup:
    return draw_value_histogram(one.name, one.histogram, (one.seen_low, one.seen_high), (one.low, one.high))


def load_quantization(run: Run, store: Store) -> dict[str, Any] | None:
    """Return the template variables for the stored report of a `quantize` run; None if it cannot be read."""
    found = next((one for one in run.outputs if one.role == REPORT_ROLE and one.bytes <= MAX_BYTES), None)
    if found is None:
        return None
    tuned = any(one.name.startswith("tuning.") for one in run.metrics)
    try:
        with store.open_blob(found.sha256) as file:
            return make_quantization_context(msgspec.json.decode(file.read(), type=QuantizationReport), tuned=tuned)
    except Exception:  # a missing or invalid report must not break the page
        return None


def load_artifacts(run: Run, store: Store) -> QuantizeReport | None:
    """Return the report with the artifacts of a `quantize` run, without the quantization error; None without one."""
    report = load_report(run, store)
    return report if isinstance(report, QuantizeReport) else None
