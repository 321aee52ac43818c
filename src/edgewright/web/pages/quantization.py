"""What a quantisation cost, operator by operator and tensor by tensor: on the run's page, and as one HTML file."""

from pathlib import PurePath
from typing import Any

import msgspec
from markupsafe import Markup

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
    """A page of its own: no script, no address, nothing beside it."""
    style = Markup(read_style())  # noqa: S704 - our own file
    named = msgspec.structs.replace(report, source=PurePath(report.source).name)  # it goes to others
    context = {"page": "runs", "style": style, "csrf": "", "twin": "", "report": named}
    tuned = report.tuning is not None
    found = make_quantization_context(report.quantization, tuned=tuned) if report.quantization else None
    return render("quantization_report.html", SingleFileLinks(), {**context, "quantization": found})


def make_quantization_context(report: QuantizationReport, *, tuned: bool = False) -> dict[str, Any]:
    """What the template shows: kept operators first, then those that cost most; the tensors that lose most first.

    `tuned` says that the graph was trained afterwards.
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


def _make_operator_noise(node_report: WeightNodeReport) -> OperatorNoise:
    parts = [
        f"{node_report.node} ({node_report.op}, {node_report.precision})",
        f"alone {format_value(node_report.sqnr_db, 'dB')}",
    ]
    parts += [
        f"its weights {format_value(node_report.weights_db, 'dB')}",
        f"its input {format_value(node_report.input_db, 'dB')}",
    ]
    if node_report.kept:
        parts.append(f"kept: {node_report.kept}")
    return OperatorNoise(node_report.node, "; ".join(parts), node_report.sqnr_db or 0.0, bool(node_report.kept))


def _draw_tensor(one: TensorReport) -> Markup:
    return draw_value_histogram(one.name, one.histogram, (one.seen_low, one.seen_high), (one.low, one.high))


def load_quantization(run: Run, store: Store) -> dict[str, Any] | None:
    """The report that a run of `quantize` kept, for its page; None where there is none that can be read."""
    found = next((one for one in run.outputs if one.role == REPORT_ROLE and one.bytes <= MAX_BYTES), None)
    if found is None:
        return None
    tuned = any(one.name.startswith("tuning.") for one in run.metrics)
    try:
        with store.open_blob(found.sha256) as file:
            return make_quantization_context(msgspec.json.decode(file.read(), type=QuantizationReport), tuned=tuned)
    except Exception:  # bytes that are gone or are no report: the rest of the page stands
        return None
