"""A job in a process of its own: started, listened to, and ended whatever happens."""

import subprocess
import sys
from pathlib import Path
from time import monotonic

import msgspec
from msgspec import Struct

from edgewright import errors
from edgewright.bench.session import Tell
from edgewright.compress.job import Finished, Step, Trouble, Word
from edgewright.errors import EdgewrightError, WorkerCrashed

TAIL_BYTES = 2000


def run_job(module: str, job: Struct, folder: Path, tell: Tell, *, title: str) -> None:
    """Run `python -m MODULE JOB.json` to its end, with job and log in `folder`.

    Raises the error that it tells, and WorkerCrashed where it dies without one. Ctrl-C ends it.
    """
    path, log = folder / "job.json", folder / "job.log"
    path.write_bytes(msgspec.json.encode(job))
    command = [sys.executable, "-P", "-m", module, str(path)]
    with log.open("wb") as stderr, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr) as process:  # noqa: S603 - our own module
        try:
            last = listen(process, tell)
        finally:
            process.kill()
    if isinstance(last, Trouble):
        raise as_error(last)
    if last is None:
        tail = log.read_bytes()[-TAIL_BYTES:].decode(errors="replace").strip()
        raise WorkerCrashed(
            f"{title} died ({process.returncode})", tail, "run the same command again: it goes on where it was"
        )


def listen(process: "subprocess.Popen[bytes]", tell: Tell) -> Trouble | Finished | None:
    """Tell how far it is until its last word; None where it left without one."""
    decode = msgspec.json.Decoder(Word).decode
    stage, began, first = "", monotonic(), 0
    for line in process.stdout or ():
        word: Word = decode(line)
        if not isinstance(word, Step):
            return word
        if word.stage != stage:
            stage, began, first = word.stage, monotonic(), max(word.done - 1, 0)
        tell(describe(word, monotonic() - began, first))
    return None


def describe(step: Step, seconds: float, first: int) -> str:
    """How far it is, and the time left at the pace since `first`: a job that goes on does not begin at nothing."""
    if not step.of:
        return f"{step.stage}: trial {step.done}"
    left = step.left_s if step.left_s is not None else seconds * (step.of - step.done) / max(step.done - first, 1)
    return f"{step.stage}: {step.done} of {step.of}, {left:.0f} s left"


def as_error(trouble: Trouble) -> EdgewrightError:
    kind = getattr(errors, trouble.kind, EdgewrightError)
    error: EdgewrightError = kind(trouble.what, trouble.why, trouble.try_this)
    return error
