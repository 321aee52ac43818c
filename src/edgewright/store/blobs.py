"""Content-addressed blobs: the SHA-256 is the name, `ab/cdef…`, so the same content is stored once.

A blob appears under its name completely or not at all: local files are renamed into place, and object
stores show only complete uploads. Every read verifies the hash. Safe for all threads and processes.
"""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit
from urllib.request import url2pathname

from edgewright.errors import ConfigError, StoreCorrupt, StoreError
from edgewright.store.failures import translate_errors

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_CHUNK_BYTES = 1 << 20
_PART_BYTES = 8 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Blobs:
    """A folder, or any store that obstore supports by URL (`s3://`, `gs://`, `az://`, `memory://`, `file://`).

    obstore reads credentials from the environment.
    """

    def __init__(self, folder: Path, url: str | None) -> None:
        self._folder, self._url = _find_local_folder(folder, url), url
        self._lock = threading.Lock()
        self._opened: ObjectStore | None = None
        self.where = str(self._folder) if self._folder else _remove_secrets(url or "")

    def size_bytes(self, sha256: str) -> int | None:
        """Return the size of the blob; None if it does not exist."""
        import obstore

        try:
            return obstore.head(self._store, _make_key(sha256))["size"]
        except FileNotFoundError:
            return None

    def put(self, source: BinaryIO, sha256: str, size_bytes: int) -> None:
        """Store the rest of `source`, which must have this hash and size, unless it is already stored.

        Raises StoreError if the content has another hash because the file has changed.
        """
        import obstore

        # A damaged blob is written again.
        if self.size_bytes(sha256) == size_bytes and self._is_sound(sha256):
            return
        content = _verify_chunks(source, sha256)
        if size_bytes <= _PART_BYTES:
            obstore.put(self._store, _make_key(sha256), b"".join(content), use_multipart=False)
        else:
            obstore.put(self._store, _make_key(sha256), content, use_multipart=True, chunk_size=_PART_BYTES)

    def read(self, sha256: str) -> Iterator[bytes]:
        """Yield the content in chunks. Use it only after the iterator has ended, because the hash is compared last.

        Raises StoreError if the blob does not exist, StoreCorrupt if its hash does not match.
        """
        import obstore

        digest = hashlib.sha256()
        with translate_errors("a stored file cannot be read", self.where):
            try:
                found = obstore.get(self._store, _make_key(sha256))
            except FileNotFoundError as error:
                raise StoreError("a stored file is missing", f"{self.where} has no {sha256}") from error
            for piece in found.stream(min_chunk_size=_CHUNK_BYTES):
                digest.update(piece)
                yield bytes(piece)
        if digest.hexdigest() != sha256:
            raise StoreCorrupt(
                "a stored file is damaged",
                f"{self.where}: the bytes of {sha256} have the hash {digest.hexdigest()}",
                "store the file again, or restore it from a backup"
                if self._folder is not None
                else "remove it there and store the file again, or restore it from a backup",
            )

    def remove(self, sha256: str) -> None:
        """Remove the blob and incomplete uploads of it, if they exist."""
        import obstore

        with suppress(FileNotFoundError):
            obstore.delete(self._store, _make_key(sha256))
        if self._folder is not None:
            for rest in self._folder.glob(f"{_make_key(sha256)}#*"):
                rest.unlink(missing_ok=True)

    def _is_sound(self, sha256: str) -> bool:
        """Return whether a local blob is valid; remote ones are not read, because that is a download."""
        if self._folder is None:
            return True
        with suppress(StoreError):
            for _ in self.read(sha256):
                pass
            return True
        return False

    @property
    def _store(self) -> "ObjectStore":
        with self._lock:
            if self._opened is None:
                self._opened = _open(self._folder, self._url)
            return self._opened


def hash_stream(source: BinaryIO) -> tuple[str, int]:
    """Return SHA-256 and size of the rest of a file."""
    digest, size = hashlib.sha256(), 0
    while piece := source.read(_CHUNK_BYTES):
        digest.update(piece)
        size += len(piece)
    return digest.hexdigest(), size


def is_sha256(text: str) -> bool:
    """Return whether the text is a SHA-256 in lower case."""
    return _SHA256.fullmatch(text) is not None


def check_sha256(text: str) -> str:
    """Return the text if it is a SHA-256 in lower case; other texts could be paths. Raises StoreError."""
    if not is_sha256(text):
        raise StoreError("the hash is not valid", f"{text[:80]!r} is not 64 digits of 0–9 and a–f")
    return text


def _verify_chunks(source: BinaryIO, sha256: str) -> Iterator[bytes]:
    digest = hashlib.sha256()
    while piece := source.read(_CHUNK_BYTES):
        digest.update(piece)
        yield piece
    if digest.hexdigest() != sha256:  # raised inside the upload, which then remains invisible
        raise StoreError("a file changed while it was being stored", f"its hash was {sha256} before")


def _make_key(sha256: str) -> str:
    check_sha256(sha256)
    return f"{sha256[:2]}/{sha256[2:]}"


def _find_local_folder(folder: Path, url: str | None) -> Path | None:
    if not url:
        return folder
    parts = urlsplit(url)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None


def _open(folder: Path | None, url: str | None) -> "ObjectStore":
    from obstore.store import LocalStore, MemoryStore, from_url

    if folder is not None:
        return LocalStore(folder, mkdir=True)
    address = url or ""
    if urlsplit(address).scheme == "memory":
        return MemoryStore()
    try:
        return from_url(address)
    except Exception as error:
        raise ConfigError(
            "EDGEWRIGHT_BLOB_URL cannot be used",
            str(error).splitlines()[0],
            "set it to s3://bucket/prefix or file:///path, or unset it to use the default",
        ) from error


def _remove_secrets(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
