"""Exported runs: folders that other machines can read.

    run.json      {"schema": "edgewright.run/1", "run": {…}, "artefacts": [{"role", "sha256", "bytes", "file"}]}
    artefacts/    the files of the run under readable names
    SHA256SUMS    of all of the above, as `sha256sum -c` reads it

The content is not trusted: paths stay inside the folder, links are not followed, hashes are verified.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from edgewright.errors import ImportRejected, StoreError, StoreNewer
from edgewright.limits import read_budget
from edgewright.schema.run import Run, RunOutput
from edgewright.store.blobs import hash_stream, is_sha256
from edgewright.store.exports.paths import TEXT_ROLES, strip_bytes, strip_folders
from edgewright.store.exports.portable import from_plain, to_plain
from edgewright.system.files import create_folder_atomically

SCHEMA = "edgewright.run/1"
PLAN_SCHEMA = "edgewright.plan/1"
_MAX_SUMS_BYTES = 16 << 20
_BYTES_PER_BYTE, _BYTES_PER_VALUE = 6, 100  # upper bounds: nine million samples took half of what they give
NOT_EXPORTED = ("imported", "imported_at")  # the importing store sets it
_FILE_PATTERN = re.compile(r"artefacts/[^/\\\0]+")


class ExportedFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of the run; `file` is its path in the folder, or None if the store no longer had it."""

    role: str
    sha256: str
    bytes: int
    file: str | None


class ExportedRun(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of run.json; `run` has the fields of `schema.run.Run`."""

    schema: str
    run: dict[str, Any]
    artefacts: tuple[ExportedFile, ...] = ()


class _SchemaHead(Struct):
    schema: str


def write_folder(run: Run, folder: Path, fetch: Callable[[RunOutput, Path], bool]) -> list[RunOutput]:
    """Write a run to a folder that is absent or empty, without paths of this machine (see `paths.py`).

    The folder is written completely or not at all.

    Args:
        fetch: writes the content of an output to a path; False if the store does not have it.

    Returns:
        The outputs whose content is not in the store.
    """
    with _create_folder(folder) as part:
        artefacts = _write_artefacts(part, run, fetch)
        outputs = tuple(
            replace(output, sha256=one.sha256, bytes=one.bytes)
            for output, one in zip(run.outputs, artefacts, strict=True)
        )
        plain = to_plain(replace(strip_folders(run), outputs=outputs))
        for name in NOT_EXPORTED:
            del plain[name]
        content = ExportedRun(schema=SCHEMA, run=plain, artefacts=tuple(artefacts))
        text = msgspec.json.format(msgspec.json.encode(content), indent=1)
        (part / "run.json").write_bytes(text + b"\n")
        (part / "SHA256SUMS").write_text(_make_checksums(part), encoding="utf-8", newline="\n")
    return [output for output, present in zip(run.outputs, artefacts, strict=True) if present.file is None]


def read_folder(folder: Path) -> tuple[Run, dict[str, Path]]:
    """Read the run of a folder and its verified files by SHA-256; see `checks.py`.

    Raises StoreNewer for a later schema, ImportRejected for a fault.
    """
    from edgewright.store.exports.checks import find_fault  # only an import needs it, and it is slow to load

    data = _read_json(folder)
    try:
        head = msgspec.json.decode(data, type=_SchemaHead)
        _check_schema(head.schema, folder, SCHEMA)
        content = msgspec.json.decode(data, type=ExportedRun)
        del data
        run = from_plain(content.run)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _reject(folder, f"run.json: {error}", error)
    _check_plan_schema(run, folder)
    stated = [(output.role, output.sha256, output.bytes) for output in run.outputs]
    if stated != [(exported.role, exported.sha256, exported.bytes) for exported in content.artefacts]:
        _reject(folder, "its artifacts are not the outputs of its run", None)
    present = [exported for exported in content.artefacts if exported.file is not None]
    hash_once = cache(_hash_file)  # any number of outputs may name the same file
    files = {exported.sha256: _check_file(folder, exported, hash_once) for exported in present}
    if fault := find_fault(run, files):
        _reject(folder, fault, None)
    return run, files


@contextmanager
def _create_folder(folder: Path) -> Iterator[Path]:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StoreError("the run cannot be exported", f"{folder} exists and is not empty", "choose a new folder")
    with create_folder_atomically(folder, "run.json") as part:
        (part / "artefacts").mkdir()
        yield part


def _write_artefacts(part: Path, run: Run, fetch: Callable[[RunOutput, Path], bool]) -> list[ExportedFile]:
    """Write each file once, because a small run.json may refer to a large file many times."""
    written: dict[str, ExportedFile] = {}
    artefacts = []
    for index, output in enumerate(run.outputs):
        known = None if output.role in TEXT_ROLES else written.get(output.sha256)
        one = replace(known, role=output.role) if known else _write_file(part, index, run, fetch)
        artefacts.append(one)
        if one.file is not None and output.role not in TEXT_ROLES:
            written[output.sha256] = one
    return artefacts


def _write_file(part: Path, index: int, run: Run, fetch: Callable[[RunOutput, Path], bool]) -> ExportedFile:
    output = run.outputs[index]
    file = f"artefacts/{index + 1:02}-{_make_readable_name(output, run)}"
    if not fetch(output, part / file):
        return ExportedFile(role=output.role, sha256=output.sha256, bytes=output.bytes, file=None)
    if output.role not in TEXT_ROLES:
        return ExportedFile(role=output.role, sha256=output.sha256, bytes=output.bytes, file=file)
    (part / file).write_bytes(strip_bytes(output.role, (part / file).read_bytes(), run))
    sha256, size = _hash_file(part / file)
    return ExportedFile(role=output.role, sha256=sha256, bytes=size, file=file)


def _make_readable_name(output: RunOutput, run: Run) -> str:
    kind, _, name = output.role.partition(":")
    if kind == "model" and not name and run.model is not None:
        name = PurePosixPath(run.model.path.replace("\\", "/")).name
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name or kind)[-80:].lstrip(".-") or "file"


def _make_checksums(part: Path) -> str:
    files = sorted(path for path in part.rglob("*") if path.is_file())
    return "".join(f"{_hash_file(path)[0]}  {path.relative_to(part).as_posix()}\n" for path in files)


def _hash_file(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        return hash_stream(file)


def _read_json(folder: Path) -> bytes:
    path = folder / "run.json"
    if not folder.is_dir():
        why = "it is not a folder" if folder.exists() else "the folder does not exist"
        raise ImportRejected(
            f"{folder} cannot be imported", why, "give a folder that edgewright runs export has written"
        )
    if not path.is_file() or path.is_symlink():
        _reject(folder, "it has no run.json", None)
    budget, what = read_budget(), f"run.json of {os.fspath(folder)}"
    budget.check_bytes(path.stat().st_size, what)
    if _read_stated_checksum(folder) != _hash_file(path)[0]:
        _reject(folder, "run.json does not match SHA256SUMS", None)
    data = path.read_bytes()
    budget.check_bytes(_estimate_memory_bytes(data), what)
    return data


def _estimate_memory_bytes(data: bytes) -> int:
    """Estimate the memory to read this JSON: every value follows a comma, a colon or a bracket."""
    return _BYTES_PER_BYTE * len(data) + _BYTES_PER_VALUE * sum(map(data.count, (b",", b":", b"[", b"{")))


def _read_stated_checksum(folder: Path) -> str | None:
    sums = folder / "SHA256SUMS"
    if not sums.is_file() or sums.is_symlink() or sums.stat().st_size > _MAX_SUMS_BYTES:
        return None
    for line in sums.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.endswith("  run.json"):
            return line.split(" ", 1)[0]
    return None


def _check_schema(schema: str, folder: Path, known: str) -> None:
    """Reject schemas other than `known` ("family/version"), with another error for later versions."""
    if schema == known:
        return
    family, _, version = known.rpartition("/")
    given = schema.removeprefix(f"{family}/")
    if given != schema and given.isdecimal() and int(given[:9]) > int(version):
        raise StoreNewer(
            "the run is from a newer Edgewright",
            f"{folder} has schema {schema[:40]}; this Edgewright reads {known}",
            "update Edgewright",
        )
    _reject(folder, f"its schema is {schema[:40]!r}, not {known}", None)


def _check_plan_schema(run: Run, folder: Path) -> None:
    """Reject a plan of a later version."""
    if run.kind == "benchmark":
        schema = run.plan.get("schema", PLAN_SCHEMA)
        _check_schema(schema if isinstance(schema, str) else "", folder, PLAN_SCHEMA)


def _check_file(folder: Path, exported: ExportedFile, hash_file: Callable[[Path], tuple[str, int]]) -> Path:
    if not is_sha256(exported.sha256):
        _reject(folder, f"{exported.sha256[:80]!r} is not a valid hash", None)
    file = exported.file or ""
    if _FILE_PATTERN.fullmatch(file) is None or PurePosixPath(file).name in ("..", "."):
        _reject(folder, f"{file[:80]!r} is not a path in its artefacts folder", None)
    path = folder / file
    if (folder / "artefacts").is_symlink() or path.is_symlink() or not path.is_file():
        _reject(folder, f"{file[:80]} is missing or is not a file", None)
    if hash_file(path) != (exported.sha256, exported.bytes):
        _reject(folder, f"{file[:80]} differs from the exported file: its hash or size does not match", None)
    return path


def _reject(folder: Path, why: str, cause: Exception | None) -> NoReturn:
    raise ImportRejected(f"{os.fspath(folder)} cannot be imported", why) from cause
