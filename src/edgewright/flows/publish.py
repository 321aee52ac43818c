"""Put an artifact where the user wants it: whole, or not at all; and find one that was made before."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from edgewright.errors import ModelUnreadable, OutputError, StoreError
from edgewright.facts.artifact import Artifact
from edgewright.facts.run import Output
from edgewright.formats.artifacts import find_record, read_artifact, record_path, write_record
from edgewright.formats.files import hash_file, hash_files
from edgewright.store.queries import RunFilter
from edgewright.store.store import Store

RECORD_ROLE = "record"
WORKSHOP = ".edgewright-"


@contextmanager
def told_as_output(folder: Path) -> Iterator[None]:
    """What the file system raises becomes OutputError."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{folder} cannot be written", error.strerror or str(error)) from None


def list_files(folder: Path) -> list[Path]:
    """All files in a folder, by name."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def hash_artifact(folder: Path, main: str) -> tuple[dict[str, str], int]:
    """Hashes of an artifact's files by their names in its folder, the main one first, and their bytes in all."""
    files = sorted(list_files(folder), key=lambda path: (path != folder / main, path))
    names = {path.relative_to(folder).as_posix(): hash_file(path) for path in files}
    return names, sum(path.stat().st_size for path in files)


def publish(record: Artifact, made: Path, out: Path) -> Path:
    """Move an artifact's files from `made` into `out`, its record last; its main path there.

    An older artifact of the same name loses its record first, so that at no moment a record stands beside files that
    are not its own.
    """
    with told_as_output(out):
        record_path(out / record.main).unlink(missing_ok=True)
        tops = sorted({name.split("/")[0] for name in record.files}, key=lambda name: name == record.main)
        for name in tops:
            if (out / name).is_dir():
                shutil.rmtree(out / name)
            (made / name).replace(out / name)
        write_record(record, made)
        record_path(made / record.main).replace(record_path(out / record.main))
    return out / record.main


def keep(store: Store, run_id: str, record: Artifact, made: Path) -> tuple[Output, ...]:
    """Put the artifact's files and its record into the store."""
    model_id = read_artifact(made / record.main, record, artifact_hash(record, made)).sha256
    files = tuple(
        store.put_file(run_id, made / name, role=f"artifact:{name}", model_id=model_id) for name in record.files
    )
    return (*files, store.put_bytes(run_id, msgspec.json.encode(record), role=RECORD_ROLE))


def artifact_hash(record: Artifact, folder: Path) -> str:
    names = sorted(record.files, key=lambda name: (name != record.main, name))
    return hash_files([folder / name for name in names])


def find_made(key: str, main: Path, store: Store, work: Path) -> tuple[Artifact, Path] | None:
    """An artifact with this key and the folder that its files lie in: that of `main`, or `work` from the store."""
    if (lying := find_lying(key, main)) is not None:
        return lying, main.parent
    rows = store.list_runs(RunFilter(kind="compile", state="done", plan_hash=key, limit=1, metrics=()))
    if not rows:
        return None
    try:
        return fetch(store.load(rows[0].id).outputs, store, work), work
    except (StoreError, msgspec.MsgspecError, StopIteration):  # its bytes are gone: it is made again
        return None


def find_lying(key: str, main: Path) -> Artifact | None:
    """The artifact with this key that lies at `main`, where all its files are still what they were."""
    with suppress(ModelUnreadable):
        record = find_record(main)
        if record and record.key == key and all(is_same(main.parent / n, sha) for n, sha in record.files.items()):
            return record
    return None


def is_same(path: Path, sha256: str) -> bool:
    return path.is_file() and hash_file(path) == sha256


def fetch(outputs: Sequence[Output], store: Store, work: Path) -> Artifact:
    with store.open_blob(next(one.sha256 for one in outputs if one.role == RECORD_ROLE)) as file:
        record = msgspec.json.decode(file.read(), type=Artifact)
    by_role = {one.role: one.sha256 for one in outputs}
    for name in record.files:
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        store.get_file(by_role.get(f"artifact:{name}", ""), work / name)
    return record


@contextmanager
def workshop(out: Path) -> Iterator[Path]:
    """A folder in `out` to make artifacts in, so that they can be renamed into their place; removed at the end.

    What a compile that was killed left there is removed first.
    """
    with told_as_output(out):
        out.mkdir(parents=True, exist_ok=True)
        for left in out.glob(f"{WORKSHOP}*"):
            if not is_alive(left.name.split("-")[1]):
                shutil.rmtree(left, ignore_errors=True)
        work = Path(tempfile.mkdtemp(prefix=f"{WORKSHOP}{os.getpid()}-", dir=out))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except OSError:  # it is another user's
        return True
    return True
