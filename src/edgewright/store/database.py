"""The connection to SQLite or PostgreSQL: URL, settings, transactions and migrations."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from edgewright.errors import ConfigError, StoreCorrupt, StoreError, StoreFull, StoreNewer
from edgewright.store.failures import translate_errors
from edgewright.store.recovery.reserve import Reserve
from edgewright.store.schema import REVISION, REVISIONS, metadata
from edgewright.system.disk import is_read_only
from edgewright.system.locks import hold_lock

BUSY_TIMEOUT_S = 10.0
_SCRIPTS = Path(__file__).parent / "migrations"
_MIGRATION_WAIT_S = 120.0
# Any two numbers that nothing else in the same PostgreSQL database uses as an advisory lock.
_MIGRATION_KEY = 0x_ED6E_0001
_BLOB_KEY = 0x_ED6E_0002


@dataclass(frozen=True)
class Database:
    """An open database with the newest tables.

    Attributes:
        where: name to show, without a password.
        reserve: disk space that is released on a full disk; None for PostgreSQL and read-only disks.
    """

    engine: Engine
    where: str
    reserve: Reserve | None = None

    @contextmanager
    def reading(self, what: str) -> Iterator[Connection]:
        """Open a read-only transaction with a consistent snapshot."""
        with translate_errors(what, self.where), self.engine.connect() as connection:
            if self.is_postgres:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    @contextmanager
    def writing(self, what: str, *, exclusive: bool = False) -> Iterator[Connection]:
        """Open a transaction that is committed at the end of the block.

        SQLite allows one writer at a time. PostgreSQL allows many, except while one is `exclusive`.
        """
        with translate_errors(what, self.where), self.engine.connect() as connection:
            connection = connection.execution_options(writing=True)
            with connection.begin():
                if self.is_postgres:
                    take = "pg_advisory_xact_lock" if exclusive else "pg_advisory_xact_lock_shared"
                    connection.execute(text(f"SELECT {take}(:key)"), {"key": _BLOB_KEY})
                yield connection

    @property
    def is_postgres(self) -> bool:
        """Return whether this is PostgreSQL, not SQLite."""
        return self.engine.dialect.name == "postgresql"

    @property
    def is_read_only(self) -> bool:
        """Return whether the database is on a read-only disk."""
        return self.engine.url.query.get("immutable") == "1"

    def shrink_log(self) -> None:
        """Truncate SQLite's log after a full disk, and acquire the reserve again."""
        if self.reserve is None or not self.reserve.is_released:
            return
        with suppress(SQLAlchemyError), self.engine.connect() as connection:
            _get_raw_connection(connection).execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.reserve.acquire()

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()
        if self.reserve is not None:
            self.reserve.acquire()


def open_database(home: Path, url: str | None, busy_timeout_s: float) -> Database:
    """Connect and migrate the tables. Raises StoreError and its subclasses."""
    address = _parse_address(home, url)
    where = address.database or "" if _is_sqlite(address) else address.render_as_string(hide_password=True)
    with translate_errors("the record of runs cannot be opened", where):
        reserve = _make_reserve(address)
        try:
            return _prepare_database(address, where, _make_engine(address, busy_timeout_s), reserve)
        except StoreFull:
            if reserve is None:
                raise
            # Reading requires the space of the reserve, or none if this process locks the database.
            engine = _make_engine(address, busy_timeout_s, exclusive=not reserve.release())
            return _prepare_database(address, where, engine, reserve)


def _prepare_database(address: URL, where: str, engine: Engine, reserve: Reserve | None) -> Database:
    database = Database(engine=engine, where=where, reserve=reserve)
    try:
        _upgrade(database, address)
    except BaseException:
        engine.dispose()
        raise
    if reserve is not None:
        reserve.acquire()
    return database


def _make_reserve(address: URL) -> Reserve | None:
    if not _is_sqlite(address) or _is_on_read_only_disk(address.database or ""):
        return None
    return Reserve(Path(address.database or ""))


def _parse_address(home: Path, url: str | None) -> URL:
    if not url:
        return URL.create("sqlite", database=str(home / "edgewright.db"))
    try:
        address = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise _make_address_error("it is not a database URL") from error
    if address.drivername in ("postgresql", "postgres"):
        address = address.set(drivername="postgresql+psycopg")
    if address.drivername == "postgresql+psycopg":
        return address
    if address.drivername in ("sqlite", "sqlite+pysqlite") and address.database not in (None, "", ":memory:"):
        return address
    raise _make_address_error(f"{address.drivername} is neither an SQLite file nor PostgreSQL")


def _make_address_error(why: str) -> ConfigError:
    examples = "postgresql://user@host/edgewright or sqlite:////path/to/edgewright.db"
    return ConfigError(
        "EDGEWRIGHT_DATABASE_URL cannot be used", why, f"set it to {examples}, or unset it to use the default"
    )


def _is_sqlite(address: URL) -> bool:
    return address.get_backend_name() == "sqlite"


def _make_engine(address: URL, busy_timeout_s: float, *, exclusive: bool = False) -> Engine:
    """Return an engine. With `exclusive`, SQLite is locked for this process and needs no shared-memory file."""
    if _is_sqlite(address):
        assert address.database is not None  # noqa: S101 - `_parse_address` checks it
        Path(address.database).parent.mkdir(parents=True, exist_ok=True)
        one: dict[str, Any] = {"poolclass": QueuePool, "pool_size": 1, "max_overflow": 0} if exclusive else {}
        engine = create_engine(_make_immutable(address) if _is_on_read_only_disk(address.database) else address, **one)
        event.listen(engine, "connect", _make_sqlite_setup(busy_timeout_s, exclusive=exclusive))
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    try:
        engine = create_engine(
            address, pool_pre_ping=True, connect_args={"connect_timeout": 10, "client_encoding": "utf8"}
        )
    except ImportError as error:
        raise StoreError(
            "PostgreSQL cannot be used", str(error), "install its driver: pip install 'edgewright[postgres]'"
        ) from error
    event.listen(engine, "connect", _make_postgres_setup(busy_timeout_s, address.database or ""))
    return engine


def _is_on_read_only_disk(path: str) -> bool:
    """Return whether the disk is read-only; SQLite then needs `immutable`, because it cannot create lock files."""
    return Path(path).is_file() and is_read_only(Path(path))


def _make_immutable(address: URL) -> URL:
    return address.set(database=f"file:{quote(address.database or '')}", query={"immutable": "1", "uri": "true"})


def _make_sqlite_setup(busy_timeout_s: float, *, exclusive: bool) -> Any:
    def apply(connection: sqlite3.Connection, _record: object) -> None:
        # `_begin_sqlite` begins transactions; Python's default begins them later and without a write lock.
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {round(busy_timeout_s * 1000)}")
        connection.execute("PRAGMA foreign_keys = ON")
        if exclusive:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        # In WAL mode, this lets a saved run survive a power failure.
        connection.execute("PRAGMA synchronous = FULL")

    return apply


def _begin_sqlite(connection: Connection) -> None:
    # A writing transaction locks at its start: one that changes from reading to writing can fail at once,
    # without waiting, if another has written since.
    writing = connection.get_execution_options().get("writing", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def _make_postgres_setup(busy_timeout_s: float, name: str) -> Any:
    def apply(connection: Any, _record: object) -> None:
        if connection.info.parameter_status("server_encoding") == "SQL_ASCII":
            raise StoreError(
                f"the database {name} cannot store the record of runs",
                "its encoding is SQL_ASCII, which stores bytes, not text; the encoding must be UTF8",
                f"create the database with: createdb --encoding UTF8 --template template0 {name}",
            )
        connection.autocommit = True
        connection.execute(f"SET lock_timeout = {round(busy_timeout_s * 1000)}")
        connection.autocommit = False

    return apply


def _upgrade(database: Database, address: URL) -> None:
    if _load_revision(database) == REVISION:
        return
    if database.is_postgres:
        with database.engine.begin() as connection:
            connection.execute(text(f"SET LOCAL lock_timeout = {round(_MIGRATION_WAIT_S * 1000)}"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_KEY})
            _migrate(connection, database.where)
        return
    # SQLite's locks do not cover the switch to WAL.
    with hold_lock(Path(f"{address.database}.lock"), _MIGRATION_WAIT_S):
        with database.engine.connect() as connection:
            _get_raw_connection(connection).execute("PRAGMA journal_mode = WAL")
        with database.writing("the record of runs cannot be migrated") as connection:
            _migrate(connection, database.where)


def _get_raw_connection(connection: Connection) -> sqlite3.Connection:
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)  # noqa: S101 - called for SQLite only
    return raw


def _load_revision(database: Database) -> str | None:
    with database.reading("the record of runs cannot be opened") as connection:
        return _read_revision(connection)


def _read_revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found


def _migrate(connection: Connection, where: str) -> None:
    """Run missing migrations in the given transaction, unless another process has just run them."""
    found = _read_revision(connection)
    if found == REVISION:
        return
    _reject_foreign_tables(connection, found, where)
    # Importing Alembic takes a quarter of a second, so it is imported only for migrations.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, REVISION)


def _reject_foreign_tables(connection: Connection, found: str | None, where: str) -> None:
    if found is not None and found not in REVISIONS:
        raise StoreNewer(
            "the record of runs is from a newer Edgewright",
            f"{where} has revision {found}; this Edgewright supports revisions up to {REVISION}",
        )
    existing = set(metadata.tables) & set(inspect(connection).get_table_names())
    if found is None and existing:
        raise StoreCorrupt(
            "this is not a record of runs",
            f"{where} has tables of the same names but no revision: {', '.join(sorted(existing))}",
            "set EDGEWRIGHT_HOME to another folder, or EDGEWRIGHT_DATABASE_URL to another database",
        )
