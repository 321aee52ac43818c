"""SqueezeNet (Iandola et al. 2016, arXiv:1602.07360), the 1.1 widths: fire modules, pools rounded up, no norms."""
# mypy: allow-subclassing-any
# torch is untyped here (see pyproject.toml), so every module's base class is Any.

import torch
from torch import Tensor, nn


class Fire(nn.Module):
    def __init__(self, inside: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inside, squeezed, 1)
        self.one = nn.Conv2d(squeezed, expanded, 1)
        self.three = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x).relu()
        return torch.cat((self.one(x).relu(), self.three(x).relu()), dim=1)


def pool() -> nn.Module:
    return nn.MaxPool2d(3, 2, ceil_mode=True)


def squeezenet(classes: int = 1000) -> nn.Module:
    stem = [nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool(), Fire(64, 16, 64), Fire(128, 16, 64), pool()]
    middle = [Fire(128, 32, 128), Fire(256, 32, 128), pool(), Fire(256, 48, 192), Fire(384, 48, 192)]
    last = [Fire(384, 64, 256), Fire(512, 64, 256), nn.Dropout(0.5), nn.Conv2d(512, classes, 1)]
    return nn.Sequential(*stem, *middle, *last, nn.AdaptiveAvgPool2d(1), nn.Flatten())
