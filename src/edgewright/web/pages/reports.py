"""Reports without a server: one HTML file or a folder of static pages, without scripts and external links."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from markupsafe import Markup
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from edgewright.errors import StoreError, UsageError
from edgewright.schema.run import Run
from edgewright.store.exports.paths import list_known_folders, strip_folders, strip_text
from edgewright.store.runs.queries import RunFilter, RunSummary
from edgewright.store.store import Store
from edgewright.system.files import create_folder_atomically, make_output_error, write_atomically
from edgewright.web.models.pages import make_models_context
from edgewright.web.pages.comparison import MAX_RUNS, load_runs, make_compare_context
from edgewright.web.pages.devices import make_devices_context
from edgewright.web.pages.filters import HEADLINE_METRICS, ListState
from edgewright.web.pages.layers import LayerView
from edgewright.web.pages.run_detail import LAYER_HEADER, find_run, make_layer_cells, make_run_context
from edgewright.web.pages.run_list import CSV_COLUMNS, make_csv_row, make_list_context
from edgewright.web.pages.traces import make_chrome_trace, make_node_data
from edgewright.web.server.assets import read_style
from edgewright.web.server.links import Links, SingleFileLinks, StaticSiteLinks
from edgewright.web.server.responses import make_attachment_headers, make_csv, render, translate_display_errors
from edgewright.web.server.state import get_app_state

MAX_PAGES = 2_000
LOCAL_FOLDERS = list_known_folders(None)


def _render_report(template: str, links: Links, context: dict[str, Any], page: str) -> str:
    style = Markup(read_style())  # noqa: S704 - our own file
    return render(template, links, {"page": page, "style": style, "csrf": "", "json_address": "", **context})


def render_run(run: Run, store: Store, links: Links | None = None) -> str:
    with translate_display_errors(run.id):
        context = make_run_context(strip_folders(run), store, LayerView())
        return _render_report("run_report.html", links or SingleFileLinks(), context, "runs")


def render_comparison(runs: Sequence[Run]) -> str:
    with translate_display_errors(*(run.id for run in runs)):
        context = make_compare_context([strip_folders(run) for run in runs])
        return _render_report("compare_report.html", SingleFileLinks(), context, "compare")


def _render_run_page(run_id: str, store: Store, links: Links) -> str:
    """Return a run's page of a static site, or an error page if the run cannot be shown."""
    try:
        return render_run(store.load(run_id), store, links)
    except StoreError as error:
        fields = {"status": "", "what": error.what, "why": error.why, "try_this": error.try_this}
        return _render_report("error.html", links, fields, "runs")


def render_one_file(runs: Sequence[Run], store: Store) -> str:
    """Return the report of one run, or the comparison of several; raise UsageError for too many runs."""
    if len(runs) > MAX_RUNS:
        raise UsageError(
            f"{len(runs)} runs are too many for one report", f"the maximum is {MAX_RUNS}", "use --site FOLDER"
        )
    return render_run(runs[0], store) if len(runs) == 1 else render_comparison(runs)


def run_report(request: Request) -> Response:
    run = find_run(request)
    return _make_html_response(render_run(run, get_app_state(request).store), f"{run.id}.html")


def compare_report(request: Request) -> Response:
    return _make_html_response(render_comparison(load_runs(request)), "comparison.html")


def _make_html_response(content: str, name: str) -> Response:
    return Response(content, media_type="text/html", headers=make_attachment_headers(name))


def write_site(folder: Path, run_ids: Sequence[str], store: Store) -> int:
    """Write a page for each run, and pages of all runs, models and devices; return the number of pages.

    Raises:
        UsageError: the folder exists and is not empty.
        OutputError: the folder cannot be written.
    """
    rows = store.list_runs(RunFilter(limit=MAX_PAGES, metrics=HEADLINE_METRICS))
    if run_ids:
        wanted = {store.load(run_id).id for run_id in run_ids}
        rows = [row for row in rows if row.id in wanted]
    rows = [replace(row, error=row.error and strip_text(row.error, LOCAL_FOLDERS)) for row in rows]
    try:
        if folder.is_dir() and any(folder.iterdir()):
            raise UsageError(
                f"{folder} is not empty", "existing files would be mixed with the site", "use a new folder"
            )
        with create_folder_atomically(folder, "index.html") as part:
            _write_pages(part, rows, store)
    except OSError as error:
        raise make_output_error(folder, error) from None
    return len(rows) + 3


def _write_pages(folder: Path, rows: Sequence[RunSummary], store: Store) -> None:
    """Write all files of a site."""
    links = StaticSiteLinks(frozenset(row.id for row in rows))
    listed = make_list_context(rows, len(rows), ListState(words={}))
    devices = make_devices_context(store.list_devices(), store)
    pages = {
        "style.css": read_style(),
        "index.html": _render_report("runs_report.html", links, listed, "runs"),
        "models.html": _render_report("models_report.html", links, make_models_context(store, {}), "models"),
        "devices.html": _render_report("devices_report.html", links, devices, "devices"),
        "runs.csv": make_csv(tuple(CSV_COLUMNS), map(make_csv_row, rows)),
        "runs.json": msgspec.json.encode({"schema": "edgewright.runs/1", "runs": rows}).decode(),
    }
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")
    for row in rows:
        (folder / f"run-{row.id}.html").write_text(_render_run_page(row.id, store, links), encoding="utf-8")


def write_layers(name: str, path: Path, run: Run) -> None:
    """Write a run's layers in a format of `LAYER_FILES`; raise UsageError if it has no layers."""
    if not run.layers:
        why = f"it is a run of kind {run.kind} in state {run.state}"
        raise UsageError(f"run {run.id} has no layers", why, "choose a benchmark with layers")
    write_atomically(path, LAYER_FILES[name](run), follow=True)


LAYER_FILES: dict[str, Callable[[Run], str]] = {
    "chrome_trace": lambda run: msgspec.json.encode(make_chrome_trace(run)).decode(),
    "model_explorer": lambda run: msgspec.json.encode(make_node_data(run)).decode(),
    "csv": lambda run: make_csv(LAYER_HEADER, make_layer_cells(run)),
}
