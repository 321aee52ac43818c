"""Cost of the training loop compared with a bare torch loop of the same model, batch, precision and memory format.

Blocks of both alternate in one process. Edgewright's is `training.loop` as in the worker: batches from memory maps in a
separate thread, clipping, curves, and the checkpoint at the end of its epoch. The peer is a plain loop on tensors in
memory. CPU time counts all threads; wall time requires a machine without other load.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any, Literal

import numpy as np

from benchmarks.measuring import MOBILENET, describe_machine, format_ratio
from edgewright.tasks.spec.task import Augment, Classification, ImageInput, Task
from edgewright.training.data.samples import TrainingSamples, set_channels_last
from edgewright.training.distillation.losses import DistillationLoss
from edgewright.training.job import CachedDataset, ModuleSource, Settings
from edgewright.training.loop.loop import TrainingLoop, TrainingPlan
from edgewright.training.loop.train import open_fabric

TEACHER = MOBILENET.parent / "cifar10_teacher.py"
SAMPLES, BATCH = 1280, 64


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--augment", action="store_true", help="ours flips, moves and erases; the peer does not")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with TemporaryDirectory() as folder:
        wall, processor = compare(Path(folder), arguments.precision, arguments.pairs, augmented=arguments.augment)
    print(describe_machine())
    settings = f"{arguments.precision}, {arguments.threads} threads{', augmented' if arguments.augment else ''}"
    print(format_ratio(f"seconds of a step, {settings}: ours / bare, wall", *wall))
    print(format_ratio(f"seconds of a step, {settings}: ours / bare, processor", *processor))


def compare(
    folder: Path, precision: Literal["fp32", "bf16"], pairs: int, *, augmented: bool
) -> tuple[tuple[list[float], list[float]], tuple[list[float], list[float]]]:
    """Return seconds per step of both loops, by wall and CPU time."""
    import torch

    from edgewright.training.source import load_module

    rng = np.random.default_rng(0)
    np.save(folder / "x.npy", rng.standard_normal((SAMPLES, 3, 32, 32), np.float32))
    np.save(folder / "y.npy", rng.integers(0, 10, SAMPLES))
    torch.manual_seed(0)
    ours, bare = (load_module(ModuleSource(factory=f"{TEACHER}:build"), 0) for _ in range(2))
    for one in (ours, bare):
        set_channels_last(one)
    alone = make_bare(bare, folder, bf16=precision == "bf16")
    fabric = open_fabric(precision)
    wall: tuple[list[float], list[float]] = ([], [])
    processor: tuple[list[float], list[float]] = ([], [])
    for pair in range(pairs + 1):
        for place, ready in enumerate((make_ours(ours, fabric, folder, precision, augmented=augmented), alone)):
            began, used = perf_counter(), process_time()
            ready()
            if pair:  # the first warms both up
                steps = SAMPLES // BATCH
                wall[place].append((perf_counter() - began) / steps)
                processor[place].append((process_time() - used) / steps)
    return wall, processor


def make_ours(module: Any, fabric: Any, folder: Path, precision: str, *, augmented: bool) -> Callable[[], Any]:
    """Prepare one epoch of Edgewright's loop."""
    inputs = (ImageInput(name="x", size=(32, 32)),)
    wanted = Augment(flip=True, shift=4, erase=0.25) if augmented else None
    task = Task(inputs=inputs, output=Classification(), augment=wanted)
    data = CachedDataset(
        inputs={"x": str(folder / "x.npy")}, labels=str(folder / "y.npy"), fit=tuple(range(SAMPLES)), held_out=()
    )
    settings = Settings(epochs=1, batch=BATCH)
    samples = TrainingSamples(data, task, settings)
    memory = folder / "memory"
    memory.mkdir(exist_ok=True)
    plan = TrainingPlan("benchmark", "benchmark", task, settings, samples.steps_per_epoch, precision, memory)
    distillation_loss = DistillationLoss(task, settings, None, None, samples.read(samples.fit[:1]))
    return TrainingLoop(fabric, module, distillation_loss, samples, plan, lambda word: None).run


def make_bare(module: Any, folder: Path, *, bf16: bool) -> Callable[[], Any]:
    """Prepare one epoch of a bare loop."""
    import torch

    images = torch.from_numpy(np.load(folder / "x.npy"))
    labels = torch.from_numpy(np.load(folder / "y.npy"))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1000)

    def epoch() -> None:
        for places in torch.randperm(SAMPLES).split(BATCH):
            batch = images[places].contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                made = module(batch)
            loss = torch.nn.functional.cross_entropy(made.float(), labels[places])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 5.0)
            optimizer.step()
            schedule.step()

    return epoch


if __name__ == "__main__":
    main()
