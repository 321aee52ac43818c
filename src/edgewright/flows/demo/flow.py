"""The demo: a digit classifier, compiled, quantised, evaluated and benchmarked in every runtime that is installed."""

from collections.abc import Collection, Sequence
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import msgspec
from msgspec import Struct

from edgewright.bench.session import Progress
from edgewright.devices.protocol import Device
from edgewright.errors import EdgewrightError, RuntimeMissing
from edgewright.flows.benchmark.flow import benchmark
from edgewright.flows.benchmark.report import BenchmarkReport, make_report
from edgewright.flows.candidates import can_run
from edgewright.flows.compile.flow import CellReport, compile_all
from edgewright.flows.doctor.flow import TEST_RUNTIME
from edgewright.flows.evaluate.flow import evaluate
from edgewright.flows.evaluate.report import EvaluationReport
from edgewright.flows.quantize.flow import quantize
from edgewright.flows.quantize.report import QuantizedRow
from edgewright.formats.files import read_model
from edgewright.runtimes.table import TABLE, make_install_command
from edgewright.schema.plan import BenchmarkPlan, Candidate, CompileCell, CompilePlan, EvaluatePlan, QuantizePlan
from edgewright.store.store import Store
from edgewright.system.temporary import TemporaryFolder
from edgewright.tasks.metrics.metrics import Score
from edgewright.tasks.spec.file import read_task

SCHEMA = "edgewright.demo/1"
MODEL = "digits.onnx"


class DemoReport(Struct, frozen=True, kw_only=True):
    """What `edgewright demo --json` prints: one accuracy per run of the benchmark, in its order."""

    schema: str = SCHEMA
    accuracies: tuple[Score, ...]
    benchmark: BenchmarkReport
    left_out: tuple[str, ...]


def get_digits_folder() -> Path:
    return Path(str(files("edgewright.flows"))) / "digits"


def make_evaluation_plan(candidates: Sequence[Candidate]) -> EvaluatePlan:
    """All candidates on 539 images that took no part in training or calibration."""
    task = msgspec.to_builtins(read_task(get_digits_folder() / "task.toml"))
    return EvaluatePlan(candidates=tuple(candidates), task=task, data=str(get_digits_folder() / "heldout.npz"))


def _read_scores(report: EvaluationReport) -> tuple[Score, ...]:
    """The accuracy of each candidate, in their order."""
    rows = [row.metric for row in report.results if row.metric is not None]
    return tuple(Score(name="accuracy", value=row.value, low=row.low, high=row.high, n=row.n) for row in rows)


def _make_quantize_plan(runtimes: Sequence[str]) -> QuantizePlan:
    """Calibrated on 100 images of the training set, without labels; judged on the held-out ones."""
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
    """Runtimes for the float model, those of them that take w8a8, and those left out because they are not installed.

    `locks` names the isolated environments that are set up, which bring their runtimes too.
    """
    ready, integers, left_out = [], [], []
    for info in TABLE.values():
        if not (info.writes and info.reads) or info.name == TEST_RUNTIME or not can_run(info.name, ()):
            continue
        installed = all(find_spec(package) for package in (*info.needs, *info.compile_needs))
        if not installed and info.name not in locks:
            left_out.append(f"{make_install_command(info)} brings {info.title}")
            continue
        ready.append(info.name)
        if "w8a8" in info.precisions:
            integers.append(info.name)
    return ready, integers, left_out


def _compile_demo(folder: Path, device: Device, store: Store, progress: Progress) -> tuple[list[Candidate], list[str]]:
    """The demo's model in every runtime that is installed, in float and quantised; and what was left out, and why.

    Raises RuntimeMissing where no runtime works here.
    """
    ready, integers, left_out = _choose_demo_runtimes(device.environment().get("locks", {}))
    made: list[CellReport | QuantizedRow] = []
    if ready:
        cells = tuple(CompileCell(runtime=name, precision="fp32") for name in ready)
        plan = CompilePlan(source=str(get_digits_folder() / MODEL), cells=cells)
        made += compile_all(plan, folder, device, store, progress)[0].artifacts
    if integers:
        made += quantize(_make_quantize_plan(integers), folder, device, store, progress)[0].artifacts
    candidates = []
    for one in made:
        if one.path is None:
            left_out.append(f"{MODEL} {one.precision} in {one.runtime}: {one.reason}")
        else:
            sha256 = read_model(Path(one.path)).sha256
            candidates.append(Candidate(model=one.path, runtime=one.runtime, model_sha256=sha256))
    if not candidates:
        raise RuntimeMissing("no runtime of the demo works here", "\n".join(left_out))
    return candidates, left_out


def run_demo(device: Device, store: Store, progress: Progress) -> tuple[DemoReport, EdgewrightError | None]:
    """Compile the model, quantise it, evaluate each artifact on the held-out digits, then benchmark all, interleaved.

    With the first error where a model failed while all were benchmarked. Raises RuntimeMissing where no runtime
    works here, and whatever an evaluation raises.
    """
    with TemporaryFolder() as folder:
        candidates, left_out = _compile_demo(folder, device, store, progress)
        evaluated = evaluate(make_evaluation_plan(candidates), device, store, progress, {"demo": "digits"})
        if evaluated.error is not None:
            raise evaluated.error
        outcome = benchmark(BenchmarkPlan(candidates=tuple(candidates)), device, store, progress, {"demo": "digits"})
    report = make_report(outcome.runs, outcome.comparisons)
    return DemoReport(
        accuracies=_read_scores(evaluated.report), benchmark=report, left_out=tuple(left_out)
    ), outcome.error
