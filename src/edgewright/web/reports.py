"""Reports that need no server: one HTML file, or a folder of static pages; no script and no address in them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from markupsafe import Markup
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from edgewright.errors import StoreError, UsageError
from edgewright.facts.run import Run
from edgewright.store.folders import bare_text, known_folders, without_folders
from edgewright.store.queries import RunFilter, RunRow
from edgewright.store.store import Store
from edgewright.system.files import output_error, write_whole, written_folder
from edgewright.web.answers import attached, make_csv, render, shown
from edgewright.web.assets import style_text
from edgewright.web.comparing import MOST, compare_context, load_runs
from edgewright.web.devices import devices_context
from edgewright.web.filters import HEADLINE, ListState
from edgewright.web.layers import LayerView
from edgewright.web.links import Links, NoLinks, SiteLinks
from edgewright.web.models import models_context
from edgewright.web.run_detail import LAYER_HEADER, find_run, layer_cells, run_context
from edgewright.web.run_list import CSV_HEADER, csv_row, list_context
from edgewright.web.state import desk_of
from edgewright.web.traces import chrome_trace, node_data

MOST_PAGES = 2_000
HERE = known_folders(None)


def report(template: str, links: Links, context: dict[str, Any], page: str) -> str:
    style = Markup(style_text())  # noqa: S704 - our own file
    return render(template, links, {"page": page, "style": style, "csrf": "", "twin": "", **context})


def run_text(run: Run, store: Store, links: Links | None = None) -> str:
    with shown(run.id):
        context = run_context(without_folders(run), store, LayerView())
        return report("run_report.html", links or NoLinks(), context, "runs")


def compare_text(runs: Sequence[Run]) -> str:
    with shown(*(run.id for run in runs)):
        context = compare_context([without_folders(run) for run in runs])
        return report("compare_report.html", NoLinks(), context, "compare")


def page_of(run_id: str, store: Store, links: Links) -> str:
    """The page of a run on a site; of one that cannot be shown a page that says so."""
    try:
        return run_text(store.load(run_id), store, links)
    except StoreError as error:
        told = {"status": "", "what": error.what, "why": error.why, "try_this": error.try_this}
        return report("error.html", links, told, "runs")


def one_file(runs: Sequence[Run], store: Store) -> str:
    """One run in full, or a comparison of several. UsageError for more than can be compared."""
    if len(runs) > MOST:
        raise UsageError(
            f"{len(runs)} runs do not fit into one report", f"at most {MOST} do", "--site FOLDER takes all"
        )
    return run_text(runs[0], store) if len(runs) == 1 else compare_text(runs)


def run_report(request: Request) -> Response:
    run = find_run(request)
    return html_file(run_text(run, desk_of(request).store), f"{run.id}.html")


def compare_report(request: Request) -> Response:
    return html_file(compare_text(load_runs(request)), "comparison.html")


def html_file(content: str, name: str) -> Response:
    return Response(content, media_type="text/html", headers=attached(name))


def write_site(folder: Path, run_ids: Sequence[str], store: Store) -> int:
    """A new or empty folder with a page for each run, their list, the models and the devices; how many pages.

    Raises UsageError for a folder with something in it, OutputError where it cannot be written.
    """
    rows = store.list_runs(RunFilter(limit=MOST_PAGES, metrics=HEADLINE))
    if run_ids:
        wanted = {store.load(run_id).id for run_id in run_ids}
        rows = [row for row in rows if row.id in wanted]
    rows = [replace(row, error=row.error and bare_text(row.error, HERE)) for row in rows]
    try:
        if folder.is_dir() and any(folder.iterdir()):
            raise UsageError(f"{folder} is not empty", "a site is not mixed with other files", "name a new folder")
        with written_folder(folder, "index.html") as part:
            write_pages(part, rows, store)
    except OSError as error:
        raise output_error(folder, error) from None
    return len(rows) + 3


def write_pages(folder: Path, rows: Sequence[RunRow], store: Store) -> None:
    """Write all files of a site."""
    links = SiteLinks(frozenset(row.id for row in rows))
    listed = list_context(rows, len(rows), ListState(words={}))
    devices = devices_context(store.list_devices(), store)
    pages = {
        "style.css": style_text(),
        "index.html": report("runs_report.html", links, listed, "runs"),
        "models.html": report("models_report.html", links, models_context(store, {}), "models"),
        "devices.html": report("devices_report.html", links, devices, "devices"),
        "runs.csv": make_csv(CSV_HEADER, map(csv_row, rows)),
        "runs.json": msgspec.json.encode({"schema": "edgewright.runs/1", "runs": rows}).decode(),
    }
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")
    for row in rows:
        (folder / f"run-{row.id}.html").write_text(page_of(row.id, store, links), encoding="utf-8")


def write_layers(name: str, path: Path, run: Run) -> None:
    """One run's layers as a file of `LAYER_FILES`. UsageError for a run without any."""
    if not run.layers:
        why = f"it is a {run.kind}, {run.state}"
        raise UsageError(f"run {run.id} has no layers", why, "choose a benchmark with them")
    write_whole(path, LAYER_FILES[name](run), follow=True)


LAYER_FILES: dict[str, Callable[[Run], str]] = {
    "chrome_trace": lambda run: msgspec.json.encode(chrome_trace(run)).decode(),
    "model_explorer": lambda run: msgspec.json.encode(node_data(run)).decode(),
    "csv": lambda run: make_csv(LAYER_HEADER, layer_cells(run)),
}
