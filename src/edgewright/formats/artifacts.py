"""Reading and writing of the record beside an artifact's files."""

import re
from contextlib import suppress
from math import inf, prod
from pathlib import Path, PureWindowsPath

import msgspec

from edgewright.errors import ModelUnreadable
from edgewright.schema.artifact import RECORD_SCHEMA, RECORD_SUFFIX, Artifact, Port
from edgewright.schema.model import Model, Signature, TensorSpec
from edgewright.system.files import read_regular, write_atomically

DTYPES = {"str", "bool", "float16", "bfloat16", "float32", "float64"} | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (4, 8, 16, 32, 64)
}
# Device names of Windows, with any suffix.
DEVICE_NAME = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])\s*(\..*)?", re.IGNORECASE)
MOST_NAME_BYTES, MOST_PATH_BYTES = 255, 1024


def record_path(main: Path) -> Path:
    """Return the path of the record of an artifact with this main file."""
    return main.with_name(main.stem + RECORD_SUFFIX)


def find_record(main: Path) -> Artifact | None:
    """Return the record of an artifact; None if there is none beside the file, or it is of another file.

    Raises ModelUnreadable if it cannot be read.
    """
    path = record_path(main)
    try:
        if not path.is_file():
            return None
    except OSError:  # a name too long for a file to have
        return None
    record = read_record(path)
    return record if record.main == main.name else None


def read_record(path: Path) -> Artifact:
    """Return the record in a file. Raises ModelUnreadable with the error in it."""
    try:
        data = read_regular(path)
    except OSError as error:
        raise ModelUnreadable(f"{path} is not an artifact record", str(error), "compile the model again") from None
    return parse_record(data, str(path))


def parse_record(data: bytes, path: str) -> Artifact:
    """Return the record in these bytes. Raises ModelUnreadable with `path` and the error in it."""
    try:
        record = msgspec.json.decode(data, type=Artifact)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ModelUnreadable(f"{path} is not an artifact record", str(error), "compile the model again") from None
    if record.schema != RECORD_SCHEMA:
        raise ModelUnreadable(
            f"{path} has schema {record.schema}",
            f"this version of Edgewright reads {RECORD_SCHEMA}",
            "compile the model again",
        )
    if problem := _find_problem(record):
        raise ModelUnreadable(f"{path} is inconsistent", problem, "compile the model again")
    if (outside := find_name_outside(record)) is not None:
        raise ModelUnreadable(
            f"{path} refers to a file outside its folder", repr(outside[:200]), "compile the model again"
        )
    return record


def find_name_outside(record: Artifact) -> str | None:
    """Return the first name in a record that is outside its folder; None if there is none."""
    if not is_file_name(record.main):
        return record.main
    return next((name for name in record.files if not is_inside(name)), None)


def _find_problem(record: Artifact) -> str:
    """Return the first error of a record; empty without one."""
    if not any(name == record.main or name.startswith(f"{record.main}/") for name in record.files):
        return f"its main file {record.main[:200]} is not in its list of files"
    inputs = {port.source for port in record.io_map.inputs}
    if unknown := inputs - {spec.name for spec in record.source.signature.inputs}:
        return f"it maps '{min(unknown)[:200]}', which is not an input of the source"
    return next(filter(None, map(_find_port_problem, (*record.io_map.inputs, *record.io_map.outputs))), "")


def _find_port_problem(port: Port) -> str:
    """Return the first error of a port. Only a run shows sizes of -1."""
    if sorted(port.axes) != list(range(len(port.source_shape))):
        return f"the axes {list(port.axes)} of '{port.source}' are not a permutation of {len(port.source_shape)} axes"
    if any(size < -1 for size in (*port.shape, *port.source_shape)):
        return f"'{port.source}' has a negative size"
    if -1 not in (*port.shape, *port.source_shape) and prod(port.shape) != prod(port.source_shape):
        return (
            f"'{port.source}' has {prod(port.source_shape)} elements in the source and "
            f"{prod(port.shape)} in the artifact"
        )
    if port.quantization is not None and not (0 < port.quantization.scale < inf):
        return f"'{port.source}' has an invalid scale: {port.quantization.scale}"
    unknown = {port.dtype, port.source_dtype} - DTYPES
    return f"'{port.source}' has an unknown type: {min(unknown)[:40]}" if unknown else ""


def is_inside(name: str) -> bool:
    """Return whether a relative name, with `/` between its parts, stays in its folder on every system.

    Names in a record are not trusted: callers must check them before they make a path.
    """
    parts = name.split("/")
    return len(name.encode("utf-8", "replace")) <= MOST_PATH_BYTES and all(map(is_file_name, parts))


def is_file_name(name: str) -> bool:
    """Return whether a name is valid for a file or folder on every system: no path and no device."""
    return (
        name not in ("", ".", "..")
        and not any(letter < " " or letter in "/\\\x7f" for letter in name)
        and name[-1] not in ". "  # which Windows drops, so that it means another name
        and not PureWindowsPath(name).drive
        and DEVICE_NAME.fullmatch(name) is None
        and _is_writable_name(name)
    )


def _is_writable_name(name: str) -> bool:
    try:
        return len(name.encode()) <= MOST_NAME_BYTES
    except UnicodeEncodeError:  # half of a surrogate pair
        return False


def write_record(record: Artifact, folder: Path) -> Path:
    path = record_path(folder / record.main)
    write_atomically(path, msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")
    return path


def list_records(folder: Path) -> list[tuple[Path, Artifact]]:
    """Return all artifacts of a folder with the paths of their main files, by name, without invalid records."""
    found = []
    for path in sorted(folder.glob(f"*{RECORD_SUFFIX}")):
        with suppress(ModelUnreadable):
            found.append((path, read_record(path)))
    return [(path.with_name(record.main), record) for path, record in found]


def make_same_port(spec: TensorSpec, source: str = "") -> Port:
    """Return an input or output that is in the artifact as in the source, where it may have the other name `source`.

    A size that only a run shows (such as that of NonZero) is -1.
    """
    sizes = tuple(size if isinstance(size, int) else -1 for size in spec.shape)
    return Port(
        source=source or spec.name,
        name=spec.name,
        source_shape=sizes,
        source_dtype=spec.dtype,
        axes=tuple(range(len(sizes))),
        shape=sizes,
        dtype=spec.dtype,
        quantization=spec.quantization,
    )


def read_artifact(path: Path, record: Artifact, sha256: str) -> Model:
    """Return the artifact as a model, with its runtime's signature; `sha256` is the current hash of its files."""
    return Model(
        path=str(path),
        name=path.name,
        format=record.format,
        sha256=sha256,
        bytes=record.bytes,
        signature=artifact_signature(record),
        precision=record.precision,
        data_files=tuple(sorted(name for name in record.files if name != record.main)),
    )


def artifact_signature(record: Artifact) -> Signature:
    return Signature(inputs=_describe(record.io_map.inputs), outputs=_describe(record.io_map.outputs))


def _describe(ports: tuple[Port, ...]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            name=port.name,
            dtype=port.dtype,
            shape=tuple("" if size == -1 else size for size in port.shape),
            quantization=port.quantization,
        )
        for port in ports
    )
