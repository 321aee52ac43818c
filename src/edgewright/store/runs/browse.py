"""Queries of the pages: filter values, models with lineage, devices, running runs."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, and_, case, func, select

from edgewright.store.schema import device, model, output, run, tag

_CHOICES = ("model_name", "runtime", "precision", "device_name", "kind", "state")
_MAX_TAGS = 200
_IDS_PER_QUERY = 500


class FilterChoices(Struct, frozen=True, kw_only=True):
    """Filter values with their number of runs; the most frequent first."""

    model: tuple[tuple[str, int], ...]
    runtime: tuple[tuple[str, int], ...]
    precision: tuple[tuple[str, int], ...]
    device: tuple[tuple[str, int], ...]
    kind: tuple[tuple[str, int], ...]
    state: tuple[tuple[str, int], ...]
    tag: tuple[tuple[str, int], ...]


class ProgressLine(Struct, frozen=True, kw_only=True):
    """The last progress line of a process and its running runs."""

    line: str
    runs: tuple[str, ...]


class ModelRow(Struct, frozen=True, kw_only=True):
    """A model in the store. `bytes` counts all its files; `precision` is that of its newest run."""

    id: str
    name: str
    format: str
    bytes: int
    added_at: str
    precision: str | None
    runs: int
    last_run_at: str | None
    has_file: bool


class LineageLink(Struct, frozen=True, kw_only=True):
    """A run made `child` from `parent`, which it calls `parent_name`, as the output of a role."""

    parent: str
    parent_name: str
    child: str
    run_id: str
    kind: str
    runtime: str
    output: str


class DeviceRow(Struct, frozen=True, kw_only=True):
    """A device as last seen."""

    id: str
    name: str
    kind: str
    address: str
    facts: dict[str, Any]
    seen_at: str
    runs: int
    running: int


def list_choices(connection: Connection) -> FilterChoices:
    """Return filter values with one pass over the runs and one over the tags."""
    columns = [run.c[name] for name in _CHOICES]
    rows = connection.execute(select(*columns, func.count()).group_by(*columns)).all()
    counts: list[Counter[str]] = [Counter() for _ in _CHOICES]
    for *words, number in rows:
        for counter, word in zip(counts, words, strict=True):
            if word:
                counter[word] += number
    found = {
        name.removesuffix("_name"): _sort_by_count(counter) for name, counter in zip(_CHOICES, counts, strict=True)
    }
    return FilterChoices(**found, tag=_list_tags(connection))


def _sort_by_count(counter: Counter[str]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(counter.items(), key=lambda item: (-item[1], item[0])))


def _list_tags(connection: Connection) -> tuple[tuple[str, int], ...]:
    query = select(tag.c.name, tag.c.value, func.count()).group_by(tag.c.name, tag.c.value)
    found = connection.execute(query.order_by(func.count().desc(), tag.c.name, tag.c.value).limit(_MAX_TAGS)).all()
    return tuple((f"{name}={value}", number) for name, value, number in found)


def list_models(connection: Connection) -> list[ModelRow]:
    """Return all models with three queries."""
    counted = select(run.c.model_id, func.count().label("number"), func.max(run.c.started_us).label("last"))
    last = counted.where(run.c.model_id.is_not(None)).group_by(run.c.model_id).subquery()
    newest = and_(run.c.model_id == last.c.model_id, run.c.started_us == last.c.last)
    query = select(run.c.model_id, last.c.number, run.c.started_at, run.c.precision).join(last, newest)
    known = {row.model_id: row for row in connection.execute(query)}
    own = select(output.c.model_id).join(run, output.c.run_id == run.c.id).where(run.c.model_id == output.c.model_id)
    stored = set(connection.scalars(own.where(output.c.role == "model").distinct()))
    found = []
    for row in connection.execute(select(model)):
        latest = known.get(row.id)
        found.append(
            ModelRow(
                id=row.id,
                name=row.name,
                format=row.format,
                bytes=row.bytes,
                added_at=row.added_at,
                precision=latest.precision if latest else None,
                runs=latest.number if latest else 0,
                last_run_at=latest.started_at if latest else None,
                has_file=row.id in stored,
            )
        )
    return sorted(found, key=lambda one: one.last_run_at or one.added_at, reverse=True)


def list_runs_with_file(connection: Connection, model_id: str, most: int) -> list[str]:
    """Return runs of a model whose output `model` is that model, not a model made from it."""
    query = select(run.c.id).join(output, output.c.run_id == run.c.id)
    own = query.where(run.c.model_id == model_id, output.c.role == "model", output.c.model_id == model_id)
    order = (_order_local_first(), run.c.started_us.desc(), run.c.id.desc())
    return list(connection.scalars(own.order_by(*order).limit(most)))


def _order_local_first() -> ColumnElement[int]:
    """Order local runs first, because the time of an imported run is not trusted."""
    return case((run.c.imported.is_(False), 0), else_=1)


def list_links(connection: Connection) -> list[LineageLink]:
    """Return the lineage: model → run.model_id → output.model_id."""
    columns = (run.c.model_id, run.c.model_name, output.c.model_id, run.c.id, run.c.kind, run.c.runtime, output.c.role)
    query = select(*columns).join(output, output.c.run_id == run.c.id)
    made = query.where(output.c.model_id.is_not(None), output.c.model_id != run.c.model_id)
    order = (_order_local_first(), run.c.started_us.desc(), run.c.id, output.c.position)
    rows = connection.execute(made.order_by(*order)).all()
    found: dict[tuple[str, str], LineageLink] = {}
    for row in rows:  # the newest run that made it is used, an imported one only if there is no other
        link = LineageLink(**dict(zip(LineageLink.__struct_fields__, row, strict=True)))
        found.setdefault((link.parent, link.child), link)
    return list(found.values())


def list_devices(connection: Connection) -> list[DeviceRow]:
    """Return all devices with two queries."""
    counted = select(run.c.device_id, run.c.state, func.count()).group_by(run.c.device_id, run.c.state)
    numbers: dict[str, Counter[str]] = {}
    for device_id, state, number in connection.execute(counted):
        numbers.setdefault(device_id, Counter())[state] += number
    return [
        DeviceRow(
            id=row.id,
            name=row.name,
            kind=row.kind,
            address=row.address,
            facts=msgspec.json.decode(row.facts),
            seen_at=row.seen_at,
            runs=numbers.get(row.id, Counter()).total(),
            running=numbers.get(row.id, Counter())["running"],
        )
        for row in connection.execute(select(device).order_by(device.c.seen_at.desc()))
    ]


def list_running(connection: Connection) -> list[tuple[str, str]]:
    """Return id and state of runs that have not ended."""
    query = select(run.c.id, run.c.state).where(run.c.state.in_(("queued", "running"))).order_by(run.c.id)
    return [(run_id, state) for run_id, state in connection.execute(query)]


def find_existing_ids(connection: Connection, run_ids: Sequence[str]) -> set[str]:
    """Return those of the complete ids that exist."""
    pieces = [run_ids[begin : begin + _IDS_PER_QUERY] for begin in range(0, len(run_ids), _IDS_PER_QUERY)]
    return {found for ids in pieces for found in connection.scalars(select(run.c.id).where(run.c.id.in_(ids)))}


def get_model_names(connection: Connection, model_ids: Sequence[str]) -> dict[str, str]:
    """Return the names of existing models by id."""
    query = select(model.c.id, model.c.name).where(model.c.id.in_(model_ids))
    return {row.id: row.name for row in connection.execute(query)}
