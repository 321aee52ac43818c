"""Publication of artifacts, atomically, and lookup of artifacts that were compiled before."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from edgewright.errors import ModelUnreadable, OutputError, StoreError
from edgewright.flows.stored_model import load_record
from edgewright.formats.artifacts import find_name_outside, read_artifact, record_path, write_record
from edgewright.formats.files import hash_file, hash_files
from edgewright.schema.artifact import RECORD_ROLE, Artifact
from edgewright.store.recording import Recording
from edgewright.store.runs.queries import RunFilter
from edgewright.store.store import Store
from edgewright.system.files import replace_atomically
from edgewright.system.locks import try_lock

PREFIX, LOCK_FILE = ".edgewright-compile-", "workshop"
WORK_FOLDER = re.compile(re.escape(PREFIX) + "[a-z0-9_]{8}")


@contextmanager
def raise_output_errors(folder: Path) -> Iterator[None]:
    """Convert file system errors to OutputError."""
    try:
        yield
    except (FileExistsError, NotADirectoryError):
        why, hint = "the path, or one of its parent folders, is a file", "choose another folder with --output"
        raise OutputError(f"cannot write to {folder}", why, hint) from None
    except OSError as error:
        raise OutputError(f"cannot write to {folder}", error.strerror or str(error)) from None


def _list_files(folder: Path) -> list[Path]:
    """Return all files in a folder by name."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def hash_artifact(folder: Path, main: str) -> tuple[dict[str, str], int]:
    """Return the hashes of an artifact's files by name, the main one first, and their total bytes."""
    files = sorted(_list_files(folder), key=lambda path: (path != folder / main, path))
    names = {path.relative_to(folder).as_posix(): hash_file(path) for path in files}
    return names, sum(path.stat().st_size for path in files)


def publish_artifact(record: Artifact, made: Path, out: Path) -> Path:
    """Move an artifact's files from `made` into `out`, its record last, and return the main path.

    An older artifact of the same name loses its record first, so that a record never describes files of another
    artifact. Raises OutputError, before any change, if the record names a file outside of `out`.
    """
    if (unsafe_name := find_name_outside(record)) is not None:
        why = f"the artifact names a file {unsafe_name[:80]!r}, which is outside the artifact or not a valid file name"
        raise OutputError(f"cannot write {record.main[:80]!r}", why, "compile the model again")
    if made == out:
        with raise_output_errors(out):
            write_record(record, out)
        return out / record.main
    with raise_output_errors(out):
        write_record(
            record, made
        )  # first, since later steps need no disk space: a full disk leaves the old files intact
        record_path(out / record.main).unlink(missing_ok=True)
        tops = sorted({name.split("/")[0] for name in record.files}, key=lambda name: name == record.main)
        for name in tops:
            if (out / name).is_dir() and not (out / name).is_symlink():
                shutil.rmtree(out / name)
            (made / name).replace(out / name)
        record_path(made / record.main).replace(record_path(out / record.main))
    return out / record.main


def store_artifact(run: Recording, record: Artifact, made: Path) -> None:
    """Store the artifact's files and its record as outputs of the run."""
    model_id = read_artifact(made / record.main, record, _hash_artifact_files(record, made)).sha256
    for name in record.files:
        run.put_file(made / name, role=f"artifact:{name}", model_id=model_id)
    run.put_bytes(msgspec.json.encode(record), role=RECORD_ROLE)


def _hash_artifact_files(record: Artifact, folder: Path) -> str:
    names = sorted(record.files, key=lambda name: (name != record.main, name))
    return hash_files([folder / name for name in names])


def find_cached_artifact(key: str, main: Path, store: Store, work: Path) -> tuple[Artifact, Path] | None:
    """Return an artifact that was compiled here under this key, and the folder of its files.

    The folder is that of `main` if the files there are unchanged, otherwise `work`. The record file next to an artifact
    is not trusted, since anyone may have changed it, nor are imported runs, whose compiler is unknown.
    """
    query = RunFilter(kind="compile", state="done", plan_hash=key, imported=False, limit=1, metrics=())
    rows = store.list_runs(query)
    if not rows:
        return None
    outputs = store.load(rows[0].id).outputs
    try:
        record = load_record(outputs, store)
        if record is None or record.key != key:
            return None
        if all(_is_unchanged(main.parent / name, sha256) for name, sha256 in record.files.items()):
            return record, main.parent
        _fetch_files(record, store, work)
    except (StoreError, ModelUnreadable, OSError):  # its bytes are missing, so it is compiled again
        clear_folder(work)
        return None
    return record, work


def clear_folder(folder: Path) -> None:
    """Remove incomplete files."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _is_unchanged(path: Path, sha256: str) -> bool:
    return path.is_file() and hash_file(path) == sha256


def _fetch_files(record: Artifact, store: Store, work: Path) -> None:
    """Restore an artifact's files into `work` by the hashes in its parsed record."""
    for name, sha256 in record.files.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        store.get_file(sha256, work / name)


def copy_atomically(path: Path, to: Path) -> None:
    """Copy a file under its final name, completely or not at all."""
    with replace_atomically(to) as part:
        shutil.copyfile(path, part)


@contextmanager
def open_work_folder(out: Path) -> Iterator[Path]:
    """Create a temporary folder in `out`, so that artifacts can be renamed into place; remove it at the end.

    Folders that a killed compile left are removed first: those with this name pattern and our marker, without a lock of
    a living process.
    """
    with raise_output_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        for left in [
            path for path in out.iterdir() if WORK_FOLDER.fullmatch(path.name) and (path / LOCK_FILE).is_file()
        ]:
            if not _is_locked(left / LOCK_FILE):
                shutil.rmtree(left, ignore_errors=True)
        work = Path(tempfile.mkdtemp(prefix=PREFIX, dir=out))
        lock_file = (work / LOCK_FILE).open("wb")
    try:
        try_lock(lock_file)
        yield work
    finally:
        lock_file.close()
        shutil.rmtree(work, ignore_errors=True)


def _is_locked(lock_file: Path) -> bool:
    """Return whether a living process holds the lock on a work folder's marker."""
    with lock_file.open("ab") as file:
        return not try_lock(file)
