"""A project's folder: writes generated files, and leaves alone what the user changed."""

import shutil
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from edgewright.errors import OutputError
from edgewright.formats.artifacts import is_inside
from edgewright.formats.files import hash_file
from edgewright.system.files import make_output_error, read_regular, write_atomically
from edgewright.system.temporary import create_sibling

FILES_FILE = "edgewright-files.json"
MOST_FILES_BYTES = 16 << 20


class GeneratedFiles(Struct, frozen=True, kw_only=True):
    """What was generated into a folder (edgewright.package-files/1).

    Attributes:
        files: hash of each generated file, as it was written, by its name relative to the folder. A file with another
            hash was changed by the user.
    """

    schema: str = "edgewright.package-files/1"
    target: str
    files: dict[str, str]


class Written(NamedTuple):
    """The result: files that were kept because the user changed them, and the number of files that were written."""

    kept: tuple[str, ...]
    written: int


def check_folder(folder: Path, target: str) -> GeneratedFiles | None:
    """Return what was generated into the folder before; None for a new or empty folder.

    Raises OutputError if the folder has other files, or a project for another target.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    former = read_generated(folder)
    if former is None:
        why = "it has files that edgewright package did not write"
        raise OutputError(f"{folder} is not a generated project", why, "choose a new folder with --output")
    if former.target != target:
        why = f"edgewright package {former.target} wrote it"
        raise OutputError(f"{folder} is not a project for {target}", why, "choose a new folder with --output")
    return former


def read_generated(folder: Path) -> GeneratedFiles | None:
    """Return the list of generated files of a project; None if there is none that can be read."""
    try:
        data = read_regular(folder / FILES_FILE, MOST_FILES_BYTES)
        found = msgspec.json.decode(data, type=GeneratedFiles)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    is_ours = found.schema == GeneratedFiles(target="", files={}).schema and all(map(is_inside, found.files))
    return found if is_ours else None


def write_project(
    folder: Path, target: str, files: Mapping[str, bytes | Path], former: GeneratedFiles | None
) -> Written:
    """Write a project's files, and remove former ones that are no longer generated and not changed.

    Raises OutputError.
    """
    known = former.files if former else {}
    try:
        return _write_changes(folder, GeneratedFiles(target=target, files=known), files)
    except OSError as error:
        raise make_output_error(folder, error) from None


def _write_changes(folder: Path, former: GeneratedFiles, files: Mapping[str, bytes | Path]) -> Written:
    known = former.files
    hashes = {name: _hash(content) for name, content in files.items()}
    kept = [name for name, digest in hashes.items() if _is_changed(folder / name, digest, known.get(name, ""))]
    stale = [name for name, digest in known.items() if name not in hashes and _hash_existing(folder / name) == digest]
    listed = {name: known.get(name, "") if name in kept else digest for name, digest in hashes.items()}
    folder.mkdir(parents=True, exist_ok=True)
    # First: if writing is interrupted, the next call knows the files of both.
    _write_list(folder, former.target, {**known, **listed})
    written = sum(_write(folder / name, files[name], hashes[name]) for name in files if name not in kept)
    for name in stale:
        (folder / name).unlink(missing_ok=True)
        with suppress(OSError):  # not empty
            (folder / name).parent.rmdir()
    _write_list(folder, former.target, listed)
    return Written(tuple(sorted(kept)), written)


def _is_changed(path: Path, wanted: str, generated: str) -> bool:
    """Return whether a file is there that is neither the wanted one nor the one that was generated."""
    return (found := _hash_existing(path)) != "" and found not in (wanted, generated)


def _hash_existing(path: Path) -> str:
    """Return the hash of a file; empty without one, and a word that is no hash for what is not a file."""
    if not path.is_symlink() and path.is_file():
        return hash_file(path)
    return "other" if path.is_symlink() or path.exists() else ""


def _hash(content: bytes | Path) -> str:
    return hash_file(content) if isinstance(content, Path) else sha256(content).hexdigest()


def _write(path: Path, content: bytes | Path, digest: str) -> bool:
    """Write a file, and return whether it was another one before."""
    if _hash_existing(path) == digest:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    with create_sibling(path) as part:  # no fsync for each of a hundred files: after a power failure, generate again
        if isinstance(content, Path):
            shutil.copyfile(content, part)
        else:
            part.write_bytes(content)
        part.replace(path)
    return True


def _write_list(folder: Path, target: str, listed: Mapping[str, str]) -> None:
    found = GeneratedFiles(target=target, files=dict(sorted(listed.items())))
    write_atomically(folder / FILES_FILE, msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
