"""Job in a process of its own: started, monitored, and ended in any case."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from math import inf
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from types import TracebackType
from typing import TypedDict, Unpack

import msgspec
from msgspec import Struct

from edgewright import errors
from edgewright.bench.session import Progress
from edgewright.devices.connection import describe_exit, make_exit_hint
from edgewright.errors import EdgewrightError, WorkerCrashed, WorkerTimeout
from edgewright.quantization.job import JobError, JobFinished, JobMessage, StageProgress
from edgewright.system.disk import attribute_to_full_disk

OnStarted = Callable[["subprocess.Popen[bytes]"], None]
TAIL_BYTES = 2000
TUNABLES, HUGE_PAGES = "GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"


class Watchdog:
    """Timer that calls `end` after `seconds` without activity."""

    def __init__(self, seconds: float, end: Callable[[], None]) -> None:
        self._seconds, self._end = seconds, end
        self._activity, self._over = Event(), False
        self.expired = False
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Watchdog":
        if self._seconds < inf:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over = True
        self._activity.set()

    def report_activity(self) -> None:
        self._activity.set()

    def _run(self) -> None:
        while self._activity.wait(self._seconds):
            if self._over:
                return
            self._activity.clear()
        self.expired = True
        self._end()


class JobOptions(TypedDict, total=False):
    """Options of a process: the longest time without a message, what gets the process when it has started, and the
    command of a module in another environment."""

    idle_timeout_s: float
    started: OnStarted
    command: list[str]


def run_job(
    module: str,
    job: Struct,
    folder: Path,
    progress: Progress,
    *,
    title: str,
    **options: Unpack[JobOptions],
) -> None:
    """Run `python -m MODULE JOB.json` to its end, with job and log in `folder`.

    Raises the error that the job reports, WorkerCrashed if it exits without one, and WorkerTimeout after
    `idle_timeout_s` without a message. Ctrl-C ends the process; another thread can end it through the process passed to
    `started`.
    """
    idle_timeout_s = options.get("idle_timeout_s", inf)
    path, log = folder / "job.json", folder / "job.log"
    path.write_bytes(msgspec.json.encode(job))
    command = [*options.get("command", [sys.executable, "-P", "-m", module]), str(path)]
    environment = _enable_huge_pages(os.environ)
    with (
        log.open("wb") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env=environment) as process,  # noqa: S603 - our own module
    ):
        try:
            options.get("started", _ignore)(process)
            with Watchdog(idle_timeout_s, process.kill) as watch:
                last = _relay_progress(process, progress, watch.report_activity)
        finally:
            process.kill()
            process.wait()  # after Ctrl-C the end of the block waits only for a moment
    if watch.expired and last is None:  # otherwise the final message arrived at the same moment
        raise WorkerTimeout(
            f"{title} sent no progress for {idle_timeout_s:g} s", "the model's code may be waiting or slow",
            "fix the code, or raise the limit with --timeout",
        )  # fmt: skip
    if isinstance(last, JobError):
        raise attribute_to_full_disk(_to_error(last), [folder])
    if last is None:
        tail = log.read_bytes()[-TAIL_BYTES:].decode(errors="replace").strip()
        what, why = f"{title} {describe_exit(process.returncode)}", tail or make_exit_hint(process.returncode)
        crash = WorkerCrashed(what, why, "run the same command again to resume")
        raise attribute_to_full_disk(crash, [folder])


def _ignore(process: "subprocess.Popen[bytes]") -> None:
    """The default of `JobOptions.started`."""


def _enable_huge_pages(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which large arrays use huge pages, if glibc 2.35 and the kernel support them.

    Training allocates and frees megabytes in every layer, and page faults cost time each time. Tunables that the user
    set are kept.
    """
    tunables = environment.get(TUNABLES, "")
    if "glibc.malloc.hugetlb" in tunables:
        return dict(environment)
    return {**environment, TUNABLES: ":".join(one for one in (tunables, HUGE_PAGES) if one)}


def _relay_progress(
    process: "subprocess.Popen[bytes]", progress: Progress, on_activity: Callable[[], None]
) -> JobError | JobFinished | None:
    """Report progress until the final message, and return that; None if the process ended without one."""
    decode = msgspec.json.Decoder(JobMessage).decode
    stage, began, first = "", monotonic(), 0
    for line in process.stdout or ():
        on_activity()
        message: JobMessage = decode(line)
        if not isinstance(message, StageProgress):
            return message
        if message.stage != stage:
            stage, began, first = message.stage, monotonic(), max(message.done - 1, 0)
        progress(_describe_step(message, monotonic() - began, first))
    return None


def _describe_step(step: StageProgress, seconds: float, first: int) -> str:
    """Return the progress text with the remaining time, estimated from the pace since `first`."""
    if not step.of:
        return f"{step.stage}: {step.note or f'trial {step.done}'}"
    left = step.left_s if step.left_s is not None else seconds * (step.of - step.done) / max(step.done - first, 1)
    note = f", {step.note}" if step.note else ""
    return f"{step.stage}: {step.done} of {step.of}{note}, {left:.0f} s left"


def _to_error(job_error: JobError) -> EdgewrightError:
    kind = getattr(errors, job_error.kind, EdgewrightError)
    error: EdgewrightError = kind(job_error.what, job_error.why, job_error.try_this)
    return error
