"""Page with the list of runs, and actions on several runs."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from edgewright.errors import UsageError
from edgewright.report.charts.run import draw_whisker
from edgewright.report.charts.scales import Scale, fit_scale
from edgewright.report.numbers import find_accuracy, format_exact, pluralize
from edgewright.store.runs.browse import FilterChoices
from edgewright.store.runs.queries import RunSummary, SortKey
from edgewright.store.store import Store
from edgewright.web.lists.views import load_views
from edgewright.web.pages.filters import COLUMN_KEYS, PER_PAGE, ListState, parse_list_state
from edgewright.web.server.access import get_form
from edgewright.web.server.links import add_query
from edgewright.web.server.responses import make_csv_response, make_page_response, wants_fragment
from edgewright.web.server.state import AppState, get_app_state

COLUMNS: tuple[tuple[SortKey, str], ...] = (
    ("model", "Model"),
    ("runtime", "Runtime"),
    ("precision", "Precision"),
    ("device", "Device"),
    ("p50", "Median latency"),
    ("cold", "Cold start"),
    ("memory", "Peak memory"),
    ("accuracy", "Accuracy"),
    ("kind", "Kind"),
    ("state", "State"),
    ("started", "Started"),
)
MENUS = ("model", "runtime", "precision", "device", "kind", "state", "tag")
TITLES = {
    **{name: name.capitalize() for name in MENUS},
    "since": "From",
    "until": "Until",
    "text": "Words",
}
WHISKER_PX = 110.0
RESTORED_PATTERN = re.compile(r"([0-9]{1,7})-([0-9]{1,7})")
MAX_AT_ONCE = 10_000
MAX_COMPARED = 8


def runs_page(request: Request) -> Response:
    app_state = get_app_state(request)
    state = parse_list_state(request.query_params)
    wanted = state.filter(app_state.deletions.hidden())
    rows, total = app_state.store.list_runs(wanted), app_state.store.count_runs(wanted)
    table = make_list_context(rows, total, state) | make_chip_context(app_state, state)
    if wants_fragment(request):
        return make_page_response(request, "run_rows.html", "runs", dict, table)
    filters = make_filter_context(app_state.store, state)
    notice = _make_notice(request, app_state.deletions.hidden())

    def facts() -> dict[str, Any]:
        return {
            "total": total,
            "page_number": state.page,
            "per_page": PER_PAGE,
            "runs": rows,
            "choices": filters["known"],
        }

    context = table | filters | {"notice": notice}
    return make_page_response(request, "runs.html", "runs", facts, context)


def make_filter_context(store: Store, state: ListState) -> dict[str, Any]:
    """Return the variables of the filters above a list."""
    known = store.list_choices()
    return {
        "known": known,
        "choices": _make_choice_menus(known, state),
        "words": state.words,
        "sort": state.sort,
        "rising": state.ascending,
        "query": state.address("", page="1"),
        "chosen_columns": state.columns,
    }


def make_chip_context(app_state: AppState, state: ListState) -> dict[str, Any]:
    """Return the variables of the chips in a list: set filters with the address without each, columns, saved views."""
    return {
        "set_filters": [
            (TITLES[name], word, state.address(**{name: "", "page": "1"})) for name, word in state.words.items() if word
        ],
        "at": state.fields(),
        "path": state.path,
        "offered_columns": [(key, title) for key, title in (*COLUMNS, ("tags", "Tags")) if key in COLUMN_KEYS],
        "views": load_views(app_state.store),
    }


def runs_csv(request: Request) -> Response:
    """Return all runs that match the filter as CSV."""
    app_state = get_app_state(request)
    rows = app_state.store.list_runs(
        parse_list_state(request.query_params).filter(app_state.deletions.hidden(), limit=None)
    )
    return make_csv_response(tuple(CSV_COLUMNS), map(make_csv_row, rows), "runs.csv")


def _get_number(row: RunSummary, name: str, bound: Literal["value", "low", "high"] = "value") -> float | None:
    return getattr(row.metrics[name], bound) if name in row.metrics else None


# Columns of the CSV by their header.
CSV_COLUMNS: dict[str, Callable[[RunSummary], object]] = {
    "id": lambda row: row.id,
    "started_at": lambda row: row.started_at,
    "kind": lambda row: row.kind,
    "state": lambda row: row.state,
    "model": lambda row: row.model_name,
    "runtime": lambda row: row.runtime,
    "precision": lambda row: row.precision,
    "device": lambda row: row.device_name,
    "p50_us": lambda row: _get_number(row, "latency.p50"),
    "p50_low_us": lambda row: _get_number(row, "latency.p50", "low"),
    "p50_high_us": lambda row: _get_number(row, "latency.p50", "high"),
    "cold_start_us": lambda row: _get_number(row, "cold_start"),
    "peak_memory_bytes": lambda row: _get_number(row, "memory.peak"),
    "accuracy": lambda row: (metric := find_accuracy(row.metrics)) and metric.value,
    "accuracy_metric": lambda row: (metric := find_accuracy(row.metrics)) and metric.name,
    "error": lambda row: row.error,
    "note": lambda row: row.note,
    "imported": lambda row: {True: "yes", False: "no", None: "unknown"}[row.imported],
}


def make_csv_row(row: RunSummary) -> list[object]:
    return [column(row) for column in CSV_COLUMNS.values()]


def make_list_context(rows: Sequence[RunSummary], total: int, state: ListState) -> dict[str, Any]:
    """Return the variables of the table, for the page and for a report."""
    first = (state.page - 1) * PER_PAGE
    return {
        **make_table_context(rows, chosen=state.columns),
        "columns": [(key, title, state.sorted_by(key), _describe_order(state, key)) for key, title in COLUMNS],
        "total": total,
        "first": min(first + 1, total),
        "last": min(first + len(rows), total),
        "before": state.address(page=str(state.page - 1)) if state.page > 1 else "",
        "after": state.address(page=str(state.page + 1)) if first + len(rows) < total else "",
        "address": state.address(),
        "csv": state.address("/runs.csv"),
        "is_filtered": any(state.words.values()),
    }


def make_table_context(rows: Sequence[RunSummary], *, ticks: bool = True, chosen: Sequence[str] = ()) -> dict[str, Any]:
    """Return the rows with their charts, and which columns are shown: the chosen ones, or those with content."""
    scale = _make_latency_scale(rows)
    has_accuracy = any(find_accuracy(row.metrics) for row in rows)
    empty = {"device": len({row.device_id for row in rows}) < 2, "accuracy": not has_accuracy}
    return {
        "shown": set(chosen) or {key for key in COLUMN_KEYS if not empty.get(key)},
        "rows": [(row, _draw_row_whisker(row, scale)) for row in rows],
        "accuracies": sorted({found.name for row in rows if (found := find_accuracy(row.metrics))}),
        "ticks": ticks,
    }


def _describe_order(state: ListState, key: str) -> str:
    """Return the sort order of a column for screen readers."""
    if key != state.sort:
        return "none"
    return "ascending" if state.ascending else "descending"


def _make_latency_scale(rows: Sequence[RunSummary]) -> Scale:
    """Return one scale for all rows of the table."""
    known = [row.metrics["latency.p50"] for row in rows if "latency.p50" in row.metrics]
    values = [value for metric in known for value in (metric.value, metric.low, metric.high)]
    return fit_scale(values, 4.0, WHISKER_PX, is_log=True)


def _draw_row_whisker(row: RunSummary, scale: Scale) -> Markup:
    p50 = row.metrics.get("latency.p50")
    if p50 is None:
        return Markup("")
    description = (
        f"{format_exact(p50.value, 'us')}, from {format_exact(p50.low, 'us')} to {format_exact(p50.high, 'us')}"
    )
    return draw_whisker(p50.value, p50.low, p50.high, scale, description)


def _make_choice_menus(choices: FilterChoices, state: ListState) -> list[tuple[str, str, list[tuple[str, int, bool]]]]:
    """Return the drop-down menus: name, title, and (value, number of runs, chosen) of each choice."""
    found = []
    for name in MENUS:
        chosen = state.words[name]
        words: tuple[tuple[str, int], ...] = getattr(choices, name)
        shown = [(word, number, word == chosen) for word, number in words]
        if chosen and not any(word == chosen for word, _ in words):
            shown.insert(0, (chosen, 0, True))
        found.append((name, TITLES[name], shown))
    return found


def _make_notice(request: Request, hidden: Sequence[str]) -> dict[str, Any] | None:
    """Return the result of the last action, from the address, and the deletions that can be undone."""
    done = request.query_params.get("done", "")
    restored = RESTORED_PATTERN.fullmatch(request.query_params.get("restored", ""))
    texts = [_describe_restored(*map(int, restored.groups()))] if restored else []
    if hidden:
        texts.append(f"{pluralize(len(hidden), 'run')} deleted.")
    if texts:
        return {"text": " ".join(texts), "undo": hidden}
    if done.isascii() and done.isdigit() and len(done) < 8:
        return {"text": f"{pluralize(int(done), 'run')} tagged.", "undo": ()}
    return None


def _describe_restored(restored: int, requested: int) -> str:
    """Return the result of Undo as a sentence."""
    if restored >= requested:
        return f"{pluralize(restored, 'run')} restored."
    return f"{restored} of {pluralize(requested, 'run')} restored; the others were already deleted."


def _get_chosen_runs(form: Mapping[str, Sequence[str]]) -> list[str]:
    run_ids = list(dict.fromkeys(form.get("run", ())))
    if not run_ids:
        raise UsageError("no run is chosen", "the action needs at least one run", "select runs first")
    if len(run_ids) > MAX_AT_ONCE:
        raise UsageError("too many runs", f"{len(run_ids)} are selected", f"select at most {MAX_AT_ONCE}")
    return run_ids


def _redirect_to_list(form: Mapping[str, Sequence[str]], **fields: str) -> Response:
    """Redirect to the list in its previous state; the form contains the state, never an address."""
    words = {name: values[0] for name, values in form.items() if name.startswith("at.") and values}
    state = parse_list_state({name.removeprefix("at."): value for name, value in words.items()})
    return RedirectResponse(state.address(**fields), 303)


def tag_runs(request: Request) -> Response:
    """Add a tag to all selected runs."""
    form, store = get_form(request), get_app_state(request).store
    name, equals, value = (form.get("new_tag") or [""])[0].strip().partition("=")
    if not (name and equals):
        raise UsageError("the tag is not valid", "a tag needs a name and a value", "use the form name=value")
    run_ids = _get_chosen_runs(form)
    for run_id in run_ids:
        store.tag(run_id, name, value)
    return _redirect_to_list(form, done=str(len(run_ids)))


def delete_runs(request: Request) -> Response:
    """Hide the selected runs, and schedule their deletion."""
    form, app_state = get_form(request), get_app_state(request)
    run_ids = _get_chosen_runs(form)
    _reject_running(app_state.store, run_ids)
    app_state.deletions.put(run_ids)
    return _redirect_to_list(form)


def _reject_running(store: Store, run_ids: Sequence[str]) -> None:
    """Raise UsageError for a run that is running, or no longer exists."""
    running = {run_id for run_id, _ in store.list_running()}
    if busy := running.intersection(run_ids):
        raise UsageError(f"run {min(busy)} cannot be deleted", "it is running", "wait until it ends, or cancel it")
    if gone := set(run_ids) - store.find_existing_ids(run_ids):
        raise UsageError(f"run {min(gone)[:26]} does not exist", "it was deleted in the meantime", "reload the page")


def undo_delete(request: Request) -> Response:
    """Cancel pending deletions."""
    form, app_state = get_form(request), get_app_state(request)
    run_ids = _get_chosen_runs(form)
    app_state.deletions.restore(run_ids)
    restored = app_state.store.find_existing_ids(run_ids).difference(app_state.deletions.hidden())
    return _redirect_to_list(form, restored=f"{len(restored)}-{len(run_ids)}")


def compare_chosen(request: Request) -> Response:
    """Redirect to the comparison of the selected runs."""
    run_ids = _get_chosen_runs(get_form(request))
    return RedirectResponse(add_query("/compare", [("run", run_id) for run_id in run_ids]), 303)
