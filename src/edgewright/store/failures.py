"""Conversion of library failures to store errors.

SQLite result code                       PostgreSQL SQLSTATE                 system, blobs
5 BUSY, 6 LOCKED, 15 PROTOCOL            55P03, 40001, 40P01, 57014          —                    StoreLocked
11 CORRUPT, 26 NOTADB, "no such table"   XX001, XX002, 42P01, 42703          —                    StoreCorrupt
13 FULL                                  53100                               ENOSPC, EDQUOT       StoreFull
anything else                            anything else                       anything else        StoreError

For 8 READONLY, 10 IOERR and 14 CANTOPEN SQLite does not report the cause, so the disk is checked: one with
less than 1 MB free is StoreFull; a read-only disk or folder is named.
"""

import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from edgewright.errors import FULL_DISK_ERRNOS, EdgewrightError, StoreCorrupt, StoreError, StoreFull, StoreLocked
from edgewright.system.disk import is_read_only

_SQLITE_ERRORS: dict[int, type[StoreError]] = {
    sqlite3.SQLITE_BUSY: StoreLocked,
    sqlite3.SQLITE_LOCKED: StoreLocked,
    sqlite3.SQLITE_PROTOCOL: StoreLocked,
    sqlite3.SQLITE_CORRUPT: StoreCorrupt,
    sqlite3.SQLITE_NOTADB: StoreCorrupt,
    sqlite3.SQLITE_FULL: StoreFull,
}
_POSTGRES_ERRORS: dict[str, type[StoreError]] = {
    "55P03": StoreLocked,
    "40001": StoreLocked,
    "40P01": StoreLocked,
    "57014": StoreLocked,
    "XX001": StoreCorrupt,
    "XX002": StoreCorrupt,
    "42P01": StoreCorrupt,
    "42703": StoreCorrupt,
    "53100": StoreFull,
}
# The same messages in Rust, inside obstore's texts.
_FULL_TEXTS = tuple(f"(os error {code})" for code in sorted(FULL_DISK_ERRNOS))
_AMBIGUOUS_CODES = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
_NO_SPACE_BYTES = 1 << 20
_WRITABLE_HINT = "set EDGEWRIGHT_HOME to a writable folder"
_SCHEMA_MESSAGES = ("no such table", "no such column", "has no column named")


@contextmanager
def translate_errors(what: str, where: str) -> Iterator[None]:
    """Convert failures of the store in the block to EdgewrightErrors; others (Ctrl-C, bugs) are not changed.

    Args:
        what: first line of the error ("the run cannot be saved").
        where: the database, file or blob store, without a password.
    """
    try:
        yield
    except EdgewrightError:
        raise
    except Exception as failure:
        kind = classify_failure(failure)
        if kind is None:
            raise
        if _is_ambiguous(failure):
            raise _make_disk_error(what, where, _describe_failure(failure)) from failure
        raise kind(what, f"{where}: {_describe_failure(failure)}", _make_hint(failure)) from failure


def classify_failure(failure: BaseException) -> type[StoreError] | None:
    """Return the store error of a failure; None for other failures."""
    if isinstance(failure, SQLAlchemyError):
        inner = getattr(failure, "orig", None)
        return StoreError if inner is None else _classify_driver_error(inner)
    if isinstance(failure, sqlite3.Error):
        return _classify_driver_error(failure)
    if isinstance(failure, OSError) and not isinstance(failure, InterruptedError):
        return StoreFull if failure.errno in FULL_DISK_ERRNOS else StoreError
    # A row or file with invalid content.
    if isinstance(failure, msgspec.DecodeError | UnicodeDecodeError):
        return StoreCorrupt
    if _is_from_obstore(failure):
        return StoreFull if any(text in str(failure) for text in _FULL_TEXTS) else StoreError
    # sqlite3 raises it for integers over 64 bits, which only a damaged or hostile record can hold.
    return StoreError if isinstance(failure, OverflowError) else None


def _describe_failure(failure: BaseException) -> str:
    """Return the first line of the library's message."""
    inner = getattr(failure, "orig", None) or failure
    text = str(inner).strip() or type(inner).__name__
    return text.splitlines()[0]


def _classify_driver_error(failure: BaseException) -> type[StoreError]:
    state = getattr(failure, "sqlstate", None)
    if state is not None:
        return _POSTGRES_ERRORS.get(state, StoreError)
    code = getattr(failure, "sqlite_errorcode", None)
    if code is not None and (code & 0xFF) in _SQLITE_ERRORS:
        return _SQLITE_ERRORS[code & 0xFF]
    if any(text in str(failure) for text in _SCHEMA_MESSAGES):
        return StoreCorrupt
    return StoreError


def _is_from_obstore(failure: BaseException) -> bool:
    """Check the module name, because importing obstore is slow."""
    return any(kind.__module__.startswith("obstore") for kind in type(failure).__mro__)


def _is_ambiguous(failure: BaseException) -> bool:
    code = getattr(getattr(failure, "orig", None) or failure, "sqlite_errorcode", None)
    return code is not None and (code & 0xFF) in _AMBIGUOUS_CODES


def _make_disk_error(what: str, where: str, reason: str) -> StoreError:
    """Return the error of a failure whose cause is the state of the disk."""
    folder = _nearest_folder(Path(where))
    with suppress(OSError):
        if shutil.disk_usage(folder).free < _NO_SPACE_BYTES:
            return StoreFull(what, f"{where}: no space is left on the disk ({reason})")
    if _is_read_only(folder):
        return StoreError(what, f"{where}: read-only file system ({reason})", _WRITABLE_HINT)
    if not os.access(folder, os.W_OK):
        return StoreError(what, f"{where}: no permission to write ({reason})", _WRITABLE_HINT)
    return StoreError(what, f"{where}: {reason}")


def _nearest_folder(path: Path) -> Path:
    return next((folder for folder in path.absolute().parents if folder.is_dir()), Path.cwd())


def _is_read_only(folder: Path) -> bool:
    with suppress(OSError):
        return is_read_only(folder)
    return False


def _make_hint(failure: BaseException) -> str:
    """Return a specific hint, or an empty text for the class's default."""
    return _WRITABLE_HINT if getattr(failure, "errno", None) == errno.EROFS else ""
