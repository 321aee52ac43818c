"""The quantizer's process and its outputs."""

import os
import subprocess
from math import isfinite
from pathlib import Path
from shutil import rmtree
from threading import Timer
from typing import NamedTuple

import msgspec

from edgewright.bench.session import Progress
from edgewright.errors import EdgewrightError, OutputError, WorkerCrashed
from edgewright.flows.child_process import run_job
from edgewright.limits import get_half_of_memory, read_budget
from edgewright.quantization.job import QuantizationJob, QuantizationReport
from edgewright.system.memory_limit import (
    CONVERTER_COPIES,
    CONVERTER_SPARE_BYTES,
    THREAD_BYTES,
    is_allocation_failure,
    limit_process,
    supports_limit,
)

WORKER = "edgewright.quantization.worker"
VARIANTS = ("onnxruntime",)
SAMPLE_COPIES = 128  # ratio of the activations of all samples at one layer, float and quantized, to the inputs


class QuantizerOutput(NamedTuple):
    """Files of the quantizer: the graph, the recipe with every decision, and the report.

    Attributes:
        variants: by runtime, a graph with the same stored integers in operators that it runs fast.
    """

    model: Path
    variants: dict[str, Path]
    recipe: str
    report: QuantizationReport


def run_quantizer(job: QuantizationJob, work: Path, progress: Progress) -> QuantizerOutput:
    """Run a job to its end. Raises the errors that it reports, and WorkerCrashed if it crashes.

    After Ctrl-C the next attempt resumes from the results in `job.memory`.
    """
    try:
        _run_within_limits(job, work, progress)
    except (WorkerCrashed, OutputError):
        raise
    except EdgewrightError:
        rmtree(job.memory, ignore_errors=True)  # a repeated attempt would fail in the same way
        raise
    out = Path(job.out)
    report = msgspec.json.decode((out / "report.json").read_bytes(), type=QuantizationReport)
    variants = {name: path for name in VARIANTS if (path := out / f"model-{name}.onnx").exists()}
    return QuantizerOutput(out / "model.onnx", variants, (out / "recipe.toml").read_text(encoding="utf-8"), report)


def _run_within_limits(job: QuantizationJob, work: Path, progress: Progress) -> None:
    """Run the worker under the memory limit, and until its first report of progress under the time limit.

    Raises what `run_job` raises, and LimitReached.
    """
    size = Path(job.model).stat().st_size
    budget, late = read_budget().for_files(size), False

    def end(process: "subprocess.Popen[bytes]") -> None:
        nonlocal late
        late = True
        process.kill()

    timers: list[Timer] = []

    def started(process: "subprocess.Popen[bytes]") -> None:
        limit_process(process.pid, _allowed_bytes(job, size))
        if isfinite(budget.seconds):
            timers.append(Timer(budget.seconds, end, [process]))
            timers[0].daemon = True
            timers[0].start()

    def heard(text: str) -> None:
        for timer in timers:
            timer.cancel()
        progress(text)

    try:
        run_job(WORKER, job, work, heard, title="the quantizer", started=started)
    except WorkerCrashed as error:
        if late:
            raise budget.time_error("running the model on the first calibration samples") from None
        if supports_limit() and isfinite(budget.memory_bytes) and is_allocation_failure(error.why):
            raise budget.memory_error("quantizing with these samples", hint="use fewer --samples") from error
        raise
    finally:
        for timer in timers:
            timer.cancel()


def _allowed_bytes(job: QuantizationJob, model_bytes: int) -> float:
    """Return what the worker may allocate: the budget, and for the samples up to half of the machine's memory.

    The activations of all samples at one layer are held at the same time.
    """
    samples = sum(Path(path).stat().st_size for path in {*job.fit.values(), *job.check.values()})
    held = min(SAMPLE_COPIES * samples, get_half_of_memory())
    own = CONVERTER_SPARE_BYTES + CONVERTER_COPIES * model_bytes + THREAD_BYTES * (os.cpu_count() or 1)
    return own + held + read_budget().memory_bytes
