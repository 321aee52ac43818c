"""Trainings in processes of their own: one, or several side by side.

A training uses many processors worse than two trainings use half of them each, so that networks that do not wait for
each other are trained at the same time where processors compute.
"""

import os
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from math import inf
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock
from typing import NamedTuple

import msgspec

from edgewright.bench.session import Progress
from edgewright.devices.cgroup import read_cgroup_limits
from edgewright.devices.cpu import list_core_groups
from edgewright.devices.system_state import read_memory
from edgewright.errors import WorkerCrashed
from edgewright.flows.child_process import OnStarted, run_job
from edgewright.flows.compile.sources import make_absolute
from edgewright.runtimes.memory import parse_status, read_resident_memory
from edgewright.training.job import ModuleSource, TrainJob, TrainReport, WorkerJob

WORKER = "edgewright.training.worker"
WAIT_S = 0.5
MAX_SHOWN = 2  # in one line
# Where one of these is, Fabric may compute on it, and trainings would share it: NVIDIA, Jetson, under WSL, AMD, TPU.
ACCELERATORS = ("dev/nvidiactl", "dev/nvmap", "dev/dxg", "dev/kfd", "dev/accel0")
THREAD_LIMIT_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # of the processors that torch may use
MARGIN = 1.5  # a training goes on to take more than in its first step: checkpoints, the best weights, the export


class TrainedNetwork(NamedTuple):
    """What one training left: `model.onnx`, and of a module `weights.safetensors`."""

    folder: Path
    report: TrainReport

    @property
    def onnx(self) -> Path:
        return self.folder / "model.onnx"

    @property
    def weights(self) -> Path:
        return self.folder / "weights.safetensors"


def make_torch_source(factory: str, weights: str | None) -> ModuleSource:
    """As the user named it, with paths that hold in a worker."""
    return ModuleSource(factory=make_absolute(factory), weights=str(Path(weights).absolute()) if weights else None)


def run_training_worker(
    job: WorkerJob,
    progress: Progress,
    *,
    title: str,
    out: Path,
    idle_timeout_s: float = inf,
    started: OnStarted = lambda process: None,
) -> None:
    """A job of the worker, whose folder may be there."""
    out.mkdir(parents=True, exist_ok=True)
    run_job(WORKER, job, out, progress, title=title, idle_timeout_s=idle_timeout_s, started=started)


def train(job: TrainJob, progress: Progress, started: OnStarted = lambda process: None) -> TrainedNetwork:
    """Run a training, or find what it left before. The folder of its checkpoints is kept until all is done."""
    out = Path(job.out)
    done = out / "report.json"
    if not done.is_file():
        run_training_worker(job, progress, title=f"training of the {job.title}", out=out, started=started)
    return TrainedNetwork(out, msgspec.json.decode(done.read_bytes(), type=TrainReport))


def train_all(jobs: Sequence[TrainJob], progress: Progress) -> list[TrainedNetwork]:
    """Run trainings that do not wait for each other, in whatever order, side by side where that is quicker.

    The first error ends them all, as Ctrl-C does.
    """
    # Jobs that are done already count too: what is left trains with as many threads as before, and so to the same bits.
    at_once, threads = allocate_threads(
        len(jobs), max((job.settings.threads for job in jobs), default=0), count_processors()
    )
    if at_once < 2:
        return [train(job, progress) for job in jobs]
    shared = [
        msgspec.structs.replace(job, settings=msgspec.structs.replace(job.settings, threads=threads)) for job in jobs
    ]
    return ParallelTrainings(shared, at_once, progress).run()


def train_networks(
    jobs: Mapping[str, Sequence[TrainJob]], progress: Progress, *, similar_cost: bool = True
) -> dict[str, list[TrainedNetwork]]:
    """`train_all` of all sides together, by side.

    Args:
        alike: whether a step of one side takes about as long as one of another. Else each side is trained by itself:
            what ends last would be left with its part of the processors for most of its time.
    """
    if not similar_cost:
        return {network: train_all(own, progress) for network, own in jobs.items()}
    made = iter(train_all([job for own in jobs.values() for job in own], progress))
    return {network: [next(made) for _ in own] for network, own in jobs.items()}


def allocate_threads(trainings: int, threads: int, processors: int) -> tuple[int, int]:
    """How many trainings at once, and with how many threads each; `threads` are those that are wanted, or 0.

    All of them where there are processors enough, else in as few turns of the same number as there can be.
    """
    most = processors // threads if threads else processors
    rounds = -(-trainings // max(1, most))
    at_once = -(-trainings // max(1, rounds))
    return at_once, threads or max(1, processors // max(1, at_once))


def count_processors(root: Path = Path("/"), environment: Mapping[str, str] = os.environ) -> int:
    """Cores that trainings can be shared out to: 1 where an accelerator may compute, and where it is not known."""
    if sys.platform != "linux" or any((root / name).exists() for name in ACCELERATORS):
        return 1
    allowed = os.sched_getaffinity(0)
    cores = [allowed.intersection(group) for group in list_core_groups(root)]
    most = [int(environment[name]) for name in THREAD_LIMIT_VARIABLES if environment.get(name, "").isdecimal()]
    return max(1, int(min(sum(map(bool, cores)) or len(allowed), read_cgroup_limits(root).get("cpus", inf), *most)))


class ParallelTrainings:
    """Each training is followed by a thread; what is told is told by the caller's own.

    The next one begins once those before have taken a step and there is memory for one more of the largest.
    """

    def __init__(self, jobs: Sequence[TrainJob], at_once: int, progress: Progress) -> None:
        self._jobs, self._at_once, self._progress = jobs, at_once, progress
        self._messages: SimpleQueue[tuple[int, str]] = SimpleQueue()
        self._last_messages: dict[int, str] = {}  # the last of each that runs
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._lock, self._over = Lock(), False

    def run(self) -> list[TrainedNetwork]:
        waiting = deque(range(len(self._jobs)))
        running: dict[int, Future[TrainedNetwork]] = {}
        made: dict[int, TrainedNetwork] = {}
        with ThreadPoolExecutor(self._at_once, "training") as pool:
            try:
                while waiting or running:
                    if waiting and len(running) < self._at_once and self._has_memory(running):
                        index = waiting.popleft()
                        running[index] = pool.submit(self._follow, index)
                        running[index].add_done_callback(partial(self._ended, index))
                    self._relay_next_message()
                    for index in [index for index, one in running.items() if one.done()]:
                        made[index] = running.pop(index).result()
            except WorkerCrashed as error:
                hint = f"where memory is short, --train-threads {count_processors()} trains one after the other"
                raise WorkerCrashed(error.what, error.why, f"{error.try_this}; {hint}") from None
            finally:
                self._end()  # before the pool waits for its threads
        return [made[index] for index in range(len(self._jobs))]

    def _follow(self, index: int) -> TrainedNetwork:
        return train(
            self._jobs[index],
            lambda text: self._messages.put((index, text)),
            lambda process: self._started(index, process),
        )

    def _ended(self, index: int, _: "Future[TrainedNetwork]") -> None:
        self._messages.put((index, ""))

    def _started(self, index: int, process: "subprocess.Popen[bytes]") -> None:
        with self._lock:
            self._processes[index] = process
            if self._over:
                process.kill()

    def _relay_next_message(self) -> None:
        """Tell what is said next, beside the last of the others; the last word of each is empty."""
        try:
            index, text = self._messages.get(timeout=WAIT_S)
        except Empty:
            return
        if not text:
            self._last_messages.pop(index, None)
            return
        self._last_messages[index] = text
        words = [self._last_messages[one] for one in sorted(self._last_messages)]
        more = [f"and {len(words) - MAX_SHOWN} more"] if len(words) > MAX_SHOWN else []
        self._progress("; ".join((*words[:MAX_SHOWN], *more)))

    def _has_memory(self, running: dict[int, "Future[TrainedNetwork]"]) -> bool:
        if not all(index in self._last_messages for index in running):
            return False
        peaks = [_read_peak_bytes(self._processes[index]) for index in running if index in self._processes]
        return not peaks or compute_free_bytes(sum(peaks)) > MARGIN * max(peaks)

    def _end(self) -> None:
        with self._lock:
            self._over = True
            for process in self._processes.values():
                process.kill()


def _read_peak_bytes(process: "subprocess.Popen[bytes]") -> int:
    """Resident bytes at the peak; 0 of one that has ended."""
    try:
        return parse_status(Path(f"/proc/{process.pid}/status").read_text(errors="replace")).peak or 0
    except OSError:
        return 0


def compute_free_bytes(used: int, root: Path = Path("/")) -> float:
    """Memory that one more process could take, where trainings have taken `used` of a control group's limit already,
    and this process its own part."""
    limit = read_cgroup_limits(root).get("memory_bytes", inf)
    return min(read_memory(root).get("memory_available_bytes", inf), limit - used - (read_resident_memory().rss or 0))
