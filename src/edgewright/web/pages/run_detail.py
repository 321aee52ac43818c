"""Page of one run: figures, samples, layers, units, slowdown causes, lineage, and how to repeat it."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from edgewright.bench.summary import read_inference
from edgewright.errors import RunNotFound, StoreError, UsageError
from edgewright.flows.answers import answer_run
from edgewright.flows.benchmark.report import make_row
from edgewright.flows.evaluate.errors_by_class import find_disagreement, find_errors
from edgewright.flows.layer_costs import describe_layers, load_node_costs
from edgewright.flows.stored_model import get_stored_model, load_record
from edgewright.report.charts.timeline import draw_timeline, make_timeline
from edgewright.report.numbers import count_seconds
from edgewright.schema.artifact import Artifact
from edgewright.schema.metrics import list_task_metrics
from edgewright.schema.run import PART_OF, RESERVED_TAGS, Run, RunOutput
from edgewright.store.runs.queries import RunFilter
from edgewright.store.store import Store
from edgewright.web.pages import figures, traces
from edgewright.web.pages.layer_times import answer_time, make_time_context
from edgewright.web.pages.layers import GROUPS, LayerView, filter_layers, group_layers, parse_layer_view, sum_median_us
from edgewright.web.pages.quantization import load_artifacts, load_quantization
from edgewright.web.pages.training import load_training
from edgewright.web.server.access import get_form
from edgewright.web.server.links import add_query
from edgewright.web.server.responses import (
    make_attachment_headers,
    make_csv_response,
    make_json_response,
    make_page_response,
    translate_display_errors,
    wants_fragment,
)
from edgewright.web.server.state import get_app_state

MAX_TAGS = 12
MAX_SIBLINGS = 50
MAX_STEPS = 60
STEP_METRICS = ("latency.p50", "latency.p50_confidence", *list_task_metrics())
MAX_SAMPLES = 20_000  # in the plot; drawing a million samples would take seconds
MAX_RECORD_BYTES = 8 << 20


def run_page(request: Request) -> Response:
    app_state = get_app_state(request)
    run = find_run(request)
    view = parse_layer_view(request.query_params)
    with translate_display_errors(run.id):
        context = make_run_context(run, app_state.store, view)
        if wants_fragment(request):
            return make_page_response(request, "layers.html", "run", dict, context)
        return make_page_response(request, "run.html", "run", lambda: _make_run_facts(run, app_state.store), context)


def find_run(request: Request) -> Run:
    """Return the run of the address; raise RunNotFound if it is deleted or its deletion is pending."""
    app_state, word = get_app_state(request), str(request.path_params["run_id"])
    run = app_state.store.load(word)
    if run.id in app_state.deletions.hidden():
        raise RunNotFound(
            f"run {run.id} is deleted", "the deletion can still be undone", "use Undo on the list of runs"
        )
    return run


def _make_run_facts(run: Run, store: Store) -> dict[str, Any]:
    """Return the page's data for JSON; samples have their own address."""
    return {
        "answer": answer_run(run, store).text,
        "run": make_row(run),
        "kind": run.kind,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "imported": run.imported,
        "imported_at": run.imported_at,
        "note": run.note,
        "tags": run.tags,
        "metrics": run.metrics,
        "plan": run.plan,
        "environment": run.environment,
        "device": run.device,
        "outputs": run.outputs,
        "lineage": _load_lineage(run, store),
        "time": answer_time(costs := describe_layers(run.layers, load_node_costs(run, store))),
        "layer_costs": costs,
        "evaluation": _make_evaluation_context(run, store) if run.kind == "evaluate" else None,
    }


def make_run_context(run: Run, store: Store, view: LayerView) -> dict[str, Any]:
    """Return the template's values."""
    timeline = make_timeline(run.layers, read_inference(run))
    chosen = filter_layers(run.layers, view)
    own = [tag for tag in run.tags.items() if tag[0] not in RESERVED_TAGS]
    row = make_row(run)
    return {
        "run": run,
        "row": row,
        **make_time_context(run, row, store),
        "answer": (answer := answer_run(run, store)).text,
        "outcome": answer.outcome,
        "steps": store.list_runs(RunFilter(tags={PART_OF: run.id}, limit=MAX_STEPS, metrics=STEP_METRICS)),
        "figures": figures.list_figures(run),
        "seconds": count_seconds(run.started_at, run.finished_at),
        "tags": own[:MAX_TAGS],
        "more_tags": own[MAX_TAGS:],
        "distribution": figures.draw_distribution(run),
        "processes": figures.draw_processes(run),
        "samples": figures.draw_samples(run),
        "sensors": figures.draw_sensors(run),
        "missing_sensors": [title.lower() for name, title in figures.SENSORS if not figures.find_series(run, name)],
        "cold_start": figures.draw_cold_start(run),
        "memory": figures.draw_memory(run),
        "units": figures.draw_units(run),
        "timeline": draw_timeline(timeline),
        "inference": timeline,
        "view": view,
        "groups": group_layers(chosen, view.group) if view.group else [],
        "group_names": list(GROUPS),
        "layers": chosen,
        "layers_us": sum_median_us(run.layers),
        "slowest_us": max((layer.median_us for layer in run.layers if layer.median_us == layer.median_us), default=0.0),
        "layer_address": lambda **fields: _make_layer_address(run.id, view, fields),
        "environment": flatten(run.environment),
        "plan_lines": flatten(run.plan),
        "lineage": _load_lineage(run, store),
        "command": figures.make_command(run),
        "can_repeat": run.kind == "benchmark" and bool(run.plan) and _has_model(run),
        "numerics": load_shown_record(run, store),
        "quantization": load_quantization(run, store) if run.kind == "quantize" else None,
        "artifacts": load_artifacts(run, store),
        "training": load_training(run, store),
        "evaluation": _make_evaluation_context(run, store) if run.kind == "evaluate" else None,
    }


def _make_evaluation_context(run: Run, store: Store) -> dict[str, Any]:
    """Return what was evaluated on what, the errors by class, and the disagreement with the session's first run."""
    task = run.plan.get("task")
    task = task if isinstance(task, dict) else {}
    reference = (
        next(iter(store.list_runs(RunFilter(ids=(run.parent_id,), metrics=()))), None) if run.parent_id else None
    )
    return {
        "task": str(task.get("name", "")),
        "metric": str(task.get("metric", "")),
        "data": str(run.plan.get("data", "")).replace("\\", "/").rpartition("/")[2],
        "samples": len(figures.find_series(run, "sample.index")),
        "errors": find_errors(run),
        "reference": reference,
        "disagreement": find_disagreement(run, store.load(reference.id)) if reference else None,
    }


def _has_model(run: Run) -> bool:
    """Return whether the run refers to a stored model file."""
    try:
        get_stored_model(run)
    except StoreError:
        return False
    return True


def _make_layer_address(run_id: str, view: LayerView, fields: Mapping[str, str]) -> str:
    """Return the page's address with another order, grouping or filter of the layers."""
    now = {"sort": view.sort if view.sort != "position" else "", "group": view.group, "layer": view.text, **fields}
    return add_query(f"/runs/{run_id}", [(name, value) for name, value in now.items() if value]) + "#layers"


def flatten(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Return nested facts as lines of a dotted name and a value."""
    if isinstance(value, dict):
        return [
            line for key, item in value.items() for line in flatten(item, f"{prefix}.{key}" if prefix else str(key))
        ]
    if isinstance(value, list | tuple):
        if any(isinstance(item, dict | list | tuple) for item in value):
            return [line for index, item in enumerate(value) for line in flatten(item, f"{prefix}[{index}]")]
        return [(prefix, ", ".join(map(str, value)) or "–")]
    return [(prefix, "–" if value is None or value == "" else str(value))]


def _load_lineage(run: Run, store: Store) -> dict[str, Any]:
    """Return the models that this one was made from and into, the other runs of the session, and the repeated run."""
    model_id = run.model.sha256 if run.model else ""
    links = [link for link in store.list_links() if model_id in (link.parent, link.child)]
    names = store.get_model_names([name for link in links for name in (link.parent, link.child)])
    made = {one.model_id for one in run.outputs if one.model_id and one.model_id != model_id}

    def describe_link(link: Any, other: str) -> dict[str, str]:
        return {
            "model_id": other,
            "name": names.get(other, other[:12]),
            "run_id": link.run_id,
            "kind": link.kind,
            "runtime": link.runtime,
        }

    children = [link for link in links if link.parent == model_id]
    session = run.parent_id or run.id
    siblings = store.list_runs(RunFilter(parent=session, limit=MAX_SIBLINGS, metrics=("latency.p50",)))
    return {
        "from": [describe_link(link, link.parent) for link in links if link.child == model_id],
        "to": [describe_link(link, link.child) for link in children if not made or link.child in made],
        "session": [row for row in siblings if row.id != run.id],
        "rerun_of": run.tags.get("rerun-of", ""),
    }


def load_shown_record(run: Run, store: Store) -> Artifact | None:
    """Return the artifact's record of a compile run; None if there is none that can be shown."""
    try:
        return load_record([one for one in run.outputs if one.bytes <= MAX_RECORD_BYTES], store)
    except Exception:  # the page shows the rest of the run
        return None


def samples_json(request: Request) -> Response:
    """Return at most MAX_SAMPLES evenly chosen samples for the interactive plot, and the total number."""
    run = find_run(request)
    _, samples = figures.find_main_samples(run)
    step = -(-len(samples) // MAX_SAMPLES) or 1
    sensors = [
        {"name": series.name, "unit": series.unit, "data": series.data[:MAX_SAMPLES]}
        for series in run.series
        if series.name in dict(figures.SENSORS)
    ]
    return make_json_response(
        {
            "schema": "edgewright.page/1",
            "page": "samples",
            "unit": "us",
            "total": len(samples),
            "step": step,
            "data": samples[::step],
            "processes": figures.count_process_samples(run),
            "sensors": sensors,
        }
    )


def samples_csv(request: Request) -> Response:
    """Return every series as CSV, one sample per row."""
    run = find_run(request)
    rows = (
        (series.name, series.unit, index, value) for series in run.series for index, value in enumerate(series.data)
    )
    return make_csv_response(("series", "unit", "position", "value"), rows, f"{run.id}-samples.csv")


LAYER_HEADER = (
    "position",
    "name",
    "op",
    "unit",
    "backend",
    "evidence",
    "start_us",
    "median_us",
    "p90_us",
    "low_us",
    "high_us",
    "memory_bytes",
    "source_nodes",
)


def make_layer_cells(run: Run) -> list[tuple[object, ...]]:
    """Return the layers as rows of `LAYER_HEADER`."""
    plain = LAYER_HEADER[:-1]
    return [(*(getattr(layer, name) for name in plain), " + ".join(layer.source_nodes)) for layer in run.layers]


def layers_csv(request: Request) -> Response:
    run = find_run(request)
    return make_csv_response(LAYER_HEADER, make_layer_cells(run), f"{run.id}-layers.csv")


def spans_json(request: Request) -> Response:
    """Return the spans of the timeline."""
    run = find_run(request)
    timeline = make_timeline(run.layers, read_inference(run))
    named = {"schema": "edgewright.page/1", "page": "timeline", "measured": timeline.is_real}
    return make_json_response({**named, "spans": timeline.spans, "gaps": timeline.gaps})


def trace_json(request: Request) -> Response:
    run = find_run(request)
    return make_json_response(traces.make_chrome_trace(run), f"{run.id}-trace.json")


def explorer_json(request: Request) -> Response:
    run = find_run(request)
    return make_json_response(traces.make_node_data(run), f"{run.id}-model-explorer.json")


def plan_json(request: Request) -> Response:
    run = find_run(request)
    return make_json_response(run.plan, f"{run.id}-plan.json")


def record_json(request: Request) -> Response:
    """Return the whole run, as `runs show --json` prints it, without the lineage."""
    run = find_run(request)
    return make_json_response({"schema": "edgewright.run/1", "run": run}, f"{run.id}.json")


def run_file(request: Request) -> Response:
    """Return a stored file of this run; the address is never used as a path."""
    run = find_run(request)
    wanted = str(request.path_params["sha256"])
    output = next((one for one in run.outputs if one.sha256 == wanted), None)
    if output is None:
        raise RunNotFound(
            f"file not found in run {run.id}", "no file of the run has this hash", "choose a file on the run's page"
        )
    file = get_app_state(request).store.open_blob(output.sha256)
    headers = make_attachment_headers(_choose_file_name(output, run)) | {"content-length": str(output.bytes)}
    return StreamingResponse(_iter_file(file), media_type="application/octet-stream", headers=headers)


def _iter_file(file: Any) -> Any:
    with file:
        while piece := file.read(1 << 20):
            yield piece


def _choose_file_name(output: RunOutput, run: Run) -> str:
    """Return the file name for a download."""
    if output.role == "model" and run.model:
        return run.model.name
    plain = {"record": "record.json", "log": "log.txt", "inputs": "inputs.npz"}
    return plain.get(output.role) or output.role.partition(":")[2].rpartition("/")[2] or output.role


def tag_run(request: Request) -> Response:
    """Add a tag, remove one, or replace the note; redirect to the page."""
    form, store, run = get_form(request), get_app_state(request).store, find_run(request)
    first = {name: values[0] for name, values in form.items() if values}
    if "note" in first:
        store.note(run.id, first["note"][:20_000])
    elif "remove" in first:
        store.untag(run.id, first["remove"])
    else:
        name, equals, value = first.get("new_tag", "").strip().partition("=")
        if not (name and equals):
            raise UsageError("the tag is not valid", "a tag needs a name and a value", "use the form name=value")
        store.tag(run.id, name, value)
    return RedirectResponse(f"/runs/{run.id}", 303)
