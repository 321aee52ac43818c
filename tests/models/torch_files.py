"""Writes torch sources for tests, as a user hands them over."""

from pathlib import Path
from typing import Any

NETWORK = """
from torch import nn
from helper_of_the_test import WIDTH


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, WIDTH, 3, 2, 1)
        self.norm = nn.BatchNorm2d(WIDTH)
        self.fc = nn.Linear(WIDTH, 5)

    def forward(self, image, scale=None):
        y = self.norm(self.conv(image)).relu().mean((2, 3))
        return self.fc(y if scale is None else y * scale)


def build():
    return Net()


def build_nothing():
    return 7


def build_badly():
    raise RuntimeError("no such layer")
"""


def write_network(folder: Path) -> Path:
    """A module that imports another file of its folder; its factories are build, build_nothing and build_badly."""
    (folder / "helper_of_the_test.py").write_text("WIDTH = 8\n")
    path = folder / "network_of_the_test.py"
    path.write_text(NETWORK)
    return path


def build_plain() -> Any:
    """A seeded network of one convolution, ReLU and a linear layer."""
    import torch

    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4 * 6 * 6, 5)
    ).eval()
