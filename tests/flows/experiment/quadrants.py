"""A network, a task and data small enough to be trained in a second: which quarter of a picture is bright."""

from pathlib import Path

import msgspec
import numpy as np

from edgewright.schema.plan import DistillPlan, PrunePlan
from edgewright.tasks.spec.task import Classification, ImageInput, Task

NETWORK = """
from torch import nn


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.out = nn.Linear(4 * width, 4)

    def forward(self, x):
        x = self.norm(self.first(x)).relu()
        return self.out(self.pool(self.second(x).relu()).flatten(1))


def build():
    return Net(16)


def small():
    return Net(8)


def three_classes():
    net = Net(8)
    net.out = nn.Linear(32, 3)
    return net


def broken():
    raise RuntimeError("no weights at home")


def number():
    return 3
"""
TASK = Task(
    inputs=(ImageInput(name="x", size=(8, 8), color="gray", mean=127.5, std=127.5, resize="none"),),
    output=Classification(classes=4),
)
SETTINGS = {"epochs": 4.0, "batch": 16, "lr": 0.05, "precision": "fp32", "threads": 1}


def ignore(text: str) -> None:
    """Nobody listens."""


def write_data(path: Path, count: int, seed: int) -> Path:
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 4, count)
    images = draw.integers(0, 120, (count, 8, 8)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 100
    np.savez(path, images=images, labels=labels)
    return path


def write_training_files(folder: Path) -> dict[str, str]:
    """The files, by what they are."""
    network = folder / "net.py"
    network.write_text(NETWORK)
    return {
        "source": f"{network}:build",
        "small": f"{network}:small",
        "data": str(write_data(folder / "train.npz", 160, 0)),
        "val": str(write_data(folder / "val.npz", 80, 1)),
    }


def write_weights(folder: Path, source: str) -> Path:
    """Of the factory as it is drawn; its file is loaded as the product does."""
    import torch

    from edgewright.training.job import ModuleSource
    from edgewright.training.source import load_module

    path = folder / "net.pt"
    torch.save(load_module(ModuleSource(factory=source), 0).state_dict(), path)
    return path


def prune_plan(files: dict[str, str], **changes: object) -> PrunePlan:
    plan = PrunePlan(
        source=files["source"],
        task=msgspec.to_builtins(TASK),
        data=files["data"],
        val=files["val"],
        target_macs="2x",
        max_drop=100.0,
        settings=SETTINGS,
        multiple=4,
        distill=False,
    )
    return msgspec.structs.replace(plan, **changes)


def distil_plan(files: dict[str, str], **changes: object) -> DistillPlan:
    plan = DistillPlan(
        teacher=files["source"],
        student=files["small"],
        task=msgspec.to_builtins(TASK),
        data=files["data"],
        val=files["val"],
        views=2,
        max_drop=100.0,
        settings=SETTINGS,
    )
    return msgspec.structs.replace(plan, **changes)
