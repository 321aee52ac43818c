"""Finished runs that the database could not take: kept as files, and taken in when a store is opened next.

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
from edgewright.facts.run import Run
from edgewright.store.failures import told
from edgewright.store.ids import is_run_id, new_run_id
from edgewright.store.place import bad_folder, unsaved_folder
from edgewright.store.portable import from_json, readable, to_json
from edgewright.store.rows import microseconds

# Causes for which a run cannot be read or saved the next time either.
_NEVER = (msgspec.DecodeError, UnicodeDecodeError, DataError, OverflowError)


def check_finished(given: Run) -> None:
    """Raises ValueError for a run that no store may write as finished."""
    check_begun(given)
    if given.state in ("queued", "running"):
        raise ValueError(f"run {given.id} is {given.state}, not finished")


def check_begun(given: Run) -> None:
    """Raises ValueError where the id or the time is none."""
    if not is_run_id(given.id):
        raise ValueError(f"{given.id!r} is not an id of new_run_id")
    microseconds(given.started_at)


def keep_aside(home: Path, finished: Run) -> Path | None:
    """Write the run to a file in the home, or else in the system's temporary folder or the current one.

    Returns the file; None where nothing could be written anywhere.
    """
    data, elsewhere = to_json(finished), f"edgewright-unsaved-{finished.id}.json"
    places: tuple[Callable[[], Path], ...] = (
        lambda: _made(unsaved_folder(home)) / f"{finished.id}.json",
        lambda: Path(tempfile.gettempdir()) / elsewhere,
        lambda: Path.cwd() / elsewhere,
    )
    for place in places:
        with suppress(OSError):
            return _write(data, place())
    return None


def add_words(failure: StoreError, home: Path, kept: Path | None) -> None:
    """Let the error say where `keep_aside` kept the run, and how it comes back."""
    if kept is None:
        failure.why += "; the run was not kept: no folder could take its file"
    elif kept.parent == unsaved_folder(home):
        failure.try_this += f"; the run is kept in {kept} and is saved when Edgewright next starts"
    else:
        failure.try_this += f"; the run is kept in {kept}: move it into {unsaved_folder(home)}, then it is saved"
        failure.try_this += " when Edgewright next starts"


def take_in(home: Path, save: Callable[[Run], object]) -> None:
    """Save the runs that were kept in the home.

    One that cannot be saved now (locked, full) stays; what is no run, or none that the tables can hold, goes to
    `bad`, so that it neither stands in anyone's way nor is lost.
    """
    for path in sorted(unsaved_folder(home).glob("*.json")):
        with suppress(OSError):
            why = _save_file(path, save)
            if why is None:
                path.unlink(missing_ok=True)
            elif why:
                _put_away(path, _made(bad_folder(home)), why)


def _save_file(path: Path, save: Callable[[Run], object]) -> str | None:
    """None where it is saved, why it never can be, or "" where it may be later. Raises OSError."""
    if not path.is_file():
        return "it is not a file"
    data = path.read_bytes()
    try:
        with told("an unsaved run cannot be saved", str(path)):
            found = readable(from_json(data))
            check_finished(found)
            save(found)
    except StoreError as error:
        return str(error) if isinstance(error.__cause__, _NEVER) else ""
    except (ValueError, RecursionError) as error:
        return f"it holds no finished run: {error}"
    return None


def _put_away(path: Path, bad: Path, why: str) -> None:
    target = bad / path.name
    if target.exists():
        target = bad / f"{path.stem}-{new_run_id()}.json"
    path.rename(target)
    target.with_suffix(".why").write_text(f"{why}\n", encoding="utf-8", errors="replace")


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def _write(data: bytes, path: Path) -> Path:
    """The file, whole or not at all, and readable by its owner only: the temporary folder is everyone's."""
    part = path.with_name(f".{new_run_id()}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
        part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return path
