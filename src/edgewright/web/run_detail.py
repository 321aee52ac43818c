"""One run: figures, samples, layers, where they ran, why it is slow, where it comes from, and how to get it again."""

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from edgewright.errors import RunNotFound, StoreError, UsageError
from edgewright.facts.artifact import Artifact
from edgewright.facts.run import OWN_TAGS, Output, Run
from edgewright.flows.report import make_row
from edgewright.flows.stored_model import stored_model
from edgewright.store.queries import RunFilter
from edgewright.store.store import Store
from edgewright.web import figures, traces
from edgewright.web.answers import answer, attached, csv_answer, json_answer, shown, wants_part
from edgewright.web.draw.timeline import make_spans, timeline
from edgewright.web.guard import form_of
from edgewright.web.layers import GROUPS, LayerView, choose, group, total_us, view_from
from edgewright.web.links import with_query
from edgewright.web.numbers import seconds_between
from edgewright.web.quantization import quantization_of
from edgewright.web.state import desk_of
from edgewright.web.training import training_of

MOST_TAGS = 12
MOST_SIBLINGS = 50
MOST_SAMPLES = 20_000  # in the long plot; a page of a run with a million would take seconds to draw
RECORD_BYTES = 8 << 20


def run_page(request: Request) -> Response:
    desk = desk_of(request)
    run = find_run(request)
    view = view_from(request.query_params)
    with shown(run.id):
        context = run_context(run, desk.store, view)
        if wants_part(request):
            return answer(request, "layers.html", "run", dict, context)
        return answer(request, "run.html", "run", lambda: run_facts(run, desk.store), context)


def find_run(request: Request) -> Run:
    """The run of the address. RunNotFound for one that is deleted, or about to be."""
    desk, word = desk_of(request), str(request.path_params["run_id"])
    run = desk.store.load(word)
    if run.id in desk.bin.hidden():
        raise RunNotFound(f"run {run.id} is deleted", "it can still be brought back", "Undo on the list of runs")
    return run


def run_facts(run: Run, store: Store) -> dict[str, Any]:
    """The page's JSON: what `runs show` tells, and the lineage; samples have an address of their own."""
    return {
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
        "lineage": lineage_of(run, store),
    }


def run_context(run: Run, store: Store, view: LayerView) -> dict[str, Any]:
    """Everything that the template shows."""
    spans, starts_known = make_spans(run.layers)
    chosen = choose(run.layers, view)
    own = [tag for tag in run.tags.items() if tag[0] not in OWN_TAGS]
    return {
        "run": run,
        "row": make_row(run),
        "figures": figures.headline(run),
        "seconds": seconds_between(run.started_at, run.finished_at),
        "tags": own[:MOST_TAGS],
        "more_tags": own[MOST_TAGS:],
        "distribution": figures.draw_distribution(run),
        "processes": figures.draw_processes(run),
        "samples": figures.draw_samples(run),
        "sensors": figures.draw_sensors(run),
        "missing_sensors": [title.lower() for name, title in figures.SENSORS if not figures.series_of(run, name)],
        "cold_start": figures.draw_cold_start(run),
        "memory": figures.draw_memory(run),
        "units": figures.draw_units(run),
        "timeline": timeline(spans),
        "starts_known": starts_known,
        "view": view,
        "groups": group(chosen, view.group) if view.group else [],
        "group_names": list(GROUPS),
        "layers": chosen,
        "layers_us": total_us(run.layers),
        "slowest_us": max((layer.median_us for layer in run.layers if layer.median_us == layer.median_us), default=0.0),
        "layer_address": lambda **fields: layer_address(run.id, view, fields),
        "environment": flatten(run.environment),
        "plan_lines": flatten(run.plan),
        "lineage": lineage_of(run, store),
        "command": figures.command_of(run),
        "can_repeat": run.kind == "benchmark" and bool(run.plan) and has_model(run),
        "numerics": numerics_of(run, store),
        "quantization": quantization_of(run, store) if run.kind == "quantize" else None,
        "training": training_of(run, store),
    }


def has_model(run: Run) -> bool:
    """Whether the record has the run's model, as far as the run itself tells."""
    try:
        stored_model(run)
    except StoreError:
        return False
    return True


def layer_address(run_id: str, view: LayerView, fields: Mapping[str, str]) -> str:
    """The page's address with another order, group or filter of the layers."""
    now = {"sort": view.sort if view.sort != "position" else "", "group": view.group, "layer": view.text, **fields}
    return with_query(f"/runs/{run_id}", [(name, value) for name, value in now.items() if value]) + "#layers"


def flatten(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested facts as lines of a dotted name and a value."""
    if isinstance(value, dict):
        return [
            line for key, item in value.items() for line in flatten(item, f"{prefix}.{key}" if prefix else str(key))
        ]
    if isinstance(value, list | tuple):
        if any(isinstance(item, dict | list | tuple) for item in value):
            return [line for place, item in enumerate(value) for line in flatten(item, f"{prefix}[{place}]")]
        return [(prefix, ", ".join(map(str, value)) or "–")]
    return [(prefix, "–" if value is None or value == "" else str(value))]


def lineage_of(run: Run, store: Store) -> dict[str, Any]:
    """What the model was made from, what was made of it, and the other runs of the session and of the model."""
    model_id = run.model.sha256 if run.model else ""
    links = [link for link in store.list_links() if model_id in (link.parent, link.child)]
    names = store.model_names([name for link in links for name in (link.parent, link.child)])
    made = {one.model_id for one in run.outputs if one.model_id and one.model_id != model_id}

    def told(link: Any, other: str) -> dict[str, str]:
        return {
            "model_id": other,
            "name": names.get(other, other[:12]),
            "run_id": link.run_id,
            "kind": link.kind,
            "runtime": link.runtime,
        }

    children = [link for link in links if link.parent == model_id]
    session = run.parent_id or run.id
    siblings = store.list_runs(RunFilter(parent=session, limit=MOST_SIBLINGS, metrics=("latency.p50",)))
    return {
        "from": [told(link, link.parent) for link in links if link.child == model_id],
        "to": [told(link, link.child) for link in children if not made or link.child in made],
        "session": [row for row in siblings if row.id != run.id],
        "rerun_of": run.tags.get("rerun-of", ""),
    }


def numerics_of(run: Run, store: Store) -> Artifact | None:
    """The artifact's record that a compile kept, for its numbers against the source; None where there is none."""
    found = next((one for one in run.outputs if one.role == "record" and one.bytes <= RECORD_BYTES), None)
    if found is None:
        return None
    try:
        with store.open_blob(found.sha256) as file:
            return msgspec.json.decode(file.read(), type=Artifact)
    except Exception:
        return None


def samples_json(request: Request) -> Response:
    """The long series for the plot that zooms: at most so many samples, evenly chosen, and how many there are."""
    run = find_run(request)
    _, samples = figures.main_samples(run)
    step = -(-len(samples) // MOST_SAMPLES) or 1
    sensors = [
        {"name": series.name, "unit": series.unit, "data": series.data[:MOST_SAMPLES]}
        for series in run.series
        if series.name in dict(figures.SENSORS)
    ]
    return json_answer(
        {
            "schema": "edgewright.page/1",
            "page": "samples",
            "unit": "us",
            "total": len(samples),
            "step": step,
            "data": samples[::step],
            "processes": figures.process_counts(run),
            "sensors": sensors,
        }
    )


def samples_csv(request: Request) -> Response:
    """Every series, one sample a row."""
    run = find_run(request)
    rows = (
        (series.name, series.unit, place, value) for series in run.series for place, value in enumerate(series.data)
    )
    return csv_answer(("series", "unit", "position", "value"), rows, f"{run.id}-samples.csv")


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


def layer_cells(run: Run) -> list[tuple[object, ...]]:
    """The layers as rows under `LAYER_HEADER`."""
    plain = LAYER_HEADER[:-1]
    return [(*(getattr(layer, name) for name in plain), " + ".join(layer.source_nodes)) for layer in run.layers]


def layers_csv(request: Request) -> Response:
    run = find_run(request)
    return csv_answer(LAYER_HEADER, layer_cells(run), f"{run.id}-layers.csv")


def spans_json(request: Request) -> Response:
    """What the canvas draws."""
    spans, measured = make_spans(find_run(request).layers)
    return json_answer({"schema": "edgewright.page/1", "page": "timeline", "measured": measured, "spans": spans})


def trace_json(request: Request) -> Response:
    run = find_run(request)
    return json_answer(traces.chrome_trace(run), f"{run.id}-trace.json")


def explorer_json(request: Request) -> Response:
    run = find_run(request)
    return json_answer(traces.node_data(run), f"{run.id}-model-explorer.json")


def plan_json(request: Request) -> Response:
    run = find_run(request)
    return json_answer(run.plan, f"{run.id}-plan.json")


def record_json(request: Request) -> Response:
    """The whole record, as `runs show --json` prints it, without the lineage."""
    run = find_run(request)
    return json_answer({"schema": "edgewright.run/1", "run": run}, f"{run.id}.json")


def file_of_run(request: Request) -> Response:
    """A stored file, only where this run has it; nothing of the address becomes a path."""
    run = find_run(request)
    wanted = str(request.path_params["sha256"])
    output = next((one for one in run.outputs if one.sha256 == wanted), None)
    if output is None:
        raise RunNotFound(f"run {run.id} has no such file", "", "see the files on the run's page")
    file = desk_of(request).store.open_blob(output.sha256)
    headers = attached(name_of(output, run)) | {"content-length": str(output.bytes)}
    return StreamingResponse(iter_file(file), media_type="application/octet-stream", headers=headers)


def iter_file(file: Any) -> Any:
    with file:
        while piece := file.read(1 << 20):
            yield piece


def name_of(output: Output, run: Run) -> str:
    """What the file is called when it is saved."""
    if output.role == "model" and run.model:
        return run.model.name
    plain = {"record": "record.json", "log": "log.txt", "inputs": "inputs.npz"}
    return plain.get(output.role) or output.role.partition(":")[2].rpartition("/")[2] or output.role


def tag_run(request: Request) -> Response:
    """Put on a tag, take one off, or replace the note; back to the page."""
    form, store, run = form_of(request), desk_of(request).store, find_run(request)
    first = {name: values[0] for name, values in form.items() if values}
    if "note" in first:
        store.note(run.id, first["note"][:20_000])
    elif "remove" in first:
        store.untag(run.id, first["remove"])
    else:
        name, equals, value = first.get("new_tag", "").strip().partition("=")
        if not (name and equals):
            raise UsageError("this is no tag", "it needs a name and a value", "give it as name=value")
        store.tag(run.id, name, value)
    return RedirectResponse(f"/runs/{run.id}", 303)
