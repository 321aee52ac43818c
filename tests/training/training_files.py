"""A tiny network, made data, and a job for them; nothing here imports torch."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgewright.quantization.job import JobError, JobFinished, StageProgress
from edgewright.tasks.spec.task import Augment, Classification, ImageInput, Output, Task, TensorInput
from edgewright.training.job import CachedDataset, JobMessage, ModuleSource, Settings, TrainJob, TrainReport, WorkerJob

CLASSES = 4
SHAPES: dict[str, tuple[int, ...]] = {"image": (1, 3, 8, 8)}
NETWORK = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.down = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.drop = nn.Dropout(0.1)
        self.fc = nn.Linear(width, classes)

    def forward(self, image):
        x = self.down(torch.relu(self.bn(self.stem(image))))
        return self.fc(self.drop(torch.relu(x).mean((2, 3))))


def build():
    return Net(8, 4)


def wide():
    return Net(16, 4)


def five():
    return Net(8, 5)


def single():
    return Net(8, 1)


class Flat(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(192, 4)

    def forward(self, image):
        return self.fc(image.flatten(1))


def flat():
    return Flat()


def numbers():
    return Net(8, 2)


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 16)
        self.fc = nn.Linear(16, 11)

    def forward(self, ids):
        return self.fc(torch.relu(self.embed(ids)))


def tokens():
    return Tokens()
"""


def make_task(output: Output | None = None, augment: Augment | None = None, metric: str = "top1") -> Task:
    image = ImageInput(name="image", size=(8, 8))
    return Task(inputs=(image,), output=output or Classification(), augment=augment, metric=metric)


def make_data(folder: Path, samples: int = 160, labels: Any = None) -> CachedDataset:
    """Write images whose class is their color, a quarter of them held out."""
    rng = np.random.default_rng(7)
    classes = rng.integers(0, CLASSES, samples)
    images = rng.standard_normal((samples, 3, 8, 8)).astype(np.float32)
    images += 2 * np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, -1, -1]], np.float32)[classes][:, :, None, None]
    np.save(folder / "images.npy", images)
    np.save(folder / "labels.npy", classes if labels is None else labels)
    return CachedDataset(
        inputs={"image": str(folder / "images.npy")},
        labels=str(folder / "labels.npy"),
        fit=tuple(place for place in range(samples) if place % 4 != 1),
        held_out=tuple(range(1, samples, 4)),
    )


def source(folder: Path, factory: str = "build") -> ModuleSource:
    path = folder / "training_network.py"
    path.write_text(NETWORK, encoding="utf-8")
    return ModuleSource(factory=f"{path}:{factory}")


def make_job(folder: Path, settings: Settings | None = None, task: Task | None = None, **changes: Any) -> TrainJob:
    job = TrainJob(
        title="trained",
        module=source(folder),
        shapes=SHAPES,
        task=msgspec.json.encode(task or make_task()).decode(),
        data=changes.pop("data", None) or make_data(folder),
        settings=settings or Settings(epochs=3, batch=16, lr=0.05, precision="fp32", threads=1),
        out=str(folder / "out"),
        memory=str(folder / "memory"),
    )
    return msgspec.structs.replace(job, **changes)


def start(folder: Path, job: WorkerJob) -> "subprocess.Popen[bytes]":
    path = folder / "job.json"
    path.write_bytes(msgspec.json.encode(job))
    command = [sys.executable, "-P", "-m", "edgewright.training.worker", str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run_worker(folder: Path, job: WorkerJob) -> tuple[list[JobMessage], str]:
    """The words of a worker, and what it wrote to stderr."""
    with start(folder, job) as process:
        out, log = process.communicate(timeout=120)
    return [
        msgspec.json.decode(line, type=StageProgress | JobError | JobFinished) for line in out.splitlines()
    ], log.decode()


def read_report(job: TrainJob) -> TrainReport:
    return msgspec.json.decode((Path(job.out) / "report.json").read_bytes(), type=TrainReport)


def tokens_input() -> TensorInput:
    return TensorInput(name="ids", shape=(1, 6), dtype="int64")
