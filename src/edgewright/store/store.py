"""The store of runs.

    with open_store(home(os.environ)) as store:
        store.begin(run)
        output = store.put_file(run.id, path, role="model")
        store.finish(replace(run, state="done", outputs=(output,)))

Guarantees:

- **Threads.** One `Store` may be used by any number of threads at once. It may not be used after `fork`.
- **Processes.** Any number may open the same store. SQLite allows one writer at a time; the others wait up to
  `busy_timeout_s` and then raise StoreLocked. Readers never wait and never block.
- **Ownership.** Between `begin` and `finish` a run belongs to the store that began it; no other store finishes or
  deletes it. A finished run never changes, except for its tags and its note.
- **Atomicity.** Every call that writes is one transaction; when it returns, the change survives a power failure. A
  killed process leaves a run either `running` or finished with all its rows.
- **Killed runs.** Opening a store marks as failed, with "the process was killed", the runs whose store was killed or
  closed before it finished them. Stores of another home are not checked.
- **Finished runs are not lost.** If `finish` cannot write (locked, full, Ctrl-C), it writes the run to a file in
  `<home>/unsaved`, and the next store that is opened with this home saves it. If that folder is not writable, the file
  is in the temporary or the current folder, and the error names it (`unsaved.py`).
- **Blobs.** A file of a run is kept at least until that run is finished and deleted, or until its process is gone.
  `delete` removes blobs that no run uses, also while others store the same content.
- **Errors** are StoreError and its subclasses (`failures.py`), UsageError for user input, ConfigError for URLs.
  ValueError means that the caller violated this contract.
"""

import io
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import BinaryIO, Self, cast

from msgspec.structs import replace
from sqlalchemy import Connection, delete, insert, select, union, update

from edgewright.errors import ImportRejected, StoreError, StoreFull, StoreLocked, UsageError
from edgewright.schema.run import Run, RunOutput
from edgewright.store.blobs import Blobs, check_sha256, hash_stream
from edgewright.store.database import BUSY_TIMEOUT_S, open_database
from edgewright.store.device_registry import DeviceRegistry
from edgewright.store.exports.folder import read_folder, write_folder
from edgewright.store.exports.paths import TEXT_ROLES, strip_folders
from edgewright.store.exports.portable import make_storable, to_json
from edgewright.store.failures import translate_errors
from edgewright.store.recording import utc_now
from edgewright.store.recovery.presence import Presence
from edgewright.store.recovery.unsaved import (
    check_begun,
    check_finished,
    explain_saved_file,
    import_unsaved,
    save_to_file,
)
from edgewright.store.runs.ids import new_run_id
from edgewright.store.runs.queries import RunFilter, RunSummary, find_run
from edgewright.store.runs.rows import insert_missing, normalize_run, read_run, write_run
from edgewright.store.schema import blob, claim, environment, output, run, snapshot, tag

KILLED = "the process was killed"
_BLOBS_PER_SWEEP = 100
_IN_MEMORY_BYTES = 8 << 20


def open_store(
    home: Path,
    database_url: str | None = None,
    blob_url: str | None = None,
    *,
    busy_timeout_s: float = BUSY_TIMEOUT_S,
    now: Callable[[], str] = utc_now,
) -> "Store":
    """Open the store, and create or migrate it if necessary. Safe for several processes at once.

    Args:
        home: folder of `find_home`; it contains the database and the blobs by default.
        database_url: `postgresql://…` or `sqlite:////…`.
        blob_url: a URL that obstore supports, such as `s3://bucket/prefix`.
        busy_timeout_s: maximum wait for another process before StoreLocked.
        now: ISO 8601 in UTC, for the end of killed runs.
    """
    with translate_errors("the record of runs cannot be opened", str(home)):
        home.mkdir(parents=True, exist_ok=True)
    blobs = Blobs(home / "blobs", blob_url)
    database = open_database(home, database_url, busy_timeout_s)
    store = Store(home=home, database=database, blobs=blobs, presence=Presence(home))
    try:
        if not database.is_read_only:
            with suppress(StoreFull):  # reading works on a full disk
                import_unsaved(home, store._save)
                store._mark_killed_runs(now())
    except BaseException:
        store.close()
        raise
    return store


@dataclass(frozen=True)
class Store(DeviceRegistry):
    """An open store, from `open_store`. The module's docstring states its guarantees."""

    home: Path
    blobs: Blobs

    # Writing runs

    def begin(self, begun: Run) -> None:
        """Record the start of a run: its state is `running`, and it belongs to this store.

        Its id comes from `new_run_id`. Raises StoreError if the id exists.
        """
        check_begun(begun)
        begun = replace(make_storable(begun), state="running")
        with self.database.writing("the run cannot be recorded") as connection:
            write_run(connection, begun, self._name(), known=False)

    def finish(self, finished: Run) -> None:
        """Write the complete run, `done`, `failed` or `cancelled`, and replace what `begin` wrote.

        Tags and a note that others added meanwhile stay, unless the run has its own. A run that was never begun
        is written too. Raises ValueError if it is already finished.
        """
        check_finished(finished)
        finished = make_storable(finished)
        try:
            is_new = self._save(finished)
        except StoreError as failure:
            explain_saved_file(failure, self.home, save_to_file(self.home, finished))
            raise
        except (KeyboardInterrupt, SystemExit, MemoryError):
            save_to_file(self.home, finished)
            raise
        if not is_new:
            raise ValueError(f"run {finished.id} is finished already")

    def record(self, finished: Iterable[Run]) -> None:
        """Write new finished runs in one transaction: all or none."""
        with self.database.writing("the runs cannot be saved", exclusive=True) as connection:
            for one in finished:
                check_finished(one)
                write_run(connection, make_storable(one), None, known=False)
                connection.execute(delete(claim).where(claim.c.run_id == one.id))

    def delete(self, run_ids: Sequence[str], *, even_running: bool = False) -> None:
        """Remove runs and every blob that no other run uses.

        Accepts ids or unique prefixes. Raises RunNotFound, or StoreError for a run that is still running (unless
        `even_running`, for a run whose process on another machine is known to have ended); then nothing is removed.
        """
        if self.database.reserve is not None:
            self.database.reserve.release_if_full()
        with self.database.writing("the runs cannot be deleted", exclusive=True) as connection:
            ids = [find_run(connection, run_id) for run_id in run_ids]
            if not even_running:
                self._reject_running(connection, ids)
            connection.execute(delete(run).where(run.c.id.in_(ids)))
            connection.execute(delete(claim).where(claim.c.run_id.in_(ids)))
            _delete_unused_facts(connection)
        while self._sweep_blobs() == _BLOBS_PER_SWEEP:
            pass
        self.database.shrink_log()

    def tag(self, run_id: str, name: str, value: str) -> None:
        """Add a tag to a run, or change its value."""
        if not name.strip():
            raise UsageError("a tag needs a name", "it is empty", "give name=value")
        with self.database.writing("the tag cannot be saved") as connection:
            found = _find_to_change(connection, run_id)
            connection.execute(delete(tag).where(tag.c.run_id == found, tag.c.name == name))
            connection.execute(insert(tag), {"run_id": found, "name": name, "value": value})

    def untag(self, run_id: str, name: str) -> None:
        """Remove a tag; no error if the run does not have it."""
        with self.database.writing("the tag cannot be removed") as connection:
            found = _find_to_change(connection, run_id)
            connection.execute(delete(tag).where(tag.c.run_id == found, tag.c.name == name))

    def note(self, run_id: str, text: str) -> None:
        """Replace a run's note."""
        with self.database.writing("the note cannot be saved") as connection:
            found = _find_to_change(connection, run_id)
            connection.execute(update(run).where(run.c.id == found).values(note=text))

    # Blobs

    def put_file(self, run_id: str, path: Path, *, role: str, model_id: str | None = None) -> RunOutput:
        """Store a file for a run, and return its Output for the run's `outputs`.

        The file is read once for its hash, and again only if its content is new. Raises StoreError if it
        cannot be read or changes meanwhile.
        """
        with translate_errors("a file cannot be stored", str(path)), path.open("rb") as file:
            return self._put(run_id, file, RunOutput(role=role, sha256="", bytes=0, model_id=model_id))

    def put_bytes(self, run_id: str, data: bytes, *, role: str, model_id: str | None = None) -> RunOutput:
        """Store bytes for a run, as `put_file` does."""
        return self._put(run_id, io.BytesIO(data), RunOutput(role=role, sha256="", bytes=0, model_id=model_id))

    def get_file(self, sha256: str, to: Path) -> None:
        """Write a blob to a path, whose file is replaced only after the bytes are verified.

        Raises StoreError if there is no such blob, StoreCorrupt if its hash does not match.
        """
        part = to.with_name(f".{new_run_id()}.part")
        with translate_errors("a stored file cannot be written", str(to)):
            try:
                with part.open("xb") as file:
                    for piece in self.blobs.read(check_sha256(sha256)):
                        file.write(piece)
                part.replace(to)
            finally:
                part.unlink(missing_ok=True)

    def open_blob(self, sha256: str) -> BinaryIO:
        """Return a verified blob as an open file at its start, which the caller closes. Small blobs stay in memory.

        Raises StoreError if there is no such blob, StoreCorrupt if its hash does not match.
        """
        with translate_errors("a stored file cannot be read", self.blobs.where):
            file = SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115 - the caller closes it
            try:
                file.writelines(self.blobs.read(check_sha256(sha256)))
            except BaseException:
                file.close()
                raise
            file.seek(0)
            return cast(BinaryIO, file)

    # Other machines

    def export_run(self, run_id: str, folder: Path) -> list[RunOutput]:
        """Write a finished run to a folder that is absent or empty, see `folder.py`.

        Returns the outputs whose bytes the store does not have; all others are in the folder.
        """
        found = self.load(run_id)
        if found.state in ("queued", "running"):
            raise StoreError(f"run {found.id} cannot be exported", f"it is {found.state}", "wait until it ends")
        with translate_errors("the run cannot be exported", str(folder)):
            return write_folder(found, folder, self._fetch)

    def import_run(self, folder: Path) -> str:
        """Import an exported run and return its id. An equal run that exists already is no error.

        The run is always marked as imported. Several processes may import the same run at once.

        Raises StoreNewer for a later schema, ImportRejected for a folder that differs from its export, and if
        another run has the id. Tags and note of an existing run do not change.
        """
        with translate_errors("the run cannot be imported", str(folder)):
            given, files = read_folder(folder)
        given = normalize_run(replace(make_storable(given), imported=True, imported_at=utc_now()))
        with self.database.reading("the run cannot be read") as connection:
            _has_same(connection, given)
        claimant = new_run_id()  # not the run's id: another import, or a deletion, of the same run must not free them
        try:
            for file in files.values():
                self.put_file(claimant, file, role="imported")
            with self.database.writing("the run cannot be imported", exclusive=True) as connection:
                if not _has_same(connection, given):
                    write_run(connection, given, None, known=False)
        finally:
            with self.database.writing("the run cannot be imported") as connection:
                connection.execute(delete(claim).where(claim.c.run_id == claimant))
        return given.id

    def close(self) -> None:
        """Close the connections. Unfinished runs of this store count as killed from now on."""
        self.presence.close()
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # Inside

    def _name(self) -> str:
        with translate_errors("the record of runs cannot be written", str(self.home)):
            return self.presence.name()

    def _save(self, finished: Run) -> bool:
        """Write a finished run in one transaction; return False if it is already finished."""
        with self.database.writing("the run cannot be saved") as connection:
            row = connection.execute(select(run.c.process).where(run.c.id == finished.id)).first()
            if row is not None and row.process is None:
                return False
            write_run(connection, finished, None, known=row is not None)
            connection.execute(delete(claim).where(claim.c.run_id == finished.id))
        return True

    def _mark_killed_runs(self, now: str) -> None:
        with self.database.reading("the runs cannot be read") as connection:
            running = select(run.c.process).where(run.c.state == "running", run.c.process.is_not(None))
            names = list(connection.scalars(union(running, select(claim.c.process))))
        gone = [name for name in names if self.presence.is_gone(name)]
        self.presence.sweep()
        if not gone:
            return
        # If another process is writing, the next start does it, so that a list never waits.
        with suppress(StoreLocked), self.database.writing("killed runs cannot be marked") as connection:
            ended = {"state": "failed", "error": KILLED, "finished_at": now}
            is_killed = (run.c.state == "running", run.c.process.in_(gone))
            connection.execute(update(run).where(*is_killed).values(ended))
            connection.execute(delete(claim).where(claim.c.process.in_(gone)))
        for name in gone:
            self.presence.forget(name)

    def _reject_running(self, connection: Connection, ids: Sequence[str]) -> None:
        running = select(run.c.id, run.c.process).where(run.c.id.in_(ids), run.c.state == "running")
        for row in connection.execute(running):
            if row.process is not None and not self.presence.is_gone(row.process):
                raise StoreError(f"run {row.id} cannot be deleted", "it is running", "wait until it ends")

    def _sweep_blobs(self) -> int:
        """Remove some unused blobs, exclusively, so that no process can claim one while it is removed."""
        with self.database.writing("unused files cannot be removed", exclusive=True) as connection:
            used = select(output.c.sha256).where(output.c.sha256 == blob.c.sha256).exists()
            claimed = select(claim.c.sha256).where(claim.c.sha256 == blob.c.sha256).exists()
            unused = select(blob.c.sha256).where(~used, ~claimed).limit(_BLOBS_PER_SWEEP)
            found = list(connection.scalars(unused))
            for sha256 in found:
                with translate_errors("unused files cannot be removed", self.blobs.where):
                    self.blobs.remove(sha256)
            connection.execute(delete(blob).where(blob.c.sha256.in_(found)))
        return len(found)

    def _put(self, run_id: str, source: BinaryIO, put: RunOutput) -> RunOutput:
        sha256, size_bytes = hash_stream(source)
        source.seek(0)
        with self.database.writing("a file cannot be stored") as connection:
            insert_missing(connection, blob, {"sha256": sha256, "bytes": size_bytes})
            insert_missing(connection, claim, {"run_id": run_id, "sha256": sha256, "process": self._name()})
        with translate_errors("a file cannot be stored", self.blobs.where):
            self.blobs.put(source, sha256, size_bytes)
        return replace(put, sha256=sha256, bytes=size_bytes)

    def _fetch(self, wanted: RunOutput, to: Path) -> bool:
        with translate_errors("a stored file cannot be read", self.blobs.where):
            if self.blobs.size_bytes(wanted.sha256) is None:
                return False
        self.get_file(wanted.sha256, to)
        return True


def _has_same(connection: Connection, given: Run) -> bool:
    """Return whether the run exists already. Raises ImportRejected if another run has its id."""
    row = connection.execute(select(run).where(run.c.id == given.id)).first()
    if row is None:
        return False
    if _encode_content(read_run(connection, row)) != _encode_content(given):
        raise ImportRejected(
            f"run {given.id} cannot be imported",
            "another run with this id is here, and its content differs",
            "delete or export the one that is here first",
        )
    return True


def _encode_content(given: Run) -> bytes:
    """Return the part of a run that never changes and is equal in every store: an export has no folders, also in its
    logs."""
    outputs = tuple(replace(one, sha256="", bytes=0) if one.role in TEXT_ROLES else one for one in given.outputs)
    return to_json(replace(strip_folders(given), note="", tags={}, imported=False, imported_at=None, outputs=outputs))


def _find_to_change(connection: Connection, run_id: str) -> str:
    """Return the id with its row locked, so that concurrent changes of one tag are serialized."""
    found = find_run(connection, run_id)
    connection.execute(select(run.c.id).where(run.c.id == found).with_for_update())
    return found


def _delete_unused_facts(connection: Connection) -> None:
    used = select(run.c.environment_id)
    connection.execute(delete(environment).where(environment.c.id.not_in(used)))
    seen = union(
        select(run.c.model_facts).where(run.c.model_facts.is_not(None)),
        select(run.c.device_facts).where(run.c.device_facts.is_not(None)),
    )
    connection.execute(delete(snapshot).where(snapshot.c.id.not_in(seen)))


__all__ = ["KILLED", "RunFilter", "RunSummary", "Store", "open_store", "utc_now"]
