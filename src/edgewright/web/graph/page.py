"""Graph of a run's model: by the share of its time for a benchmark, by the share of the error for a quantization."""

from collections.abc import Sequence
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from edgewright.errors import EdgewrightError, UsageError
from edgewright.flows.layer_costs import list_source_models
from edgewright.flows.stored_model import fetch_model
from edgewright.formats.files import read_graph
from edgewright.report.charts.graph import NodeHeat, draw_graph, list_heaviest
from edgewright.report.numbers import shorten
from edgewright.schema.model import GraphNode
from edgewright.schema.run import Run
from edgewright.schema.units import show_share
from edgewright.store.store import Store
from edgewright.system.temporary import TemporaryFolder
from edgewright.web.pages.quantization import load_noise
from edgewright.web.pages.run_detail import find_run
from edgewright.web.server.responses import make_page_response, wants_fragment
from edgewright.web.server.state import get_app_state

MAX_BYTES, MAX_NODES, MAX_FILES, MAX_CACHED = 500_000_000, 5_000, 4, 32
BY_TIME, BY_ERROR = "Share of the time of an inference", "Share of the quantization error, each operator alone"
HEAVIEST = "{title}: most in {nodes}."
_CACHE: dict[str, Sequence[GraphNode]] = {}  # by model id: the content of a file never changes


class ColoredGraph(NamedTuple):
    """Nodes of a model with their heats; `title` says what the heat is."""

    nodes: Sequence[GraphNode]
    heats: dict[str, NodeHeat]
    title: str


def graph_page(request: Request) -> Response:
    """Return the page with the graph, or for htmx the graph alone, whose boxes are linked with the table of layers."""
    run, store = find_run(request), get_app_state(request).store
    graph = _load_graph(run, store)
    is_part = wants_fragment(request)
    known = ", ".join(f"{shorten(name, 40)} {show_share(share)}" for name, share in list_heaviest(graph.heats.items()))
    context = {
        "run": run,
        "answer": HEAVIEST.format(title=graph.title, nodes=known) if known else "",
        "picture": draw_graph(graph.nodes, graph.heats, graph.title, "" if is_part else f"/runs/{run.id}"),
    }

    def facts() -> dict[str, object]:
        return {"answer": context["answer"], "title": graph.title, "nodes": graph.nodes, "heats": graph.heats}

    return make_page_response(request, "graph_part.html" if is_part else "graph.html", "run", facts, context)


def _load_graph(run: Run, store: Store) -> ColoredGraph:
    """Return the stored graph that has most of the run's nodes. UsageError if there is none."""
    noise = load_noise(run, store)
    heats = _make_time_heats(run) if not noise else {name: NodeHeat(share=share) for name, share in noise.items()}
    best: Sequence[GraphNode] = ()
    most = -1
    for model_id in list_source_models(run, store)[:MAX_FILES]:
        nodes = _read_nodes(model_id, store)
        found = sum(node.name in heats for node in nodes)
        if nodes and found > most:
            best, most = nodes, found
    if not best:
        raise UsageError(
            "this run has no graph", "no stored ONNX or TFLite file has its nodes", "measure a model file of these"
        )
    if len(best) > MAX_NODES:
        raise UsageError("the graph is too large", f"it has {len(best):,} nodes of at most {MAX_NODES:,}", "use Netron")
    return ColoredGraph(best, heats, BY_ERROR if noise else BY_TIME)


def _make_time_heats(run: Run) -> dict[str, NodeHeat]:
    known = [layer for layer in run.layers if layer.median_us == layer.median_us]
    total = sum(layer.median_us for layer in known) or 1.0
    heats: dict[str, NodeHeat] = {}
    for layer in sorted(known, key=lambda layer: -layer.median_us):
        heat = NodeHeat(share=layer.median_us / total, layer=layer.position)
        for name in (*layer.source_nodes, layer.name):
            heats.setdefault(name, heat)
    return heats


def _read_nodes(model_id: str, store: Store) -> Sequence[GraphNode]:
    """Return the nodes of a stored file; none if there is no such file, or if it cannot be read."""
    if model_id not in _CACHE:
        run_ids = store.list_runs_with_file(model_id, 1)
        run = store.load(run_ids[0]) if run_ids else None
        if run is None or run.model is None or run.model.bytes > MAX_BYTES:
            return ()
        if len(_CACHE) >= MAX_CACHED:
            _CACHE.pop(next(iter(_CACHE)))
        try:
            with TemporaryFolder() as folder:
                _CACHE[model_id] = read_graph(fetch_model(run, store, folder), run.model.format)
        except (EdgewrightError, OSError, ValueError):
            _CACHE[model_id] = ()
    return _CACHE[model_id]
