"""Pages of the models: the table of families, and one family as a matrix of runtime and precision."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from edgewright.errors import RunNotFound
from edgewright.report.charts.pareto import Point, draw_pareto, mark_front
from edgewright.report.charts.run import draw_whisker
from edgewright.report.charts.scales import Scale, fit_scale
from edgewright.report.family import Cell, Matrix
from edgewright.report.numbers import format_exact, get_unit
from edgewright.schema.metrics import METRICS, get_metric_info
from edgewright.store.runs.browse import LineageLink
from edgewright.store.runs.queries import RunFilter
from edgewright.store.store import Store
from edgewright.web.models.index import (
    MAX_DEPTH,
    QUALITIES,
    FamilySummary,
    ModelIndex,
    build_model_trees,
    find_relatives,
    get_latency,
    list_sessions,
    load_model_index,
    make_family,
    make_verified_matrix,
    summarize_families,
)
from edgewright.web.pages import netron
from edgewright.web.pages.filters import HEADLINE_METRICS, ListState
from edgewright.web.pages.run_detail import load_shown_record
from edgewright.web.pages.run_list import COLUMNS, make_table_context
from edgewright.web.server.links import ServerLinks
from edgewright.web.server.responses import make_csv_response, make_page_response
from edgewright.web.server.state import get_app_state

MAX_SHOWN, MAX_FAMILIES, MAX_TOGETHER, MAX_SESSIONS = 50, 200, 8, 20
WHISKER_PX = 150.0


def models_page(request: Request) -> Response:
    store = get_app_state(request).store
    context = make_models_context(store, request.query_params)
    facts = {name: context[name] for name in ("models", "tree", "points")}
    return make_page_response(request, "models.html", "models", lambda: facts, context)


def make_models_context(store: Store, query: Mapping[str, str]) -> dict[str, Any]:
    """Return the template's values, for the page and for a report."""
    device = query.get("device", "")
    index = load_model_index(store, device)
    trees = build_model_trees(index)
    families = summarize_families(index, trees)
    scale = _make_scale([cell for one in families for cell in _list_measured(one.matrix)])
    return {
        "models": list(index.models.values()),
        "tree": trees,
        "families": [(one, _draw_family(one, scale)) for one in families[:MAX_FAMILIES]],
        "more_families": max(len(families) - MAX_FAMILIES, 0),
        "devices": [(one.id, one.name) for one in store.list_devices()],
        "device": device,
        "points": [point for one in families for point in _list_points(one.matrix)],
    }


def _list_measured(matrix: Matrix) -> list[Cell]:
    """Return the cells of the matrix's session, which can be compared."""
    return [cell for cell in matrix.cells if cell.rank is not None]


def _make_scale(cells: Sequence[Cell]) -> Scale:
    values = [value for cell in cells for value in (cell.p50_us, cell.p50_low, cell.p50_high)]
    return fit_scale(values, 4.0, WHISKER_PX, is_log=True)


def _draw_family(one: FamilySummary, scale: Scale) -> Markup:
    """Draw the interval of the artifact that the answer names, on the scale of all families."""
    cell = one.best or one.fastest
    return _draw_cell(cell, scale) if cell else Markup("")


def _draw_cell(cell: Cell, scale: Scale) -> Markup:
    bounds = f"from {format_exact(cell.p50_low, 'us')} to {format_exact(cell.p50_high, 'us')}"
    description = f"{format_exact(cell.p50_us, 'us')}, {bounds}"
    return draw_whisker(cell.p50_us, cell.p50_low, cell.p50_high, scale, description)


def _list_points(matrix: Matrix) -> list[Point]:
    """Return the cells of the session with a quality, with the Pareto front marked, the front and the fastest first."""
    points = [
        Point(
            name=cell.model,
            model_id=cell.model_id,
            runtime=cell.runtime,
            precision=cell.precision,
            run_id=cell.run_id or "",
            bytes=cell.bytes,
            latency_us=cell.p50_us or 0.0,
            latency_low=cell.p50_low,
            latency_high=cell.p50_high,
            metric=cell.quality.name,
            quality=cell.quality.value,
            quality_low=cell.quality.low,
            quality_high=cell.quality.high,
            quality_unit=get_unit(cell.quality),
        )
        for cell in _list_measured(matrix)
        if cell.quality is not None and cell.quality.value is not None
    ]
    return sorted(mark_front(points), key=lambda one: (not one.best, one.latency_us))


def models_csv(request: Request) -> Response:
    """Return every model as CSV, with latency and quality if they are known."""
    store = get_app_state(request).store
    index = load_model_index(store)
    rows: list[tuple[object, ...]] = []
    for model in index.models.values():
        plain = (model.id, model.name, model.format, model.precision, model.bytes, model.runs)
        own = [(key[1], row) for key, row in index.benchmarks.items() if key[0] == model.id]
        for runtime, row in own:
            named = index.qualities.get((model.id, runtime), {})
            qualities = (named[name].value if name in named else None for name in QUALITIES)
            rows.append((*plain, runtime, row.device_name, get_latency(row), *qualities))
        if not own:
            rows.append((*plain, *[None] * (3 + len(QUALITIES))))
    header = ("id", "name", "format", "precision", "bytes", "runs", "runtime", "device", "p50_us", *QUALITIES)
    return make_csv_response(header, rows, "models.csv")


def model_page(request: Request) -> Response:
    """Return the page of one model's family: what to ship, the matrix, the trade-off, lineage and sessions."""
    app_state = get_app_state(request)
    wanted = str(request.path_params["model_id"])
    index = load_model_index(app_state.store)
    if wanted not in index.models:
        raise RunNotFound(
            "model not found", f"no model has the id {wanted[:64]}", "choose a model on the page of models"
        )
    context = _make_family_context(index, wanted, request.query_params.get("quality", ""), app_state.store)
    rows = app_state.store.list_runs(
        RunFilter(model_id=wanted, limit=MAX_SHOWN, metrics=HEADLINE_METRICS, without=app_state.deletions.hidden())
    )
    state = ListState(words={})
    newest = app_state.store.load(rows[0].id) if rows else None
    context |= {
        "model": index.models[wanted],
        "signature": newest.model.signature if newest and newest.model and newest.model.sha256 == wanted else None,
        **make_table_context(rows, ticks=False),
        "columns": [(key, title, state.sorted_by(key), "none") for key, title in COLUMNS],
        "checks": _load_conversion_checks(wanted, index, app_state.store),
        "can_show_graph": netron.is_installed() and index.models[wanted].has_file,
    }
    matrix: Matrix = context["matrix"]
    facts = {
        "model": context["model"],
        "answer": matrix.answer,
        "session": matrix.session,
        "quality": matrix.quality,
        "matrix": matrix.cells,
        "runs": rows,
        "points": context["points"],
        "family": context["family"],
    }
    return make_page_response(request, "model.html", "models", lambda: facts, context)


def _make_family_context(index: ModelIndex, model_id: str, quality: str, store: Store) -> dict[str, Any]:
    trees = build_model_trees(index)
    family = make_family(index, trees, model_id)
    matrix = make_verified_matrix(family, store, quality if get_metric_info(quality).basis == "task" else "")
    scale = _make_scale([cell for cell in matrix.cells if cell.p50_us is not None])
    points = _list_points(matrix)
    known = {name for (own, _), named in index.qualities.items() if own in family.models for name in named}
    measurable = dict.fromkeys(cell.model_id for cell in matrix.cells if family.models[cell.model_id].has_file)
    return {
        "tree": [one for one in trees if model_id in find_relatives([one], model_id)],
        "family": sorted(family.models),
        "source": family.models[family.source],
        "matrix": matrix,
        "cells": [(cell, _draw_cell(cell, scale)) for cell in matrix.cells],
        "stale": sum(cell.stale and cell.p50_us is not None for cell in matrix.cells),
        "compared": [cell.run_id for cell in _list_measured(matrix)][:MAX_TOGETHER],
        "together": list(measurable)[:MAX_TOGETHER],
        "sessions": list_sessions(family)[:MAX_SESSIONS],
        "device_name": next((row.device_name for row in family.benchmarks), ""),
        "points": points,
        "picture": draw_pareto(points, get_metric_info(matrix.quality).title, ServerLinks().run),
        "qualities": [(name, info.title) for name, info in METRICS.items() if info.basis == "task" and name in known],
    }


def _load_conversion_checks(model_id: str, index: ModelIndex, store: Store) -> list[tuple[LineageLink, Any]]:
    """Return the artifact records of the conversions to and from this model, with numerics and notes."""
    near = [link for link in index.links if model_id in (link.parent, link.child)]
    found = [(link, load_shown_record(store.load(link.run_id), store)) for link in near[:MAX_DEPTH]]
    return [(link, record) for link, record in found if record is not None]
