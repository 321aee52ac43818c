"""Queries of runs: filters, order, and resolution of id prefixes."""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, Literal

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, Select, Subquery, and_, func, or_, select

from edgewright.bench.trust import Trust, judge_trust
from edgewright.errors import RunNotFound, UsageError
from edgewright.schema.metrics import ACCURACIES
from edgewright.schema.run import PART_OF, Metric
from edgewright.schema.vocabulary import RunState, normalize_runtime_name
from edgewright.store.runs.ids import LENGTH
from edgewright.store.runs.rows import parse_microseconds
from edgewright.store.schema import metric, run, tag, warning

_SHA_PREFIX_LENGTH = 6
_MAX_MATCHES = 5
_MIN_PIECE_LENGTH = 6
_MAX_IDS_IN_QUERY = 500
_MAX_WORDS = 12
_WHOLE = select(tag.c.value).where(tag.c.run_id == run.c.id, tag.c.name == PART_OF).correlate(run).scalar_subquery()
_SESSION = func.coalesce(_WHOLE, run.c.parent_id, run.c.id)
SortKey = Literal[
    "started", "model", "runtime", "precision", "device", "kind", "state", "p50", "cold", "memory", "accuracy"
]


class RunFilter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Filter and order of a list of runs; unset attributes do not restrict it. Newest first by default.

    Attributes:
        model: the model's name, with or without its suffix, in any case; or the first 6 or more digits of its sha256.
        runtime: its name or alias.
        device: its id, or its name in any case.
        tags: names and values a run must have, all of them.
        parent: id of a session's first run: that run and the others of the session.
        sessions: ids of sessions' first runs: those runs and the others of these sessions.
        since: ISO 8601, a day or a moment, UTC unless it says otherwise: runs started then or later.
        until: the same: runs started before then.
        text: words that the run must have, all of them: each a part of the note, error, a tag, model's name, device's
            name, runtime, precision or kind, in any case; `name=value` for a tag; or the begin of the id, or a piece
            of at least six letters.
        limit: maximum number of runs; None for all.
        offset: number of runs to skip.
        sort: sort key; `p50` is the median latency, `cold` the cold start, `memory` the peak, `accuracy` the smallest
            of the run's accuracies. Runs without a value come last.
        ascending: smallest first.
        without: ids to exclude.
        ids: only these.
        plan_hash: the hash of the run's plan.
        model_id: the model's complete sha256.
        imported: whether it was imported. Runs of unknown origin match neither True nor False.
        metrics: metrics of a row; None for all, which is slow for thousands of runs.
    """

    model: str | None = None
    runtime: str | None = None
    device: str | None = None
    tags: dict[str, str] = {}
    state: RunState | None = None
    kind: str | None = None
    parent: str | None = None
    sessions: tuple[str, ...] = ()
    since: str | None = None
    until: str | None = None
    text: str | None = None
    plan_hash: str | None = None
    model_id: str | None = None
    imported: bool | None = None
    precision: str | None = None
    limit: int | None = 50
    offset: int = 0
    sort: SortKey = "started"
    ascending: bool = False
    without: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    metrics: tuple[str, ...] | None = None


class RunSummary(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of a list: a run without its samples, layers and plan.

    `metrics` has the filter's metrics of the run, by name; `warnings` the codes of its warnings; `trust` how far its
    latency can be trusted, None if that is not among the metrics.
    """

    id: str
    kind: str
    state: RunState
    started_at: str
    finished_at: str | None
    parent_id: str | None
    model_id: str | None
    model_name: str | None
    precision: str | None
    device_id: str | None
    device_name: str | None
    runtime: str
    plan_hash: str
    error: str | None
    note: str
    metrics: dict[str, Metric]
    tags: dict[str, str]
    imported: bool | None = False
    imported_at: str | None = None
    warnings: tuple[str, ...] = ()
    trust: Trust | None = None

    @property
    def session_id(self) -> str:
        """Id of the run that this one is a step of, or of the session's first run."""
        return self.tags.get(PART_OF) or self.parent_id or self.id


_NAMES = tuple(name for name in RunSummary.__struct_fields__ if name in run.c)
_COLUMNS = tuple(run.c[name] for name in _NAMES)


def list_rows(connection: Connection, wanted: RunFilter) -> list[RunSummary]:
    """Return the rows with four queries: runs, metrics, tags and warnings."""
    found = connection.execute(_apply_filter(select(*_COLUMNS), wanted)).all()
    if len(found) <= _MAX_IDS_IN_QUERY:  # the order is not computed again
        picked = select(run.c.id).where(run.c.id.in_([row.id for row in found])).subquery()
    else:
        picked = _apply_filter(select(run.c.id), wanted).subquery()
    metrics = _load_metrics(connection, picked, wanted.metrics)
    tags, warnings = _load_tags(connection, picked), _load_warnings(connection, picked)
    return [
        RunSummary(
            **dict(zip(_NAMES, row, strict=True)),
            metrics=(named := metrics.get(row.id, {})),
            tags=tags.get(row.id, {}),
            warnings=(codes := tuple(warnings.get(row.id, ()))),
            trust=judge_trust(named, codes),
        )
        for row in found
    ]


def count_rows(connection: Connection, wanted: RunFilter) -> int:
    """Return the number of runs that match the filter, without its limit."""
    return connection.scalar(select(func.count()).select_from(run).where(*_make_conditions(wanted))) or 0


def list_sessions(connection: Connection, wanted: RunFilter) -> list[str]:
    """Return the sessions (ids of their first runs) that have a run of the filter, the newest first."""
    query = select(_SESSION).where(*_make_conditions(wanted)).group_by(_SESSION)
    newest = query.order_by(func.max(run.c.started_us).desc(), _SESSION.desc())
    return list(connection.scalars(newest.limit(wanted.limit).offset(wanted.offset or None)))


def count_sessions(connection: Connection, wanted: RunFilter) -> int:
    """Return the number of sessions that have a run of the filter, without its limit."""
    query = select(func.count(_SESSION.distinct())).where(*_make_conditions(wanted))
    return connection.scalar(query) or 0


def _apply_filter(query: Select[Any], wanted: RunFilter) -> Select[Any]:
    ordered = query.where(*_make_conditions(wanted)).order_by(*_make_order(wanted))
    return ordered.limit(wanted.limit).offset(wanted.offset or None)


def _make_order(wanted: RunFilter) -> Iterator[ColumnElement[Any]]:
    columns: dict[str, ColumnElement[Any]] = {
        "model": func.lower(run.c.model_name),
        "runtime": run.c.runtime,
        "precision": run.c.precision,
        "device": func.lower(run.c.device_name),
        "kind": run.c.kind,
        "state": run.c.state,
        "p50": _select_first_value("latency.p50"),
        "cold": _select_first_value("cold_start"),
        "memory": _select_first_value("memory.peak"),
        "accuracy": _select_first_value(*ACCURACIES),
    }
    if wanted.sort != "started":
        column = columns[wanted.sort]
        yield (column.asc() if wanted.ascending else column.desc()).nulls_last()
    if wanted.sort == "started" and wanted.ascending:
        yield from (run.c.started_us.asc(), run.c.id.asc())
    else:
        yield from (run.c.started_us.desc(), run.c.id.desc())


def _select_first_value(*names: str) -> ColumnElement[Any]:
    same = (metric.c.run_id == run.c.id, metric.c.name.in_(names))
    return select(func.min(metric.c.value)).where(*same).correlate(run).scalar_subquery()


def find_run(connection: Connection, run_id: str) -> str:
    """Return the complete id of an id, its unique beginning, or a unique piece of at least six letters.

    Raises RunNotFound.
    """
    wanted = run_id.strip().upper()
    if not wanted:
        raise RunNotFound("the id of the run is empty")
    starts = func.substr(run.c.id, 1, len(wanted)) == wanted
    condition = run.c.id == wanted if len(wanted) >= LENGTH else starts
    query = select(run.c.id).order_by(run.c.id.desc()).limit(_MAX_MATCHES + 1)
    found = list(connection.scalars(query.where(condition)))
    if not found and _MIN_PIECE_LENGTH <= len(wanted) < LENGTH:
        found = list(connection.scalars(query.where(run.c.id.contains(wanted, autoescape=True))))
    if len(found) == 1:
        return str(found[0])
    if found:
        shown = ", ".join(found[:_MAX_MATCHES]) + (" …" if len(found) > _MAX_MATCHES else "")
        raise RunNotFound(
            f"the id {run_id[:LENGTH]} is ambiguous", f"these ids have it: {shown}", "give more digits of the id"
        )
    raise _make_not_found_error(connection, run_id)


def _make_not_found_error(connection: Connection, run_id: str) -> RunNotFound:
    ids = list(connection.scalars(select(run.c.id)))
    close = get_close_matches(run_id.upper()[:LENGTH], ids, n=_MAX_MATCHES, cutoff=0.8)
    why = f"similar ids: {', '.join(close)}" if close else f"none of the {len(ids)} ids begins with it"
    return RunNotFound(f"no run has the id {run_id[: 2 * LENGTH]}", why)


def _load_metrics(
    connection: Connection, picked: Subquery, names: tuple[str, ...] | None
) -> dict[str, dict[str, Metric]]:
    c = metric.c
    query = select(c.run_id, c.name, c.unit, c.value, c.low, c.high, c.n).join(picked, c.run_id == picked.c.id)
    if names is not None:
        query = query.where(c.name.in_(names))
    found: dict[str, dict[str, Metric]] = {}
    # Tuples are unpacked at once: access by attribute takes twice the time.
    for run_id, name, unit, value, low, high, n in connection.execute(query).all():
        known = found.setdefault(run_id, {})
        if name not in known:
            known[name] = Metric(name=name, unit=unit, value=value, low=low, high=high, n=n)
    return found


def _load_tags(connection: Connection, picked: Subquery) -> dict[str, dict[str, str]]:
    query = select(tag.c.run_id, tag.c.name, tag.c.value).join(picked, tag.c.run_id == picked.c.id)
    found: dict[str, dict[str, str]] = {}
    for run_id, name, value in connection.execute(query).all():
        found.setdefault(run_id, {})[name] = value
    return found


def _load_warnings(connection: Connection, picked: Subquery) -> dict[str, list[str]]:
    query = select(warning.c.run_id, warning.c.code).join(picked, warning.c.run_id == picked.c.id)
    found: dict[str, list[str]] = {}
    for run_id, code in connection.execute(query.order_by(warning.c.run_id, warning.c.position)).all():
        found.setdefault(run_id, []).append(code)
    return found


def _make_conditions(wanted: RunFilter) -> Iterator[ColumnElement[bool]]:
    if wanted.model is not None:
        yield _is_model(wanted.model)
    if wanted.runtime is not None:
        yield run.c.runtime == normalize_runtime_name(wanted.runtime)
    if wanted.device is not None:
        yield or_(run.c.device_id == wanted.device, func.lower(run.c.device_name) == wanted.device.lower())
    if wanted.state is not None:
        yield run.c.state == wanted.state
    if wanted.kind is not None:
        yield run.c.kind == wanted.kind
    if wanted.plan_hash is not None:
        yield run.c.plan_hash == wanted.plan_hash
    if wanted.model_id is not None:
        yield run.c.model_id == wanted.model_id
    if wanted.imported is not None:
        yield run.c.imported.is_(wanted.imported)
    if wanted.precision is not None:
        yield run.c.precision == wanted.precision
    if wanted.ids:
        yield run.c.id.in_(wanted.ids)
    if wanted.without:
        yield run.c.id.not_in(wanted.without)
    if wanted.parent is not None:
        yield or_(run.c.id == wanted.parent, run.c.parent_id == wanted.parent)
    if wanted.sessions:
        yield _SESSION.in_(wanted.sessions)
    if wanted.text is not None:
        yield from map(_has_word, wanted.text.split()[:_MAX_WORDS])
    yield from _make_time_conditions(wanted.since, wanted.until)
    yield from (_has_tag(name, value) for name, value in wanted.tags.items())


def _is_model(word: str) -> ColumnElement[bool]:
    name = func.lower(run.c.model_name)
    same = or_(name == word.lower(), name.startswith(f"{word.lower()}.", autoescape=True))
    is_digits = len(word) >= _SHA_PREFIX_LENGTH and set(word.lower()) <= set("0123456789abcdef")
    return or_(same, run.c.model_id.startswith(word.lower())) if is_digits else same


def _has_word(word: str) -> ColumnElement[bool]:
    columns = (
        *(run.c.note, run.c.error, run.c.model_name, run.c.device_name, run.c.runtime),
        *(run.c.precision, run.c.kind),
    )
    tagged: list[ColumnElement[bool]] = [c.icontains(word, autoescape=True) for c in (tag.c.name, tag.c.value)]
    name, equals, value = word.partition("=")
    if equals:
        tagged.append(and_(func.lower(tag.c.name) == name.lower(), tag.c.value.icontains(value, autoescape=True)))
    piece = run.c.id.contains if len(word) >= _MIN_PIECE_LENGTH else run.c.id.startswith
    return or_(
        piece(word.upper(), autoescape=True),
        *(column.icontains(word, autoescape=True) for column in columns),
        select(tag.c.run_id).where(tag.c.run_id == run.c.id, or_(*tagged)).exists(),
    )


def _make_time_conditions(since: str | None, until: str | None) -> Iterator[ColumnElement[bool]]:
    if since is not None:
        yield run.c.started_us >= _parse_time(since)
    if until is not None:
        yield run.c.started_us < _parse_time(until)


def _parse_time(text: str) -> int:
    try:
        return parse_microseconds(text)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{text} is not a valid date", str(error), "give a date as 2026-11-20, or a time in UTC as 2026-11-20T14:30"
        ) from error


def _has_tag(name: str, value: str) -> ColumnElement[bool]:
    same = and_(tag.c.run_id == run.c.id, tag.c.name == name, tag.c.value == value)
    return select(tag.c.run_id).where(same).exists()
