"""What pruning and distilling gave: on the run's page, and as one HTML file."""

from pathlib import Path
from typing import Any

import msgspec
from markupsafe import Markup

from edgewright.facts.plan import PrunePlan
from edgewright.facts.run import Run
from edgewright.flows.distillation import DistilReport
from edgewright.flows.pruning import PruneReport, targets_of
from edgewright.store.store import Store
from edgewright.training.job import Curve
from edgewright.web.answers import render
from edgewright.web.assets import style_text
from edgewright.web.draw.curves import curves
from edgewright.web.links import NoLinks

Report = PruneReport | DistilReport
KINDS: dict[str, type[Report]] = {"prune": PruneReport, "distil": DistilReport}
METHODS = {
    "structured": "structured: whole channels, neurons and heads are cut",
    "unstructured": "unstructured: single weights become zero",
}
HELD_OUT = "held-out."
MOST_BYTES, MOST_WIDTHS = 8 << 20, 500


def render_training(report: Report) -> str:
    """A page of its own: no script, no address, nothing beside it."""
    style = Markup(style_text())  # noqa: S704 - our own file
    context = {"page": "runs", "style": style, "csrf": "", "twin": "", "training": training_context(report)}
    return render("training_report.html", NoLinks(), context)


def training_context(report: Report) -> dict[str, Any]:
    """What the template shows."""
    found = dict.fromkeys(curve.name for own in report.curves.values() for curve in own)
    names = sorted(found, key=lambda name: not name.startswith(HELD_OUT))
    return {
        "report": report,
        "title": title_of(report),
        "facts": facts_of(report),
        "controlled": any(side.name == "control" for side in report.sides),
        "fixed": report.fixed if isinstance(report, PruneReport) else {},
        "widths": report.widths[:MOST_WIDTHS],
        "curves": [(name, picture) for name in names if (picture := draw(name, report))],
    }


def title_of(report: Report) -> str:
    """Without the folders of the machine that made it."""
    if isinstance(report, PruneReport):
        return f"{Path(report.source).name}, pruned"
    return f"{Path(report.student).name}, taught by {Path(report.teacher).name}"


def facts_of(report: Report) -> list[tuple[str, str]]:
    """What was done, to what."""
    if isinstance(report, PruneReport):
        facts = [("pruned", Path(report.source).name), ("method", METHODS.get(report.method, report.method))]
        facts.append(("importance", report.importance))
        return [*facts, ("to", " · ".join(f"{name} {word}" for name, word in report.targets.items()))]
    teaching = f"temperature {report.temperature:g}, alpha {report.alpha:g}"
    asked = f"{report.views} of each sample, asked about once" if report.views else "asked about each batch"
    return [
        ("teacher", Path(report.teacher).name),
        ("student", Path(report.student).name),
        ("teaching", teaching + ("" if report.labelled else "; there are no labels")),
        ("views", asked),
        ("transfer", report.transfer),
    ]


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
            report = msgspec.json.decode(file.read(), type=kind)
        if isinstance(report, PruneReport) and not report.targets:
            targets = targets_of(msgspec.convert(run.plan, PrunePlan))
            report = msgspec.structs.replace(report, targets=targets)
        return training_context(report)
    except Exception:  # bytes that are gone or are no report: the rest of the page stands
        return None
