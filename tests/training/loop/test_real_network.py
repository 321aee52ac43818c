"""A real network goes on learning: the CIFAR-10 teacher of the shared data, on a few hundred pictures."""

import sys
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import msgspec
import numpy as np
import pytest
from PIL import Image

from edgewright.tasks.spec.task import Augment, Classification, ImageInput, Task
from edgewright.training.job import CachedDataset, DistillationSettings, ModuleSource, Settings, TrainJob
from tests.paths import ROOT
from tests.training.training_files import read_report

torch: Any = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("lightning_fabric", reason="lightning-fabric is not installed")
DATA = ROOT.parent / "shared" / "data"
pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # torch warns of its own insides
    pytest.mark.shared_data,
    pytest.mark.skipif(not (DATA / "cifar10").is_dir(), reason="the shared data is not here"),
]
MEAN, STD = np.array((125.3, 123.0, 113.9), np.float32), np.array((63.0, 62.1, 66.7), np.float32)


def lay(folder: Path, samples: int) -> CachedDataset:
    with ZipFile(DATA / "cifar10" / "val5k.zip") as file:
        names = file.read("labels.csv").decode().splitlines()[1:]
        rows = [name.split(",")[:2] for name in names[:samples]]
        pixels = np.stack([np.asarray(Image.open(BytesIO(file.read(name)))) for name, _ in rows])
    images = (pixels.astype(np.float32) - MEAN) / STD
    np.save(folder / "x.npy", images.transpose(0, 3, 1, 2))
    np.save(folder / "y.npy", np.array([int(label) for _, label in rows]))
    half = samples // 2
    return CachedDataset(
        inputs={"x": str(folder / "x.npy")},
        labels=str(folder / "y.npy"),
        fit=tuple(range(half)),
        held_out=tuple(range(half, samples)),
    )


def test_the_teacher_distills_itself_and_stays_as_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgewright.training.loop.train import run_training

    monkeypatch.setattr(sys, "path", list(sys.path))
    models = DATA / "models"
    teacher = ModuleSource(factory=f"{models / 'cifar10_teacher.py'}:build", weights=str(models / "cifar10_teacher.pt"))
    wanted = Augment(flip=True, shift=4, erase=0.25)
    task = Task(inputs=(ImageInput(name="x", size=(32, 32)),), output=Classification(), augment=wanted)
    job = TrainJob(
        title="the teacher",
        module=teacher,
        shapes={"x": (1, 3, 32, 32)},
        task=msgspec.json.encode(task).decode(),
        data=lay(tmp_path, 512),
        settings=Settings(epochs=1, batch=64, lr=0.001, threads=1),
        teaching=DistillationSettings(teacher=teacher, transfer="attention"),
        out=str(tmp_path / "out"),
        memory=str(tmp_path / "memory"),
    )
    run_training(job, lambda word: None)
    report = read_report(job)
    assert report.parameters == 392_674
    assert report.metric is not None
    assert report.metric > 0.82  # 0.877 on all of its 5,000
    sys.modules.pop("cifar10_teacher", None)
