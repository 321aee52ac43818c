"""Page of the activity: one row per session (what was started), with its outcome; its runs are nested."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from edgewright.report.numbers import count_seconds, format_value, pluralize
from edgewright.runtimes.table import TABLE
from edgewright.schema.metrics import get_metric_info
from edgewright.schema.run import Metric
from edgewright.store.runs.queries import RunFilter, RunSummary
from edgewright.store.store import Store
from edgewright.web.pages.filters import PER_PAGE, parse_list_state
from edgewright.web.pages.run_list import make_chip_context, make_filter_context
from edgewright.web.server.responses import make_page_response, wants_fragment
from edgewright.web.server.state import get_app_state

PATH = "/activity"
MAX_NESTED = 60  # runs of a session that the page lists
FASTEST, FASTEST_TIED = "fastest: {name} {latency}", "fastest: {name} {latency}; no difference shown to {tied} more"
FAILED = "{failed} of {runs} failed"
RANGE, SAME = "{metric} {low} to {high}", "{metric} {low}"
# The kind of a session is that of the first of these that it has.
_KINDS = ("distil", "prune", "quantize", "benchmark", "evaluate", "compile")


class SessionRow(Struct, frozen=True, kw_only=True):
    """One session: the runs that one command recorded.

    Attributes:
        id: of the first run, or of the run that the others are steps of.
        outcome: a sentence; empty if nothing is known yet.
        fastest: the run with the smallest median latency; None without one.
        seconds: from the first start to the last end; None while a run has not ended.
    """

    id: str
    kind: str
    state: str
    title: str
    outcome: str
    fastest: RunSummary | None
    started_at: str
    seconds: float | None
    runs: tuple[RunSummary, ...]

    @property
    def compared(self) -> tuple[str, ...]:
        """Ids of the runs to compare: at most eight of the session's kind with a figure."""
        own = [run.id for run in self.runs if run.kind == self.kind and run.metrics]
        return tuple(own[:8]) if len(own) > 1 else ()


def activity_page(request: Request) -> Response:
    app_state = get_app_state(request)
    state = replace(parse_list_state(request.query_params), path=PATH)
    wanted = state.filter(app_state.deletions.hidden())
    total = app_state.store.count_sessions(wanted)
    sessions = _load_sessions(app_state.store, wanted)
    first = (state.page - 1) * PER_PAGE
    context = {
        "sessions": sessions,
        "total": total,
        "first": min(first + 1, total),
        "last": min(first + len(sessions), total),
        "before": state.address(page=str(state.page - 1)) if state.page > 1 else "",
        "after": state.address(page=str(state.page + 1)) if first + len(sessions) < total else "",
        "address": state.address(),
        "is_filtered": any(state.words.values()),
        **make_chip_context(app_state, state),
    }
    if wants_fragment(request):
        return make_page_response(request, "session_rows.html", "activity", dict, context)

    def facts() -> Mapping[str, Any]:
        return {"total": total, "page_number": state.page, "per_page": PER_PAGE, "sessions": sessions}

    return make_page_response(
        request, "activity.html", "activity", facts, context | make_filter_context(app_state.store, state)
    )


def _load_sessions(store: Store, wanted: RunFilter) -> list[SessionRow]:
    """Return the sessions that have a run of the filter, the newest first, each with all its runs."""
    ids = store.list_sessions(wanted)
    if not ids:
        return []
    runs = RunFilter(sessions=tuple(ids), limit=None, ascending=True, metrics=wanted.metrics, without=wanted.without)
    found: dict[str, list[RunSummary]] = {session_id: [] for session_id in ids}
    for run in store.list_runs(runs):
        found[run.session_id].append(run)
    return [_make_row(session_id, own) for session_id, own in found.items() if own]


def _make_row(session_id: str, runs: Sequence[RunSummary]) -> SessionRow:
    kinds = {run.kind for run in runs}
    kind = next((one for one in _KINDS if one in kinds), runs[0].kind)
    own = [run for run in runs if run.kind == kind]
    ends = [run.finished_at for run in runs]
    measured = sorted((run for run in own if _get_latency(run) is not None), key=lambda run: _get_latency(run) or 0.0)
    return SessionRow(
        id=session_id,
        kind=kind,
        state=_find_state(runs, own),
        title=_name_models(own),
        outcome=_describe_outcome(own, measured),
        fastest=measured[0] if measured else None,
        started_at=min(run.started_at for run in runs),
        seconds=count_seconds(min(run.started_at for run in runs), max(end for end in ends if end))
        if all(ends)
        else None,
        runs=tuple(runs),
    )


def _find_state(runs: Sequence[RunSummary], own: Sequence[RunSummary]) -> str:
    """Return `running` while one runs; `failed` if all of the session's kind failed."""
    states = {run.state for run in runs}
    if waiting := states & {"running", "queued"}:
        return max(waiting)
    ended = {run.state for run in own}
    return "done" if "done" in ended else min(ended)


def _name_models(runs: Sequence[RunSummary]) -> str:
    names = list(dict.fromkeys(run.model_name or "(no model)" for run in runs))
    return names[0] if len(names) == 1 else f"{names[0]} + {len(names) - 1}"


def _get_metric(run: RunSummary, name: str) -> Metric | None:
    found = run.metrics.get(name)
    return found if found is not None and found.value is not None else None


def _get_latency(run: RunSummary) -> float | None:
    metric = _get_metric(run, "latency.p50")
    return metric.value if metric else None


def _describe_outcome(runs: Sequence[RunSummary], measured: Sequence[RunSummary]) -> str:
    """Return what a reader of the list wants to know: the fastest, the range of the metric, or what failed."""
    failed = sum(run.state == "failed" for run in runs)
    parts = [FAILED.format(failed=failed, runs=pluralize(len(runs), "run"))] if failed and len(runs) > 1 else []
    if measured:
        parts.append(_describe_fastest(measured) if len(runs) > 1 else _format_latency(measured[0]))
    elif quality := _describe_quality(runs):
        parts.append(quality)
    errors = [run.error for run in runs if run.error]
    return "; ".join([*parts, *(errors[:1] if len(runs) == 1 else [])])


def _describe_fastest(measured: Sequence[RunSummary]) -> str:
    best = measured[0]
    p50 = best.metrics["latency.p50"]
    others = [run.metrics["latency.p50"] for run in measured[1:]]
    tied = sum(None in (p50.high, one.low) or (one.low or 0.0) <= (p50.high or 0.0) for one in others)
    runtime = TABLE[best.runtime].title if best.runtime in TABLE else best.runtime
    name = " ".join(filter(None, (runtime, best.precision)))
    text = FASTEST_TIED if tied else FASTEST
    return text.format(name=name, latency=_format_latency(best), tied=tied)


def _format_latency(run: RunSummary) -> str:
    return format_value(_get_latency(run), "us")


def _describe_quality(runs: Sequence[RunSummary]) -> str:
    for name in dict.fromkeys(name for run in runs for name in run.metrics):
        info = get_metric_info(name)
        if info.basis != "task":
            continue
        values = [metric.value for run in runs if (metric := _get_metric(run, name)) and metric.value is not None]
        if values:
            low, high = (format_value(end(values), info.unit) for end in (min, max))
            return (SAME if low == high else RANGE).format(metric=name, low=low, high=high)
    return ""
