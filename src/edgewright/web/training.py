"""What pruning and distilling gave: on the run's page, and as one HTML file."""

from pathlib import Path
from typing import Any

import msgspec
from markupsafe import Markup

from edgewright.facts.run import Run
from edgewright.flows.distillation import DistilReport
from edgewright.flows.pruning import PruneReport
from edgewright.store.store import Store
from edgewright.training.job import Curve
from edgewright.web.answers import render
from edgewright.web.assets import style_text
from edgewright.web.draw.curves import curves
from edgewright.web.links import NoLinks

Report = PruneReport | DistilReport
KINDS: dict[str, type[Report]] = {"prune": PruneReport, "distil": DistilReport}
MOST_BYTES, MOST_WIDTHS = 8 << 20, 500


def render_training(report: Report) -> str:
    """A page of its own: no script, no address, nothing beside it."""
    style = Markup(style_text())  # noqa: S704 - our own file
    context = {"page": "runs", "style": style, "csrf": "", "twin": "", "training": training_context(report)}
    return render("training_report.html", NoLinks(), context)


def training_context(report: Report) -> dict[str, Any]:
    """What the template shows."""
    names = list(dict.fromkeys(curve.name for own in report.curves.values() for curve in own))
    return {
        "report": report,
        "title": title_of(report),
        "fixed": report.fixed if isinstance(report, PruneReport) else {},
        "widths": report.widths[:MOST_WIDTHS],
        "curves": [(name, picture) for name in names if (picture := draw(name, report))],
    }


def title_of(report: Report) -> str:
    """Without the folders of the machine that made it."""
    if isinstance(report, PruneReport):
        return Path(report.source).name
    return f"{Path(report.student).name}, taught by {Path(report.teacher).name}"


def draw(name: str, report: Report) -> Markup:
    found = {side: curve for side, own in report.curves.items() for curve in own if curve.name == name}
    unit = next(iter(found.values())).unit
    return curves(name, unit, {side: points_of(curve) for side, curve in found.items()})


def points_of(curve: Curve) -> tuple[tuple[int, ...], tuple[float, ...]]:
    return curve.steps, curve.values


def training_of(run: Run, store: Store) -> dict[str, Any] | None:
    """The report that a run kept, for its page; None where there is none that can be read."""
    kind = KINDS.get(run.kind)
    found = next((one for one in run.outputs if one.role == run.kind and one.bytes <= MOST_BYTES), None)
    if kind is None or found is None:
        return None
    try:
        with store.open_blob(found.sha256) as file:
            return training_context(msgspec.json.decode(file.read(), type=kind))
    except Exception:  # bytes that are gone or are no report: the rest of the page stands
        return None
