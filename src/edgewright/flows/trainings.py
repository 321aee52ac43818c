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

from edgewright.bench.session import Tell
from edgewright.devices.cgroup import cgroup_limits
from edgewright.devices.cpu import core_groups
from edgewright.devices.moment import read_memory
from edgewright.errors import WorkerCrashed
from edgewright.flows.child import Started, run_job
from edgewright.flows.sources import absolute
from edgewright.runtimes.memory import memory_now, parse_status
from edgewright.training.job import Job, Source, TrainJob, TrainReport

WORKER = "edgewright.training.worker"
WAIT_S = 0.5
MOST_TOLD = 2  # in one line
# Where one of these is, Fabric may compute on it, and trainings would share it: NVIDIA, Jetson, under WSL, AMD, TPU.
ACCELERATORS = ("dev/nvidiactl", "dev/nvmap", "dev/dxg", "dev/kfd", "dev/accel0")
LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # of the processors that torch may use
MARGIN = 1.5  # a training goes on to take more than in its first step: checkpoints, the best weights, the export


class Trained(NamedTuple):
    """What one training left: `model.onnx`, and of a module `weights.safetensors`."""

    folder: Path
    report: TrainReport

    @property
    def onnx(self) -> Path:
        return self.folder / "model.onnx"

    @property
    def weights(self) -> Path:
        return self.folder / "weights.safetensors"


def torch_source(factory: str, weights: str | None) -> Source:
    """As the user named it, with paths that hold in a worker."""
    return Source(factory=absolute(factory), weights=str(Path(weights).absolute()) if weights else None)


def run_worker(
    job: Job,
    tell: Tell,
    *,
    title: str,
    out: Path,
    silence_s: float = inf,
    started: Started = lambda process: None,
) -> None:
    """A job of the worker, whose folder may be there."""
    out.mkdir(parents=True, exist_ok=True)
    run_job(WORKER, job, out, tell, title=title, silence_s=silence_s, started=started)


def train(job: TrainJob, tell: Tell, started: Started = lambda process: None) -> Trained:
    """Run a training, or find what it left before. The folder of its checkpoints is kept until all is done."""
    out = Path(job.out)
    done = out / "report.json"
    if not done.is_file():
        run_worker(job, tell, title=f"training of the {job.title}", out=out, started=started)
    return Trained(out, msgspec.json.decode(done.read_bytes(), type=TrainReport))


def train_all(jobs: Sequence[TrainJob], tell: Tell) -> list[Trained]:
    """Run trainings that do not wait for each other, in whatever order, side by side where that is quicker.

    The first error ends them all, as Ctrl-C does.
    """
    # Jobs that are done already count too: what is left trains with as many threads as before, and so to the same bits.
    at_once, threads = share_out(len(jobs), max((job.settings.threads for job in jobs), default=0), count_processors())
    if at_once < 2:
        return [train(job, tell) for job in jobs]
    shared = [
        msgspec.structs.replace(job, settings=msgspec.structs.replace(job.settings, threads=threads)) for job in jobs
    ]
    return SideBySide(shared, at_once, tell).run()


def train_sides(jobs: Mapping[str, Sequence[TrainJob]], tell: Tell, *, alike: bool = True) -> dict[str, list[Trained]]:
    """`train_all` of all sides together, by side.

    Args:
        alike: whether a step of one side takes about as long as one of another. Else each side is trained by itself:
            what ends last would be left with its part of the processors for most of its time.
    """
    if not alike:
        return {side: train_all(own, tell) for side, own in jobs.items()}
    made = iter(train_all([job for own in jobs.values() for job in own], tell))
    return {side: [next(made) for _ in own] for side, own in jobs.items()}


def share_out(trainings: int, threads: int, processors: int) -> tuple[int, int]:
    """How many trainings at once, and with how many threads each; `threads` are those that are wanted, or 0.

    All of them where there are processors enough, else in as few turns of the same number as there can be.
    """
    most = processors // threads if threads else processors
    turns = -(-trainings // max(1, most))
    at_once = -(-trainings // max(1, turns))
    return at_once, threads or max(1, processors // max(1, at_once))


def count_processors(root: Path = Path("/"), environment: Mapping[str, str] = os.environ) -> int:
    """Cores that trainings can be shared out to: 1 where an accelerator may compute, and where it is not known."""
    if sys.platform != "linux" or any((root / name).exists() for name in ACCELERATORS):
        return 1
    allowed = os.sched_getaffinity(0)
    cores = [allowed.intersection(group) for group in core_groups(root)]
    most = [int(environment[name]) for name in LIMITS if environment.get(name, "").isdecimal()]
    return max(1, int(min(sum(map(bool, cores)) or len(allowed), cgroup_limits(root).get("cpus", inf), *most)))


class SideBySide:
    """Each training is followed by a thread; what is told is told by the caller's own.

    The next one begins once those before have taken a step and there is memory for one more of the largest.
    """

    def __init__(self, jobs: Sequence[TrainJob], at_once: int, tell: Tell) -> None:
        self._jobs, self._at_once, self._tell = jobs, at_once, tell
        self._said: SimpleQueue[tuple[int, str]] = SimpleQueue()
        self._words: dict[int, str] = {}  # the last of each that runs
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._lock, self._over = Lock(), False

    def run(self) -> list[Trained]:
        waiting = deque(range(len(self._jobs)))
        running: dict[int, Future[Trained]] = {}
        made: dict[int, Trained] = {}
        with ThreadPoolExecutor(self._at_once, "training") as pool:
            try:
                while waiting or running:
                    if waiting and len(running) < self._at_once and self._is_room(running):
                        place = waiting.popleft()
                        running[place] = pool.submit(self._follow, place)
                        running[place].add_done_callback(partial(self._ended, place))
                    self._hear()
                    for place in [place for place, one in running.items() if one.done()]:
                        made[place] = running.pop(place).result()
            except WorkerCrashed as error:
                hint = f"where memory is short, --train-threads {count_processors()} trains one after the other"
                raise WorkerCrashed(error.what, error.why, f"{error.try_this}; {hint}") from None
            finally:
                self._end()  # before the pool waits for its threads
        return [made[place] for place in range(len(self._jobs))]

    def _follow(self, place: int) -> Trained:
        return train(
            self._jobs[place],
            lambda text: self._said.put((place, text)),
            lambda process: self._started(place, process),
        )

    def _ended(self, place: int, _: "Future[Trained]") -> None:
        self._said.put((place, ""))

    def _started(self, place: int, process: "subprocess.Popen[bytes]") -> None:
        with self._lock:
            self._processes[place] = process
            if self._over:
                process.kill()

    def _hear(self) -> None:
        """Tell what is said next, beside the last of the others; the last word of each is empty."""
        try:
            place, text = self._said.get(timeout=WAIT_S)
        except Empty:
            return
        if not text:
            self._words.pop(place, None)
            return
        self._words[place] = text
        words = [self._words[one] for one in sorted(self._words)]
        more = [f"and {len(words) - MOST_TOLD} more"] if len(words) > MOST_TOLD else []
        self._tell("; ".join((*words[:MOST_TOLD], *more)))

    def _is_room(self, running: dict[int, "Future[Trained]"]) -> bool:
        if not all(place in self._words for place in running):
            return False
        peaks = [peak_of(self._processes[place]) for place in running if place in self._processes]
        return not peaks or free_bytes(sum(peaks)) > MARGIN * max(peaks)

    def _end(self) -> None:
        with self._lock:
            self._over = True
            for process in self._processes.values():
                process.kill()


def peak_of(process: "subprocess.Popen[bytes]") -> int:
    """Resident bytes at the peak; 0 of one that has ended."""
    try:
        return parse_status(Path(f"/proc/{process.pid}/status").read_text(errors="replace")).peak or 0
    except OSError:
        return 0


def free_bytes(used: int, root: Path = Path("/")) -> float:
    """Memory that one more process could take, where trainings have taken `used` of a control group's limit already,
    and this process its own part."""
    limit = cgroup_limits(root).get("memory_bytes", inf)
    return min(read_memory(root).get("memory_available_bytes", inf), limit - used - (memory_now().rss or 0))
