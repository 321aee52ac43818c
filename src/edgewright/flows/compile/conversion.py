"""Conversion of a source to the files of one artifact: choice of converter, environment, and record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib import metadata
from importlib.util import find_spec
from math import inf
from pathlib import Path
from typing import Any

import msgspec
from numpy.typing import NDArray

from edgewright import __version__
from edgewright.bench.output_parts import OutputPart
from edgewright.devices.connection import make_missing_error
from edgewright.errors import ModelNotConvertible, UsageError
from edgewright.flows.compile.publication import clear_folder, hash_artifact
from edgewright.flows.compile.sources import PreparedSource, make_absolute
from edgewright.flows.workspace import Workspace
from edgewright.runtimes.table import Converter, RuntimeInfo, find_runtime
from edgewright.runtimes.wire import Compile, Compiled, CompileRequest
from edgewright.schema.arrays import Array
from edgewright.schema.artifact import Artifact, SourceModel
from edgewright.schema.plan import CompileCell, CompilePlan, encode_plan

# What a converter may take beyond the time limit of one model: about half a second for each node.
SECONDS_PER_BYTE = 2.5e-3
CHECK_VERSION = 2  # artifacts that passed an older check are made again


@dataclass(frozen=True)
class CompileJob:
    """The data that all cells of one compile share, for one of its sizes.

    Attributes:
        stack: the inputs of the check, samples along the first axis.
        kinds: of these samples, as in `bench/check_inputs`.
        reference: the source's outputs that can be compared.
        notes: on the outputs that cannot.
        parts: of the outputs that a Concat joins.
        locks: of the isolated environments that are set up.
        name: of the artifacts, without runtime and precision.
    """

    plan: CompilePlan
    prepared: PreparedSource
    source: SourceModel
    stack: Mapping[str, Array]
    kinds: tuple[str, ...]
    reference: Mapping[str, NDArray[Any]]
    notes: tuple[str, ...]
    parts: Mapping[str, Sequence[OutputPart]]
    workspace: Workspace
    locks: Mapping[str, str]
    out: Path
    work: Path
    name: str

    def select(self, positions: NDArray[Any]) -> "CompileJob":
        """Return the job with these samples only."""
        return replace(
            self,
            stack={name: array[positions] for name, array in self.stack.items()},
            kinds=tuple(self.kinds[i] for i in positions),
            reference={name: array[positions] for name, array in self.reference.items()},
        )


def _choose_converters(cell: CompileCell, info: RuntimeInfo, locks: Mapping[str, str]) -> tuple[Converter, ...]:
    """Return the converter that the options name, or the default one followed by those whose environment is set up."""
    if not info.converters:
        return (Converter(info.name, info.compiles),)
    if requested := cell.options.get("converter", ""):
        return tuple(one for one in info.converters if one.name == requested)
    default, *others = info.converters
    return (default, *(one for one in others if one.environment in locks))


def run_compiler(
    cell: CompileCell, info: RuntimeInfo, job: CompileJob, folder: Path, stem: str
) -> tuple[Compiled, str]:
    """Compile with the first converter that succeeds, and return the result and the lock of its environment.

    Raises the first converter's error if none succeeds.
    """
    first: ModelNotConvertible | None = None
    for converter in _choose_converters(cell, info, job.locks):
        try:
            compiled = _run_converter(converter, cell, info, job, folder, stem)
        except ModelNotConvertible as error:
            first = first or error
            clear_folder(folder)
            continue
        if first is not None:
            note = f"converted with {converter.name}, because the default converter failed: {first.why.splitlines()[0]}"
            compiled = msgspec.structs.replace(compiled, notes=(*compiled.notes, note))
        return compiled, job.locks.get(converter.environment or info.name, "")
    if first is None:
        raise UsageError(
            f"{info.name} has no converter of this name", "", "edgewright compile --help lists the converters"
        )
    first.try_this = "; ".join((first.try_this, *_suggest_converters(cell, info, job)))
    raise first


def _suggest_converters(cell: CompileCell, info: RuntimeInfo, job: CompileJob) -> list[str]:
    """Return commands that set up further converters for this source."""
    others = [one for one in info.converters if one.environment and one.environment not in job.locks]
    fitting = [
        one for one in others if set(one.compiles) & job.prepared.files.keys() and not cell.options.get("converter")
    ]
    return [f"edgewright runtimes setup {one.environment} installs the converter {one.name}" for one in fitting]


def _run_converter(
    converter: Converter, cell: CompileCell, info: RuntimeInfo, job: CompileJob, folder: Path, stem: str
) -> Compiled:
    """Compile in a worker, so that a crash affects this cell only."""
    kind = _choose_form(converter, cell, job.prepared)
    if kind is None and job.prepared.unread is not None:
        raise job.prepared.unread
    if kind is None:
        raise ModelNotConvertible(
            f"converter {converter.name} does not support {job.prepared.format} models",
            f"it reads {' and '.join(converter.compiles)}",
            "compile from one of these, or choose another runtime",
        )
    if not converter.environment and info.name not in job.locks:
        check_installed(info)
    request = CompileRequest(
        source=make_absolute(job.prepared.files[kind]),
        format=kind,
        precision=cell.precision,
        shapes=job.prepared.shapes,
        folder=str(folder.absolute()),
        stem=stem,
        options=_make_converter_options(converter, cell, job.plan.weights if kind == "torch" else None),
        metadata=job.plan.metadata,
        model_bytes=job.prepared.model.bytes,
    )
    log = job.work / f"{folder.name}.log"
    with job.workspace.device.start_worker(
        info.name, (), job.plan.timeout_s, log, converter.environment, job.prepared.variables
    ) as worker:
        # What torch programs cost is the user's own code, which only --timeout ends.
        expected_s = inf if kind == "torch" else SECONDS_PER_BYTE * job.prepared.model.bytes
        compiled = worker.ask(Compile(request=request), Compiled, expected_s)
        worker.leave()
    if not (folder / compiled.main).exists():
        raise ModelNotConvertible(f"{info.title} did not write an artifact", f"{compiled.main} is missing")
    return compiled


def _choose_form(converter: Converter, cell: CompileCell, prepared: PreparedSource) -> str | None:
    """Return the form of the source that a converter reads: a TFLite file itself, unless its precision changes."""
    forms = [kind for kind in converter.compiles if kind in prepared.files]
    if "tflite" in forms and (cell.precision != "fp16" or prepared.given.precision == "fp16"):
        return "tflite"
    return next((kind for kind in forms if kind != "tflite"), next(iter(forms), None))


def _make_converter_options(converter: Converter, cell: CompileCell, weights: str | None) -> dict[str, str]:
    """Return the user's options, the chosen converter, and the weights' path of a torch source."""
    given = {"weights": str(Path(weights).absolute())} if weights else {}
    chosen = {"converter": converter.name} if converter.name != cell.runtime else {}
    return {**cell.options, **chosen, **given}


def check_installed(info: RuntimeInfo) -> None:
    """Raise RuntimeMissing for a package that compiling requires and no environment provides."""
    if absent := [name for name in (*info.needs, *info.compile_needs) if find_spec(name) is None]:
        raise make_missing_error(info, f"{absent[0]} is required for compiling but is not installed")


def make_artifact_record(
    cell: CompileCell, compiled: Compiled, folder: Path, key: str, job: CompileJob, lock: str = ""
) -> Artifact:
    files, total = hash_artifact(folder, compiled.main)
    return Artifact(
        runtime=cell.runtime,
        format=find_runtime(cell.runtime).writes,
        precision=cell.precision,
        main=compiled.main,
        files=files,
        bytes=total,
        key=key,
        source=job.source,
        io_map=compiled.io_map,
        options=dict(cell.options),
        tools={**compiled.tools, **_name_operators(job.prepared), "edgewright": __version__},
        environment=lock,
        origins=compiled.origins,
        notes=(*job.prepared.notes, *compiled.notes),
        unchecked="" if job.plan.check else "its outputs were not checked: --no-check was set",
    )


def _name_operators(prepared: PreparedSource) -> dict[str, str]:
    """Return the library of custom operators as a tool, with its hash as the version."""
    return {"custom-ops": prepared.operators_sha256} if prepared.operators_sha256 else {}


def hash_cell(cell: CompileCell, info: RuntimeInfo, job: CompileJob) -> str:
    """Return a hash of everything that determines the artifact and its record: source, plan and tool versions."""
    # The record has these names; a torch source is identified by its export.
    prepared = job.prepared
    own = prepared.sha256 if prepared.given.format == "tflite" else prepared.model.sha256
    given = [job.name, prepared.name, own]
    bare = msgspec.structs.replace(
        job.plan, source="", weights=None, inputs=None, cells=(cell,), timeout_s=0.0, custom_ops=None
    )
    tools = {name: _find_version(name) for name in info.compile_tools} | _name_operators(prepared)
    places = {info.name, *(one.environment for one in info.converters)}
    locks = {name: lock for name, lock in job.locks.items() if name in places}
    made_by = msgspec.json.encode([__version__, CHECK_VERSION, tools, locks, info.compiles, given], order="sorted")
    return sha256(encode_plan(bare) + made_by).hexdigest()


def _find_version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""
