"""Trainings in processes of their own, one or several in parallel.

One training uses many processors less efficiently than two trainings with half of them each. Independent networks are
therefore trained at the same time if processors compute them.
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
# Accelerators that Fabric may use and trainings would share: NVIDIA, Jetson, under WSL, AMD, TPU.
ACCELERATORS = ("dev/nvidiactl", "dev/nvmap", "dev/dxg", "dev/kfd", "dev/accel0")
THREAD_LIMIT_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
MARGIN = 1.5  # memory grows after the first step: checkpoints, the best weights, the export


class TrainedNetwork(NamedTuple):
    """Result of one training: `model.onnx`, and for a module `weights.safetensors`."""

    folder: Path
    report: TrainReport

    @property
    def onnx(self) -> Path:
        return self.folder / "model.onnx"

    @property
    def weights(self) -> Path:
        return self.folder / "weights.safetensors"


def make_torch_source(factory: str, weights: str | None) -> ModuleSource:
    """Return the torch source with absolute paths, which are valid in a worker."""
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
    """Run a job of the training worker; its folder may exist."""
    out.mkdir(parents=True, exist_ok=True)
    run_job(WORKER, job, out, progress, title=title, idle_timeout_s=idle_timeout_s, started=started)


def train(job: TrainJob, progress: Progress, started: OnStarted = lambda process: None) -> TrainedNetwork:
    """Run a training, or return the result of an earlier attempt. The checkpoint folder is kept until all is done."""
    out = Path(job.out)
    done = out / "report.json"
    if not done.is_file():
        run_training_worker(job, progress, title=f"training of the {job.title}", out=out, started=started)
    return TrainedNetwork(out, msgspec.json.decode(done.read_bytes(), type=TrainReport))


def train_all(jobs: Sequence[TrainJob], progress: Progress) -> list[TrainedNetwork]:
    """Run independent trainings, in parallel if that is faster.

    The first error ends them all, as Ctrl-C does.
    """
    # Finished jobs count too, so that the others keep their number of threads and reproduce the same bits.
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
    """Train the networks of all names together with `train_all`.

    Args:
        similar_cost: whether steps of all networks take about the same time. Otherwise each network is trained by
            itself, since the last one would keep its share of the processors for most of its time.
    """
    if not similar_cost:
        return {network: train_all(own, progress) for network, own in jobs.items()}
    made = iter(train_all([job for own in jobs.values() for job in own], progress))
    return {network: [next(made) for _ in own] for network, own in jobs.items()}


def allocate_threads(trainings: int, threads: int, processors: int) -> tuple[int, int]:
    """Return the number of parallel trainings and of threads for each; `threads` is the requested number, or 0.

    All trainings run at once if there are enough processors, otherwise in as few equal batches as possible.
    """
    most = processors // threads if threads else processors
    rounds = -(-trainings // max(1, most))
    at_once = -(-trainings // max(1, rounds))
    return at_once, threads or max(1, processors // max(1, at_once))


def count_processors(root: Path = Path("/"), environment: Mapping[str, str] = os.environ) -> int:
    """Return the cores available to trainings; 1 if an accelerator may compute, or if the number is unknown."""
    if sys.platform != "linux" or any((root / name).exists() for name in ACCELERATORS):
        return 1
    allowed = os.sched_getaffinity(0)
    cores = [allowed.intersection(group) for group in list_core_groups(root)]
    most = [int(environment[name]) for name in THREAD_LIMIT_VARIABLES if environment.get(name, "").isdecimal()]
    return max(1, int(min(sum(map(bool, cores)) or len(allowed), read_cgroup_limits(root).get("cpus", inf), *most)))


class ParallelTrainings:
    """Trainings that are each followed by a thread; progress is reported in the caller's thread.

    The next one starts once the running ones have taken a step and memory is free for one more of the largest.
    """

    def __init__(self, jobs: Sequence[TrainJob], at_once: int, progress: Progress) -> None:
        self._jobs, self._at_once, self._progress = jobs, at_once, progress
        self._messages: SimpleQueue[tuple[int, str]] = SimpleQueue()
        self._last_messages: dict[int, str] = {}  # last progress message of each running training
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
                hint = f"if memory is short, train one network at a time with --train-threads {count_processors()}"
                raise WorkerCrashed(error.what, error.why, f"{error.try_this}; {hint}") from None
            finally:
                self._end()
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
        """Report the next message together with the last of the others; a training's final message is empty."""
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
    """Return the peak resident bytes of a process; 0 if it has ended."""
    try:
        return parse_status(Path(f"/proc/{process.pid}/status").read_text(errors="replace")).peak or 0
    except OSError:
        return 0


def compute_free_bytes(used: int, root: Path = Path("/")) -> float:
    """Return the memory that one more process can use.

    Trainings have already taken `used` of a control group's limit, and this process its own part.
    """
    limit = read_cgroup_limits(root).get("memory_bytes", inf)
    return min(read_memory(root).get("memory_available_bytes", inf), limit - used - (read_resident_memory().rss or 0))
