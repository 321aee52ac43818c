"""Blobs: whole or absent, once, verified."""

import hashlib
import io
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from edgewright.errors import ConfigError, StoreCorrupt, StoreError
from edgewright.store.blobs import Blobs, check_sha256

BIG = random.Random(0).randbytes(25_000_000)


def digest(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(params=["folder", "file url", "memory"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    urls = {"folder": None, "file url": f"file://{tmp_path}/by%20url", "memory": "memory://"}
    return Blobs(tmp_path / "blobs", urls[request.param])


@pytest.mark.parametrize("data", [b"", b"small", BIG], ids=len)
def test_there_and_back(blobs: Blobs, data: bytes) -> None:
    sha256 = digest(data)
    assert blobs.size_bytes(sha256) is None
    blobs.put(io.BytesIO(data), sha256, len(data))
    assert blobs.size_bytes(sha256) == len(data)
    assert b"".join(blobs.read(sha256)) == data
    blobs.remove(sha256)
    blobs.remove(sha256)
    assert blobs.size_bytes(sha256) is None


def test_place_in_the_folder(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path, None)
    blobs.put(io.BytesIO(b"x"), digest(b"x"), 1)
    assert (tmp_path / digest(b"x")[:2] / digest(b"x")[2:]).read_bytes() == b"x"


def test_same_bytes_are_not_written_again(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path, None)
    blobs.put(io.BytesIO(b"x"), digest(b"x"), 1)
    source = io.BytesIO(b"x")
    blobs.put(source, digest(b"x"), 1)
    assert source.tell() == 0


@pytest.mark.parametrize("data", [b"small", BIG], ids=len)
def test_file_that_changes_meanwhile_leaves_nothing(tmp_path: Path, data: bytes) -> None:
    blobs = Blobs(tmp_path, None)
    with pytest.raises(StoreError, match="changed while"):
        blobs.put(io.BytesIO(data[:-1] + b"?"), digest(data), len(data))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_half_a_blob_is_never_visible(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path, None)
    path = tmp_path / digest(BIG)[:2] / digest(BIG)[2:]
    seen: list[bool] = []

    class Watched(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            seen.append(path.exists())
            return super().read(size)

    blobs.put(Watched(BIG), digest(BIG), len(BIG))
    assert len(seen) > 20
    assert not any(seen)
    assert path.exists()


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"?" + data[1:], lambda data: data + b"!"])
def test_damage_is_found_when_read(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    blobs = Blobs(tmp_path, None)
    blobs.put(io.BytesIO(b"content"), digest(b"content"), 7)
    path = tmp_path / digest(b"content")[:2] / digest(b"content")[2:]
    path.write_bytes(damage(b"content"))
    with pytest.raises(StoreCorrupt, match="damaged"):
        list(blobs.read(digest(b"content")))


@pytest.mark.parametrize("damaged", [b"con", b"CONTENT"])
def test_damaged_blob_is_written_again(tmp_path: Path, damaged: bytes) -> None:
    blobs = Blobs(tmp_path, None)
    blobs.put(io.BytesIO(b"content"), digest(b"content"), 7)
    (tmp_path / digest(b"content")[:2] / digest(b"content")[2:]).write_bytes(damaged)
    blobs.put(io.BytesIO(b"content"), digest(b"content"), 7)
    assert b"".join(blobs.read(digest(b"content"))) == b"content"


def test_rests_of_killed_writers_go_with_the_blob(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path, None)
    blobs.put(io.BytesIO(b"x"), digest(b"x"), 1)
    rest = tmp_path / digest(b"x")[:2] / f"{digest(b'x')[2:]}#1"
    rest.write_bytes(b"half")
    blobs.remove(digest(b"x"))
    assert not rest.exists()


@pytest.mark.parametrize("name", ["", "..", "A" * 64, "../" + "a" * 61, "a" * 64 + "\n", "a" * 63])
def test_name_that_is_no_hash(name: str) -> None:
    with pytest.raises(StoreError, match="hash is not valid"):
        check_sha256(name)


@pytest.mark.parametrize("url", ["nonsense", "mysql://x/y", "s4://bucket"])
def test_address_that_cannot_be_used(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match="EDGEWRIGHT_BLOB_URL"):
        Blobs(tmp_path, url).size_bytes("a" * 64)


def test_address_is_reported_without_its_secrets(tmp_path: Path) -> None:
    assert Blobs(tmp_path, "s3://key:secret@bucket/runs?token=t").where == "s3://bucket/runs"
