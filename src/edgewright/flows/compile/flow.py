"""One model into every runtime: each cell in its own worker, and its numbers proven before it gets its name."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from platform import system
from time import monotonic
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from edgewright.bench.numerics import compare_outputs
from edgewright.bench.session import Progress
from edgewright.devices.protocol import Device
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
from edgewright.flows.compile.conversion import CompileJob, hash_cell, make_artifact_record, run_compiler
from edgewright.flows.compile.divergence import DivergingNode, find_diverging_node
from edgewright.flows.compile.publication import (
    find_cached_artifact,
    open_work_folder,
    publish_artifact,
    store_artifact,
)
from edgewright.flows.compile.rounding_reference import find_numeric_faults, take_rounding_reference
from edgewright.flows.compile.sources import describe_source, hash_source, make_stack, prepare_source, run_reference
from edgewright.flows.evaluate.inference import infer
from edgewright.formats.artifacts import read_artifact
from edgewright.formats.memory_estimate import check_file_memory
from edgewright.limits import read_budget
from edgewright.runtimes.table import RuntimeInfo, find_runtime
from edgewright.schema.artifact import Artifact, IoMap, Numerics
from edgewright.schema.plan import CompileCell, CompilePlan
from edgewright.schema.run import Metric, Run
from edgewright.schema.vocabulary import Precision
from edgewright.store.runs.ids import new_run_id
from edgewright.store.store import Store, utc_now
from edgewright.system.disk import MIN_FREE_BYTES, attribute_to_full_disk

SCHEMA = "edgewright.compile/1"
MAX_STEM_CHARS = 60  # characters of the source's name: with what is added it stays a name that every file system takes
CompileState = Literal["ok", "failed", "unsupported"]


class CellReport(Struct, frozen=True, kw_only=True):
    """One artifact that was wanted.

    Attributes:
        path: of the artifact's main file; None where there is none.
        bytes: of all its files.
        seconds: from the start of the compiling worker to the end of the check.
        state: `ok`; `unsupported` where the runtime cannot express the model; `failed` for everything else.
        reason: why it is not `ok`, or why its numbers were not checked; empty else.
        try_this: the next step; empty where it is `ok`.
        numerics: against the source in ONNX Runtime fp32; also of an artifact that failed for its numbers.
        cached: whether it had been made before from the same source, plan and tools.
        culprit: the first source node behind which the numbers part; None where it was not looked for or found.
    """

    runtime: str
    precision: Precision
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
    """What `edgewright compile --json` prints."""

    schema: str = SCHEMA
    source: str
    source_sha256: str
    artifacts: tuple[CellReport, ...]


class CompileFailure(Exception):
    """A cell that did not come to be: the error, and the numbers that speak against it."""

    def __init__(self, error: EdgewrightError, numerics: Numerics | None = None) -> None:
        super().__init__(str(error))
        self.error, self.numerics = error, numerics


def compile_all(
    plan: CompilePlan, out: Path, device: Device, store: Store, progress: Progress, *, bisect: bool = False
) -> tuple[CompileReport, EdgewrightError | None]:
    """Compile every cell of the plan into the folder `out`; one that fails does not stop the others.

    With the error of the first cell whose numbers are wrong, else that of the first that failed for another reason.
    With `bisect` the first layer that differs is looked for where numbers are wrong. Raises what stands in the way of
    all: the source, its shapes or inputs, the folder, and LimitReached where the source needs too much memory to run.
    """
    plan = complete_plan(plan)
    with open_work_folder(out) as work:
        job = _make_job(plan, out, work, device, store, progress)
        reports, errors = [], []
        for cell in plan.cells:
            one, error = _compile_cell(cell, job)
            if isinstance(error, LimitReached):  # of the model itself, or of this converter alone
                check_file_memory(Path(job.prepared.model.path), job.prepared.shapes, read_budget())
            if bisect and isinstance(error, GateFailed):
                one = msgspec.structs.replace(one, culprit=find_diverging_node(cell, job))
            reports.append(one)
            errors += [error] if error else []
    errors.sort(key=lambda error: not isinstance(error, GateFailed))
    report = CompileReport(source=plan.source, source_sha256=plan.source_sha256, artifacts=tuple(reports))
    return report, errors[0] if errors else None


def complete_plan(plan: CompilePlan) -> CompilePlan:
    """The plan with the source's hash; UsageError for numbers that cannot be."""
    if not plan.cells:
        raise UsageError("nothing to compile", "no runtime and precision is named", "--runtime litert --precision fp32")
    if not 1 <= plan.samples <= 10_000:
        raise UsageError(f"--samples {plan.samples} cannot be used", "it must be from 1 to 10000", "--samples 8")
    check_number("seed", plan.seed)
    check_number("timeout_s", plan.timeout_s)
    if plan.weights and ".py:" not in plan.source:
        raise UsageError("--weights has nothing to fill", "only FILE.py:FACTORY leaves them open", "leave it out")
    return msgspec.structs.replace(plan, source_sha256=hash_source(plan))


def _make_job(plan: CompilePlan, out: Path, work: Path, device: Device, store: Store, progress: Progress) -> CompileJob:
    """Prepare the source and run it once for all cells."""
    progress(f"{Path(plan.source).name}: reading")
    prepared = prepare_source(plan, work, device)
    stack = make_stack(prepared, plan)
    reference: dict[str, NDArray[Any]] = {}
    if plan.check:
        count = len(next(iter(stack.values()), ()))
        progress(f"{prepared.name}: reference outputs" + (f" of {count} inputs" if count else ""))
        reference = run_reference(prepared, stack, device, plan.timeout_s)
        _check_reference(reference)
    source = describe_source(prepared, reference)
    locks = device.environment().get("locks", {})
    return CompileJob(plan, prepared, source, stack, reference, device, store, locks, out, work, progress)


def _check_reference(reference: Mapping[str, NDArray[Any]]) -> None:
    """InputError where an output of the source holds nothing that could be compared."""
    for name, array in reference.items():
        if array.size and array.dtype.kind == "f" and not np.isfinite(array).any():
            raise InputError(
                f"the source gives nothing but NaN and infinities in output '{name}'",
                "on the inputs that were made there is nothing to compare",
                "give real ones: --inputs FILE.npz",
            )


def _compile_cell(cell: CompileCell, job: CompileJob) -> tuple[CellReport, EdgewrightError | None]:
    """Compile, prove and publish one artifact, and record the run, whatever comes of it."""
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
        full = OutputError(f"{job.out} cannot be written", error.strerror or str(error))
        return _report_failure(cell, full, numerics, monotonic() - began, started, job)
    report = CellReport(
        runtime=cell.runtime,
        precision=cell.precision,
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
    """Record the run; a record of runs that cannot be written costs neither this artifact nor those that follow."""
    try:
        return _record_run(report, record, started, job), None
    except StoreError as error:
        note = f"the run could not be recorded: {error}"
        return msgspec.structs.replace(report, notes=(*report.notes, note)), error


def _make_artifact(cell: CompileCell, job: CompileJob) -> tuple[Artifact, Path, bool]:
    """The artifact's record, the folder its files lie in, and whether it had been made before."""
    info = find_runtime(cell.runtime)
    check_cell(cell, info)
    key = hash_cell(cell, info, job)
    folder = job.work / f"{cell.runtime}-{cell.precision}"
    folder.mkdir()
    stem = f"{Path(job.prepared.name).stem[:MAX_STEM_CHARS]}-{cell.runtime}-{cell.precision}"
    if found := find_cached_artifact(key, job.out / f"{stem}{info.suffix}", job.store, folder):
        return *found, True
    job.progress(f"{info.title} {cell.precision}: compiling")
    compiled, lock = run_compiler(cell, info, job, folder, stem)
    rounding_reference = take_rounding_reference(compiled, folder, job)
    record = make_artifact_record(cell, info, compiled, folder, key, job, lock)
    if job.plan.check:
        record = _check_numerics(record, folder, rounding_reference, info, job)
    return record, folder, False


def _check_numerics(
    record: Artifact, folder: Path, rounding_reference: Path | None, info: RuntimeInfo, job: CompileJob
) -> Artifact:
    """The record with its figures against the source; Failed where they are too far apart."""
    if info.systems and system() not in info.systems:
        where = " and ".join("macOS" if name == "Darwin" else name for name in info.systems)
        reason = f"its numbers were not checked: {info.title} runs on {where} alone"
        return msgspec.structs.replace(record, unchecked=reason)
    job.progress(f"{info.title} {record.precision}: comparing numbers")
    model = read_artifact(folder / record.main, record, record.key)
    try:
        outputs, notes = infer(model, record, record.runtime, job.stack, job.device, timeout_s=job.plan.timeout_s)
        numerics = compare_outputs(job.reference, outputs, None if job.plan.inputs else job.plan.seed)
    except (ValueError, KeyError) as error:
        what = f"{info.title} {record.precision} gives other outputs than the source"
        raise CompileFailure(GateFailed(what, str(error), "leave the runtime out, or report it")) from None
    faults, reference_notes = find_numeric_faults(numerics, outputs, rounding_reference, record.precision, job)
    if faults:
        raise CompileFailure(
            GateFailed(
                f"{info.title} {record.precision} does not compute what the source computes",
                "; ".join(faults),
                "--bisect names the first layer that differs; --no-check keeps the artifact as it is",
            ),
            numerics,
        )
    return msgspec.structs.replace(
        record, numerics=numerics, notes=tuple(dict.fromkeys((*record.notes, *reference_notes, *notes)))
    )


def _report_failure(
    cell: CompileCell, error: EdgewrightError, numerics: Numerics | None, seconds: float, started: str, job: CompileJob
) -> tuple[CellReport, EdgewrightError]:
    needed = max(MIN_FREE_BYTES, job.prepared.model.bytes)  # an artifact is about as large as its source
    error = attribute_to_full_disk(error, [job.work, job.out], needed)
    unsupported = isinstance(error, ModelNotConvertible | ModelRejected)
    report = CellReport(
        runtime=cell.runtime,
        precision=cell.precision,
        path=None,
        bytes=None,
        seconds=seconds,
        state="unsupported" if unsupported else "failed",
        reason=str(error),
        try_this=error.try_this,
        numerics=numerics,
    )
    if isinstance(error, OutputError | StoreError):
        return report, error
    return _save_run(report, None, started, job)[0], error


def _record_run(report: CellReport, record: Artifact | None, started: str, job: CompileJob) -> CellReport:
    """Keep what was made and what came of it; the report with the run's id."""
    info = find_runtime(report.runtime)
    cell = next(c for c in job.plan.cells if (c.runtime, c.precision) == (report.runtime, report.precision))
    own = msgspec.structs.replace(job.plan, cells=(cell,))
    run = Run(
        id=new_run_id(),
        kind="compile",
        state="running",
        started_at=started,
        model=msgspec.structs.replace(
            job.prepared.model, name=job.prepared.name, sha256=job.prepared.sha256, path=job.plan.source, data_files=()
        ),
        device=job.device.facts(),
        runtime=report.runtime,
        plan=msgspec.to_builtins(own),
        plan_hash=hash_cell(cell, info, job),
        environment=job.device.environment(),
    )
    job.store.begin(run)
    outputs = store_artifact(job.store, run.id, record, job.out) if record else ()
    job.store.finish(
        msgspec.structs.replace(
            run,
            state="done" if record else "failed",
            finished_at=utc_now(),
            error=report.reason if record is None else None,
            outputs=outputs,
            metrics=tuple(_make_metrics(report)),
        )
    )
    return msgspec.structs.replace(report, run_id=run.id)


def _make_metrics(report: CellReport) -> Sequence[Metric]:
    """What is known of an artifact in numbers."""
    values = {"compile.seconds": ("s", report.seconds), "artifact.bytes": ("B", report.bytes)}
    if report.numerics is not None:
        values |= {
            "numerics.cosine": ("1", report.numerics.cosine),
            "numerics.sqnr": ("dB", report.numerics.sqnr_db),
            "numerics.max-abs": ("1", report.numerics.max_abs),
            "numerics.argmax-agreement": ("1", report.numerics.argmax_agreement),
        }
    return [Metric(name=name, unit=unit, value=value) for name, (unit, value) in values.items()]
