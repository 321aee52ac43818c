"""The quantiser in a process of its own: started, listened to, and ended whatever happens."""

import subprocess
import sys
from pathlib import Path
from shutil import rmtree
from time import monotonic
from typing import NamedTuple

import msgspec

from edgewright import errors
from edgewright.bench.session import Tell
from edgewright.compress.job import Finished, Job, QuantizationReport, Step, Trouble, Word
from edgewright.errors import EdgewrightError, WorkerCrashed

TAIL_BYTES = 2000
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
    path, log = work / "job.json", work / "quantizer.log"
    path.write_bytes(msgspec.json.encode(job))
    command = [sys.executable, "-P", "-m", "edgewright.compress.worker", str(path)]
    with log.open("wb") as stderr, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr) as process:  # noqa: S603 - our own module
        try:
            last = listen(process, tell)
        finally:
            process.kill()
    if isinstance(last, Trouble):
        rmtree(job.memory, ignore_errors=True)  # another try of the same would end the same
        raise as_error(last)
    if last is None:
        tail = log.read_bytes()[-TAIL_BYTES:].decode(errors="replace").strip()
        raise WorkerCrashed(
            f"the quantiser died ({process.returncode})", tail, "run the same command again: it goes on where it was"
        )
    out = Path(job.out)
    report = msgspec.json.decode((out / "report.json").read_bytes(), type=QuantizationReport)
    variants = {name: path for name in VARIANTS if (path := out / f"model-{name}.onnx").exists()}
    return Quantized(out / "model.onnx", variants, (out / "recipe.toml").read_text(encoding="utf-8"), report)


def listen(process: "subprocess.Popen[bytes]", tell: Tell) -> Trouble | Finished | None:
    """Tell how far it is until its last word; None where it left without one."""
    decode = msgspec.json.Decoder(Word).decode
    stage, began = "", monotonic()
    for line in process.stdout or ():
        word: Word = decode(line)
        if not isinstance(word, Step):
            return word
        if word.stage != stage:
            stage, began = word.stage, monotonic()
        tell(describe(word, monotonic() - began))
    return None


def describe(step: Step, seconds: float) -> str:
    if not step.of:
        return f"{step.stage}: trial {step.done}"
    left = seconds * (step.of - step.done) / max(step.done, 1) if step.left_s is None else step.left_s
    return f"{step.stage}: {step.done} of {step.of}, {left:.0f} s left"


def as_error(trouble: Trouble) -> EdgewrightError:
    kind = getattr(errors, trouble.kind, EdgewrightError)
    error: EdgewrightError = kind(trouble.what, trouble.why, trouble.try_this)
    return error
