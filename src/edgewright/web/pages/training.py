"""Results of pruning and distillation: section of the run's page, and HTML report."""

from pathlib import Path
from typing import Any

import msgspec
from markupsafe import Markup

from edgewright.flows.answers import load_report
from edgewright.flows.distill.report import DistillReport
from edgewright.flows.experiment.answer import make_outcome
from edgewright.flows.prune.report import PruneReport, list_targets
from edgewright.report.charts.curves import draw_curves
from edgewright.schema.plan import PrunePlan
from edgewright.schema.run import Run
from edgewright.store.store import Store
from edgewright.training.job import Curve
from edgewright.web.server.assets import read_style
from edgewright.web.server.links import SingleFileLinks
from edgewright.web.server.responses import render

TrainingReport = PruneReport | DistillReport
METHOD_TITLES = {
    "structured": "structured: channels, neurons and heads are removed",
    "unstructured": "unstructured: single weights are set to zero",
}
HELD_OUT = "held-out."
MAX_WIDTHS = 500


def render_training(report: TrainingReport) -> str:
    """Return a self-contained HTML report without scripts and links."""
    style = Markup(read_style())  # noqa: S704 - our own file
    context = {
        "page": "runs",
        "style": style,
        "csrf": "",
        "json_address": "",
        "training": _make_training_context(report),
        "outcome": make_outcome(report),
    }
    return render("training_report.html", SingleFileLinks(), context)


def _make_training_context(report: TrainingReport) -> dict[str, Any]:
    """Return the variables of the template."""
    return {
        "report": report,
        "title": _make_title(report),
        "facts": _list_facts(report),
        "controlled": any(network.name == "control" for network in report.networks),
        "fixed": report.fixed if isinstance(report, PruneReport) else {},
        "widths": report.widths[:MAX_WIDTHS],
        "curves": draw_all_curves(report),
    }


def draw_all_curves(report: TrainingReport) -> list[tuple[str, Markup]]:
    """Return the name and the drawing of each curve, those of the validation set first."""
    found = dict.fromkeys(curve.name for own in report.curves.values() for curve in own)
    names = sorted(found, key=lambda name: not name.startswith(HELD_OUT))
    return [(name, picture) for name in names if (picture := _draw_report_curves(name, report))]


def _make_title(report: TrainingReport) -> str:
    """Return the title, with file names instead of paths."""
    if isinstance(report, PruneReport):
        return f"{Path(report.source).name}, pruned"
    return f"{Path(report.student).name}, distilled from {Path(report.teacher).name}"


def _list_facts(report: TrainingReport) -> list[tuple[str, str]]:
    """Return the settings of the training."""
    if isinstance(report, PruneReport):
        facts = [("pruned", Path(report.source).name), ("method", METHOD_TITLES.get(report.method, report.method))]
        facts.append(("importance", report.importance))
        return [*facts, ("target", " · ".join(f"{name} {word}" for name, word in report.targets.items()))]
    softening = f"temperature {report.temperature:g}, alpha {report.alpha:g}"
    views = f"{report.views} per sample, teacher outputs stored" if report.views else "teacher runs on each batch"
    return [
        ("teacher", Path(report.teacher).name),
        ("student", Path(report.student).name),
        ("distillation", softening + ("" if report.labeled else "; without labels")),
        ("views", views),
        ("transfer", report.transfer),
    ]


def _draw_report_curves(name: str, report: TrainingReport) -> Markup:
    found = {network: curve for network, own in report.curves.items() for curve in own if curve.name == name}
    unit = next(iter(found.values())).unit
    return draw_curves(name, unit, {network: _get_points(curve) for network, curve in found.items()})


def _get_points(curve: Curve) -> tuple[tuple[int, ...], tuple[float, ...]]:
    return curve.steps, curve.values


def load_training(run: Run, store: Store) -> dict[str, Any] | None:
    """Return the template variables for the stored report of a run; None if it cannot be read."""
    report = load_report(run, store)
    if not isinstance(report, TrainingReport):
        return None
    try:
        if isinstance(report, PruneReport) and not report.targets:
            targets = list_targets(msgspec.convert(run.plan, PrunePlan))
            report = msgspec.structs.replace(report, targets=targets)
        return _make_training_context(report)
    except Exception:  # a missing or invalid report must not break the page
        return None
