"""Demo: a digit classifier, compiled, quantized, evaluated and benchmarked in every installed runtime."""

from collections.abc import Collection, Sequence
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import msgspec
from msgspec import Struct

from edgewright.bench.trust import MIN_CONFIDENCE
from edgewright.errors import EdgewrightError, RuntimeMissing, UsageError
from edgewright.flows.benchmark.comparison import find_verdicts
from edgewright.flows.benchmark.flow import benchmark
from edgewright.flows.benchmark.report import BenchmarkReport, BenchmarkRow, make_report
from edgewright.flows.candidates import can_run
from edgewright.flows.compile.flow import CellReport, compile_all
from edgewright.flows.doctor.flow import TEST_RUNTIME
from edgewright.flows.evaluate.flow import evaluate
from edgewright.flows.evaluate.report import EvaluationReport
from edgewright.flows.quantize.flow import quantize
from edgewright.flows.quantize.report import QuantizedRow
from edgewright.flows.workspace import Workspace
from edgewright.formats.files import read_model
from edgewright.report.family import Cell, Verdicts, answer_cells, find_loss
from edgewright.runtimes.table import TABLE, make_install_command
from edgewright.schema.plan import BenchmarkPlan, Candidate, CompileCell, CompilePlan, EvaluatePlan, QuantizePlan
from edgewright.schema.run import Metric
from edgewright.system.files import make_output_error, write_atomically
from edgewright.system.temporary import TemporaryFolder
from edgewright.tasks.metrics.metrics import Score
from edgewright.tasks.spec.file import read_task

SCHEMA = "edgewright.demo/1"
MODEL = "digits.onnx"
DEMO_FILES = (MODEL, "task.toml", "calib.npz", "heldout.npz", "README.md")


class DemoReport(Struct, frozen=True, kw_only=True):
    """Report of `edgewright demo --json`: one accuracy per run of the benchmark, in its order, and what to ship."""

    schema: str = SCHEMA
    answer: str = ""
    accuracies: tuple[Score, ...]
    benchmark: BenchmarkReport
    left_out: tuple[str, ...]


def get_digits_folder() -> Path:
    return Path(str(files("edgewright.flows"))) / "digits"


def make_evaluation_plan(candidates: Sequence[Candidate]) -> EvaluatePlan:
    """Return the plan that evaluates candidates on 539 images that training and calibration did not use."""
    task = msgspec.to_builtins(read_task(get_digits_folder() / "task.toml"))
    return EvaluatePlan(candidates=tuple(candidates), task=task, data=str(get_digits_folder() / "heldout.npz"))


def _read_scores(report: EvaluationReport) -> tuple[Score, ...]:
    """Return the accuracy of each candidate, in order."""
    rows = [row.metric for row in report.results if row.metric is not None]
    return tuple(Score(name="accuracy", value=row.value, low=row.low, high=row.high, n=row.n) for row in rows)


def _make_quantize_plan(runtimes: Sequence[str]) -> QuantizePlan:
    """Return the plan that calibrates on 100 training images without labels, and evaluates on the held-out ones."""
    plan = make_evaluation_plan(())
    return QuantizePlan(
        source=str(get_digits_folder() / MODEL),
        runtimes=tuple(runtimes),
        task=plan.task,
        data=str(get_digits_folder() / "calib.npz"),
        eval_data=plan.data,
        measure=False,
    )


def _choose_demo_runtimes(locks: Collection[str]) -> tuple[list[str], list[str], list[str]]:
    """Return the runtimes of the float model, those that support w8a8, and messages on those that are not installed.

    `locks` names the isolated environments that are set up; their runtimes count as installed.
    """
    ready, integers, left_out = [], [], []
    for info in TABLE.values():
        if not (info.writes and info.reads) or info.name == TEST_RUNTIME or not can_run(info.name, ()):
            continue
        installed = all(find_spec(package) for package in (*info.needs, *info.compile_needs))
        if not installed and info.name not in locks:
            left_out.append(f"{info.title} is not installed ({make_install_command(info)})")
            continue
        ready.append(info.name)
        if "w8a8" in info.precisions:
            integers.append(info.name)
    return ready, integers, left_out


def _compile_demo(folder: Path, workspace: Workspace) -> tuple[list[Candidate], list[str]]:
    """Return the demo's artifacts, float and quantized, in every installed runtime; and what was left out, and why.

    Raises:
        RuntimeMissing: no runtime works.
    """
    ready, integers, left_out = _choose_demo_runtimes(workspace.device.environment().get("locks", {}))
    made: list[CellReport | QuantizedRow] = []
    if ready:
        cells = tuple(CompileCell(runtime=name, precision="fp32") for name in ready)
        plan = CompilePlan(source=str(get_digits_folder() / MODEL), cells=cells)
        made += compile_all(plan, folder, workspace)[0].artifacts
    if integers:
        made += quantize(_make_quantize_plan(integers), folder, workspace)[0].artifacts
    candidates = []
    for one in made:
        if one.path is None:
            left_out.append(f"{MODEL} {one.precision} in {one.runtime}: {one.reason}")
        else:
            sha256 = read_model(Path(one.path)).sha256
            candidates.append(Candidate(model=one.path, runtime=one.runtime, model_sha256=sha256))
    if not candidates:
        raise RuntimeMissing("no runtime of the demo works on this machine", "\n".join(left_out))
    return candidates, left_out


def run_demo(workspace: Workspace) -> tuple[DemoReport, EdgewrightError | None]:
    """Compile and quantize the model, evaluate each artifact on the held-out digits, then benchmark all, interleaved.

    Returns:
        The report, and the first error of the benchmark if a model failed.

    Raises:
        RuntimeMissing: no runtime works.
        EdgewrightError: an evaluation failed.
    """
    workspace = workspace.with_steps()
    with TemporaryFolder() as folder:
        candidates, left_out = _compile_demo(folder, workspace)
        evaluated = evaluate(make_evaluation_plan(candidates), workspace, {"demo": "digits"})
        if evaluated.error is not None:
            raise evaluated.error
        outcome = benchmark(BenchmarkPlan(candidates=tuple(candidates)), workspace, {"demo": "digits"})
    report, scores = make_report(outcome.runs, outcome.comparisons), _read_scores(evaluated.report)
    answer = _make_answer(report.runs, scores, find_verdicts(outcome.runs))
    return DemoReport(answer=answer, accuracies=scores, benchmark=report, left_out=tuple(left_out)), outcome.error


def _make_answer(rows: Sequence[BenchmarkRow], scores: Sequence[Score], verdicts: Verdicts) -> str:
    """Return what to ship, as the model's page does; the first artifact is the source."""
    qualities = [
        Metric(name=one.name, unit="1", value=one.value, low=one.low, high=one.high, n=one.n) for one in scores
    ]
    cells = [
        _make_cell(row, quality, qualities[0])
        for row, quality in zip(rows, qualities, strict=False)
        if row.latency_us is not None
    ]
    return answer_cells(cells, qualities[0].name if qualities else "", verdicts)[0]


def _make_cell(row: BenchmarkRow, quality: Metric, source: Metric) -> Cell:
    timing = row.latency_us
    known = timing is not None and (timing.p50_confidence or 0.0) >= MIN_CONFIDENCE
    return Cell(
        model_id=row.model_sha256,
        model=row.model,
        runtime=row.runtime,
        precision=row.precision,
        bytes=int(row.memory_bytes.file or 0),
        run_id=row.run_id,
        p50_us=timing.p50 if timing else None,
        p50_low=timing.p50_low if timing else None,
        p50_high=timing.p50_high if timing else None,
        trust=row.trust,
        trust_causes=row.trust_causes,
        spread=0.0 if known else None,
        session="",
        rank=None,
        stale=False,
        quality=quality,
        loses=find_loss(quality, source),
    )


def copy_demo_files(folder: Path) -> tuple[Path, ...]:
    """Copy the demo's files into a folder and return their paths there. Files that are the same already stay.

    Raises:
        UsageError: the folder has another file of one of these names; then nothing is copied.
        OutputError: the folder cannot be written.
    """
    contents = {folder / name: (get_digits_folder() / name).read_bytes() for name in DEMO_FILES}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        missing = [path for path, content in contents.items() if not _has_content(path, content)]
    except OSError as error:
        raise make_output_error(folder, error) from None
    for path in missing:
        write_atomically(path, contents[path])
    return tuple(contents)


def _has_content(path: Path, content: bytes) -> bool:
    """Return whether a file has this content, False where there is no file. UsageError for another content."""
    if not path.exists():
        return False
    if path.is_file() and path.read_bytes() == content:
        return True
    raise UsageError(
        f"{path} already exists", "Its content differs from the demo's file", "choose another folder, or delete it"
    )
