"""The migrations lead to the tables that the code uses."""

from collections.abc import Callable

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from msgspec.structs import replace
from sqlalchemy import column, insert, inspect, table

from edgewright.schema.run import Run
from edgewright.store import database
from edgewright.store.runs.queries import RunFilter
from edgewright.store.runs.rows import _make_run_values, _write_shared
from edgewright.store.schema import REVISIONS, metadata
from edgewright.store.store import Store
from tests.contracts.sample_runs import begun_run, finished_run


def test_tables_are_as_the_code_says(store: Store) -> None:
    with store.database.reading("compare") as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_revisions_are_those_of_the_scripts() -> None:
    config = Config()
    config.set_main_option("script_location", str(database._SCRIPTS))
    scripts = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(scripts)) == REVISIONS


def finish_then(store: Store, run: Run) -> None:
    """Write a run without layers as a store with older tables did."""
    values = _make_run_values(run, None)
    with store.database.writing("the run of then") as connection:
        columns = [one["name"] for one in inspect(connection).get_columns("run")]
        _write_shared(connection, run)
        old = table("run", *map(column, columns))
        connection.execute(insert(old), {name: values[name] for name in columns})


def test_layers_from_before_their_intervals(open_again: Callable[[], Store], monkeypatch: pytest.MonkeyPatch) -> None:
    """A record with the first tables is brought up to date; what it never knew is not known."""
    finished = finished_run(begun_run())
    (one, *_) = finished.layers
    with monkeypatch.context() as patch:
        patch.setattr(database, "REVISION", "0001")
        old = open_again()
        finish_then(old, finished)
        with old.database.writing("the layer of then") as connection:
            connection.exec_driver_sql(
                "INSERT INTO layer (run_id, position, layer_position, name, op, source_nodes, unit, backend, evidence,"
                f" start_us, median_us, p90_us, memory_bytes) VALUES ('{finished.id}', 0, {one.position}, '{one.name}',"
                f" '{one.op}', '[\"Conv_0\",\"Relu_1\"]', '{one.unit}', '{one.backend}', '{one.evidence}',"
                f" {one.start_us}, {one.median_us}, {one.p90_us}, {one.memory_bytes})"
            )
        old.close()
    today = open_again()
    assert today.load(finished.id).layers == (replace(one, low_us=None, high_us=None),)
    with today.database.reading("compare") as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_runs_from_before_their_origin(open_again: Callable[[], Store], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether they were imported is not known: they pass for neither."""
    finished = finished_run(begun_run())
    with monkeypatch.context() as patch:
        patch.setattr(database, "REVISION", "0002")
        old = open_again()
        finish_then(old, finished)
        old.close()
    today = open_again()
    assert today.load(finished.id).imported is None
    assert [row.imported for row in today.list_runs()] == [None]
    assert today.list_runs(RunFilter(imported=False)) == today.list_runs(RunFilter(imported=True)) == []
