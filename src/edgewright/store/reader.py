"""Reading from the store: runs, models, devices and progress."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import select

from edgewright.errors import StoreError
from edgewright.schema.run import Run, Series
from edgewright.store.database import Database
from edgewright.store.recovery.presence import Presence
from edgewright.store.runs.browse import (
    DeviceRow,
    FilterChoices,
    LineageLink,
    ModelRow,
    ProgressLine,
    find_existing_ids,
    get_model_names,
    list_choices,
    list_devices,
    list_links,
    list_models,
    list_running,
    list_runs_with_file,
)
from edgewright.store.runs.queries import (
    RunFilter,
    RunSummary,
    count_rows,
    count_sessions,
    find_run,
    list_rows,
    list_sessions,
)
from edgewright.store.runs.rows import make_series, read_run
from edgewright.store.schema import run, series


@dataclass(frozen=True)
class RunReader:
    """The reading methods of `Store`."""

    database: Database
    presence: Presence

    def load(self, run_id: str) -> Run:
        """Return the complete run of an id or a unique prefix. Raises RunNotFound with similar ids."""
        with self.database.reading("the run cannot be read") as connection:
            found = find_run(connection, run_id)
            return read_run(connection, connection.execute(select(run).where(run.c.id == found)).one())

    def load_series(self, run_id: str, name: str) -> Series:
        """Return one series of a run. Raises RunNotFound, or StoreError if there is no such series."""
        with self.database.reading("the samples cannot be read") as connection:
            found = find_run(connection, run_id)
            wanted = (series.c.run_id == found, series.c.name == name)
            row = connection.execute(select(series).where(*wanted).order_by(series.c.position)).first()
            if row is None:
                names = list(connection.scalars(select(series.c.name).where(series.c.run_id == found)))
                known = f"it has: {', '.join(names)}" if names else "it has none"
                raise StoreError(f"run {found} has no series {name[:80]}", known)
            return make_series(row)

    def list_sessions(self, wanted: RunFilter) -> list[str]:
        """Return the sessions (ids of their first runs) that have a run of the filter, the newest first."""
        with self.database.reading("the sessions cannot be listed") as connection:
            return list_sessions(connection, wanted)

    def count_sessions(self, wanted: RunFilter) -> int:
        """Return the number of sessions that have a run of the filter, without its limit."""
        with self.database.reading("the sessions cannot be counted") as connection:
            return count_sessions(connection, wanted)

    def list_runs(self, wanted: RunFilter | None = None) -> list[RunSummary]:
        """Return the runs that match the filter, newest first, without samples, layers and plans."""
        with self.database.reading("the runs cannot be listed") as connection:
            return list_rows(connection, wanted or RunFilter())

    def count_runs(self, wanted: RunFilter | None = None) -> int:
        """Return the number of runs that match the filter, without its limit."""
        with self.database.reading("the runs cannot be counted") as connection:
            return count_rows(connection, wanted or RunFilter())

    def find_existing_ids(self, run_ids: Sequence[str]) -> set[str]:
        """Return those of the complete ids that exist."""
        with self.database.reading("the runs cannot be read") as connection:
            return find_existing_ids(connection, run_ids)

    def list_choices(self) -> FilterChoices:
        """Return the filter values with the number of runs of each."""
        with self.database.reading("the runs cannot be counted") as connection:
            return list_choices(connection)

    def list_models(self) -> list[ModelRow]:
        """Return all models of runs, the one with the newest run first."""
        with self.database.reading("the models cannot be listed") as connection:
            return list_models(connection)

    def get_model_names(self, model_ids: Sequence[str]) -> dict[str, str]:
        """Return the names of existing models by id."""
        with self.database.reading("the models cannot be listed") as connection:
            return get_model_names(connection, model_ids)

    def list_runs_with_file(self, model_id: str, most: int) -> list[str]:
        """Return the ids of a model's runs that store its file: local ones first, then the newest."""
        with self.database.reading("the runs cannot be listed") as connection:
            return list_runs_with_file(connection, model_id, most)

    def list_links(self) -> list[LineageLink]:
        """Return which model was made from which, and by which run."""
        with self.database.reading("the models cannot be listed") as connection:
            return list_links(connection)

    def list_devices(self) -> list[DeviceRow]:
        """Return all devices of runs, the last seen first."""
        with self.database.reading("the devices cannot be listed") as connection:
            return list_devices(connection)

    def list_running(self) -> list[tuple[str, str]]:
        """Return id and state of runs that have not ended; fast enough for every second."""
        with self.database.reading("the runs cannot be listed") as connection:
            return list_running(connection)

    def publish_progress(self, progress: Callable[[str], None]) -> Callable[[str], None]:
        """Return a progress callback that also publishes its line to other processes with this home while runs of this
        store run."""

        def publish(text: str) -> None:
            self.presence.write_progress(text)
            progress(text)

        return publish

    def list_progress(self) -> list[ProgressLine]:
        """Return the last progress line of each process of this home with running runs."""
        with self.database.reading("the runs cannot be listed") as connection:
            owned = select(run.c.id, run.c.process).where(run.c.state == "running", run.c.process.is_not(None))
            runs: dict[str, list[str]] = {}
            for row in connection.execute(owned.order_by(run.c.id)):
                runs.setdefault(row.process, []).append(row.id)
        lines = [ProgressLine(line=self.presence.read_progress(name), runs=tuple(ids)) for name, ids in runs.items()]
        return [one for one in lines if one.line]
