"""A place for a store, on SQLite and on a private PostgreSQL."""

import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy

from edgewright.store.store import Store, open_store
from tests.store.places import Place
from tests.store.postgres import serve_postgres

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server of this session, with {} for the database."""
    with serve_postgres() as url:
        yield url


@pytest.fixture
def sqlite_place(tmp_path: Path) -> Place:
    """An empty home."""
    return Place(home=tmp_path / "home", database_url=None)


@pytest.fixture
def postgres_place(tmp_path: Path, postgres: str) -> Place:
    """An empty home and a database of its own."""
    name = f"edgewright_{next(_numbers)}"
    admin = sqlalchemy.create_engine(postgres.format("postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    admin.dispose()
    return Place(home=tmp_path / "home", database_url=postgres.format(name))


@pytest.fixture(params=["sqlite_place", "postgres_place"], ids=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest) -> Place:
    """The same test on both."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Place)
    return found


@pytest.fixture
def open_again(place: Place) -> Iterator[Callable[[], Store]]:
    """Opens the store of the place; all are closed at the end."""
    with ExitStack() as opened:
        yield lambda: opened.enter_context(open_store(place.home, place.database_url, busy_timeout_s=20))


@pytest.fixture
def store(open_again: Callable[[], Store]) -> Store:
    """An open store."""
    return open_again()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small disk can be mounted by root only")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
