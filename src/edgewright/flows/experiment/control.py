"""Evaluation and timing of a technique's result against its control."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from edgewright.errors import EdgewrightError
from edgewright.flows.benchmark.flow import BenchmarkOutcome, benchmark
from edgewright.flows.candidates import find_native_runtime
from edgewright.flows.compile.flow import compile_all
from edgewright.flows.evaluate.flow import evaluate
from edgewright.flows.evaluate.report import EvaluationRow
from edgewright.flows.experiment.trainings import run_training_worker
from edgewright.flows.quantize.acceptance import PROCESSES, SECONDS
from edgewright.flows.quantize.report import Speedup
from edgewright.flows.workspace import Workspace
from edgewright.formats.artifacts import find_record
from edgewright.formats.costs import ModelCosts, measure_costs
from edgewright.formats.files import read_model
from edgewright.formats.onnx.typed import read_onnx_graph
from edgewright.formats.tflite.typed import read_tflite_graph
from edgewright.runtimes.table import find_runtime
from edgewright.schema.plan import BenchmarkPlan, Candidate, CompileCell, CompilePlan, EvaluatePlan
from edgewright.store.store import Store
from edgewright.training.job import InspectJob


def inspect_module(job: InspectJob, context: "EvaluationContext") -> Path:
    """Return the folder with the inspection worker's results, which an earlier attempt may have left.

    It is the first step that runs the user's code in a training process, so the idle timeout of the context applies.
    """
    out = Path(job.out)
    if not (out / "inspected.json").is_file():
        run_training_worker(
            job, context.workspace.progress, title="inspecting the module", out=out, idle_timeout_s=context.timeout_s
        )
    return out


def measure_file_costs(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> ModelCosts | None:
    """Return the cost of an ONNX or TFLite file; None for other formats, whose operators are not counted."""
    model = read_model(path)
    if model.format == "tflite":
        return measure_costs(read_tflite_graph(path))
    if model.format != "onnx":
        return None
    return measure_costs(read_onnx_graph(path, dict(shapes)))


def choose_network_runtime(path: Path, wanted: str) -> str:
    """Return the requested runtime if it reads the file, otherwise the file's default runtime."""
    record = find_record(path)
    if record is not None:
        return record.runtime
    model = read_model(path)
    return wanted if model.format in find_runtime(wanted).reads else find_native_runtime(model).name


def convert_for_runtime(
    path: Path, runtime: str, work: Path, workspace: Workspace, timeout_s: float
) -> tuple[Path, EdgewrightError | None]:
    """Return the model in a format that the runtime reads: itself, or an artifact compiled into `work`."""
    model = read_model(path)
    if model.format != "onnx" or find_native_runtime(model).name == runtime:
        return path, None
    cells = (CompileCell(runtime=runtime, precision="fp32"),)
    work.mkdir(parents=True, exist_ok=True)
    compiled, error = compile_all(CompilePlan(source=str(path), cells=cells, timeout_s=timeout_s), work, workspace)
    made = compiled.artifacts[0].path
    return (Path(made), None) if made else (path, error or EdgewrightError(compiled.artifacts[0].reason))


def name_network_files(models: Mapping[str, Path], stem: str, folder: Path) -> dict[str, Path]:
    """Return the files by `network/index`, under unique names for the store: `net-control`, `net-pruned-1`.

    Files that depend on other files next to them stay where they are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    named = {}
    for key, path in models.items():
        network, _, index = key.partition("/")
        named[key] = path
        if path.suffix == ".onnx" and find_record(path) is None and not read_model(path).data_files:
            named[key] = folder / f"{stem}-{network}{f'-{index}' if index != '0' else ''}.onnx"
            shutil.copyfile(path, named[key])
    return named


def convert_all_for_runtime(
    models: Mapping[str, Path],
    runtime: str,
    work: Path,
    workspace: Workspace,
    timeout_s: float,
) -> dict[str, Path]:
    """Convert all networks, and return the files or the first error."""
    found = {}
    for name, path in models.items():
        found[name], error = convert_for_runtime(path, runtime, work / name, workspace, timeout_s)
        if error is not None:
            raise error
    return found


class EvaluationContext(NamedTuple):
    """Data, runtime and device for evaluating networks.

    `indices` are those of `val`, None selects all; `code` is that of the plan.
    """

    task: dict[str, object]
    val: str
    runtime: str
    threads: int
    timeout_s: float
    workspace: Workspace
    indices: tuple[int, ...] | None = None
    code: tuple[str, ...] = ()

    def with_store(self, store: Store) -> "EvaluationContext":
        """Return the context with another store, for evaluations that the user's store does not need."""
        return self._replace(workspace=self.workspace._replace(store=store))


def _make_candidates(models: Iterable[Path], context: EvaluationContext) -> tuple[Candidate, ...]:
    return tuple(Candidate(model=str(path), runtime=choose_network_runtime(path, context.runtime)) for path in models)


def evaluate_networks(models: Mapping[str, Path], context: EvaluationContext) -> dict[str, EvaluationRow]:
    """Evaluate the networks and return rows by name; differences are paired with the first one."""
    result = evaluate(
        EvaluatePlan(
            candidates=_make_candidates(models.values(), context),
            task=context.task,
            code=context.code,
            data=context.val,
            indices=context.indices,
            timeout_s=context.timeout_s,
        ),
        context.workspace,
    )
    if result.error is not None:
        raise result.error
    return dict(zip(models, result.report.results, strict=True))


class SpeedComparison(NamedTuple):
    """Times of two networks, measured against each other."""

    before_us: float
    after_us: float
    speedup: Speedup


def compare_speed(before: Path, after: Path, context: EvaluationContext, tags: Mapping[str, str]) -> SpeedComparison:
    """Measure the speed-up of the second network over the first, interleaved; recorded as a benchmark."""
    outcome = benchmark_models((before, after), context, tags, processes=PROCESSES, seconds=SECONDS)
    if outcome.error is not None:
        raise outcome.error
    one = outcome.comparisons[0]
    medians = [_get_median_us(outcome, index) for index in range(2)]
    return SpeedComparison(
        medians[0],
        medians[1],
        Speedup(
            ratio=1 / one.ratio,
            low=1 / one.high if one.high else None,
            high=1 / one.low if one.low else None,
            verdict=one.verdict,
        ),
    )


def benchmark_models(
    models: Sequence[Path],
    context: EvaluationContext,
    tags: Mapping[str, str],
    *,
    processes: int,
    seconds: float,
) -> BenchmarkOutcome:
    plan = BenchmarkPlan(
        candidates=_make_candidates(models, context),
        processes=processes,
        seconds=seconds,
        threads=context.threads,
        layers=False,
        timeout_s=context.timeout_s,
    )
    return benchmark(plan, context.workspace, tags)


def _get_median_us(outcome: BenchmarkOutcome, index: int) -> float:
    """Return the median wall time of one inference."""
    return next(float(one.value or 0.0) for one in outcome.runs[index].metrics if one.name == "latency.p50")
