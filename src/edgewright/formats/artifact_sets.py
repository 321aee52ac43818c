"""Sets of artifacts for several sizes of a model's inputs: reading, writing, and the choice by sizes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from edgewright.errors import InputError, ModelNotFound, ModelUnreadable
from edgewright.formats.artifacts import find_record, is_file_name, is_inside, read_artifact, read_record, record_path
from edgewright.formats.files import check_files, join_hashes, read_model
from edgewright.schema.artifact import MAX_SIZES, SET_SCHEMA, SET_SUFFIX, Artifact, ArtifactSet, SetEntry
from edgewright.schema.model import Model, Signature, TensorSpec
from edgewright.system.files import read_regular, write_atomically

AGAIN = "compile the model again"


def is_set(path: Path) -> bool:
    """Return whether a path has the name of a set file."""
    return path.name.endswith(SET_SUFFIX)


def choose_artifact(path: Path, shapes: Mapping[str, Sequence[int]]) -> Path:
    """Return the path of the artifact in a set file that takes inputs of these shapes.

    Args:
        path: of the set file.
        shapes: of the inputs by the source's names; each must be exactly one that an artifact was compiled for.

    Raises:
        InputError: no artifact takes them; the message lists all that can be chosen.
        ModelUnreadable: the set file is damaged, or the record of the artifact is missing or another one. (`read_model`
            compares the artifact's files with its record.)
        ModelNotFound: there is no such file.
    """
    found = _read_set(path)
    if unknown := set(found.inputs) ^ shapes.keys():
        name = min(unknown)
        what = f"'{name}' is not an input" if name in shapes else f"input '{name}' is missing"
        raise InputError(f"{path.name}: {what}", f"the inputs are {', '.join(sorted(found.inputs)) or 'none'}")
    return list_artifacts(path, shapes)[0]


def list_artifacts(path: Path, shapes: Mapping[str, Sequence[int]] = {}) -> list[Path]:
    """Return the main files of a set, in its order, that take inputs of these shapes; inputs not named may have any.

    Raises as `choose_artifact`.
    """
    found = _read_set(path)
    given = {name: tuple(shape) for name, shape in shapes.items()}
    fitting = [entry for entry in found.entries if given.items() <= entry.shapes.items()]
    if not fitting:
        raise InputError(
            f"{path.name} has no artifact for {_show_shapes(given)}",
            f"it has artifacts for {'; '.join(_show_shapes(entry.shapes) for entry in found.entries)}",
            "resize or pad the inputs to one of these, or compile the model for this size too",
        )
    return [path.with_name(entry.main) for entry in fitting if _read_entry(path, found, entry)]


def list_files(path: Path) -> list[Path]:
    """Return all files of a model, an artifact or a set, with their records. Raises as `read_model` does."""
    found = [path]
    for main in list_artifacts(path) if is_set(path) else [path]:
        record = find_record(main)
        names = record.files if record else read_model(main).data_files
        found += [main, *([record_path(main)] if record else []), *(main.parent / name for name in names)]
    return found


def _show_shapes(shapes: Mapping[str, Sequence[int]]) -> str:
    """Return shapes as text, like `x=1,3,48,160`."""
    return " ".join(f"{name}={','.join(map(str, shape))}" for name, shape in shapes.items())


def _read_set(path: Path) -> ArtifactSet:
    """Return the set in a file, whose names are safe. Raises ModelNotFound or ModelUnreadable."""
    try:
        data = read_regular(path)
    except FileNotFoundError:
        raise ModelNotFound(
            f"there is no file {path}", "a relative path starts in the current folder", "check the path"
        ) from None
    except OSError as error:
        raise ModelUnreadable(f"{path} cannot be read", error.strerror or str(error), AGAIN) from None
    try:
        found = msgspec.json.decode(data, type=ArtifactSet)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ModelUnreadable(f"{path} is not a set of artifacts", str(error), AGAIN) from None
    if found.schema != SET_SCHEMA:
        why = f"this version of Edgewright reads {SET_SCHEMA}"
        raise ModelUnreadable(f"{path} has schema {found.schema[:60]}", why, AGAIN)
    if problem := _find_problem(found):
        raise ModelUnreadable(f"{path} is inconsistent", problem, AGAIN)
    return found


def _find_problem(found: ArtifactSet) -> str:
    """Return the first error of a set; empty without one."""
    if not 1 <= len(found.entries) <= MAX_SIZES:
        return f"it has {len(found.entries)} artifacts; a set has 1 to {MAX_SIZES}"
    for entry in found.entries:
        names = [name for name in (entry.main, *entry.files) if not is_inside(name)]
        if names or not is_file_name(entry.main):
            return f"it refers to a file outside its folder: {(names or [entry.main])[0][:200]!r}"
        if entry.shapes.keys() != set(found.inputs):
            return f"{entry.main} has shapes of other inputs than the set"
    if len({tuple(sorted(entry.shapes.items())) for entry in found.entries}) < len(found.entries):
        return "two of its artifacts have the same shapes"
    return ""


def _read_entry(path: Path, found: ArtifactSet, entry: SetEntry) -> Artifact:
    """Return the record of an artifact of a set. Raises ModelUnreadable if it is not the one that the set names."""
    main = path.with_name(entry.main)
    if not record_path(main).is_file():
        raise ModelUnreadable(f"{path} is incomplete", f"the record of {entry.main} is missing", AGAIN)
    record = read_record(record_path(main))
    shapes = {spec.name: spec.shape for spec in record.source.signature.inputs}
    same = (record.main, record.files, record.runtime, record.precision, record.source.sha256, shapes) == (
        entry.main, entry.files, found.runtime, found.precision, found.source_sha256, entry.shapes
    )  # fmt: skip
    if not same:
        why = f"{entry.main} is not the artifact that the set was written for"
        raise ModelUnreadable(f"{path} does not match its artifacts", why, AGAIN)
    return record


def write_set(path: Path, records: Sequence[Artifact]) -> None:
    """Write the set of these artifacts, whose files are beside `path`. Raises OutputError."""
    first = records[0]
    found = ArtifactSet(
        runtime=first.runtime,
        precision=first.precision,
        source=first.source.name,
        source_sha256=first.source.sha256,
        inputs=tuple(spec.name for spec in first.source.signature.inputs),
        entries=tuple(SetEntry(shapes=_get_shapes(one), main=one.main, files=one.files) for one in records),
    )
    write_atomically(path, msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")


def _get_shapes(record: Artifact) -> dict[str, tuple[int, ...]]:
    """Return the fixed shapes of a record's source."""
    signature = record.source.signature
    return {spec.name: tuple(size for size in spec.shape if isinstance(size, int)) for spec in signature.inputs}


def read_set_model(path: Path) -> Model:
    """Return a set as one model: the signature of its source, where sizes that differ are dynamic."""
    found = _read_set(path)
    records = [_read_entry(path, found, entry) for entry in found.entries]
    for entry, record in zip(found.entries, records, strict=True):
        check_files(path.with_name(entry.main), record)
    hashes = [digest for record in records for digest in record.files.values()]
    signatures = [record.source.signature for record in records]
    try:
        signature = Signature(
            inputs=_merge([one.inputs for one in signatures]), outputs=_merge([one.outputs for one in signatures])
        )
    except ValueError:
        raise ModelUnreadable(f"{path} is inconsistent", "the outputs of its artifacts differ", AGAIN) from None
    return msgspec.structs.replace(
        read_artifact(path, records[0], join_hashes(hashes)),
        bytes=sum(record.bytes for record in records),
        signature=signature,
        data_files=(),
    )


def _merge(ports: Sequence[tuple[TensorSpec, ...]]) -> tuple[TensorSpec, ...]:
    """Return the inputs or outputs of one source for several sizes as one list, where sizes that differ are dynamic.

    Raises ValueError if their numbers or ranks differ.
    """
    merged = []
    for same in zip(*ports, strict=True):
        axes = zip(*(one.shape for one in same), strict=True)
        shape = tuple(sizes[0] if len(set(sizes)) == 1 else "" for sizes in axes)
        merged.append(msgspec.structs.replace(same[0], shape=shape, default_shape=None))
    return tuple(merged)
