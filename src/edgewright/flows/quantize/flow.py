"""Quantization for all runtimes: calibrate, round, compile, evaluate on held-out data, publish."""

from hashlib import sha256
from pathlib import Path
from shutil import rmtree
from time import monotonic
from typing import NamedTuple

import msgspec

from edgewright import __version__
from edgewright.errors import EdgewrightError, GateFailed, ModelNotConvertible, StoreError, UsageError, WorkerError
from edgewright.flows.candidates import check_number, check_runs_here
from edgewright.flows.compile.conversion import check_installed
from edgewright.flows.compile.publication import (
    copy_atomically,
    open_work_folder,
    publish_artifact,
    raise_output_errors,
)
from edgewright.flows.compile.sources import (
    check_float_onnx,
    check_onnx,
    hash_source,
    is_torch,
    prepare_source,
    resize_signature,
)
from edgewright.flows.interrupts import offer_resume
from edgewright.flows.quantize.acceptance import (
    QuantizeSetup,
    add_measurements,
    apply_gate,
    apply_speed_gate,
    compile_graphs,
    evaluate_accuracy,
    measure_speed,
)
from edgewright.flows.quantize.answer import make_outcome
from edgewright.flows.quantize.attempts import NEXT, Attempt, list_next_setups, make_unsupported, merge_attempts
from edgewright.flows.quantize.calibration import cache_calibration_data, choose_calibration_samples, read_input_shapes
from edgewright.flows.quantize.finetuning import (
    Finetuning,
    check_finetuning,
    check_form,
    finetune,
    make_finetune_report,
)
from edgewright.flows.quantize.job import QuantizerOutput, run_quantizer
from edgewright.flows.quantize.precision import choose_precision
from edgewright.flows.quantize.records import record_quantization
from edgewright.flows.quantize.report import QuantizedRow, QuantizeReport, list_notes, list_protected
from edgewright.flows.workspace import Workspace
from edgewright.formats.artifacts import find_record
from edgewright.formats.files import read_model
from edgewright.formats.memory_estimate import check_file_memory
from edgewright.kernels.preprocessing import prepare_with_kernels
from edgewright.limits import read_budget
from edgewright.quantization.job import QuantizationForm, QuantizationJob
from edgewright.quantization.recipe import Recipe, parse_recipe, write_recipe
from edgewright.runtimes.table import find_runtime
from edgewright.schema.plan import CompilePlan, QuantizePlan
from edgewright.store.recording import utc_now
from edgewright.store.secret import load_folder_key
from edgewright.system.files import write_atomically
from edgewright.tasks.data.dataset import Dataset, open_dataset, split
from edgewright.tasks.spec.check import check_labels, check_task
from edgewright.tasks.spec.task import Classification, Task
from edgewright.training.job import Settings

CACHE_PREFIX = ".edgewright-quantize"
# Thresholds on calibration samples not used for fitting; below either, operators get more precision.
# Half of the class changes that the gate allows; 4-bit weights may come closer to the limit.
TARGET_SQNR_DB: dict[str, float] = {
    "w8a8": 17.0,
    "mixed": 17.0,
    "w8a8-dynamic": 0.0,
    "w8a16": 25.0,
    "w8": 20.0,
    "w4a8": 10.0,
    "w4": 10.0,
}
TARGET_FLIPS: dict[str, float] = {
    "w8a8": 0.05,
    "mixed": 0.05,
    "w8a8-dynamic": 1.0,
    "w8a16": 0.02,
    "w8": 0.03,
    "w4a8": 0.06,
    "w4": 0.06,
}


def quantize(plan: QuantizePlan, out: Path, workspace: Workspace) -> tuple[QuantizeReport, EdgewrightError | None]:
    """Quantize a model into the folder `out`, for all runtimes of the plan, and record the run.

    Returns the report, and the first gate that rejected an artifact, else the first other error of an artifact. A
    failed artifact is not published. Raises errors that affect all artifacts, if possible before calibration.
    """
    started, began = utc_now(), monotonic()
    workspace = workspace.with_steps()
    with open_work_folder(out) as work, workspace.record_cancelled("quantize", plan, started):
        settings = check_finetuning(plan) if plan.qat is not None else None
        setup = _prepare_quantization(plan, work, workspace)
        if settings is not None:
            check_form(setup.form)
        attempts, memories = list[Attempt](), list[Path]()

        def attempt(setup: QuantizeSetup) -> None:
            memories.append(out / f"{CACHE_PREFIX}-{_compute_key(setup, load_folder_key(workspace.store.home))}")
            folder = work / f"attempt{len(memories)}"
            folder.mkdir()
            with offer_resume(memories[-1]):
                attempts.append(_attempt(setup, settings, WorkFolders(out, work, folder, memories[-1]), workspace))

        attempt(setup)
        for precision in NEXT.get(setup.form, ()) if plan.precision == "auto" and settings is None else ():
            passed = {row.runtime for one in attempts for row in one.report.artifacts if row.path}
            left = [name for name in plan.runtimes if name not in passed]
            for following in list_next_setups(setup, precision, left):
                workspace.progress(f"{', '.join(following.plan.runtimes)}: trying {precision}")
                try:
                    attempt(following)
                except ModelNotConvertible as rejected:
                    attempts.append(make_unsupported(following, attempts[0], rejected))
        chosen, report, error = merge_attempts(plan.runtimes, attempts)
        answer = make_outcome(report).answer
        report = msgspec.structs.replace(report, seconds=monotonic() - began, answer=answer)
        try:
            report = record_quantization(report, chosen, attempts, started, workspace)
        except StoreError as unsaved:  # the artifacts are published: a store error does not lose them
            error = error or unsaved
        for memory in memories:
            _remove_folder(memory)
    return report, error


class WorkFolders(NamedTuple):
    """Folders of an attempt: for its results, for all attempts, for itself, and for what a next run resumes from."""

    out: Path
    work: Path
    own: Path
    memory: Path


def _attempt(setup: QuantizeSetup, settings: Settings | None, folders: WorkFolders, workspace: Workspace) -> Attempt:
    """Quantize to one precision, and evaluate the artifacts of its runtimes."""
    quantized, tuning = None, None
    if setup.form != "float":
        job = _make_quantizer_job(setup, setup.form, folders.own, folders.memory)
        quantized = run_quantizer(job, folders.own, workspace.progress)
        quantized = _rename_graphs(quantized, Path(setup.prepared.name).stem, folders.own)
    if quantized is not None and settings is not None:
        tuning = finetune(setup, settings, quantized, folders.memory, folders.own, workspace)
        quantized = tuning.after
    report, error = _evaluate_artifacts(setup, quantized, tuning, folders, workspace)
    return Attempt(setup, quantized, report, error)


def _prepare_quantization(plan: QuantizePlan, work: Path, workspace: Workspace) -> QuantizeSetup:
    """Read and check everything, and cache the calibration samples."""
    _check_plan(plan)
    device, progress = workspace.device, workspace.progress
    locks = device.environment().get("locks", {})
    for info in map(find_runtime, plan.runtimes):
        check_runs_here(info)
        if info.name not in locks:
            check_installed(info)
    task = msgspec.convert(plan.task, Task)
    progress(f"{Path(plan.source).name}: reading")
    with open_dataset(plan.data, task, plan.code, prepare_with_kernels) as data:
        indices = choose_calibration_samples(
            data, plan.samples, plan.seed, separate_evaluation=plan.eval_data is not None
        )
        _check_task_and_labels(plan, task, data)
        shapes = plan.shapes or read_input_shapes(data, indices[0])
        source = CompilePlan(
            source=plan.source,
            weights=plan.weights,
            cells=(),
            shapes=shapes,
            fixed=plan.fixed,
            timeout_s=plan.timeout_s,
        )
        prepared = prepare_source(source, work, device)
        check_float_onnx(prepared, "quantized")
        check_task(task, prepared.model.signature)
        check_file_memory(Path(prepared.files["onnx"]), prepared.shapes, read_budget().for_files(prepared.model.bytes))
        progress(f"{prepared.name}: {len(indices)} calibration samples")
        calibration = cache_calibration_data(data, indices, work)
        plan = msgspec.structs.replace(plan, source_sha256=prepared.sha256, data_fingerprint=data.fingerprint)
    recipe = parse_recipe(plan.recipe, "the recipe") if plan.recipe else Recipe()
    precision, form, why = choose_precision(recipe.precision if plan.recipe else plan.precision, prepared)
    if precision != "fp16":
        recipe = msgspec.structs.replace(recipe, precision=precision)
    return QuantizeSetup(plan, task, prepared, calibration, recipe, precision, form, why)


def _check_plan(plan: QuantizePlan) -> None:
    if not plan.runtimes:
        raise UsageError("no runtime was given", "at least one runtime is required", "--runtime onnxruntime,litert")
    if plan.max_drop is not None and not plan.max_drop >= 0:
        raise UsageError(
            f"--max-drop {plan.max_drop:g} cannot be used", "the allowed drop must be 0 or more", "use --max-drop 0.5"
        )
    check_number("seed", plan.seed)
    check_number("timeout_s", plan.timeout_s)
    if not is_torch(plan.source):
        hash_source(CompilePlan(source=plan.source, cells=()))


def _check_task_and_labels(plan: QuantizePlan, task: Task, data: Dataset) -> None:
    """Check task and labels against the model's signature, if known, before decoding samples."""
    if is_torch(plan.source):
        return
    model = read_model(Path(plan.source))
    check_onnx(model, "quantized")
    signature = resize_signature(model.signature, plan.shapes, plan.fixed)
    check_task(task, signature)
    if plan.eval_data is None:
        check_labels(data, task, signature, split(len(data), plan.samples, plan.seed)[1])
        return
    with open_dataset(plan.eval_data, task, plan.code, prepare_with_kernels) as others:
        check_labels(others, task, signature, range(len(others)))


def _compute_key(setup: QuantizeSetup, secret: str) -> str:
    """Return a hash of everything that determines the quantizer's result, and of a secret of the user's store."""
    hashed = [
        __version__,
        secret,
        setup.prepared.model.sha256,
        setup.plan.data_fingerprint or setup.plan.data,
        list(setup.calibration.used),
        msgspec.to_builtins(setup.task),
        write_recipe(setup.recipe),
        setup.form,
        setup.leave_out,
        None if setup.plan.qat is None else {**setup.plan.qat, "checkpoint_s": 0, "threads": 0},
        setup.plan.held_out,
    ]
    return sha256(msgspec.json.encode(hashed, order="sorted")).hexdigest()[:16]


def _make_quantizer_job(setup: QuantizeSetup, form: QuantizationForm, work: Path, memory: Path) -> QuantizationJob:
    found = work / "quantized"
    found.mkdir()
    return QuantizationJob(
        model=setup.prepared.files["onnx"],
        fit={name: str(path) for name, path in setup.calibration.fit.items()},
        check={name: str(path) for name, path in setup.calibration.check.items()},
        recipe=write_recipe(setup.recipe),
        aim_db=TARGET_SQNR_DB[setup.precision],
        aim_flips=TARGET_FLIPS[setup.precision] if isinstance(setup.task.output, Classification) else 1.0,
        out=str(found),
        memory=str(memory),
        form=form,
        precision=setup.precision,
        leave_out=setup.leave_out,
        report=setup.plan.report,
    )


def _rename_graphs(quantized: QuantizerOutput, stem: str, work: Path) -> QuantizerOutput:
    """Return the graphs under the source's name, from which artifacts get their names."""
    moved = {}
    for runtime, path in {"": quantized.model, **quantized.variants}.items():
        folder = work / f"graph{runtime}"
        folder.mkdir()
        moved[runtime] = path.rename(folder / f"{stem}.onnx")
    return quantized._replace(model=moved.pop(""), variants=moved)


def _remove_folder(memory: Path) -> None:
    if memory.is_dir():
        rmtree(memory)


def _publish_file(main: Path, out: Path) -> Path:
    record = find_record(main)
    if record is None:
        raise UsageError(f"the artifact record of {main.name} is missing", "", "quantize the model again")
    return publish_artifact(record, main.parent, out)


def _publish_graph(setup: QuantizeSetup, quantized: QuantizerOutput, out: Path) -> tuple[Path, Path]:
    """Publish graph, recipe and report into `out`.

    Of a static graph the variant that ONNX Runtime does not optimize is published: it computes the same everywhere.
    """
    stem = f"{Path(setup.prepared.name).stem}-{setup.precision}"
    if setup.leave_out == "not-faster":
        stem += "-onnxruntime"  # measured there
    graph, recipe = out / f"{stem}.onnx", out / f"{stem}.recipe.toml"
    with raise_output_errors(out):
        copy_atomically(
            quantized.variants.get("onnxruntime", quantized.model) if setup.form == "static" else quantized.model, graph
        )
        write_atomically(recipe, quantized.recipe)
        write_atomically(out / f"{stem}.quantization.json", msgspec.json.encode(quantized.report))
    return graph, recipe


def _evaluate_artifacts(
    setup: QuantizeSetup,
    quantized: QuantizerOutput | None,
    tuning: Finetuning | None,
    folders: WorkFolders,
    workspace: Workspace,
) -> tuple[QuantizeReport, EdgewrightError | None]:
    """Compile for every runtime, evaluate on held-out samples, time, and publish what passes."""
    plan = setup.plan
    cells, error = compile_graphs(setup, quantized, folders.own, workspace)
    made = {cell.runtime: Path(cell.path) for cell in cells if cell.path is not None}
    evaluated = evaluate_accuracy(setup, made, tuning.graphs if tuning else {}, workspace)
    reference = evaluated[""].metric if evaluated else None
    speeds = measure_speed(setup, made, folders.work, workspace) if plan.measure else {}
    findings = quantized.report if quantized else None
    kept = list_protected(findings)
    rows = []
    for cell in cells:
        row = QuantizedRow(
            runtime=cell.runtime, precision=setup.precision, path=None, bytes=cell.bytes, bytes_ratio=None, metric=None,
            agreement=None, sqnr_db=None, speedup=None, int8_share=None, kept=kept,
            state=cell.state, reason=cell.reason, run_id=cell.run_id,
            notes=list_notes(cell, setup.prepared.notes, integer_io=plan.integer_io),
        )  # fmt: skip
        if cell.runtime in made and evaluated[cell.runtime].state != "done":
            row = msgspec.structs.replace(
                row, state="failed", reason=evaluated[cell.runtime].error or "it was not evaluated"
            )
            error = error or WorkerError(f"{cell.runtime} {setup.precision} cannot be evaluated", row.reason)
        elif cell.runtime in made:
            row = add_measurements(row, evaluated[cell.runtime], reference, speeds.get(cell.runtime), setup)
            row, gate_error = apply_gate(row, reference, setup, findings)
            if gate_error is None:
                row, gate_error = apply_speed_gate(row, speeds.get(cell.runtime), setup)
            error = error if gate_error is None or isinstance(error, GateFailed) else gate_error
            if gate_error is None:
                row = msgspec.structs.replace(row, path=str(_publish_file(made[cell.runtime], folders.out)))
        rows.append(row)
    graph = recipe = None
    if quantized is not None and any(row.path for row in rows):
        graph, recipe = _publish_graph(setup, quantized, folders.out)
    return (
        QuantizeReport(
            source=plan.source,
            source_sha256=setup.prepared.sha256,
            precision=setup.precision,
            why=setup.why,
            graph=str(graph) if graph else None,
            recipe=str(recipe) if recipe else None,
            calibrated_on=len(setup.calibration.used),
            evaluated_on=evaluated[""].evaluated if evaluated else 0,
            seconds=0.0,
            reference=reference,
            artifacts=tuple(rows),
            quantization=findings,
            tuning=make_finetune_report(tuning, evaluated, reference) if tuning and reference else None,
        ),
        error,
    )
