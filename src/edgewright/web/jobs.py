"""The queue of work: one job at a time, each an `edgewright` of its own in a child process.

A measurement must not be disturbed by another, so jobs wait for each other. The process belongs to the one thread
that lives as long as the server: on Linux a child that asks to die with its parent dies with the thread that
started it. SIGTERM ends a job as Ctrl-C would: what was measured is written down first. When the server itself is
killed, its job gets SIGTERM from the system, and ends its worker.
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
from edgewright.store.ids import new_run_id
from edgewright.store.store import utc_now
from edgewright.system.temporary import TemporaryFolder

State = Literal["queued", "running", "done", "failed", "cancelled"]
MOST_LINES = 2_000
MOST_LETTERS = 2_000  # of one line
MOST_ANSWER_BYTES = 64 << 20
MOST_KEPT = 100
PATIENCE_S = 20.0
Tell = Callable[[str, Any], None]
Prepare = Callable[[Path], Sequence[str]]


@dataclass
class Job:
    """One piece of work. `prepare` puts its files into a folder and gives the words of the command.

    Attributes:
        shown: the command as a person would type it.
        numbers: the begin of `lines` in the whole log, so that a watcher knows which it has.
        exit_code: negative for the signal that ended it; None before its end.
    """

    kind: str
    title: str
    shown: str
    prepare: Prepare
    id: str = field(default_factory=new_run_id)
    state: State = "queued"
    queued_at: str = field(default_factory=utc_now)
    started_at: str | None = None
    finished_at: str | None = None
    exit_code: int | None = None
    error: str = ""
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=MOST_LINES))
    written: int = 0
    run_ids: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """What a page is told, without the log."""
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
        return {name: getattr(self, name) for name in names} | {"last": self.lines[-1] if self.lines else ""}


class Jobs:
    """The queue and its worker. Any thread may call."""

    def __init__(self, tell: Tell, environ: Mapping[str, str] | None = None) -> None:
        self._tell, self._environ = tell, environ
        self._guard = threading.Lock()
        self._queue: Queue[Job | None] = Queue()
        self._jobs: dict[str, Job] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._current: Job | None = None
        self._open = True
        self._thread = threading.Thread(target=self._work, name="edgewright-jobs", daemon=True)
        self._thread.start()

    def add(self, job: Job) -> Job:
        """Put a job at the end of the queue."""
        with self._guard:
            if not self._open:
                raise EdgewrightError("nothing can be started", "the server is ending", "start it again")
            self._jobs[job.id] = job
            ended = [one.id for one in self._jobs.values() if one.state not in ("queued", "running")]
            for old in ended[: max(len(self._jobs) - MOST_KEPT, 0)]:
                del self._jobs[old]
        self._queue.put(job)
        self._say(job)
        return job

    def list(self) -> list[Job]:
        """The newest first."""
        with self._guard:
            return sorted(self._jobs.values(), key=lambda job: job.id, reverse=True)

    def find(self, job_id: str) -> Job | None:
        with self._guard:
            return self._jobs.get(job_id)

    def cancel(self, job_id: str) -> None:
        """Take a waiting job out of the queue, or end a running one as Ctrl-C does; what was measured is kept."""
        with self._guard:
            job = self._jobs.get(job_id)
            if job is None or job.state not in ("queued", "running"):
                return
            process = self._process if job is self._current else None
            job.state = "cancelled"
            job.finished_at = job.finished_at or (None if process else utc_now())
        if process is not None:
            self._stop(process)
        self._say(job)

    def close(self) -> None:
        """Cancel everything and wait for the running job to write down what it has."""
        with self._guard:
            self._open = False
        for job in self.list():
            self.cancel(job.id)
        self._queue.put(None)
        self._thread.join(PATIENCE_S + 5)

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        with suppress(ProcessLookupError):
            process.terminate()  # as Ctrl-C, which a server that was started in the background hands down as ignored
        timer = threading.Timer(PATIENCE_S, _kill, [process])
        timer.daemon = True
        timer.start()

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            with self._guard:
                if job.state != "queued":
                    continue
                job.state, job.started_at, self._current = "running", utc_now(), job
            self._say(job)
            try:
                self._run(job)
            except EdgewrightError as error:
                self._end(job, "failed", f"{error.what}: {error.why or error.try_this}")
            except OSError as error:
                self._end(job, "failed", f"the job could not be started: {error.strerror or error}")
            except Exception as error:  # this thread lives as long as the server: the next job needs it
                self._end(job, "failed", f"something went wrong inside Edgewright: {type(error).__name__}")

    def _run(self, job: Job) -> None:
        with TemporaryFolder("job") as folder:
            words = job.prepare(folder)
            if job.state != "running":
                self._end(job, "cancelled")
                return
            answer = folder / "answer.json"
            with answer.open("wb") as out:
                process = self._start(words, out)
            if job.state != "running":  # cancelled between the two
                self._stop(process)
            self._read_log(job, process)
            job.exit_code = process.wait()
            job.run_ids = _run_ids(answer)
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
        with self._guard:
            self._process = subprocess.Popen(  # noqa: S603 - our own command, its words checked by kinds.py
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.PIPE,
                env=environ,
                start_new_session=True,
            )
            return self._process

    def _read_log(self, job: Job, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None  # noqa: S101 - it is a pipe
        with process.stderr as pipe:
            for line in iter(lambda: pipe.readline(MOST_LETTERS), b""):
                job.lines.append(line.decode("utf-8", "replace").rstrip("\n"))
                job.written += 1
                self._tell("log", {"id": job.id, "number": job.written, "line": job.lines[-1]})

    def _conclude(self, job: Job) -> None:
        if job.state == "cancelled":
            self._end(job, "cancelled")
        elif job.exit_code == 0:
            self._end(job, "done")
        elif (job.exit_code or 0) < 0:
            name = signal.Signals(-(job.exit_code or 0)).name
            self._end(job, "failed", f"the process was ended by {name}; what it had not written down is lost")
        else:
            told = [line.removeprefix("Error: ") for line in job.lines if line.startswith("Error: ")]
            self._end(job, "failed", told[-1] if told else f"exit code {job.exit_code}")

    def _end(self, job: Job, state: State, error: str = "") -> None:
        with self._guard:
            job.state, job.error, job.finished_at = state, error, utc_now()
            self._process = self._current = None
        self._say(job)

    def _say(self, job: Job) -> None:
        self._tell("job", job.facts())


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End one that did not heed SIGTERM."""
    if process.poll() is None:
        process.kill()


def _run_ids(answer: Path) -> tuple[str, ...]:
    """The runs that the command's JSON names, each once."""
    data = answer.read_bytes() if answer.stat().st_size <= MOST_ANSWER_BYTES else b""
    try:
        found = msgspec.json.decode(data)
    except msgspec.DecodeError:
        return ()
    keys = ("runs", "artifacts", "results")
    rows = [found, *(row for key in keys for row in found.get(key, ()))] if isinstance(found, dict) else []
    return tuple(dict.fromkeys(row["run_id"] for row in rows if isinstance(row, dict) and row.get("run_id")))
