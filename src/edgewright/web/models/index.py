"""What the pages of models know: newest measurements, lineage trees, and families with their sessions."""

from collections import Counter
from collections.abc import Sequence
from itertools import islice

from msgspec import Struct

from edgewright.bench.trust import LATENCY_METRICS
from edgewright.flows.benchmark.comparison import find_verdicts, get_session_id
from edgewright.report.family import Cell, Family, Matrix, make_matrix
from edgewright.report.numbers import find_accuracy
from edgewright.schema.metrics import METRICS
from edgewright.schema.run import Metric
from edgewright.store.runs.browse import LineageLink, ModelRow
from edgewright.store.runs.queries import RunFilter, RunSummary
from edgewright.store.store import Store

# Metrics of the index, best known first.
QUALITIES = (
    *(name for name, info in METRICS.items() if info.basis),
    *("numerics.argmax-agreement", "numerics.sqnr"),
)
MAX_RUNS = 5_000
MAX_COMPARED = 16  # runs of a session whose verdicts rank the cells; other cells are ranked by their intervals
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


def build_model_trees(index: ModelIndex) -> list[ModelTreeNode]:
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
        if get_latency(row) < get_latency(fastest.get(model_id)):
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


def get_latency(row: RunSummary | None) -> float:
    metric = row.metrics.get("latency.p50") if row else None
    return float("inf") if metric is None or metric.value is None else metric.value


def find_relatives(tree: Sequence[ModelTreeNode], model_id: str) -> set[str]:
    """Return the ids of all models in the trees that contain this one."""

    def ids(one: ModelTreeNode) -> set[str]:
        return {one.model.id}.union(*(ids(child) for child in one.children))

    return set[str]().union(*(found for one in tree if model_id in (found := ids(one))))


def make_family(index: ModelIndex, trees: Sequence[ModelTreeNode], model_id: str) -> Family:
    """Return the models of the trees that contain this one, with the benchmarks of one device: that of the session that
    measured most of them.
    """
    relatives = find_relatives(trees, model_id)
    own = [row for row in index.rows if row.model_id in relatives]
    measured = Counter((row.parent_id or row.id, row.device_id) for row in own)
    device = max(measured, key=lambda one: measured[one], default=("", ""))[1]  # max keeps the first of equals
    return Family(
        models={one: index.models[one] for one in relatives},
        source=next((tree.model.id for tree in trees if model_id in find_relatives([tree], model_id)), model_id),
        benchmarks=[row for row in own if row.device_id == device],
        qualities=index.qualities,
    )


class FamilySession(Struct, frozen=True, kw_only=True):
    """A benchmark session of a family: its first run's id, its start, and its runs, the fastest first."""

    id: str
    started_at: str
    runs: tuple[RunSummary, ...]


class FamilySummary(Struct, frozen=True, kw_only=True):
    """One row of the table of families.

    Attributes:
        best: the cell that the answer names; None if nothing was measured.
        fastest: the fastest cell of the session whose latency has high or medium trust.
        smallest, largest: bytes of the family's files.
    """

    source: ModelRow
    matrix: Matrix
    best: Cell | None
    fastest: Cell | None
    files: int
    smallest: int
    largest: int
    measured_at: str


def list_sessions(family: Family) -> list[FamilySession]:
    """Return the sessions, the newest first."""
    found: dict[str, list[RunSummary]] = {}
    for row in family.benchmarks:
        found.setdefault(row.parent_id or row.id, []).append(row)
    sessions = [
        FamilySession(id=one, started_at=min(row.started_at for row in rows), runs=tuple(sorted(rows, key=get_latency)))
        for one, rows in found.items()
    ]
    return sorted(sessions, key=lambda one: one.started_at, reverse=True)


def make_verified_matrix(family: Family, store: Store, quality: str = "") -> Matrix:
    """Return the matrix with ranks by the paired verdicts of its session."""
    matrix = make_matrix(family, quality)
    wanted = [cell.run_id for cell in matrix.cells if cell.rank is not None and cell.run_id]
    runs = [store.load(run_id) for run_id in islice(wanted, MAX_COMPARED)]
    if len({get_session_id(run) for run in runs}) != 1:
        return matrix
    return make_matrix(family._replace(verdicts=find_verdicts(runs)), quality)


def summarize_families(index: ModelIndex, trees: Sequence[ModelTreeNode]) -> list[FamilySummary]:
    """Return a row for each tree, the one that was measured last first; ranks are by intervals."""
    rows = [_summarize_family(make_family(index, [tree], tree.model.id)) for tree in trees]
    return sorted(rows, key=lambda one: one.measured_at, reverse=True)


def _summarize_family(family: Family) -> FamilySummary:
    matrix = make_matrix(family)
    fresh = [cell for cell in matrix.cells if cell.rank is not None]
    sizes = [model.bytes for model in family.models.values()]
    source = family.models[family.source]
    return FamilySummary(
        source=source,
        matrix=matrix,
        best=next((cell for cell in fresh if not cell.loses), None),
        fastest=next((cell for cell in fresh if cell.trust in ("high", "medium")), None),
        files=len(family.models),
        smallest=min(sizes),
        largest=max(sizes),
        measured_at=max((row.started_at for row in family.benchmarks), default=source.last_run_at or source.added_at),
    )
