"""Finished runs that could not be saved: kept as files, and saved at the next opening of a store.

<home>/unsaved/ID.json        waits for the next store on this home
<home>/unsaved/bad/ID.json    is no run that can be saved; bad/ID.why says why
"""

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
from sqlalchemy.exc import DataError

from edgewright.errors import StoreError
from edgewright.schema.run import Run
from edgewright.store.exports.portable import from_json, make_storable, to_json
from edgewright.store.failures import translate_errors
from edgewright.store.location import get_bad_folder, get_unsaved_folder
from edgewright.store.runs.ids import is_run_id, new_run_id
from edgewright.store.runs.rows import parse_microseconds

# Causes that also prevent reading or saving the run next time.
_PERMANENT_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, DataError, OverflowError)


def check_finished(given: Run) -> None:
    """Raise ValueError for a run that is not finished."""
    check_begun(given)
    if given.state in ("queued", "running"):
        raise ValueError(f"run {given.id} is {given.state}, not finished")


def check_begun(given: Run) -> None:
    """Raise ValueError for an invalid id or time."""
    if not is_run_id(given.id):
        raise ValueError(f"{given.id!r} is not an id of new_run_id")
    parse_microseconds(given.started_at)


def save_to_file(home: Path, finished: Run) -> Path | None:
    """Write the run to a file in the home, or in the system's temporary folder or the current folder.

    Returns the file; None if no folder is writable.
    """
    data, elsewhere = to_json(finished), f"edgewright-unsaved-{finished.id}.json"
    locations: tuple[Callable[[], Path], ...] = (
        lambda: _make_folder(get_unsaved_folder(home)) / f"{finished.id}.json",
        lambda: Path(tempfile.gettempdir()) / elsewhere,
        lambda: Path.cwd() / elsewhere,
    )
    for location in locations:
        with suppress(OSError):
            return _write(data, location())
    return None


def explain_saved_file(failure: StoreError, home: Path, saved: Path | None) -> None:
    """Add to the error where `save_to_file` kept the run and how to save it."""
    if saved is None:
        failure.why += "; the run is lost: its file could not be written to any folder"
    elif saved.parent == get_unsaved_folder(home):
        failure.try_this += f"; the run is kept in {saved} and is saved at the next start of Edgewright"
    else:
        failure.try_this += f"; the run is kept in {saved}: move it into {get_unsaved_folder(home)} to save it"
        failure.try_this += " at the next start of Edgewright"


def import_unsaved(home: Path, save: Callable[[Run], object]) -> None:
    """Save the unsaved runs of the home.

    Runs that cannot be saved now (locked, full) are kept. Files that are not runs, or that the tables cannot store, are
    moved to `bad`.
    """
    for path in sorted(get_unsaved_folder(home).glob("*.json")):
        with suppress(OSError):
            why = _save_file(path, save)
            if why is None:
                path.unlink(missing_ok=True)
            elif why:
                _move_to_bad_folder(path, _make_folder(get_bad_folder(home)), why)


def _save_file(path: Path, save: Callable[[Run], object]) -> str | None:
    """Save a file. Return None on success, "" to retry later, or why it can never be saved. Raises OSError."""
    if not path.is_file():
        return "it is not a file"
    data = path.read_bytes()
    try:
        with translate_errors("an unsaved run cannot be saved", str(path)):
            found = make_storable(from_json(data))
            check_finished(found)
            save(found)
    except StoreError as error:
        return str(error) if isinstance(error.__cause__, _PERMANENT_ERRORS) else ""
    except (ValueError, RecursionError) as error:
        return f"it does not contain a finished run: {error}"
    return None


def _move_to_bad_folder(path: Path, bad: Path, why: str) -> None:
    target = bad / path.name
    if target.exists():
        target = bad / f"{path.stem}-{new_run_id()}.json"
    path.rename(target)
    target.with_suffix(".why").write_text(f"{why}\n", encoding="utf-8", errors="replace")


def _make_folder(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def _write(data: bytes, path: Path) -> Path:
    """Write a file atomically, readable only by its owner because the temporary folder is shared."""
    part = path.with_name(f".{new_run_id()}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
        part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return path
