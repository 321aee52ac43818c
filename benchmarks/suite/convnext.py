"""ConvNeXt (Liu et al. 2022, arXiv:2201.03545), narrow: 7 × 7 depthwise, normalization over channels, layer scale."""
# mypy: allow-subclassing-any
# torch is untyped here (see pyproject.toml), so every module's base class is Any.

import torch
from torch import Tensor, nn

from benchmarks.suite.layers import FeedForward


class ChannelNorm(nn.LayerNorm):
    """Layer normalization over the channels of an NCHW tensor."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm, self.feed = nn.LayerNorm(width, eps=1e-6), FeedForward(width, 4 * width)
        self.scale = nn.Parameter(torch.full((width,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        inside = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + (self.scale * self.feed(inside)).permute(0, 3, 1, 2)


def convnext(classes: int = 1000) -> nn.Module:
    parts: list[nn.Module] = [nn.Conv2d(3, 48, 4, 4), ChannelNorm(48)]
    inside = 48
    for outside, times in ((48, 2), (96, 2), (192, 6), (384, 2)):
        if outside != inside:
            parts += [ChannelNorm(inside), nn.Conv2d(inside, outside, 2, 2)]
        parts += [Block(outside) for _ in range(times)]
        inside = outside
    last = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(inside), nn.Linear(inside, classes)]
    return nn.Sequential(*parts, *last)
