"""Databases and disks that are not as they should be."""

import random
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace
from sqlalchemy import create_engine, event, text

from edgewright.errors import ConfigError, StoreCorrupt, StoreError, StoreFull, StoreNewer
from edgewright.store.store import Store, open_store
from tests.contracts.sample_runs import begun_run, finished_run, read_blob, saved_run
from tests.store.places import Place


def test_random_bytes_as_database(sqlite_place: Place) -> None:
    sqlite_place.home.mkdir()
    (sqlite_place.home / "edgewright.db").write_bytes(random.Random(0).randbytes(100_000))
    with pytest.raises(StoreCorrupt, match="file is not a database"):
        open_store(sqlite_place.home)


def test_damaged_pages(sqlite_place: Place) -> None:
    with open_store(sqlite_place.home) as store:
        runs = [saved_run(store, minute) for minute in range(30)]
    path = sqlite_place.home / "edgewright.db"
    data = bytearray(path.read_bytes())
    data[4096:] = random.Random(0).randbytes(len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(StoreCorrupt, match="malformed"), open_store(sqlite_place.home) as store:
        store.load(runs[0].id)


@pytest.mark.parametrize("seed", range(8))
def test_mutated_database_ends_in_a_named_error_or_works(sqlite_place: Place, seed: int) -> None:
    with open_store(sqlite_place.home) as store:
        runs = [saved_run(store, minute) for minute in range(5)]
    path, chance = sqlite_place.home / "edgewright.db", random.Random(seed)
    data = bytearray(path.read_bytes())
    for _ in range(400):
        data[chance.randrange(100, len(data))] = chance.randrange(256)
    path.write_bytes(data[: chance.choice([len(data), len(data) // 2])])
    try:
        with open_store(sqlite_place.home, busy_timeout_s=0.1) as store:
            store.list_runs()
            for run in runs:
                store.load(run.id)
    except StoreError as error:
        assert str(sqlite_place.home) in str(error) or runs[0].id[:10] in str(error)


def test_a_directory_in_the_place_of_the_database(sqlite_place: Place) -> None:
    (sqlite_place.home / "edgewright.db").mkdir(parents=True)
    with pytest.raises(StoreError, match="unable to open database file"):
        open_store(sqlite_place.home)


def test_a_file_in_the_place_of_the_home(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    with pytest.raises(StoreError, match="cannot be opened"):
        open_store(tmp_path / "home")


def test_another_programs_database(sqlite_place: Place) -> None:
    sqlite_place.home.mkdir()
    with closing(sqlite3.connect(sqlite_place.home / "edgewright.db")) as other:
        other.execute("CREATE TABLE run (distance_km)")
    with pytest.raises(StoreCorrupt, match="not a record of runs"):
        open_store(sqlite_place.home)


def test_newer_revision(place: Place) -> None:
    with open_store(place.home, place.database_url) as store, store.database.writing("made newer") as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreNewer, match="9999"):
        open_store(place.home, place.database_url)


def test_missing_table(place: Place) -> None:
    with open_store(place.home, place.database_url) as store:
        with store.database.writing("damaged") as connection:
            connection.execute(text("DROP TABLE tag"))
        with pytest.raises(StoreCorrupt):
            store.list_runs()


def test_samples_that_are_cut_short(store: Store) -> None:
    finished = saved_run(store)
    with store.database.writing("damaged") as connection:
        connection.execute(text("UPDATE series SET data = :data"), {"data": b"1234567"})
    with pytest.raises(StoreCorrupt, match="samples are missing"):
        store.load(finished.id)


def test_full_database(sqlite_place: Place) -> None:
    """SQLite's own limit stands for the disk's: it gives the same error, without root."""
    begun = begun_run()
    with open_store(sqlite_place.home) as store:
        before = saved_run(store)
        store.begin(begun)
        store.database.engine.dispose()
        event.listen(store.database.engine, "connect", lambda raw, _: raw.execute("PRAGMA max_page_count = 1"))
        with pytest.raises(StoreFull) as raised:
            store.finish(finished_run(begun, samples=100_000))
        assert "unsaved" in raised.value.try_this
        assert store.load(before.id) == before
    with open_store(sqlite_place.home) as store:
        assert store.load(begun.id) == finished_run(begun, samples=100_000)


def test_full_disk(small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    begun = begun_run()
    with open_store(small_disk / "home") as store:
        before = saved_run(store)
        store.begin(begun)
        big = tmp_path / "big"
        big.write_bytes(random.Random(0).randbytes(20_000_000))
        with pytest.raises(StoreFull):
            store.put_file(begun.id, big, role="model")
        assert [path for path in (small_disk / "home/blobs").rglob("*") if path.is_file()] == []
        with pytest.raises(StoreFull):
            store.finish(finished_run(begun, samples=1_000_000))
        assert store.load(before.id) == before
        store.finish(finished_run(begun))
    with open_store(small_disk / "home") as store:
        assert store.load(before.id) == before
        assert store.load(begun.id) == finished_run(begun)


def test_disk_that_turns_read_only(small_disk: Path) -> None:
    with open_store(small_disk / "home") as store:
        before = saved_run(store)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with open_store(small_disk / "home") as store:
        assert store.load(before.id) == before
        with pytest.raises(StoreError, match=r"(?i)read-only file system") as raised:
            store.begin(begun_run())
    assert "set EDGEWRIGHT_HOME to" in raised.value.try_this


def test_new_home_on_a_read_only_disk(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StoreError, match="Read-only file system") as raised:
        open_store(small_disk / "home")
    assert "set EDGEWRIGHT_HOME to" in raised.value.try_this


@pytest.mark.parametrize(
    "url", ["nonsense", "mysql://host/x", "sqlite://", "sqlite:///:memory:", "postgresql+psycopg2://h/x", "://"]
)
def test_address_that_cannot_be_used(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match="EDGEWRIGHT_DATABASE_URL"):
        open_store(tmp_path, url)


def test_sqlite_by_address(tmp_path: Path) -> None:
    with open_store(tmp_path / "home", f"sqlite:///{tmp_path}/elsewhere/my.db") as store:
        saved_run(store)
    assert (tmp_path / "elsewhere/my.db").exists()
    assert not (tmp_path / "home/edgewright.db").exists()


def test_server_that_is_not_there(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(StoreError, match="cannot be opened") as raised:
        open_store(tmp_path, "postgresql://me:secret@127.0.0.1:1/x")
    assert "127.0.0.1" in str(raised.value)
    assert "secret" not in str(raised.value)


def test_open_of_an_up_to_date_record_does_not_load_alembic(
    store: Store, place: Place, open_again: Callable[[], Store]
) -> None:
    from tests.store.places import start_child

    body = "print([name for name in sys.modules if name.split('.')[0] in ('alembic', 'obstore', 'numpy')])"
    child = start_child(place, "store.list_runs();" + body)
    assert child.communicate(timeout=60)[0] == "[]\n"


def test_damaged_blob_heals_when_it_is_stored_again(store: Store) -> None:
    begun = begun_run()
    output = store.put_bytes(begun.id, b"right", role="log")
    (store.home / "blobs" / output.sha256[:2] / output.sha256[2:]).write_bytes(b"wrong")
    with pytest.raises(StoreCorrupt, match="damaged"):
        read_blob(store, output)
    assert store.put_bytes(begun.id, b"right", role="log") == output
    assert read_blob(store, output) == b"right"


def test_damaged_blob_is_not_exported(store: Store, tmp_path: Path) -> None:
    begun = begun_run()
    output = store.put_bytes(begun.id, b"right", role="log")
    store.finish(replace(finished_run(begun), outputs=(output,)))
    path = store.home / "blobs" / output.sha256[:2] / output.sha256[2:]
    path.write_bytes(b"wrong")
    with pytest.raises(StoreCorrupt, match="damaged"):
        store.export_run(begun.id, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_database_without_an_encoding(tmp_path: Path, postgres: str) -> None:
    admin = create_engine(postgres.format("postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(
            "CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
        )
    admin.dispose()
    with pytest.raises(StoreError, match="the encoding must be UTF8"):
        open_store(tmp_path / "home", postgres.format("ascii"))
