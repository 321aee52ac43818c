"""Compile: convert one model for every runtime, each in its own worker, and publish artifacts that pass the numerical
check.
"""

from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Literal

import msgspec
from msgspec import Struct

from edgewright.errors import (
    EdgewrightError,
    GateFailed,
    InputError,
    LimitReached,
    ModelNotConvertible,
    ModelRejected,
    OutputError,
    StoreError,
    UsageError,
)
from edgewright.flows.candidates import check_number
from edgewright.flows.compile.cells import check_cell
from edgewright.flows.compile.check import CompileFailure, check_numerics, check_reference
from edgewright.flows.compile.conversion import CompileJob, hash_cell, make_artifact_record, run_compiler
from edgewright.flows.compile.custom_ops import add_operators
from edgewright.flows.compile.divergence import DivergingNode, find_diverging_node
from edgewright.flows.compile.publication import (
    find_cached_artifact,
    open_work_folder,
    publish_artifact,
    store_artifact,
)
from edgewright.flows.compile.reference import make_reference
from edgewright.flows.compile.rounding_reference import take_rounding_reference
from edgewright.flows.compile.sizes import SetReport, name_sizes, write_set_file
from edgewright.flows.compile.sources import PreparedSource, describe_source, hash_source, prepare_source
from edgewright.flows.workspace import Workspace
from edgewright.formats.memory_estimate import check_file_memory
from edgewright.formats.neighbors import find_producers, find_upstream
from edgewright.kernels.custom.folder import OperatorsFile, build_operators, hash_folder
from edgewright.limits import read_budget
from edgewright.runtimes.table import find_runtime
from edgewright.schema.artifact import Artifact, IoMap, Numerics
from edgewright.schema.plan import CompileCell, CompilePlan
from edgewright.schema.run import Metric
from edgewright.schema.vocabulary import Precision
from edgewright.store.recording import utc_now
from edgewright.system.disk import MIN_FREE_BYTES, attribute_to_full_disk

SCHEMA = "edgewright.compile/1"
MAX_STEM_CHARS = 60  # characters of the source's name, so that file names stay within file system limits
CompileState = Literal["ok", "failed", "unsupported"]


class CellReport(Struct, frozen=True, kw_only=True):
    """The result of one cell, for one size of the inputs.

    Attributes:
        shapes: of the source's inputs.
        path: of the artifact's main file; None without an artifact.
        bytes: of all its files.
        seconds: from the start of the worker to the end of the check.
        state: `ok`; `unsupported` if the runtime cannot express the model; otherwise `failed`.
        reason: why it is not `ok`, or why its outputs were not checked; otherwise empty.
        try_this: the next step; empty if it is `ok`.
        numerics: against the source in ONNX Runtime fp32; also of an artifact that failed the check.
        cached: whether it existed already for the same source, plan and tools.
        culprit: the first diverging source node; None if not searched for or not found.
    """

    runtime: str
    precision: Precision
    shapes: dict[str, tuple[int, ...]]
    path: str | None
    bytes: int | None
    seconds: float
    state: CompileState
    reason: str
    try_this: str = ""
    numerics: Numerics | None = None
    io_map: IoMap | None = None
    notes: tuple[str, ...] = ()
    cached: bool = False
    culprit: DivergingNode | None = None
    run_id: str | None = None


class CompileReport(Struct, frozen=True, kw_only=True):
    """The JSON of `edgewright compile --json`. `sets` has the set files if the plan has several sizes."""

    schema: str = SCHEMA
    source: str
    source_sha256: str
    artifacts: tuple[CellReport, ...]
    sets: tuple[SetReport, ...] = ()


def compile_all(
    plan: CompilePlan, out: Path, workspace: Workspace, *, bisect: bool = False
) -> tuple[CompileReport, EdgewrightError | None]:
    """Compile every cell of the plan into the folder `out`; a failed cell does not stop the others.

    Returns the report, and the error of the first cell that failed the numerical check, else of the first that failed
    for another reason. With `bisect` the first diverging layer of failed cells is searched.

    Raises errors that affect all cells: source, shapes, inputs, folder, and LimitReached if the source needs too much
    memory.
    """
    plan = complete_plan(plan)
    operators = build_operators(Path(plan.custom_ops)) if plan.custom_ops else None
    with open_work_folder(out) as work:
        jobs = _make_jobs(plan, out, work, workspace, operators)
        reports, sets, errors = [], [], []
        for cell in plan.cells:
            made = [_compile_and_explain(cell, job, bisect=bisect) for job in jobs]
            reports += [one for one, _ in made]
            errors += [error for _, error in made if error]
            paths = [Path(one.path) for one, _ in made if one.path is not None]
            if plan.sizes and paths:
                sets.append(write_set_file(f"{_get_stem(jobs[0])}-{cell.runtime}-{cell.precision}", paths))
    errors.sort(key=lambda error: not isinstance(error, GateFailed))
    report = CompileReport(
        source=plan.source, source_sha256=plan.source_sha256, artifacts=tuple(reports), sets=tuple(sets)
    )
    return report, errors[0] if errors else None


def _compile_and_explain(
    cell: CompileCell, job: CompileJob, *, bisect: bool
) -> tuple[CellReport, EdgewrightError | None]:
    """Compile one cell, and look for the reason if it fails."""
    one, error = _compile_cell(cell, job)
    if isinstance(error, LimitReached):  # by the model, or only by this converter
        check_file_memory(Path(job.prepared.model.path), job.prepared.shapes, read_budget())
    if bisect and isinstance(error, GateFailed):
        one = msgspec.structs.replace(one, culprit=find_diverging_node(cell, job))
    return one, error


def complete_plan(plan: CompilePlan) -> CompilePlan:
    """Return the plan with the source's hash; UsageError for numbers out of range."""
    if not plan.cells:
        raise UsageError(
            "nothing to compile", "neither a runtime nor a precision was given", "--runtime litert --precision fp32"
        )
    if not 1 <= plan.samples <= 10_000:
        raise UsageError(f"--samples {plan.samples} cannot be used", "it must be from 1 to 10000", "--samples 8")
    check_number("seed", plan.seed)
    check_number("timeout_s", plan.timeout_s)
    if plan.weights and ".py:" not in plan.source:
        raise UsageError(
            "--weights cannot be used with this model",
            "weights are loaded only into a module built by FILE.py:FACTORY",
            "remove it",
        )
    if plan.sizes and plan.inputs is not None:
        why = "its arrays have one size, and --shape has several"
        raise InputError("--inputs cannot be used with several sizes", why, "compile each size by itself")
    operators = hash_folder(Path(plan.custom_ops)) if plan.custom_ops else ""
    return msgspec.structs.replace(plan, source_sha256=hash_source(plan), custom_ops_sha256=operators)


def _make_jobs(
    plan: CompilePlan, out: Path, work: Path, workspace: Workspace, operators: OperatorsFile | None
) -> list[CompileJob]:
    """Prepare the source for each of the plan's sizes."""
    jobs = []
    names = name_sizes(plan.sizes) if plan.sizes else [""]
    for shapes, name in zip(plan.sizes or (plan.shapes,), names, strict=True):
        folder = work / name
        folder.mkdir(exist_ok=True)
        own = msgspec.structs.replace(plan, shapes=shapes, sizes=())
        workspace.progress(f"{Path(plan.source).name}: reading")
        prepared = prepare_source(own, folder, workspace.device)
        if operators:
            prepared = add_operators(prepared, operators, folder)
        jobs.append(_make_job(own, prepared, (out, folder), workspace, name))
    return jobs


def _get_stem(job: CompileJob) -> str:
    """Return the first part of the names of all artifacts."""
    return Path(job.prepared.name).stem[:MAX_STEM_CHARS]


def _make_job(
    plan: CompilePlan, prepared: PreparedSource, folders: tuple[Path, Path], workspace: Workspace, size: str
) -> CompileJob:
    """Run the source once for all cells; `folders` are the output's and the temporary one."""
    device, progress = workspace.device, workspace.progress
    out, work = folders
    if plan.check:
        progress(f"{prepared.name}: reference outputs of {plan.samples if plan.inputs is None else 1} inputs")
    reference = make_reference(prepared, plan, device)
    check_reference(reference.outputs)
    source = describe_source(prepared, reference.shapes)
    locks = device.environment().get("locks", {})
    name = "-".join(filter(None, (Path(prepared.name).stem[:MAX_STEM_CHARS], size)))
    return CompileJob(
        plan,
        prepared,
        source,
        reference.stack,
        reference.kinds,
        reference.outputs,
        reference.notes,
        reference.parts,
        workspace,
        locks,
        out,
        work,
        name,
    )


def _compile_cell(cell: CompileCell, job: CompileJob) -> tuple[CellReport, EdgewrightError | None]:
    """Compile, check and publish one artifact, and record the run in any case."""
    began, started = monotonic(), utc_now()
    numerics: Numerics | None = None
    try:
        record, made, cached = _make_artifact(cell, job)
        numerics = record.numerics
        path = publish_artifact(record, made, job.out)
    except CompileFailure as failed:
        return _report_failure(cell, failed.error, failed.numerics, monotonic() - began, started, job)
    except EdgewrightError as error:
        return _report_failure(cell, error, numerics, monotonic() - began, started, job)
    except OSError as error:
        full = OutputError(f"cannot write to {job.out}", error.strerror or str(error))
        return _report_failure(cell, full, numerics, monotonic() - began, started, job)
    report = CellReport(
        runtime=cell.runtime,
        precision=cell.precision,
        shapes=job.prepared.shapes,
        path=str(path),
        bytes=record.bytes,
        seconds=monotonic() - began,
        state="ok",
        reason=record.unchecked,
        numerics=numerics,
        io_map=record.io_map,
        notes=record.notes,
        cached=cached,
    )
    if cached:
        return report, None
    return _save_run(report, record, started, job)


def _save_run(
    report: CellReport, record: Artifact | None, started: str, job: CompileJob
) -> tuple[CellReport, EdgewrightError | None]:
    """Store the artifact and its result, and return the report with the run's id.

    An error of the store does not affect this artifact or the following ones.
    """
    info = find_runtime(report.runtime)
    cell = next(c for c in job.plan.cells if (c.runtime, c.precision) == (report.runtime, report.precision))
    own = msgspec.structs.replace(job.plan, cells=(cell,))
    try:
        with job.workspace.recording(
            "compile", own, started_at=started, model=job.prepared.as_given(job.plan.source), runtime=report.runtime,
            plan_hash=hash_cell(cell, info, job),
        ) as run:  # fmt: skip
            if record is not None:
                store_artifact(run, record, job.out)
            else:
                run.fail(report.reason)
            run.add(metrics=tuple(_make_metrics(report)))
        return msgspec.structs.replace(report, run_id=run.id), None
    except StoreError as error:
        note = f"the run could not be recorded: {error}"
        return msgspec.structs.replace(report, notes=(*report.notes, note)), error


def _make_artifact(cell: CompileCell, job: CompileJob) -> tuple[Artifact, Path, bool]:
    """Return the artifact's record, the folder of its files, and whether it existed already."""
    info = find_runtime(cell.runtime)
    check_cell(cell, info)
    key = hash_cell(cell, info, job)
    folder = job.work / f"{cell.runtime}-{cell.precision}"
    folder.mkdir()
    stem = f"{job.name}-{cell.runtime}-{cell.precision}"
    cached = find_cached_artifact(key, job.out / f"{stem}{info.suffix}", job.workspace.store, folder)
    if cached and job.workspace.judge is None:  # its check says nothing about another device
        return *cached, True
    job.workspace.progress(f"{info.title} {cell.precision}: compiling")
    compiled, lock = run_compiler(cell, info, job, folder, stem)
    rounding_reference = take_rounding_reference(compiled, folder, job.work)
    record = make_artifact_record(cell, compiled, folder, key, job, lock)
    if job.plan.check:
        record = check_numerics(record, folder, rounding_reference, info, job)
    return record, folder, False


def _report_failure(
    cell: CompileCell, error: EdgewrightError, numerics: Numerics | None, seconds: float, started: str, job: CompileJob
) -> tuple[CellReport, EdgewrightError]:
    needed = max(MIN_FREE_BYTES, job.prepared.model.bytes)  # an artifact is about as large as its source
    error = attribute_to_full_disk(error, [job.work, job.out], needed)
    unsupported = isinstance(error, ModelNotConvertible | ModelRejected)
    report = CellReport(
        runtime=cell.runtime,
        precision=cell.precision,
        shapes=job.prepared.shapes,
        path=None,
        bytes=None,
        seconds=seconds,
        state="unsupported" if unsupported else "failed",
        reason=str(error),
        try_this="; ".join(filter(None, (_suggest_fixing(job) if unsupported else "", error.try_this))),
        numerics=numerics,
    )
    if isinstance(error, OutputError | StoreError):
        return report, error
    return _save_run(report, None, started, job)[0], error


def _suggest_fixing(job: CompileJob) -> str:
    """Return the option for inputs of one element on which the choice of a branch depends; empty if there are none."""
    graph = job.source.graph
    conditions = [node.inputs[0] for node in graph if node.op == "If" and node.inputs]
    upstream = find_upstream(conditions, find_producers(graph))
    read = {*conditions, *(name for node in upstream for name in node.inputs)}
    inputs = [spec for spec in job.source.signature.inputs if spec.name in read]
    names = [f"--fix {spec.name}=VALUE" for spec in inputs if all(size == 1 for size in spec.shape)]
    return f"{' '.join(names)} makes what decides a branch constant" if names else ""


def _make_metrics(report: CellReport) -> Sequence[Metric]:
    """Return the metrics of an artifact."""
    values = {"compile.seconds": ("s", report.seconds), "artifact.bytes": ("B", report.bytes)}
    if report.numerics is not None:
        values |= {
            "numerics.cosine": ("1", report.numerics.cosine),
            "numerics.sqnr": ("dB", report.numerics.sqnr_db),
            "numerics.max-abs": ("1", report.numerics.max_abs),
            "numerics.argmax-agreement": ("1", report.numerics.argmax_agreement),
        }
    return [Metric(name=name, unit=unit, value=value) for name, (unit, value) in values.items()]
