"""Models: which was made from which, and what the speed costs in accuracy and size."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from edgewright.errors import RunNotFound
from edgewright.facts.run import Metric
from edgewright.store.browse import Link, ModelRow
from edgewright.store.queries import RunFilter, RunRow
from edgewright.store.store import Store
from edgewright.web import netron
from edgewright.web.answers import answer, csv_answer
from edgewright.web.draw.pareto import Point, mark_front, pareto
from edgewright.web.filters import HEADLINE, ListState
from edgewright.web.numbers import accuracy_of
from edgewright.web.run_detail import numerics_of
from edgewright.web.run_list import table_context
from edgewright.web.state import desk_of

QUALITIES: dict[str, tuple[str, str]] = {
    "accuracy": ("accuracy", "share"),
    "top1": ("top-1 accuracy", "share"),
    "top5": ("top-5 accuracy", "share"),
    "auc": ("area under ROC", "share"),
    "map": ("mean average precision", "share"),
    "map50": ("mean average precision at 0.5", "share"),
    "agreement": ("agreement with the first of its evaluation", "share"),
    "sqnr": ("SQNR to the first of its evaluation", "dB"),
    "numerics.argmax-agreement": ("same arg-max as the source", "share"),
    "numerics.sqnr": ("SQNR to the source", "dB"),
}
MOST_RUNS = 5_000
MOST_SHOWN = 50
MOST_DEPTH = 20


class Branch(Struct, frozen=True, kw_only=True):
    """A model in the tree, how it was made, and what was made of it."""

    model: ModelRow
    by: Link | None
    accuracy: Metric | None
    latency: RunRow | None
    children: tuple["Branch", ...]


class Known(Struct, frozen=True, kw_only=True):
    """What runs say about models: the newest benchmark by model, runtime and device; the newest metric of quality."""

    models: dict[str, ModelRow]
    links: list[Link]
    benchmarks: dict[tuple[str, str, str], RunRow]
    qualities: dict[tuple[str, str], dict[str, Metric]]


def learn(store: Store, device: str = "") -> Known:
    """Five queries, however many models."""
    newest = RunFilter(kind="benchmark", state="done", device=device or None, limit=MOST_RUNS, metrics=("latency.p50",))
    benchmarks: dict[tuple[str, str, str], RunRow] = {}
    for row in own_first(store.list_runs(newest)):
        benchmarks.setdefault((row.model_id or "", row.runtime, row.device_id or ""), row)
    links = store.list_links()
    made_by = {link.run_id: link for link in links}
    qualities: dict[tuple[str, str], dict[str, Metric]] = {}
    for kind in ("evaluate", "quantize", "compile"):
        wanted = RunFilter(kind=kind, state="done", limit=MOST_RUNS, metrics=tuple(QUALITIES))
        for row in own_first(store.list_runs(wanted)):
            link = made_by.get(row.id)
            key = (link.child if link and kind != "evaluate" else row.model_id or "", row.runtime)
            for name, metric in row.metrics.items():
                qualities.setdefault(key, {}).setdefault(name, metric)
    models = {model.id: model for model in store.list_models()}
    return Known(models=models, links=links, benchmarks=benchmarks, qualities=qualities)


def own_first(rows: Sequence[RunRow]) -> list[RunRow]:
    """Runs that were made here before those that were not: an imported one stands for a model that has no other."""
    return sorted(rows, key=lambda row: row.imported is not False)


def points_of(known: Known, quality: str, only: set[str] | None = None) -> list[Point]:
    """What has both a latency and the quality, its front marked."""
    _, unit = QUALITIES[quality]
    points = []
    for (model_id, runtime, _), row in known.benchmarks.items():
        p50, metric = row.metrics.get("latency.p50"), known.qualities.get((model_id, runtime), {}).get(quality)
        model = known.models.get(model_id)
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


def grow(known: Known) -> list[Branch]:
    """The trees: models that were made from none on record are the roots."""
    children: dict[str, list[Link]] = {}
    for link in known.links:
        if link.child in known.models and link.parent in known.models:
            children.setdefault(link.parent, []).append(link)
    made = {link.child for links in children.values() for link in links}
    fastest: dict[str, RunRow] = {}
    for (model_id, _, _), row in known.benchmarks.items():
        if latency_of(row) < latency_of(fastest.get(model_id)):
            fastest[model_id] = row

    def branch(model_id: str, by: Link | None, above: frozenset[str]) -> Branch:
        inner = [link for link in children.get(model_id, ()) if link.child not in above and len(above) < MOST_DEPTH]
        found = [named for (own, _), named in known.qualities.items() if own == model_id]
        accuracy = next((metric for named in found if (metric := accuracy_of(named))), None)
        return Branch(
            model=known.models[model_id],
            by=by,
            accuracy=accuracy,
            latency=fastest.get(model_id),
            children=tuple(branch(link.child, link, above | {model_id}) for link in inner),
        )

    roots = [model_id for model_id in known.models if model_id not in made]
    return [branch(model_id, None, frozenset()) for model_id in roots or list(known.models)[:1]]


def latency_of(row: RunRow | None) -> float:
    metric = row.metrics.get("latency.p50") if row else None
    return float("inf") if metric is None or metric.value is None else metric.value


def family(tree: Sequence[Branch], model_id: str) -> set[str]:
    """The ids of all models of the trees that hold this one."""

    def ids(one: Branch) -> set[str]:
        return {one.model.id}.union(*(ids(child) for child in one.children))

    return set[str]().union(*(found for one in tree if model_id in (found := ids(one))))


def choose_quality(known: Known, asked: str) -> str:
    """The one that is asked for, or the first that any model has."""
    have = {name for named in known.qualities.values() for name, metric in named.items() if metric.value is not None}
    if asked in QUALITIES:
        return asked
    return next((name for name in QUALITIES if name in have), "accuracy")


def pareto_context(known: Known, query: Mapping[str, str], only: set[str] | None = None) -> dict[str, Any]:
    quality = choose_quality(known, query.get("quality", ""))
    points = points_of(known, quality, only)
    return {
        "points": points,
        "picture": pareto(points, QUALITIES[quality][0]),
        "quality": quality,
        "qualities": [(name, title) for name, (title, _) in QUALITIES.items()],
    }


def models_page(request: Request) -> Response:
    store = desk_of(request).store
    context = models_context(store, request.query_params)
    facts = {name: context[name] for name in ("models", "tree", "points")}
    return answer(request, "models.html", "models", lambda: facts, context)


def models_csv(request: Request) -> Response:
    """Every model; what has a latency and a quality with both."""
    store = desk_of(request).store
    known = learn(store)
    rows: list[tuple[object, ...]] = []
    for model in known.models.values():
        plain = (model.id, model.name, model.format, model.precision, model.bytes, model.runs)
        own = [(key[1], row) for key, row in known.benchmarks.items() if key[0] == model.id]
        for runtime, row in own:
            named = known.qualities.get((model.id, runtime), {})
            qualities = (named[name].value if name in named else None for name in QUALITIES)
            rows.append((*plain, runtime, row.device_name, latency_of(row), *qualities))
        if not own:
            rows.append((*plain, *[None] * (3 + len(QUALITIES))))
    header = ("id", "name", "format", "precision", "bytes", "runs", "runtime", "device", "p50_us", *QUALITIES)
    return csv_answer(header, rows, "models.csv")


def models_context(store: Store, query: Mapping[str, str]) -> dict[str, Any]:
    """Everything that the template shows, of the page as of a report."""
    device = query.get("device", "")
    known = learn(store, device)
    return {
        "models": list(known.models.values()),
        "tree": grow(known),
        "devices": [(one.id, one.name) for one in store.list_devices()],
        "device": device,
        **pareto_context(known, query),
    }


def model_page(request: Request) -> Response:
    """One model: its family, its runs, its numbers against the source."""
    desk = desk_of(request)
    wanted = str(request.path_params["model_id"])
    known = learn(desk.store)
    if wanted not in known.models:
        raise RunNotFound("no model has this id", wanted[:64], "see the page of models")
    rows = desk.store.list_runs(
        RunFilter(model_id=wanted, limit=MOST_SHOWN, metrics=HEADLINE, without=desk.bin.hidden())
    )
    state = ListState(words={})
    relatives = family(grow(known), wanted)
    newest = desk.store.load(rows[0].id) if rows else None
    context = {
        "model": known.models[wanted],
        "signature": newest.model.signature if newest and newest.model and newest.model.sha256 == wanted else None,
        "tree": [one for one in grow(known) if wanted in family([one], wanted)],
        **table_context(rows, ticks=False),
        "columns": [(key, title, state.sorted_by(key), "none") for key, title in PLAIN_COLUMNS],
        "checks": checks_of(wanted, known, desk.store),
        "can_show_graph": netron.is_installed() and known.models[wanted].has_file,
        **pareto_context(known, request.query_params, relatives),
    }
    facts = {"model": context["model"], "runs": rows, "points": context["points"], "family": sorted(relatives)}
    return answer(request, "model.html", "models", lambda: facts, context)


PLAIN_COLUMNS = (
    ("model", "Model"),
    ("runtime", "Runtime"),
    ("precision", "Precision"),
    ("device", "Device"),
    ("p50", "Median latency"),
    ("kind", "Kind"),
    ("state", "State"),
    ("started", "Started"),
)


def checks_of(model_id: str, known: Known, store: Store) -> list[tuple[Link, Any]]:
    """The records of what this model was made by and of what was made of it, with their numerics and notes."""
    near = [link for link in known.links if model_id in (link.parent, link.child)]
    found = [(link, numerics_of(store.load(link.run_id), store)) for link in near[:MOST_DEPTH]]
    return [(link, record) for link, record in found if record is not None]
