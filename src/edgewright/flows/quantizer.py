"""The quantiser in a process of its own, and what it leaves."""

from pathlib import Path
from shutil import rmtree
from typing import NamedTuple

import msgspec

from edgewright.bench.session import Tell
from edgewright.compress.job import Job, QuantizationReport
from edgewright.errors import EdgewrightError, OutputError, WorkerCrashed
from edgewright.flows.child import run_job

VARIANTS = ("onnxruntime",)


class Quantized(NamedTuple):
    """What it left: the graph, the recipe with every decision, and the report.

    Attributes:
        variants: by runtime, a graph with the same stored numbers in the operators that it is quick at.
    """

    model: Path
    variants: dict[str, Path]
    recipe: str
    report: QuantizationReport


def run_quantizer(job: Job, work: Path, tell: Tell) -> Quantized:
    """Run a job to its end. Raises the errors that it tells, and WorkerCrashed where it dies.

    Ctrl-C ends it; what it found until then lies in `job.memory`, and the next try goes on from there.
    """
    try:
        run_job("edgewright.compress.worker", job, work, tell, title="the quantiser")
    except (WorkerCrashed, OutputError):
        raise
    except EdgewrightError:
        rmtree(job.memory, ignore_errors=True)  # another try of the same would end the same
        raise
    out = Path(job.out)
    report = msgspec.json.decode((out / "report.json").read_bytes(), type=QuantizationReport)
    variants = {name: path for name in VARIANTS if (path := out / f"model-{name}.onnx").exists()}
    return Quantized(out / "model.onnx", variants, (out / "recipe.toml").read_text(encoding="utf-8"), report)
