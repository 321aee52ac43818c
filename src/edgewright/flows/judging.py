"""A quantised graph in every runtime of a plan: compiled, judged on data that took no part, timed, let pass or not."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from edgewright.bench.explain import share_on_integers
from edgewright.bench.session import Tell
from edgewright.compress.job import Form, QuantizationReport
from edgewright.compress.recipe import Recipe, Treated
from edgewright.devices.contract import Device
from edgewright.errors import EdgewrightError, GateFailed, StoreError
from edgewright.facts.plan import BenchmarkPlan, Candidate, CompileCell, CompilePlan, EvaluatePlan, QuantizePlan
from edgewright.flows.benchmark import benchmark
from edgewright.flows.calibration import Calibration
from edgewright.flows.cells import quantized_cell
from edgewright.flows.compile import CellReport, compile_all
from edgewright.flows.evaluate import evaluate
from edgewright.flows.evaluation import EvaluationRow, MetricRow
from edgewright.flows.quantization import QuantizedRow, Speedup, against, culprits, find_faults
from edgewright.flows.quantizer import Quantized
from edgewright.flows.sources import Prepared
from edgewright.formats.files import read_model
from edgewright.store.store import Store
from edgewright.tasks.contract import Task

LEAST_AGREEMENT = 0.9
# Enough to tell a factor of two, and whether a result is slower than float: not the benchmark's own precision.
PROCESSES, SECONDS = 8, 0.1
SHARES = ("top1", "top5", "accuracy", "auc", "map", "map50")


class Begun(NamedTuple):
    """All that is known before the quantiser starts.

    Attributes:
        precision: that is carried out, with `why`.
        form: see `compress.job.Job`; `float` where there is nothing to quantise, only to compile.
    """

    plan: QuantizePlan
    task: Task
    prepared: Prepared
    calibration: Calibration
    recipe: Recipe
    precision: Treated | Literal["fp16"]
    form: Form | Literal["float"]
    why: str


def compile_graphs(
    begun: Begun, quantized: Quantized | None, work: Path, device: Device, store: Store, tell: Tell
) -> tuple[list[CellReport], EdgewrightError | None]:
    """A cell for each runtime, in the plan's order, from its own variant of the graph where there is one."""
    found: dict[str, CellReport] = {}
    first: EdgewrightError | None = None
    by_graph: dict[Path, list[str]] = {}
    for name in begun.plan.runtimes:
        graph = quantized.variants.get(name, quantized.model) if quantized else Path(begun.prepared.files["onnx"])
        by_graph.setdefault(graph, []).append(name)
    for graph, names in by_graph.items():
        precision = read_model(graph).precision if quantized else "fp16"
        source = CompilePlan(
            source=str(graph),
            cells=tuple(quantized_cell(name, precision, integer_io=begun.plan.integer_io) for name in names),
            timeout_s=begun.plan.timeout_s,
        )
        compiled, error = compile_all(source, work / "made", device, store, tell)
        first = first or error
        found |= {cell.runtime: cell for cell in compiled.artifacts}
    return [found[name] for name in begun.plan.runtimes], first


def judge_accuracy(
    begun: Begun, made: Mapping[str, Path], graphs: Mapping[str, Path], device: Device, store: Store, tell: Tell
) -> dict[str, EvaluationRow]:
    """Rows by runtime, under "" that of the source in ONNX Runtime, and those of other graphs there by their names."""
    plan = begun.plan
    source = Candidate(model=begun.prepared.files["onnx"], runtime="onnxruntime")
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
        ),
        device,
        store,
        tell,
    )
    rows = dict(zip(["", *made, *graphs], result.report.results, strict=True))
    if result.error is not None and (rows[""].state != "done" or isinstance(result.error, StoreError)):
        raise result.error
    return rows


class Speed(NamedTuple):
    """Of an artifact against the float one of the same runtime."""

    speedup: Speedup
    int8_share: float | None


def judge_speed(
    begun: Begun, made: Mapping[str, Path], work: Path, device: Device, store: Store, tell: Tell
) -> dict[str, Speed]:
    """By runtime; one whose float artifact cannot be made or timed is left out."""
    cells = tuple(CompileCell(runtime=name, precision="fp32") for name in made)
    if not cells:
        return {}
    exact = CompilePlan(source=begun.prepared.files["onnx"], cells=cells, check=False, timeout_s=begun.plan.timeout_s)
    compiled, _ = compile_all(exact, work / "float", device, store, tell)
    found = {}
    for cell in compiled.artifacts:
        if cell.path is None:
            continue
        candidates = tuple(Candidate(model=path, runtime=cell.runtime) for path in (cell.path, str(made[cell.runtime])))
        timed = BenchmarkPlan(
            candidates=candidates, processes=PROCESSES, seconds=SECONDS, timeout_s=begun.plan.timeout_s
        )
        outcome = benchmark(timed, device, store, tell, {"quantize": "speed"})
        if outcome.error is None and outcome.comparisons:
            one = outcome.comparisons[0]
            speedup = Speedup(
                ratio=1 / one.ratio,
                low=1 / one.high if one.high else None,
                high=1 / one.low if one.low else None,
                verdict=one.verdict,
            )
            found[cell.runtime] = Speed(speedup, share_on_integers(outcome.runs[-1].layers))
    return found


def with_figures(
    row: QuantizedRow, seen: EvaluationRow, reference: MetricRow | None, speed: Speed | None, begun: Begun
) -> QuantizedRow:
    return msgspec.structs.replace(
        row,
        bytes_ratio=begun.prepared.model.bytes / row.bytes if row.bytes else None,
        metric=against(seen, reference),
        agreement=seen.agreement.value if seen.agreement else None,
        sqnr_db=seen.sqnr_db,
        speedup=speed.speedup if speed else None,
        int8_share=speed.int8_share if speed else None,
    )


def gate(
    row: QuantizedRow, reference: MetricRow | None, begun: Begun, report: QuantizationReport | None
) -> tuple[QuantizedRow, GateFailed | None]:
    """The row, and the error where a gate keeps its artifact back."""
    plan = begun.plan
    faults: list[str] = []
    if reference is not None:
        share = begun.task.metric in SHARES
        least = LEAST_AGREEMENT if plan.qat is None else 0.0  # a trained network need not say what it said before
        faults += find_faults(row, reference, plan.max_drop, least, share=share)
    hint = "more calibration samples, another --precision, or leave this runtime out"
    if report is not None and (costly := culprits(report)):
        hint = f"operators that cost most: {costly}; keep them in float by a rule of the recipe"
    if plan.precision == "auto" and not plan.force and row.speedup is not None and row.speedup.verdict == "slower":
        faults.append(f"it is {1 / row.speedup.ratio:.2f} × as slow as float")
        hint = "--force keeps it; or leave this runtime out"
    if not faults:
        return row, None
    tried = "; tried: better treatment of " + ", ".join(one.node for one in row.kept) if row.kept else ""
    error = GateFailed(f"{row.runtime} {row.precision} is kept back", "; ".join(faults) + tried, hint)
    return msgspec.structs.replace(row, state="refused", reason=error.why), error
