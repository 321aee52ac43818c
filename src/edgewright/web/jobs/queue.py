"""Queue of jobs: one at a time, each an `edgewright` command in a child process.

Jobs run one after the other, because they would disturb each other's measurements. One thread that lives as long as
the server starts all processes: on Linux, a child with a parent-death signal dies with the thread that started it.
SIGTERM stops a job like Ctrl-C: measurements are stored first. If the server is killed, the system sends SIGTERM to
the job, which ends its worker.
"""

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from typing import Any, Literal

import msgspec

from edgewright.errors import EdgewrightError
from edgewright.store.recording import utc_now
from edgewright.store.runs.ids import new_run_id
from edgewright.system.temporary import TemporaryFolder
from edgewright.web.jobs.progress import ProcessProgress

JobState = Literal["queued", "running", "done", "failed", "cancelled"]
MAX_LINES = 2_000
MAX_LETTERS = 2_000  # per line
MAX_ANSWER_BYTES = 64 << 20
MAX_JOBS = 100
STOP_TIMEOUT_S = 20.0
PublishEvent = Callable[[str, Any], None]
PrepareCommand = Callable[[Path], Sequence[str]]


@dataclass
class QueuedJob:
    """One job. `prepare` writes its files into a folder and returns the arguments of the command.

    Attributes:
        shown: the command as a user would type it.
        form: the form that started it; empty for a repetition.
        processes: the finished processes of a benchmark.
        written: number of log lines so far, of which `lines` are the last.
        exit_code: exit code, negative for a signal; None until the job ends.
    """

    kind: str
    title: str
    shown: str
    prepare: PrepareCommand
    form: Mapping[str, Sequence[str]] = field(default_factory=dict)
    id: str = field(default_factory=new_run_id)
    state: JobState = "queued"
    queued_at: str = field(default_factory=utc_now)
    started_at: str | None = None
    finished_at: str | None = None
    exit_code: int | None = None
    error: str = ""
    processes: ProcessProgress = field(default_factory=ProcessProgress)
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=MAX_LINES))
    written: int = 0
    run_ids: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """Return the job's state for pages, without the log."""
        names = (
            "id",
            "kind",
            "title",
            "shown",
            "state",
            "queued_at",
            "started_at",
            "finished_at",
            "exit_code",
            "error",
            "run_ids",
            "written",
        )
        last = {"last": self.lines[-1] if self.lines else ""}
        return {name: getattr(self, name) for name in names} | last | self.processes.facts()


class JobQueue:
    """Job queue with its worker thread. Thread-safe."""

    def __init__(self, publish: PublishEvent, environ: Mapping[str, str] | None = None) -> None:
        self._publish, self._environ = publish, environ
        self._lock = threading.Lock()
        self._queue: Queue[QueuedJob | None] = Queue()
        self._jobs: dict[str, QueuedJob] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._current: QueuedJob | None = None
        self._open = True
        self._thread = threading.Thread(target=self._run_jobs, name="edgewright-jobs", daemon=True)
        self._thread.start()

    def add(self, job: QueuedJob) -> QueuedJob:
        """Add a job to the end of the queue."""
        with self._lock:
            if not self._open:
                raise EdgewrightError("no job can be started", "the server is stopping", "restart the server")
            self._jobs[job.id] = job
            ended = [one.id for one in self._jobs.values() if one.state not in ("queued", "running")]
            for old in ended[: max(len(self._jobs) - MAX_JOBS, 0)]:
                del self._jobs[old]
        self._queue.put(job)
        self._publish_job(job)
        return job

    def list(self) -> list[QueuedJob]:
        """Return the jobs, newest first."""
        with self._lock:
            return sorted(self._jobs.values(), key=lambda job: job.id, reverse=True)

    def find(self, job_id: str) -> QueuedJob | None:
        with self._lock:
            return self._jobs.get(job_id)

    def cancel(self, job_id: str) -> None:
        """Cancel a queued job, or stop a running one like Ctrl-C; its measurements are stored."""
        with self._lock:
            job = self._jobs.get(job_id)
            if job is None or job.state not in ("queued", "running"):
                return
            process = self._process if job is self._current else None
            job.state = "cancelled"
            job.finished_at = job.finished_at or (None if process else utc_now())
        if process is not None:
            self._stop(process)
        self._publish_job(job)

    def close(self) -> None:
        """Cancel all jobs, and wait until the running one has stored its measurements."""
        with self._lock:
            self._open = False
        for job in self.list():
            self.cancel(job.id)
        self._queue.put(None)
        self._thread.join(STOP_TIMEOUT_S + 5)

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        with suppress(ProcessLookupError):
            process.terminate()  # SIGINT is ignored in children of a server in the background
        timer = threading.Timer(STOP_TIMEOUT_S, _kill_process, [process])
        timer.daemon = True
        timer.start()

    def _run_jobs(self) -> None:
        while (job := self._queue.get()) is not None:
            with self._lock:
                if job.state != "queued":
                    continue
                job.state, job.started_at, self._current = "running", utc_now(), job
            self._publish_job(job)
            try:
                self._run(job)
            except EdgewrightError as error:
                self._finish_job(job, "failed", f"{error.what}: {error.why or error.try_this}")
            except OSError as error:
                self._finish_job(job, "failed", f"the job could not be started: {error.strerror or error}")
            except Exception as error:  # the thread must survive for the next job
                self._finish_job(job, "failed", f"Edgewright failed with an internal error: {type(error).__name__}")

    def _run(self, job: QueuedJob) -> None:
        with TemporaryFolder("job") as folder:
            words = job.prepare(folder)
            if job.state != "running":
                self._finish_job(job, "cancelled")
                return
            answer = folder / "answer.json"
            with answer.open("wb") as out:
                process = self._start(words, out)
            if job.state != "running":  # cancelled between the two
                self._stop(process)
            self._read_log(job, process)
            job.exit_code = process.wait()
            job.run_ids = _read_run_ids(answer)
        self._conclude(job)

    def _start(self, words: Sequence[str], out: Any) -> subprocess.Popen[bytes]:
        environ = {
            **(os.environ if self._environ is None else self._environ),
            "EDGEWRIGHT_PROGRESS": "all",
            "NO_COLOR": "1",
            "PYTHONUNBUFFERED": "1",
        }
        ends_with_us = ["edgewright.system.parent", str(os.getpid())]
        command = [sys.executable, "-P", "-m", *ends_with_us, "edgewright", *words, "--json"]
        with self._lock:
            self._process = subprocess.Popen(  # noqa: S603 - our own command; kinds.py checks its arguments
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.PIPE,
                env=environ,
                start_new_session=True,
            )
            return self._process

    def _read_log(self, job: QueuedJob, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None  # noqa: S101 - it is a pipe
        with process.stderr as pipe:
            for line in iter(lambda: pipe.readline(MAX_LETTERS), b""):
                job.lines.append(line.decode("utf-8", "replace").rstrip("\n"))
                job.written += 1
                if job.processes.read(job.lines[-1]):
                    self._publish("process", job.facts())
                self._publish("log", {"id": job.id, "number": job.written, "line": job.lines[-1]})

    def _conclude(self, job: QueuedJob) -> None:
        if job.state == "cancelled":
            self._finish_job(job, "cancelled")
        elif job.exit_code == 0:
            self._finish_job(job, "done")
        elif (job.exit_code or 0) < 0:
            name = signal.Signals(-(job.exit_code or 0)).name
            self._finish_job(
                job, "failed", f"the process was killed by {name}; measurements that were not stored are lost"
            )
        else:
            errors = [line.removeprefix("Error: ") for line in job.lines if line.startswith("Error: ")]
            self._finish_job(job, "failed", errors[-1] if errors else f"exit code {job.exit_code}")

    def _finish_job(self, job: QueuedJob, state: JobState, error: str = "") -> None:
        with self._lock:
            job.state, job.error, job.finished_at = state, error, utc_now()
            self._process = self._current = None
        self._publish_job(job)

    def _publish_job(self, job: QueuedJob) -> None:
        self._publish("job", job.facts())


def _kill_process(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that did not react to SIGTERM."""
    if process.poll() is None:
        process.kill()


def _read_run_ids(answer: Path) -> tuple[str, ...]:
    """Return the unique run ids in the command's JSON output."""
    data = answer.read_bytes() if answer.stat().st_size <= MAX_ANSWER_BYTES else b""
    try:
        found = msgspec.json.decode(data)
    except msgspec.DecodeError:
        return ()
    keys = ("runs", "artifacts", "results")
    rows = [found, *(row for key in keys for row in found.get(key, ()))] if isinstance(found, dict) else []
    return tuple(dict.fromkeys(row["run_id"] for row in rows if isinstance(row, dict) and row.get("run_id")))
