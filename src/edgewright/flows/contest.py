"""A technique against its control: judged on the same data, and timed."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from edgewright.bench.session import Tell
from edgewright.devices.contract import Device
from edgewright.errors import EdgewrightError
from edgewright.facts.plan import BenchmarkPlan, Candidate, CompileCell, CompilePlan, EvaluatePlan
from edgewright.flows.benchmark import Outcome, benchmark
from edgewright.flows.compile import compile_all
from edgewright.flows.evaluate import evaluate
from edgewright.flows.evaluation import EvaluationRow
from edgewright.flows.judging import PROCESSES, SECONDS
from edgewright.flows.quantization import Speedup
from edgewright.flows.resolve import native_runtime
from edgewright.flows.trainings import run_worker
from edgewright.formats.artifacts import find_record
from edgewright.formats.costs import Costs, measure_costs
from edgewright.formats.files import read_model
from edgewright.formats.onnx_graph import read_onnx_graph
from edgewright.formats.tflite_graph import read_tflite_graph
from edgewright.runtimes.table import runtime_info
from edgewright.store.store import Store
from edgewright.training.job import InspectJob


def inspect(job: InspectJob, court: "Court") -> Path:
    """The folder with what the worker found, which may be there from an earlier try. It is the first to run the user's
    code in the training's process, so that the court's limit of silence holds."""
    out = Path(job.out)
    if not (out / "inspected.json").is_file():
        run_worker(job, court.tell, title="reading the module", out=out, silence_s=court.timeout_s)
    return out


def costs_of(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Costs | None:
    """Of an ONNX or TFLite file; None of another one, whose operators are not counted."""
    model = read_model(path)
    if model.format == "tflite":
        return measure_costs(read_tflite_graph(path))
    if model.format != "onnx":
        return None
    return measure_costs(read_onnx_graph(path, dict(shapes)))


def own_runtime(path: Path, wanted: str) -> str:
    """The wanted runtime where it reads the file, else the one the file was made for."""
    record = find_record(path)
    if record is not None:
        return record.runtime
    model = read_model(path)
    return wanted if model.format in runtime_info(wanted).reads else native_runtime(model).name


def runnable(
    path: Path, runtime: str, work: Path, device: Device, store: Store, tell: Tell, timeout_s: float
) -> tuple[Path, EdgewrightError | None]:
    """The model in a form that the runtime takes: itself, or ONNX compiled into `work`."""
    model = read_model(path)
    if model.format != "onnx" or native_runtime(model).name == runtime:
        return path, None
    cells = (CompileCell(runtime=runtime, precision="fp32"),)
    work.mkdir(parents=True, exist_ok=True)
    compiled, error = compile_all(
        CompilePlan(source=str(path), cells=cells, timeout_s=timeout_s), work, device, store, tell
    )
    made = compiled.artifacts[0].path
    return (Path(made), None) if made else (path, error or EdgewrightError(compiled.artifacts[0].reason))


def name_sides(models: Mapping[str, Path], stem: str, folder: Path) -> dict[str, Path]:
    """The files by `side/place`, under names that tell them apart in the record: `net-control`, `net-pruned-1`.

    Those that belong with other files beside them stay where they are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    named = {}
    for key, path in models.items():
        side, _, place = key.partition("/")
        named[key] = path
        if path.suffix == ".onnx" and find_record(path) is None and not read_model(path).data_files:
            named[key] = folder / f"{stem}-{side}{f'-{place}' if place != '0' else ''}.onnx"
            shutil.copyfile(path, named[key])
    return named


def make_runnable(
    models: Mapping[str, Path], runtime: str, work: Path, device: Device, store: Store, tell: Tell, timeout_s: float
) -> dict[str, Path]:
    """All of them, or the first error."""
    found = {}
    for name, path in models.items():
        found[name], error = runnable(path, runtime, work / name, device, store, tell, timeout_s)
        if error is not None:
            raise error
    return found


class Court(NamedTuple):
    """Where and on what networks are judged; `indices` are those of `val`, None takes all; `code` as in
    the plan."""

    task: dict[str, object]
    val: str
    runtime: str
    threads: int
    timeout_s: float
    device: Device
    store: Store
    tell: Tell
    indices: tuple[int, ...] | None = None
    code: tuple[str, ...] = ()


def as_candidates(models: Iterable[Path], court: Court) -> tuple[Candidate, ...]:
    return tuple(Candidate(model=str(path), runtime=own_runtime(path, court.runtime)) for path in models)


def judge_all(models: Mapping[str, Path], court: Court) -> dict[str, EvaluationRow]:
    """Rows by name; differences are paired with the first one."""
    result = evaluate(
        EvaluatePlan(
            candidates=as_candidates(models.values(), court),
            task=court.task,
            code=court.code,
            data=court.val,
            indices=court.indices,
            timeout_s=court.timeout_s,
        ),
        court.device,
        court.store,
        court.tell,
    )
    if result.error is not None:
        raise result.error
    return dict(zip(models, result.report.results, strict=True))


class Raced(NamedTuple):
    """Two networks against each other on the clock."""

    before_us: float
    after_us: float
    speedup: Speedup


def race(before: Path, after: Path, court: Court, tags: Mapping[str, str]) -> Raced:
    """How much faster the second is, interleaved; recorded as a benchmark."""
    outcome = time_models((before, after), court, tags, processes=PROCESSES, seconds=SECONDS)
    if outcome.error is not None:
        raise outcome.error
    one = outcome.comparisons[0]
    medians = [median_us(outcome, place) for place in range(2)]
    return Raced(
        medians[0],
        medians[1],
        Speedup(
            ratio=1 / one.ratio,
            low=1 / one.high if one.high else None,
            high=1 / one.low if one.low else None,
            verdict=one.verdict,
        ),
    )


def time_models(
    models: Sequence[Path],
    court: Court,
    tags: Mapping[str, str],
    *,
    processes: int,
    seconds: float,
) -> Outcome:
    plan = BenchmarkPlan(
        candidates=as_candidates(models, court),
        processes=processes,
        seconds=seconds,
        threads=court.threads,
        layers=False,
        timeout_s=court.timeout_s,
    )
    return benchmark(plan, court.device, court.store, court.tell, tags)


def median_us(outcome: Outcome, place: int) -> float:
    """Of the wall time of one inference."""
    return next(float(one.value or 0.0) for one in outcome.runs[place].metrics if one.name == "latency.p50")
