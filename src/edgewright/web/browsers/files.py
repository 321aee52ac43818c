"""Files that a page may load, and files that it sends."""

import secrets
from pathlib import Path
from urllib.parse import quote

import numpy as np

from edgewright.devices.browser.messages import Push
from edgewright.runtimes.tensor_file import SUFFIX, read_tensor_file, write_tensor_file
from edgewright.runtimes.worker import read_arrays, write_arrays
from edgewright.schema.arrays import Array
from edgewright.web.browsers.page_messages import FileOffer

ADDRESS = "/device/files"


class OfferedFolder:
    """The files that one lease offers to its page, by unguessable keys; nothing else can be loaded.

    Arrays are offered as tensor files in row order, which a page reads with little code.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pushed: dict[str, Push] = {}
        self._transient: dict[str, str] = {}
        self._paths: dict[str, Path] = {}
        self._keys: dict[tuple[Path, int, int], str] = {}

    def push(self, push: Push) -> str:
        """Remember a file and return its name in commands. Without a hash it replaces the last one of its name."""
        name = Path(push.path).name
        if push.sha256:
            remote = f"{push.sha256[:16]}/{name}"
        else:
            self._pushed.pop(self._transient.get(name, ""), None)
            remote = self._transient[name] = f"{secrets.token_hex(8)}/{name}"
        self._pushed[remote] = push
        return remote

    def offer_model(self, remote: str) -> tuple[FileOffer, list[FileOffer]]:
        """Return a pushed model, and the files beside it. Raises LookupError, OSError."""
        push = self._pushed[remote]
        return self._offer(Path(push.path)), [self._offer(Path(path), name) for name, path in push.beside.items()]

    def offer_arrays(self, remote: str) -> FileOffer:
        """Return the arrays of a pushed file. Raises LookupError, OSError, ValueError."""
        push = self._pushed[remote]
        path = Path(push.path)
        kind = "feeds" if push.sha256 else "chunk"  # of chunks, which come once each, only the last one is kept
        target = self._folder / f"{kind}-{remote.partition('/')[0]}{SUFFIX}"
        if not target.exists():
            for earlier in self._folder.glob(f"chunk-*{SUFFIX}") if kind == "chunk" else ():
                earlier.unlink()
            write_tensor_file(target, {name: _in_row_order(array) for name, array in read_arrays(str(path)).items()})
        return self._offer(target, path.name)

    def find(self, key: str) -> Path | None:
        return self._paths.get(key)

    def _offer(self, path: Path, name: str = "") -> FileOffer:
        state = path.stat()
        identity = (path, state.st_mtime_ns, state.st_size)
        key = self._keys.setdefault(identity, secrets.token_urlsafe(16))
        self._paths[key] = path
        shown = name or path.name
        return FileOffer(name=shown, url=f"{ADDRESS}/{key}/{quote(path.name)}", bytes=state.st_size)


def _in_row_order(array: Array) -> Array:
    return np.asarray(array, order="C")


def check_outputs(path: Path, wanted: Path) -> None:
    """Convert a tensor file from a page to the requested form.

    Raises ValueError, MemoryError or OSError if it cannot be read.
    """
    arrays = read_tensor_file(path)
    if wanted.suffix == SUFFIX:
        path.replace(wanted)
    else:
        write_arrays(str(wanted), arrays)
        path.unlink()
