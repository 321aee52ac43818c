"""Acceptance of a quantized graph in every runtime of a plan: compiled, evaluated on held-out data, timed, gated."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from edgewright.bench.slowdown import compute_integer_share
from edgewright.errors import EdgewrightError, GateFailed, StoreError
from edgewright.flows.benchmark.flow import benchmark
from edgewright.flows.benchmark.report import make_row
from edgewright.flows.candidates import hash_npz
from edgewright.flows.compile.cells import make_quantized_cell
from edgewright.flows.compile.flow import CellReport, compile_all
from edgewright.flows.compile.sources import PreparedSource
from edgewright.flows.evaluate.flow import evaluate
from edgewright.flows.evaluate.report import EvaluationRow, MetricRow, find_guessing
from edgewright.flows.quantize.calibration import CalibrationData
from edgewright.flows.quantize.job import QuantizerOutput
from edgewright.flows.quantize.report import (
    QuantizedRow,
    Speedup,
    compare_metric,
    describe_costly_operators,
    find_gate_faults,
)
from edgewright.flows.workspace import Workspace
from edgewright.formats.files import read_model
from edgewright.quantization.job import LeaveOut, QuantizationForm, QuantizationReport
from edgewright.quantization.recipe import NodePrecision, Recipe
from edgewright.schema.metrics import is_share
from edgewright.schema.plan import BenchmarkPlan, Candidate, CompileCell, CompilePlan, EvaluatePlan, QuantizePlan
from edgewright.tasks.spec.check import count_model_classes
from edgewright.tasks.spec.task import Task

MIN_AGREEMENT = 0.9
# Enough to detect a factor of two or a slowdown against float; less precise than the benchmark's default.
PROCESSES, SECONDS = 8, 0.1
SLOWER = 0.03  # a smaller slowdown than this share is not one
CLOSE = 0.15  # a smaller one than this is measured a second time
MAX_CAUSES = 2


class QuantizeSetup(NamedTuple):
    """Everything that is known before the quantizer starts.

    Attributes:
        precision: of the result, with `why`.
        form, leave_out: see `quantization.job.QuantizationJob`; `float` if the model is only compiled.
    """

    plan: QuantizePlan
    task: Task
    prepared: PreparedSource
    calibration: CalibrationData
    recipe: Recipe
    precision: NodePrecision | Literal["mixed", "fp16"]
    form: QuantizationForm | Literal["float"]
    why: str
    leave_out: LeaveOut = ""


def compile_graphs(
    setup: QuantizeSetup,
    quantized: QuantizerOutput | None,
    work: Path,
    workspace: Workspace,
) -> tuple[list[CellReport], EdgewrightError | None]:
    """Compile one cell for each runtime, in the plan's order, from its own variant of the graph if there is one."""
    found: dict[str, CellReport] = {}
    first: EdgewrightError | None = None
    by_graph: dict[Path, list[str]] = {}
    for name in setup.plan.runtimes:
        graph = quantized.variants.get(name, quantized.model) if quantized else Path(setup.prepared.files["onnx"])
        by_graph.setdefault(graph, []).append(name)
    inputs = _write_check_inputs(setup.calibration, work)
    sha256 = hash_npz(inputs)
    for graph, names in by_graph.items():
        precision = read_model(graph).precision if quantized else "fp16"
        source = CompilePlan(
            source=str(graph),
            inputs=inputs,
            inputs_sha256=sha256,
            cells=tuple(make_quantized_cell(name, precision, integer_io=setup.plan.integer_io) for name in names),
            timeout_s=setup.plan.timeout_s,
        )
        compiled, error = compile_all(source, work / "made", workspace)
        first = first or error
        found |= {cell.runtime: cell for cell in compiled.artifacts}
    return [found[name] for name in setup.plan.runtimes], first


def _write_check_inputs(calibration: CalibrationData, work: Path) -> str:
    """Write one calibration sample for the numerical check; return its file.

    On random inputs, right artifacts differ more: the ranges of the activations were chosen for real samples.
    """
    path = work / "check.npz"
    files = calibration.check or calibration.fit
    np.savez(path, **{name: np.load(file, mmap_mode="r")[0] for name, file in files.items()})
    return str(path.absolute())


def evaluate_accuracy(
    setup: QuantizeSetup,
    made: Mapping[str, Path],
    graphs: Mapping[str, Path],
    workspace: Workspace,
) -> dict[str, EvaluationRow]:
    """Return rows by runtime; "" is the source in ONNX Runtime, other graphs have their own names."""
    plan = setup.plan
    source = Candidate(model=setup.prepared.files["onnx"], runtime="onnxruntime")
    result = evaluate(
        EvaluatePlan(
            candidates=(
                source,
                *(Candidate(model=str(path), runtime=name) for name, path in made.items()),
                *(Candidate(model=str(path), runtime="onnxruntime") for path in graphs.values()),
            ),
            task=plan.task,
            code=plan.code,
            data=plan.eval_data or plan.data,
            leave_out=None if plan.eval_data else plan.samples,
            seed=plan.seed,
            timeout_s=plan.timeout_s,
            device=plan.device,
        ),
        workspace.at_judge(),
    )
    rows = dict(zip(["", *made, *graphs], result.report.results, strict=True))
    if result.error is not None and (rows[""].state != "done" or isinstance(result.error, StoreError)):
        raise result.error
    return rows


class ArtifactSpeed(NamedTuple):
    """Speed of an artifact against the float one of the same runtime.

    Attributes:
        causes: why it may be slow, from its layers.
    """

    speedup: Speedup
    int8_share: float | None
    causes: tuple[str, ...] = ()


def measure_speed(
    setup: QuantizeSetup, made: Mapping[str, Path], work: Path, workspace: Workspace
) -> dict[str, ArtifactSpeed]:
    """Return the speed by runtime, without runtimes whose float artifact cannot be compiled or timed."""
    cells = tuple(CompileCell(runtime=name, precision="fp32") for name in made)
    if not cells:
        return {}
    exact = CompilePlan(source=setup.prepared.files["onnx"], cells=cells, check=False, timeout_s=setup.plan.timeout_s)
    compiled, _ = compile_all(exact, work / "float", workspace)
    found = {}
    for cell in compiled.artifacts:
        if cell.path is None:
            continue
        models = cell.path, str(made[cell.runtime])
        speed = _compare_speed(setup, cell.runtime, models, PROCESSES, workspace)
        if speed is not None and _is_uncertain(speed.speedup):
            speed = _compare_speed(setup, cell.runtime, models, 2 * PROCESSES, workspace)
        if speed is not None:
            found[cell.runtime] = speed
    return found


def _is_uncertain(speedup: Speedup) -> bool:
    """Return whether a slowdown is small, or not shown by its interval."""
    if speedup.verdict == "slower":
        return 1 / speedup.ratio < 1 + CLOSE
    return speedup.verdict == "inconclusive" and 1 / speedup.ratio > 1 + SLOWER


def _compare_speed(
    setup: QuantizeSetup, runtime: str, models: tuple[str, str], processes: int, workspace: Workspace
) -> ArtifactSpeed | None:
    """Time the float model and the quantized one, interleaved; None if either cannot be timed."""
    timed = BenchmarkPlan(
        candidates=tuple(Candidate(model=path, runtime=runtime) for path in models),
        processes=processes,
        seconds=SECONDS,
        threshold=SLOWER,
        timeout_s=setup.plan.timeout_s,
        device=setup.plan.device,
    )
    outcome = benchmark(timed, workspace.at_judge(), {"quantize": "speed"})
    if outcome.error is not None or not outcome.comparisons:
        return None
    one, row = outcome.comparisons[0], make_row(outcome.runs[-1])
    speedup = Speedup(
        ratio=1 / one.ratio,
        low=1 / one.high if one.high else None,
        high=1 / one.low if one.low else None,
        verdict=one.verdict,
    )
    causes = tuple(cause.text for cause in row.findings[:MAX_CAUSES] if cause.share is not None)
    return ArtifactSpeed(speedup, compute_integer_share(outcome.runs[-1].layers), causes)


def add_measurements(
    row: QuantizedRow,
    seen: EvaluationRow,
    reference: MetricRow | None,
    speed: ArtifactSpeed | None,
    setup: QuantizeSetup,
) -> QuantizedRow:
    return msgspec.structs.replace(
        row,
        bytes_ratio=setup.prepared.model.bytes / row.bytes if row.bytes else None,
        metric=compare_metric(seen, reference),
        agreement=seen.agreement.value if seen.agreement else None,
        sqnr_db=seen.sqnr_db,
        paired=seen.paired,
        speedup=speed.speedup if speed else None,
        int8_share=speed.int8_share if speed else None,
    )


def apply_gate(
    row: QuantizedRow, reference: MetricRow | None, setup: QuantizeSetup, report: QuantizationReport | None
) -> tuple[QuantizedRow, GateFailed | None]:
    """Return the row, and the error if a gate rejects its artifact for its results."""
    plan = setup.plan
    faults: list[str] = []
    if reference is not None:
        share = is_share(setup.task.metric)
        least = MIN_AGREEMENT if plan.qat is None else 0.0  # fine-tuning may change the classes
        faults += find_gate_faults(row, reference, plan.max_drop, least, share=share)
        classes = count_model_classes(setup.task, setup.prepared.model.signature)
        row = msgspec.structs.replace(row, notes=(*row.notes, *find_guessing(reference, classes)))
        if plan.max_drop is None and not share:
            worsen = "drop" if reference.better == "higher" else "rise"
            note = f"the gate allows {reference.name} to {worsen} by 1 % of its float value"
            note += "; --max-drop sets another limit"
            row = msgspec.structs.replace(row, notes=(*row.notes, note))
    if not faults:
        return row, None
    hint = "add calibration samples, choose another --precision, or see with --report which operators cost most"
    if report is not None and (costly := describe_costly_operators(report)):
        hint = f"keep the operators with the largest error in float by a rule of the recipe: {costly}"
    tried = "; already tried: more precision for " + ", ".join(one.node for one in row.kept) if row.kept else ""
    error = GateFailed(f"{row.runtime} {row.precision} was rejected", "; ".join(faults) + tried, hint)
    return msgspec.structs.replace(row, state="refused", reason=error.why), error


def apply_speed_gate(
    row: QuantizedRow, speed: ArtifactSpeed | None, setup: QuantizeSetup
) -> tuple[QuantizedRow, GateFailed | None]:
    """Return the row with the state `slower` if its artifact is slower than float, and the error unless it is forced.

    An interval that contains the speed of float, or a slowdown within the noise of a measurement, is not slower.
    """
    if speed is None or speed.speedup.verdict != "slower":
        return row, None
    one = speed.speedup
    interval = f" (99 % interval {1 / one.high:.2f}–{1 / one.low:.2f})" if one.high and one.low else ""
    why = f"it takes {1 / one.ratio:.2f} × the time of float in this runtime{interval}"
    why = "; ".join((why, *speed.causes))
    row = msgspec.structs.replace(row, state="slower", reason=why)
    others = "keep it with --force, or remove this runtime"
    if setup.plan.precision != "auto":
        others = f"--precision auto tries others; {others}"
    error = GateFailed(f"{row.runtime} {row.precision} is slower than float", why, others)
    return row, None if setup.plan.force else error
