"""How long a job takes, from the form and from the last runs of its kind in the store."""

from statistics import median

from edgewright.report.numbers import count_seconds, format_duration, pluralize
from edgewright.store.runs.queries import RunFilter
from edgewright.store.store import Store

_DEFAULT_START_S = 1.0  # of a process: start, load and warm-up, if no session is stored
_RECENT = 8
MEASURED = "about {duration}: {candidates} × {processes}"
LIKE_BEFORE = "about {duration}, as before"
UNKNOWN = "not known: no such run is stored yet"


def estimate_benchmark(store: Store, candidates: int, processes: int, seconds: float) -> str:
    """Return the time of `candidates` × `processes`, each measuring for `seconds`."""
    total = candidates * processes * (seconds + _find_start_s(store))
    return MEASURED.format(
        duration=format_duration(total),
        candidates=pluralize(candidates, "candidate"),
        processes="1 process" if processes == 1 else f"{processes} processes",
    )


def estimate_like_before(store: Store, kind: str, count: int) -> str:
    """Return `count` times the median duration of the last runs of this kind."""
    rows = store.list_runs(RunFilter(kind=kind, state="done", limit=_RECENT, imported=False, metrics=()))
    known = [time for row in rows if (time := count_seconds(row.started_at, row.finished_at)) is not None]
    return LIKE_BEFORE.format(duration=format_duration(count * median(known))) if known else UNKNOWN


def _find_start_s(store: Store) -> float:
    """Return the seconds that a process of the last session took beyond its samples."""
    newest = store.list_runs(RunFilter(kind="benchmark", state="done", limit=1, imported=False, metrics=()))
    return _measure_start_s(store, newest[0].session_id, newest[0].id) if newest else _DEFAULT_START_S


def _measure_start_s(store: Store, session_id: str, run_id: str) -> float:
    plan = store.load(run_id).plan
    runs = store.list_runs(RunFilter(sessions=(session_id,), kind="benchmark", limit=None, metrics=()))
    times = [time for row in runs if (time := count_seconds(row.started_at, row.finished_at)) is not None]
    processes, seconds = plan.get("processes"), plan.get("seconds")
    if not times or not isinstance(processes, int) or not isinstance(seconds, int | float) or processes < 1:
        return _DEFAULT_START_S
    return max(max(times) / len(times) / processes - seconds, 0.05)
