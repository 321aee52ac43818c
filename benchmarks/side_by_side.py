"""Two trainings in parallel compared with one after the other with all processors each (`flows.experiment.trainings`).

Each trains the CIFAR-10 teacher's architecture on noise. Seconds are from the start of the first process to the end of
the last, and require a machine without other load: both start torch and export a model twice. The order alternates.
"""

import argparse
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import msgspec
import numpy as np

from benchmarks.measuring import describe_machine, format_ratio
from benchmarks.training_loop import TEACHER
from edgewright.flows.experiment.trainings import train_all
from edgewright.tasks.spec.task import Augment, Classification, ImageInput, Task
from edgewright.training.job import CachedDataset, ModuleSource, Settings, TrainJob

BATCH = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=150)
    arguments = parser.parse_args()
    seconds: dict[int, list[float]] = {0: [], len(os.sched_getaffinity(0)): []}
    with TemporaryDirectory() as folder:
        dataset = lay_out(Path(folder), arguments.steps)
        for pair in range(arguments.pairs):
            for threads in sorted(seconds, reverse=bool(pair % 2)):
                out = Path(folder) / f"{pair}-{threads}"
                began = perf_counter()
                train_all([make_job(out, name, dataset, threads) for name in ("one", "two")], lambda text: None)
                seconds[threads].append(perf_counter() - began)
    together, alone = seconds.values()
    print(describe_machine())
    print(
        format_ratio(
            f"seconds of both, {arguments.steps} steps each: side by side / one after the other, wall", together, alone
        )
    )


def lay_out(folder: Path, steps: int) -> CachedDataset:
    rng = np.random.default_rng(0)
    count = steps * BATCH
    np.save(folder / "x.npy", rng.standard_normal((count, 3, 32, 32), np.float32))
    np.save(folder / "y.npy", rng.integers(0, 10, count))
    inputs, labels = {"x": str(folder / "x.npy")}, str(folder / "y.npy")
    return CachedDataset(inputs=inputs, labels=labels, fit=tuple(range(count)), held_out=())


def make_job(folder: Path, name: str, dataset: CachedDataset, threads: int) -> TrainJob:
    task = Task(
        inputs=(ImageInput(name="x", size=(32, 32)),), output=Classification(), augment=Augment(flip=True, shift=4)
    )
    return TrainJob(
        title=name,
        module=ModuleSource(factory=f"{TEACHER}:build"),
        shapes={"x": (1, 3, 32, 32)},
        task=msgspec.json.encode(task).decode(),
        data=dataset,
        settings=Settings(epochs=1, batch=BATCH, threads=threads),
        out=str(folder / name),
        memory=str(folder / f"{name}-memory"),
    )


if __name__ == "__main__":
    main()
