"""ShuffleNetV2 1.0× (Ma et al. 2018, arXiv:1807.11164, table 5): channel split and channel shuffle."""
# mypy: allow-subclassing-any
# torch is untyped here (see pyproject.toml), so every module's base class is Any.

import torch
from torch import Tensor, nn

from benchmarks.suite.layers import Classifier, conv_norm


def shuffle(x: Tensor, groups: int = 2) -> Tensor:
    batch, channels, height, width = x.shape
    return x.reshape(batch, groups, channels // groups, height, width).transpose(1, 2).flatten(1, 2)


def branch(inside: int, outside: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        conv_norm(inside, outside, act=nn.ReLU()),
        conv_norm(outside, outside, 3, stride, outside),
        conv_norm(outside, outside, act=nn.ReLU()),
    )


class Unit(nn.Module):
    """Figure 3 (c): half of the channels pass untouched."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.right = branch(width // 2, width // 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=1)
        return shuffle(torch.cat((left, self.right(right)), dim=1))


class Down(nn.Module):
    """Figure 3 (d): both branches halve the resolution."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        half = outside // 2
        self.left = nn.Sequential(conv_norm(inside, inside, 3, 2, inside), conv_norm(inside, half, act=nn.ReLU()))
        self.right = branch(inside, half, 2)

    def forward(self, x: Tensor) -> Tensor:
        return shuffle(torch.cat((self.left(x), self.right(x)), dim=1))


def shufflenet_v2(classes: int = 1000) -> nn.Module:
    parts = [conv_norm(3, 24, 3, 2, act=nn.ReLU()), nn.MaxPool2d(3, 2, 1)]
    inside = 24
    for outside, times in ((116, 3), (232, 7), (464, 3)):
        parts += [Down(inside, outside), *(Unit(outside) for _ in range(times))]
        inside = outside
    return nn.Sequential(*parts, conv_norm(inside, 1024, act=nn.ReLU()), Classifier(1024, classes))
