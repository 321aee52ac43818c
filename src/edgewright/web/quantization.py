"""What a quantisation cost, operator by operator and tensor by tensor: on the run's page, and as one HTML file."""

from pathlib import PurePath
from typing import Any

import msgspec
from markupsafe import Markup

from edgewright.compress.job import QuantizationReport, SiteReport, TensorReport
from edgewright.facts.run import Run
from edgewright.flows.quantization import QuantizeReport
from edgewright.store.store import Store
from edgewright.web.answers import render
from edgewright.web.assets import style_text
from edgewright.web.draw.noise import Costs, site_bars, value_bars
from edgewright.web.links import NoLinks
from edgewright.web.numbers import show

ROLE = "quantization"
MOST_BYTES = 8 << 20
MOST_BARS, MOST_ROWS, MOST_TENSORS = 40, 500, 48


def render_quantization(report: QuantizeReport) -> str:
    """A page of its own: no script, no address, nothing beside it."""
    style = Markup(style_text())  # noqa: S704 - our own file
    named = msgspec.structs.replace(report, source=PurePath(report.source).name)  # it goes to others
    context = {"page": "runs", "style": style, "csrf": "", "twin": "", "report": named}
    tuned = report.tuning is not None
    found = quantization_context(report.quantization, tuned=tuned) if report.quantization else None
    return render("quantization_report.html", NoLinks(), {**context, "quantization": found})


def quantization_context(report: QuantizationReport, *, tuned: bool = False) -> dict[str, Any]:
    """What the template shows: kept operators first, then those that cost most; the tensors that lose most first.

    `tuned` says that the graph was trained afterwards.
    """
    sites = sorted(report.sites, key=lambda one: (not one.kept, one.sqnr_db if one.sqnr_db is not None else 1e9))
    tensors = sorted(report.tensors, key=lambda one: -one.clipped)
    return {
        "report": report,
        "tuned": tuned,
        "sites": sites[:MOST_ROWS],
        "more_sites": max(len(sites) - MOST_ROWS, 0),
        "bars": site_bars([costs_of(site) for site in sites if site.sqnr_db is not None][:MOST_BARS]),
        "tensors": [(one, draw_tensor(one)) for one in tensors[:MOST_TENSORS]],
        "more_tensors": max(len(tensors) - MOST_TENSORS, 0),
    }


def costs_of(site: SiteReport) -> Costs:
    parts = [f"{site.node} ({site.op}, {site.precision})", f"alone {show(site.sqnr_db, 'dB')}"]
    parts += [f"its weights {show(site.weights_db, 'dB')}", f"its input {show(site.input_db, 'dB')}"]
    if site.kept:
        parts.append(f"kept: {site.kept}")
    return Costs(site.node, "; ".join(parts), site.sqnr_db or 0.0, bool(site.kept))


def draw_tensor(one: TensorReport) -> Markup:
    return value_bars(one.name, one.histogram, (one.seen_low, one.seen_high), (one.low, one.high))


def quantization_of(run: Run, store: Store) -> dict[str, Any] | None:
    """The report that a run of `quantize` kept, for its page; None where there is none that can be read."""
    found = next((one for one in run.outputs if one.role == ROLE and one.bytes <= MOST_BYTES), None)
    if found is None:
        return None
    tuned = any(one.name.startswith("tuning.") for one in run.metrics)
    try:
        with store.open_blob(found.sha256) as file:
            return quantization_context(msgspec.json.decode(file.read(), type=QuantizationReport), tuned=tuned)
    except Exception:  # bytes that are gone or are no report: the rest of the page stands
        return None
