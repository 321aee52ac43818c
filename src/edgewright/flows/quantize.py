"""Quantise once for every runtime: calibrate, round, compile, judge on data that took no part, then publish."""

from hashlib import sha256
from pathlib import Path
from shutil import rmtree
from time import monotonic
from typing import Any, Literal

import msgspec

from edgewright import __version__
from edgewright.bench.session import Tell
from edgewright.compress.job import Form, Job
from edgewright.compress.recipe import Recipe, Treated, parse_recipe, write_recipe
from edgewright.devices.contract import Device
from edgewright.errors import EdgewrightError, GateFailed, StoreError, UsageError, WorkerError
from edgewright.facts.plan import CompilePlan, QuantizePlan
from edgewright.facts.run import Metric, Run
from edgewright.facts.words import QUANTIZED
from edgewright.flows.calibration import choose_calibration, lay_out
from edgewright.flows.conversion import check_installed
from edgewright.flows.judging import Begun, compile_graphs, gate, judge_accuracy, judge_speed, with_figures
from edgewright.flows.learning import curve_pair
from edgewright.flows.publish import place, publish, told_as_output, workshop
from edgewright.flows.quantization import (
    QuantizedRow,
    QuantizeReport,
    kept_of,
    notes_of,
)
from edgewright.flows.quantizer import Quantized, run_quantizer
from edgewright.flows.resolve import check_number, check_runs_here
from edgewright.flows.sources import Prepared, check_float_onnx, hash_source, is_torch, prepare_source
from edgewright.flows.tuning import Tuning, check_form, check_tuning, describe_tuning, tune
from edgewright.formats.artifacts import find_record
from edgewright.formats.costs import measure_costs
from edgewright.formats.files import read_model
from edgewright.formats.needs import check_file
from edgewright.formats.onnx_graph import read_onnx_graph
from edgewright.limits import read_budget
from edgewright.runtimes.table import runtime_info
from edgewright.store.ids import new_run_id
from edgewright.store.secret import folder_key
from edgewright.store.store import Store, utc_now
from edgewright.system.files import write_whole
from edgewright.tasks.check import check_labels, check_task
from edgewright.tasks.contract import Classification, Task
from edgewright.tasks.data import Data, open_data, split

MEMORY = ".edgewright-quantize"
# Good enough on calibration samples that took no part in the fitting: below either, operators are treated better.
# Expected flips of half of what the guard lets pass; 4-bit weights may come nearer to it.
AIM_DB: dict[str, float] = {"w8a8": 17.0, "w8a8-dynamic": 0.0, "w8a16": 25.0, "w8": 20.0, "w4a8": 10.0, "w4": 10.0}
AIM_FLIPS: dict[str, float] = {"w8a8": 0.05, "w8a8-dynamic": 1.0, "w8a16": 0.02, "w8": 0.03, "w4a8": 0.06, "w4": 0.06}


def quantize(
    plan: QuantizePlan, out: Path, device: Device, store: Store, tell: Tell
) -> tuple[QuantizeReport, EdgewrightError | None]:
    """Quantise a model into the folder `out`, for all runtimes of the plan, and record the run.

    With the first gate that kept an artifact back, else the first other error of one artifact. Nothing that failed
    gets its final name. Raises what stands in the way of all, before calibration wherever it can be known.
    """
    started, began = utc_now(), monotonic()
    with workshop(out) as work:
        settings = check_tuning(plan) if plan.qat is not None else None
        begun = begin(plan, work, device, tell)
        if settings is not None:
            check_form(begun.form)
        memory = out / f"{MEMORY}-{key_of(begun, folder_key(store.home))}"
        quantized = None
        if begun.form != "float":
            quantized = run_quantizer(make_job(begun, begun.form, work, memory), work, tell)
            quantized = named(quantized, Path(begun.prepared.name).stem, work)
        tuning = None
        if quantized is not None and settings is not None:
            tuning = tune(begun, settings, quantized, memory, work, tell)
            quantized = tuning.after
        report, error = judge(begun, quantized, tuning, work, out, device, store, tell)
        report = msgspec.structs.replace(report, seconds=monotonic() - began)
        try:
            report = record(report, begun, quantized, started, device, store)
        except StoreError as unsaved:  # the artifacts lie in their place: they are not lost with the record
            error = error or unsaved
        forget(memory)
    return report, error


def begin(plan: QuantizePlan, work: Path, device: Device, tell: Tell) -> Begun:
    """Read and check everything, and lay the calibration samples out."""
    check_plan(plan)
    locks = device.environment().get("locks", {})
    for info in map(runtime_info, plan.runtimes):
        check_runs_here(info)
        if info.name not in locks:
            check_installed(info)
    task = msgspec.convert(plan.task, Task)
    tell(f"{Path(plan.source).name}: reading")
    with open_data(plan.data, task, plan.code) as data:
        indices = choose_calibration(data, plan.samples, plan.seed, apart=plan.eval_data is not None)
        check_before(plan, task, data)
        shapes = plan.shapes or task_shapes(data, indices[0])
        source = CompilePlan(
            source=plan.source, weights=plan.weights, cells=(), shapes=shapes, timeout_s=plan.timeout_s
        )
        prepared = prepare_source(source, work, device)
        check_float_onnx(prepared, "quantised")
        check_task(task, prepared.model.signature)
        check_file(Path(prepared.files["onnx"]), prepared.shapes, read_budget().for_files(prepared.model.bytes))
        tell(f"{prepared.name}: {len(indices)} calibration samples")
        calibration = lay_out(data, indices, work)
        plan = msgspec.structs.replace(plan, source_sha256=prepared.sha256, data_fingerprint=data.fingerprint)
    recipe = parse_recipe(plan.recipe, "the recipe") if plan.recipe else Recipe()
    precision, form, why = choose_precision(recipe.precision if plan.recipe else plan.precision, prepared)
    if precision != "fp16":
        recipe = msgspec.structs.replace(recipe, precision=precision)
    return Begun(plan, task, prepared, calibration, recipe, precision, form, why)


def check_plan(plan: QuantizePlan) -> None:
    if not plan.runtimes:
        raise UsageError("no runtime is named", "artifacts are made for one at least", "--runtime onnxruntime,litert")
    if not plan.max_drop >= 0:
        raise UsageError(
            f"--max-drop {plan.max_drop:g} cannot be used", "it is how much worse the metric may get", "--max-drop 0.5"
        )
    check_number("seed", plan.seed)
    check_number("timeout_s", plan.timeout_s)
    if not is_torch(plan.source):
        hash_source(CompilePlan(source=plan.source, cells=()))


def check_before(plan: QuantizePlan, task: Task, data: Data) -> None:
    """Task and labels against the model before the first sample is decoded, where its signature is known by then."""
    if is_torch(plan.source):
        return
    signature = read_model(Path(plan.source)).signature
    check_task(task, signature)
    if plan.eval_data is None:
        check_labels(data, task, signature, split(len(data), plan.samples, plan.seed)[1])
        return
    with open_data(plan.eval_data, task, plan.code) as others:
        check_labels(others, task, signature, range(len(others)))


def task_shapes(data: Any, index: int) -> dict[str, tuple[int, ...]]:
    sample = next(iter(data.read([index])))
    return {name: array.shape for name, array in sample.feeds.items()}


def choose_precision(wanted: str, prepared: Prepared) -> tuple[Treated | Literal["fp16"], Form | Literal["float"], str]:
    """The precision that is carried out, by which road, and why. UsageError for one that the model's kind has not."""
    if wanted == "fp16":
        return "fp16", "float", "asked for"
    share = convolution_share(prepared)
    form: Form = "static" if share >= 0.5 else "products"
    work = f"{share:.0%} of its multiplications are convolutions"
    if wanted == "auto":
        if form == "static":
            return "w8a8", "static", f"{work}: static INT8 suits those, dynamic INT8 slows them down"
        return "w8a8-dynamic", "products", f"{work}: dynamic INT8 suits matrix products"
    if wanted in ("w8a8", "w8a16"):
        return wanted, "static", "asked for"  # type: ignore[return-value] # mypy does not narrow str by `in`
    if wanted in ("w8", "w4", "w4a8"):
        return wanted, form, "asked for"  # type: ignore[return-value] # as above
    if wanted == "w8a8-dynamic" and form == "products":
        return "w8a8-dynamic", "products", "asked for"
    if wanted == "w8a8-dynamic":
        raise UsageError(
            f"{prepared.name} is not quantised to w8a8-dynamic",
            f"{work}, and those run several times slower with ranges found while they run",
            "--precision w8a8",
        )
    raise UsageError(f"--precision {wanted} is not known here", f"known are {', '.join(QUANTIZED)}", "--precision w8a8")


def convolution_share(prepared: Prepared) -> float:
    """Of the multiply-accumulates; by the number of operators where those are not known."""
    costs = measure_costs(read_onnx_graph(Path(prepared.files["onnx"]), prepared.shapes))
    work = [(layer.op, layer.macs or 0) for layer in costs.layers]
    total = sum(macs for _, macs in work)
    return sum(macs for op, macs in work if op.startswith("Conv")) / total if total else 1.0


def key_of(begun: Begun, secret: str) -> str:
    """Return a hash of all that decides what the quantizer finds, and of the secret of the user's record."""
    said = [
        __version__,
        secret,
        begun.prepared.model.sha256,
        begun.plan.data_fingerprint or begun.plan.data,
        list(begun.calibration.used),
        msgspec.to_builtins(begun.task),
        write_recipe(begun.recipe),
        begun.form,
        None if begun.plan.qat is None else {**begun.plan.qat, "checkpoint_s": 0, "threads": 0},
        begun.plan.held_out,
    ]
    return sha256(msgspec.json.encode(said, order="sorted")).hexdigest()[:16]


def make_job(begun: Begun, form: Form, work: Path, memory: Path) -> Job:
    found = work / "quantized"
    found.mkdir()
    return Job(
        model=begun.prepared.files["onnx"],
        fit={name: str(path) for name, path in begun.calibration.fit.items()},
        check={name: str(path) for name, path in begun.calibration.check.items()},
        recipe=write_recipe(begun.recipe),
        aim_db=AIM_DB[begun.precision],
        aim_flips=AIM_FLIPS[begun.precision] if isinstance(begun.task.output, Classification) else 1.0,
        out=str(found),
        memory=str(memory),
        form=form,
        precision=begun.precision,
    )


def named(quantized: Quantized, stem: str, work: Path) -> Quantized:
    """The graphs under the source's name, which artifacts take theirs from."""
    moved = {}
    for runtime, path in {"": quantized.model, **quantized.variants}.items():
        folder = work / f"graph{runtime}"
        folder.mkdir()
        moved[runtime] = path.rename(folder / f"{stem}.onnx")
    return quantized._replace(model=moved.pop(""), variants=moved)


def forget(memory: Path) -> None:
    if memory.is_dir():
        rmtree(memory)


def put_out(main: Path, out: Path) -> Path:
    record = find_record(main)
    if record is None:
        raise UsageError(f"{main.name} has lost its record", "", "quantise again")
    return publish(record, main.parent, out)


def publish_graph(begun: Begun, quantized: Quantized, out: Path) -> tuple[Path, Path]:
    """Put graph, recipe and report into `out`.

    Of a static graph the one that ONNX Runtime leaves alone: it computes the same everywhere, and people open it there.
    """
    stem = f"{Path(begun.prepared.name).stem}-{begun.precision}"
    graph, recipe = out / f"{stem}.onnx", out / f"{stem}.recipe.toml"
    with told_as_output(out):
        place(
            quantized.variants.get("onnxruntime", quantized.model) if begun.form == "static" else quantized.model, graph
        )
        write_whole(recipe, quantized.recipe)
        write_whole(out / f"{stem}.quantization.json", msgspec.json.encode(quantized.report))
    return graph, recipe


def judge(
    begun: Begun,
    quantized: Quantized | None,
    tuning: Tuning | None,
    work: Path,
    out: Path,
    device: Device,
    store: Store,
    tell: Tell,
) -> tuple[QuantizeReport, EdgewrightError | None]:
    """Compile for every runtime, evaluate on samples that took no part, time, and publish what passes."""
    plan = begun.plan
    cells, error = compile_graphs(begun, quantized, work, device, store, tell)
    made = {cell.runtime: Path(cell.path) for cell in cells if cell.path is not None}
    evaluated = judge_accuracy(begun, made, tuning.graphs if tuning else {}, device, store, tell)
    reference = evaluated[""].metric if evaluated else None
    speeds = judge_speed(begun, made, work, device, store, tell) if plan.measure else {}
    findings = quantized.report if quantized else None
    kept = kept_of(findings)
    rows = []
    for cell in cells:
        row = QuantizedRow(
            runtime=cell.runtime, precision=begun.precision, path=None, bytes=cell.bytes, bytes_ratio=None, metric=None,
            agreement=None, sqnr_db=None, speedup=None, int8_share=None, kept=kept,
            state=cell.state, reason=cell.reason, notes=notes_of(cell, integer_io=plan.integer_io), run_id=cell.run_id,
        )  # fmt: skip
        if cell.runtime in made and evaluated[cell.runtime].state != "done":
            row = msgspec.structs.replace(
                row, state="failed", reason=evaluated[cell.runtime].error or "it was not judged"
            )
            error = error or WorkerError(f"{cell.runtime} {begun.precision} cannot be judged", row.reason)
        elif cell.runtime in made:
            row = with_figures(row, evaluated[cell.runtime], reference, speeds.get(cell.runtime), begun)
            row, refused = gate(row, reference, begun, findings)
            error = error if refused is None or isinstance(error, GateFailed) else refused
            if refused is None:
                row = msgspec.structs.replace(row, path=str(put_out(made[cell.runtime], out)))
        rows.append(row)
    graph = recipe = None
    if quantized is not None and any(row.path for row in rows):
        graph, recipe = publish_graph(begun, quantized, out)
    return (
        QuantizeReport(
            source=plan.source,
            source_sha256=begun.prepared.sha256,
            precision=begun.precision,
            why=begun.why,
            graph=str(graph) if graph else None,
            recipe=str(recipe) if recipe else None,
            calibrated_on=len(begun.calibration.used),
            evaluated_on=evaluated[""].evaluated if evaluated else 0,
            seconds=0.0,
            reference=reference,
            artifacts=tuple(rows),
            quantization=findings,
            tuning=describe_tuning(tuning, evaluated, reference) if tuning and reference else None,
        ),
        error,
    )


def record(
    report: QuantizeReport, begun: Begun, quantized: Quantized | None, started: str, device: Device, store: Store
) -> QuantizeReport:
    """Keep the run: the source as its model, graph, recipe and report as its outputs."""
    run = Run(
        id=new_run_id(),
        kind="quantize",
        state="running",
        started_at=started,
        model=msgspec.structs.replace(
            begun.prepared.model, name=begun.prepared.name, sha256=begun.prepared.sha256, path=begun.plan.source,
            data_files=(),
        ),
        device=device.facts(),
        plan=msgspec.to_builtins(begun.plan),
        environment=device.environment(),
    )  # fmt: skip
    store.begin(run)
    passed = any(row.path for row in report.artifacts)
    outputs, metrics = [], [Metric(name="quantize.seconds", unit="s", value=report.seconds)]
    if quantized is not None and report.graph is not None:
        path = Path(report.graph)
        outputs.append(store.put_file(run.id, path, role="model", model_id=read_model(path).sha256))
        if (plain := read_model(quantized.model).sha256) != outputs[0].model_id:
            outputs.append(store.put_file(run.id, quantized.model, role="model:plain", model_id=plain))
        outputs.append(store.put_bytes(run.id, quantized.recipe.encode(), role="recipe"))
    if report.quantization is not None:
        outputs.append(store.put_bytes(run.id, msgspec.json.encode(report.quantization), role="quantization"))
        final, n = report.quantization.final, report.quantization.checked_on
        metrics.append(Metric(name="quantize.sqnr", unit="dB", value=final.sqnr_db, n=n))
    series = []
    if (tuned := report.tuning) is not None:
        for name, one in (("before", tuned.before), ("after", tuned.after)):
            metrics.append(
                Metric(name=f"tuning.{name}.{one.name}", unit="1", value=one.value, low=one.low, high=one.high, n=one.n)
            )
        series = [one for curve in tuned.curves for one in curve_pair(f"tuning.{curve.name}", curve)]
    store.finish(
        msgspec.structs.replace(
            run,
            state="done" if passed else "failed",
            finished_at=utc_now(),
            error=None if passed else next((row.reason for row in report.artifacts if row.reason), "nothing was made"),
            outputs=tuple(outputs),
            metrics=tuple(metrics),
            series=tuple(series),
        )
    )
    return msgspec.structs.replace(report, run_id=run.id)
