"""Every failure of a lower library becomes the store's own error; nothing else does."""

import errno
import inspect
import os
import shutil
import sqlite3
from pathlib import Path

import msgspec
import obstore.exceptions
import pytest
import sqlalchemy.exc
from sqlalchemy.exc import SQLAlchemyError

from edgewright.errors import RunNotFound, StoreCorrupt, StoreError, StoreFull, StoreLocked
from edgewright.store.failures import classify_failure, translate_errors


def _sqlite(code: int, words: str = "words") -> SQLAlchemyError:
    inner = sqlite3.OperationalError(words)
    inner.sqlite_errorcode = code
    return sqlalchemy.exc.OperationalError("SELECT 1", {}, inner)


def _postgres(state: str | None) -> SQLAlchemyError:
    class Driver(Exception):
        sqlstate = state

    return sqlalchemy.exc.DBAPIError("SELECT 1", {}, Driver("words"))


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (_sqlite(sqlite3.SQLITE_BUSY), StoreLocked),
        (_sqlite(sqlite3.SQLITE_BUSY_SNAPSHOT), StoreLocked),
        (_sqlite(sqlite3.SQLITE_LOCKED), StoreLocked),
        (_sqlite(sqlite3.SQLITE_PROTOCOL), StoreLocked),
        (_sqlite(sqlite3.SQLITE_CORRUPT), StoreCorrupt),
        (_sqlite(sqlite3.SQLITE_NOTADB), StoreCorrupt),
        (_sqlite(sqlite3.SQLITE_ERROR, "no such table: run"), StoreCorrupt),
        (_sqlite(sqlite3.SQLITE_FULL), StoreFull),
        (_sqlite(sqlite3.SQLITE_READONLY), StoreError),
        (_sqlite(sqlite3.SQLITE_IOERR), StoreError),
        (_sqlite(sqlite3.SQLITE_CANTOPEN), StoreError),
        (_postgres("55P03"), StoreLocked),
        (_postgres("40P01"), StoreLocked),
        (_postgres("53100"), StoreFull),
        (_postgres("42P01"), StoreCorrupt),
        (_postgres("XX001"), StoreCorrupt),
        (_postgres("08006"), StoreError),
        (_postgres(None), StoreError),
        (OSError(errno.ENOSPC, "full"), StoreFull),
        (OSError(errno.EDQUOT, "quota"), StoreFull),
        (OSError(errno.EROFS, "read-only"), StoreError),
        (PermissionError(errno.EACCES, "no"), StoreError),
        (FileNotFoundError(errno.ENOENT, "absent"), StoreError),
        (TimeoutError("slow"), StoreError),
        (obstore.exceptions.GenericError("No space left on device (os error 28)"), StoreFull),
        (obstore.exceptions.GenericError("connection refused"), StoreError),
        (msgspec.DecodeError("truncated"), StoreCorrupt),
        (msgspec.ValidationError("wrong type"), StoreCorrupt),
        (OverflowError("Python int too large"), StoreError),
        (sqlalchemy.exc.InvalidRequestError("closed"), StoreError),
    ],
)
def test_mapped(failure: Exception, kind: type[StoreError]) -> None:
    with pytest.raises(StoreError) as raised, translate_errors("it failed", "/place"):
        raise failure
    assert type(raised.value) is kind
    assert raised.value.what == "it failed"
    assert raised.value.why.startswith("/place: ")
    assert raised.value.__cause__ is failure


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_CANTOPEN])
def test_full_disk_that_sqlite_does_not_name(code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=4096))
    with (
        pytest.raises(StoreFull, match="no space is left on the disk"),
        translate_errors("it failed", str(tmp_path / "x/y.db")),
    ):
        raise _sqlite(code)


def test_disk_with_space_is_not_called_full(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 30))
    with pytest.raises(StoreError) as raised, translate_errors("it failed", str(tmp_path / "y.db")):
        raise _sqlite(sqlite3.SQLITE_IOERR, "disk I/O error")
    assert type(raised.value) is StoreError
    assert raised.value.why == f"{tmp_path / 'y.db'}: disk I/O error"


def test_folder_that_may_not_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with (
        pytest.raises(StoreError, match="no permission to write") as raised,
        translate_errors("it failed", str(tmp_path)),
    ):
        raise _sqlite(sqlite3.SQLITE_CANTOPEN)
    assert "EDGEWRIGHT_HOME" in raised.value.try_this


def test_every_error_class_of_the_libraries_is_mapped() -> None:
    """Also those that a later version adds."""
    for library in (sqlalchemy.exc, obstore.exceptions):
        for name, kind in inspect.getmembers(library, inspect.isclass):
            is_failure = issubclass(kind, SQLAlchemyError) or library is obstore.exceptions
            if is_failure and issubclass(kind, Exception):
                bare = kind.__new__(kind)
                assert classify_failure(bare) is not None, f"{library.__name__}.{name}"


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), ValueError("a bug"), TypeError("a bug")])
def test_let_through(failure: BaseException) -> None:
    with pytest.raises(type(failure)) as raised, translate_errors("it failed", "/place"):
        raise failure
    assert raised.value is failure


def test_own_errors_are_not_wrapped() -> None:
    own = RunNotFound("no run")
    with pytest.raises(RunNotFound) as raised, translate_errors("it failed", "/place"):
        raise own
    assert raised.value is own
