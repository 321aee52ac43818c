"""Conversion of runs to and from rows of the tables."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace
from sqlalchemy import Connection, Row, Table, delete, insert, select, update

from edgewright.errors import StoreCorrupt
from edgewright.schema.model import Model
from edgewright.schema.run import DeviceRecord, Layer, Metric, Run, RunOutput, RunWarning, Series
from edgewright.store import schema
from edgewright.store.runs.packing import SAMPLE_BYTES, pack, unpack

Values = dict[str, Any]
_Fact = TypeVar("_Fact", Model, DeviceRecord)
_PART_TABLES = (schema.metric, schema.series, schema.layer, schema.warning, schema.output)


def parse_microseconds(moment: str) -> int:
    """Return the microseconds since 1970 of an ISO 8601 time; without a zone it is UTC. Raises ValueError."""
    parsed = datetime.fromisoformat(moment)
    parsed = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    since = parsed - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def write_run(connection: Connection, run: Run, process: str | None, *, known: bool) -> None:
    """Write all rows of a run, and replace those of the same id if it is `known`. Tags of others are kept."""
    _write_shared(connection, run)
    values = _make_run_values(run, process)
    if known:
        if not run.note:
            del values["note"]
        connection.execute(update(schema.run).where(schema.run.c.id == run.id).values(values))
        for table in _PART_TABLES:
            connection.execute(delete(table).where(table.c.run_id == run.id))
        if run.tags:
            again = schema.tag.c.name.in_(run.tags)
            connection.execute(delete(schema.tag).where(schema.tag.c.run_id == run.id, again))
    else:
        connection.execute(insert(schema.run), values)
    for table, rows in _make_part_values(run).items():
        if rows:
            connection.execute(insert(table), rows)


def normalize_run(run: Run) -> Run:
    """Return the run as the tables store it: NaN becomes unknown, except in samples."""
    metrics = tuple(
        replace(
            one, value=_normalize_number(one.value), low=_normalize_number(one.low), high=_normalize_number(one.high)
        )
        for one in run.metrics
    )
    layers = tuple(
        replace(
            one,
            start_us=_normalize_number(one.start_us),
            median_us=one.median_us + 0.0,
            p90_us=one.p90_us + 0.0,
            low_us=_normalize_number(one.low_us),
            high_us=_normalize_number(one.high_us),
        )
        for one in run.layers
    )
    return replace(run, metrics=metrics, layers=layers)


def insert_missing(connection: Connection, table: Table, values: Values) -> None:
    """Insert the row unless its key exists."""
    connection.execute(_make_insert(connection, table).values(values).on_conflict_do_nothing())


def read_run(connection: Connection, row: Row[Any]) -> Run:
    """Return the complete run of a row of `schema.run`."""
    parts = {table.name: _load_rows(connection, table, row.id) for table in (*_PART_TABLES, schema.tag)}
    bodies = _load_snapshots(connection, (row.model_facts, row.device_facts))
    facts = connection.scalar(select(schema.environment.c.facts).where(schema.environment.c.id == row.environment_id))
    return Run(
        id=row.id,
        kind=row.kind,
        state=row.state,
        started_at=row.started_at,
        finished_at=row.finished_at,
        parent_id=row.parent_id,
        model=_decode_snapshot(bodies, row.model_facts, Model),
        device=_decode_snapshot(bodies, row.device_facts, DeviceRecord),
        runtime=row.runtime,
        plan=msgspec.json.decode(row.plan),
        plan_hash=row.plan_hash,
        environment=msgspec.json.decode(facts or ""),
        error=row.error,
        note=row.note,
        metrics=tuple(_make_metric(part) for part in parts["metric"]),
        series=tuple(make_series(part) for part in parts["series"]),
        layers=tuple(_make_layer(part) for part in parts["layer"]),
        warnings=tuple(RunWarning(code=part.code, text=part.text) for part in parts["warning"]),
        outputs=tuple(_make_output(part) for part in parts["output"]),
        tags={part.name: part.value for part in parts["tag"]},
        imported=row.imported,
        imported_at=row.imported_at,
    )


def _make_metric(row: Row[Any]) -> Metric:
    return Metric(name=row.name, unit=row.unit, value=row.value, low=row.low, high=row.high, n=row.n)


def make_series(row: Row[Any]) -> Series:
    """Convert a row of `schema.series`. Raises StoreCorrupt if samples are missing."""
    if len(row.data) != row.n * SAMPLE_BYTES:
        raise StoreCorrupt(
            "samples are missing", f"series {row.name[:80]} of run {row.run_id} is shorter than its recorded length"
        )
    return Series(name=row.name, unit=row.unit, data=unpack(row.data))


def _load_rows(connection: Connection, table: Table, run_id: str) -> Sequence[Row[Any]]:
    query = select(table).where(table.c.run_id == run_id)
    if "position" in table.c:
        query = query.order_by(table.c.position)
    return connection.execute(query).all()


def _load_snapshots(connection: Connection, keys: Iterable[str | None]) -> Mapping[str, str]:
    wanted = [key for key in keys if key is not None]
    query = select(schema.snapshot.c.id, schema.snapshot.c.body).where(schema.snapshot.c.id.in_(wanted))
    return {row.id: row.body for row in connection.execute(query)}


def _decode_snapshot(bodies: Mapping[str, str], key: str | None, kind: type[_Fact]) -> _Fact | None:
    """Decode a snapshot; None if the run has none. Raises DecodeError if its body is missing."""
    return None if key is None else msgspec.json.decode(bodies.get(key, ""), type=kind)


def _make_layer(row: Row[Any]) -> Layer:
    return Layer(
        position=row.layer_position,
        name=row.name,
        op=row.op,
        source_nodes=tuple(msgspec.json.decode(row.source_nodes)),
        unit=row.unit,
        backend=row.backend,
        evidence=row.evidence,
        start_us=row.start_us,
        median_us=math.nan if row.median_us is None else row.median_us,
        p90_us=math.nan if row.p90_us is None else row.p90_us,
        memory_bytes=row.memory_bytes,
        low_us=row.low_us,
        high_us=row.high_us,
    )


def _make_output(row: Row[Any]) -> RunOutput:
    return RunOutput(role=row.role, sha256=row.sha256, bytes=row.bytes, model_id=row.model_id)


def _write_shared(connection: Connection, run: Run) -> None:
    """Write rows that runs share, always in the same order to avoid deadlocks."""
    environment = _encode_json(run.environment)
    insert_missing(connection, schema.environment, {"id": _hash_body(environment), "facts": environment})
    for body in sorted(_encode_json(fact) for fact in (run.model, run.device) if fact is not None):
        insert_missing(connection, schema.snapshot, {"id": _hash_body(body), "body": body})
    if run.model is not None:
        insert_missing(connection, schema.model, _make_model_values(run.model, run.started_at))
    if run.device is not None:
        seen_at = run.finished_at or run.started_at
        if run.imported and run.imported_at is not None:  # whose time may be in the future
            seen_at = min(seen_at, run.imported_at)
        _write_device(connection, run.device, seen_at, trusted=not run.imported)


def _write_device(connection: Connection, device: DeviceRecord, seen_at: str, *, trusted: bool) -> None:
    """Write a new device, or update a known one from a newer `trusted` run."""
    values = {
        "id": device.id,
        "name": device.name,
        "kind": device.kind,
        "address": device.address,
        "facts": _encode_json(device.facts),
        "seen_at": seen_at,
    }
    if not trusted:
        insert_missing(connection, schema.device, values)
        return
    statement = _make_insert(connection, schema.device).values(values)
    newer = schema.device.c.seen_at < statement.excluded.seen_at
    connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_=values, where=newer))


def _make_model_values(model: Model, added_at: str) -> Values:
    return {
        "id": model.sha256,
        "name": model.name,
        "format": model.format,
        "bytes": model.bytes,
        "signature": _encode_json(model.signature),
        "added_at": added_at,
    }


def _make_run_values(run: Run, process: str | None) -> Values:
    model, device = run.model, run.device
    return {
        "id": run.id,
        "kind": run.kind,
        "state": run.state,
        "started_at": run.started_at,
        "started_us": parse_microseconds(run.started_at),
        "finished_at": run.finished_at,
        "parent_id": run.parent_id,
        "model_id": model and model.sha256,
        "model_name": model and model.name,
        "model_facts": model and _hash_body(_encode_json(model)),
        "precision": model and model.precision,
        "device_id": device and device.id,
        "device_name": device and device.name,
        "device_facts": device and _hash_body(_encode_json(device)),
        "runtime": run.runtime,
        "plan": _encode_json(run.plan),
        "plan_hash": run.plan_hash,
        "environment_id": _hash_body(_encode_json(run.environment)),
        "error": run.error,
        "note": run.note,
        "process": process,
        "imported": run.imported,
        "imported_at": run.imported_at,
    }


def _make_part_values(run: Run) -> dict[Table, list[Values]]:
    def placed(rows: Iterable[Values]) -> list[Values]:
        return [{"run_id": run.id, "position": position, **row} for position, row in enumerate(rows)]

    return {
        schema.metric: placed(_make_metric_values(metric) for metric in run.metrics),
        schema.series: placed(_make_series_values(series) for series in run.series),
        schema.layer: placed(_make_layer_values(layer) for layer in run.layers),
        schema.warning: placed({"code": warn.code, "text": warn.text} for warn in run.warnings),
        schema.output: placed(msgspec.structs.asdict(output) for output in run.outputs),
        schema.tag: [{"run_id": run.id, "name": name, "value": value} for name, value in run.tags.items()],
    }


def _make_metric_values(metric: Metric) -> Values:
    numbers = {
        "value": _normalize_number(metric.value),
        "low": _normalize_number(metric.low),
        "high": _normalize_number(metric.high),
    }
    return {"name": metric.name, "unit": metric.unit, "n": metric.n, **numbers}


def _make_series_values(series: Series) -> Values:
    return {"name": series.name, "unit": series.unit, "n": len(series.data), "data": pack(series.data)}


def _make_layer_values(layer: Layer) -> Values:
    values = msgspec.structs.asdict(layer)
    values["layer_position"] = values.pop("position")
    values["source_nodes"] = _encode_json(layer.source_nodes)
    return {name: _normalize_number(value) for name, value in values.items()}


def _normalize_number(value: Any) -> Any:
    """Return the value as SQLite stores it: without NaN, which is unknown, and without a sign of zero."""
    if not isinstance(value, float):
        return value
    return None if math.isnan(value) else value + 0.0


def _encode_json(value: Any) -> str:
    return msgspec.json.encode(value, order="sorted").decode()


def _hash_body(body: str) -> str:
    return sha256(body.encode()).hexdigest()


def _make_insert(connection: Connection, table: Table) -> Any:
    """Return the dialect's INSERT, which supports ON CONFLICT."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as insert_postgres

        return insert_postgres(table)
    from sqlalchemy.dialects.sqlite import insert as insert_sqlite

    return insert_sqlite(table)
