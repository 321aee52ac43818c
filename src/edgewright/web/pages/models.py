"""Pages of the models: lineage, and the trade-off between latency, quality and size."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from edgewright.bench.trust import LATENCY_METRICS
from edgewright.errors import RunNotFound
from edgewright.report.charts.pareto import Point, draw_pareto, mark_front
from edgewright.report.family import Family, make_matrix
from edgewright.report.numbers import find_accuracy
from edgewright.schema.metrics import METRICS
from edgewright.schema.run import Metric
from edgewright.store.runs.browse import LineageLink, ModelRow
from edgewright.store.runs.queries import RunFilter, RunSummary
from edgewright.store.store import Store
from edgewright.web.pages import netron
from edgewright.web.pages.filters import HEADLINE_METRICS, ListState
from edgewright.web.pages.run_detail import load_shown_record
from edgewright.web.pages.run_list import COLUMNS, make_table_context
from edgewright.web.server.responses import make_csv_response, make_page_response
from edgewright.web.server.state import get_app_state

# Metrics that the Pareto chart can show beside the latency.
QUALITIES = (
    *(name for name, info in METRICS.items() if info.basis and info.better == "higher"),
    *("numerics.argmax-agreement", "numerics.sqnr"),
)
MAX_RUNS = 5_000
MAX_SHOWN = 50
MAX_DEPTH = 20


class ModelTreeNode(Struct, frozen=True, kw_only=True):
    """Model in the lineage tree, with the link to its parent and the models made from it."""

    model: ModelRow
    by: LineageLink | None
    accuracy: Metric | None
    latency: RunSummary | None
    children: tuple["ModelTreeNode", ...]


class ModelIndex(Struct, frozen=True, kw_only=True):
    """Newest benchmark by model, runtime and device, and newest quality metrics by model and runtime.

    `rows` are all benchmarks: local ones first, each time the newest first.
    """

    models: dict[str, ModelRow]
    links: list[LineageLink]
    rows: list[RunSummary]
    benchmarks: dict[tuple[str, str, str], RunSummary]
    qualities: dict[tuple[str, str], dict[str, Metric]]


def load_model_index(store: Store, device: str = "") -> ModelIndex:
    """Load the index with five queries, independent of the number of models."""
    newest = RunFilter(kind="benchmark", state="done", device=device or None, limit=MAX_RUNS, metrics=LATENCY_METRICS)
    benchmarks: dict[tuple[str, str, str], RunSummary] = {}
    rows = _sort_local_first(store.list_runs(newest))
    for row in rows:
        benchmarks.setdefault((row.model_id or "", row.runtime, row.device_id or ""), row)
    links = store.list_links()
    made_by = {link.run_id: link for link in links}
    qualities: dict[tuple[str, str], dict[str, Metric]] = {}
    for kind in ("evaluate", "quantize", "compile"):
        wanted = RunFilter(kind=kind, state="done", limit=MAX_RUNS, metrics=QUALITIES)
        for row in _sort_local_first(store.list_runs(wanted)):
            link = made_by.get(row.id)
            key = (link.child if link and kind != "evaluate" else row.model_id or "", row.runtime)
            for name, metric in row.metrics.items():
                qualities.setdefault(key, {}).setdefault(name, metric)
    models = {model.id: model for model in store.list_models()}
    return ModelIndex(models=models, links=links, rows=rows, benchmarks=benchmarks, qualities=qualities)


def _sort_local_first(rows: Sequence[RunSummary]) -> list[RunSummary]:
    """Return local runs before imported ones, so that an imported run counts only if there is no other."""
    return sorted(rows, key=lambda row: row.imported is not False)


def _list_pareto_points(index: ModelIndex, quality: str, only: set[str] | None = None) -> list[Point]:
    """Return the models with a latency and the quality, with the Pareto front marked."""
    unit = METRICS[quality].unit
    points = []
    for (model_id, runtime, _), row in index.benchmarks.items():
        p50, metric = row.metrics.get("latency.p50"), index.qualities.get((model_id, runtime), {}).get(quality)
        model = index.models.get(model_id)
        if model is None or p50 is None or p50.value is None or metric is None or metric.value is None:
            continue
        if only is not None and model_id not in only:
            continue
        points.append(
            Point(
                name=model.name,
                model_id=model_id,
                runtime=runtime,
                precision=row.precision or "",
                device=row.device_name or "",
                run_id=row.id,
                bytes=model.bytes,
                latency_us=p50.value,
                latency_low=p50.low,
                latency_high=p50.high,
                quality=metric.value,
                quality_low=metric.low,
                quality_high=metric.high,
                quality_unit=unit,
            )
        )
    return sorted(mark_front(points), key=lambda one: (not one.best, one.latency_us))


def _build_model_trees(index: ModelIndex) -> list[ModelTreeNode]:
    """Return the lineage trees, whose roots are models without a parent in the store.

    A model that can be reached in several ways has its children in one place of a tree only: the number of ways may
    double with each generation, and a few imported runs can state many generations.
    """
    children: dict[str, list[LineageLink]] = {}
    for link in index.links:
        if link.child in index.models and link.parent in index.models:
            children.setdefault(link.parent, []).append(link)
    made = {link.child for links in children.values() for link in links}
    fastest: dict[str, RunSummary] = {}
    for (model_id, _, _), row in index.benchmarks.items():
        if _get_latency(row) < _get_latency(fastest.get(model_id)):
            fastest[model_id] = row

    def branch(model_id: str, by: LineageLink | None, depth: int, shown: set[str]) -> ModelTreeNode:
        inner = children.get(model_id, ()) if model_id not in shown and depth < MAX_DEPTH else ()
        shown.add(model_id)
        found = [named for (own, _), named in index.qualities.items() if own == model_id]
        accuracy = next((metric for named in found if (metric := find_accuracy(named))), None)
        return ModelTreeNode(
            model=index.models[model_id],
            by=by,
            accuracy=accuracy,
            latency=fastest.get(model_id),
            children=tuple(branch(link.child, link, depth + 1, shown) for link in inner),
        )

    roots = [model_id for model_id in index.models if model_id not in made]
    return [branch(model_id, None, 0, set()) for model_id in roots or list(index.models)[:1]]


def _get_latency(row: RunSummary | None) -> float:
    metric = row.metrics.get("latency.p50") if row else None
    return float("inf") if metric is None or metric.value is None else metric.value


def _find_relatives(tree: Sequence[ModelTreeNode], model_id: str) -> set[str]:
    """Return the ids of all models in the trees that contain this one."""

    def ids(one: ModelTreeNode) -> set[str]:
        return {one.model.id}.union(*(ids(child) for child in one.children))

    return set[str]().union(*(found for one in tree if model_id in (found := ids(one))))


def _make_family(index: ModelIndex, trees: Sequence[ModelTreeNode], model_id: str) -> Family:
    """Return the models of the trees that contain this one, with the benchmarks of one device."""
    relatives = _find_relatives(trees, model_id)
    own = [row for row in index.rows if row.model_id in relatives]
    return Family(
        models={one: index.models[one] for one in relatives},
        source=next((tree.model.id for tree in trees if model_id in _find_relatives([tree], model_id)), model_id),
        benchmarks=[row for row in own if row.device_id == own[0].device_id],
        qualities=index.qualities,
    )


def _choose_quality(index: ModelIndex, requested: str) -> str:
    """Return the requested quality, or the first that any model has."""
    have = {name for named in index.qualities.values() for name, metric in named.items() if metric.value is not None}
    if requested in QUALITIES:
        return requested
    return next((name for name in QUALITIES if name in have), "accuracy")


def _make_pareto_context(index: ModelIndex, query: Mapping[str, str], only: set[str] | None = None) -> dict[str, Any]:
    quality = _choose_quality(index, query.get("quality", ""))
    points = _list_pareto_points(index, quality, only)
    return {
        "points": points,
        "picture": draw_pareto(points, METRICS[quality].title),
        "quality": quality,
        "qualities": [(name, METRICS[name].title) for name in QUALITIES],
    }


def models_page(request: Request) -> Response:
    store = get_app_state(request).store
    context = make_models_context(store, request.query_params)
    facts = {name: context[name] for name in ("models", "tree", "points")}
    return make_page_response(request, "models.html", "models", lambda: facts, context)


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
            rows.append((*plain, runtime, row.device_name, _get_latency(row), *qualities))
        if not own:
            rows.append((*plain, *[None] * (3 + len(QUALITIES))))
    header = ("id", "name", "format", "precision", "bytes", "runs", "runtime", "device", "p50_us", *QUALITIES)
    return make_csv_response(header, rows, "models.csv")


def make_models_context(store: Store, query: Mapping[str, str]) -> dict[str, Any]:
    """Return the template's values, for the page and for a report."""
    device = query.get("device", "")
    index = load_model_index(store, device)
    return {
        "models": list(index.models.values()),
        "tree": _build_model_trees(index),
        "devices": [(one.id, one.name) for one in store.list_devices()],
        "device": device,
        **_make_pareto_context(index, query),
    }


def model_page(request: Request) -> Response:
    """Return the page of one model: lineage, runs, output comparison with the source."""
    app_state = get_app_state(request)
    wanted = str(request.path_params["model_id"])
    index = load_model_index(app_state.store)
    if wanted not in index.models:
        raise RunNotFound(
            "model not found", f"no model has the id {wanted[:64]}", "choose a model on the page of models"
        )
    rows = app_state.store.list_runs(
        RunFilter(model_id=wanted, limit=MAX_SHOWN, metrics=HEADLINE_METRICS, without=app_state.deletions.hidden())
    )
    state = ListState(words={})
    trees = _build_model_trees(index)
    family = _make_family(index, trees, wanted)
    matrix = make_matrix(family)
    newest = app_state.store.load(rows[0].id) if rows else None
    context = {
        "model": index.models[wanted],
        "signature": newest.model.signature if newest and newest.model and newest.model.sha256 == wanted else None,
        "tree": [one for one in trees if wanted in _find_relatives([one], wanted)],
        "matrix": matrix,
        **make_table_context(rows, ticks=False),
        "columns": [(key, title, state.sorted_by(key), "none") for key, title in COLUMNS],
        "checks": _load_conversion_checks(wanted, index, app_state.store),
        "can_show_graph": netron.is_installed() and index.models[wanted].has_file,
        **_make_pareto_context(index, request.query_params, set(family.models)),
    }
    facts = {
        "model": context["model"],
        "answer": matrix.answer,
        "session": matrix.session,
        "quality": matrix.quality,
        "matrix": matrix.cells,
        "runs": rows,
        "points": context["points"],
        "family": sorted(family.models),
    }
    return make_page_response(request, "model.html", "models", lambda: facts, context)


def _load_conversion_checks(model_id: str, index: ModelIndex, store: Store) -> list[tuple[LineageLink, Any]]:
    """Return the artifact records of the conversions to and from this model, with numerics and notes."""
    near = [link for link in index.links if model_id in (link.parent, link.child)]
    found = [(link, load_shown_record(store.load(link.run_id), store)) for link in near[:MAX_DEPTH]]
    return [(link, record) for link, record in found if record is not None]
