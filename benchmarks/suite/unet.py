"""U-Net (Ronneberger et al. 2015, arXiv:1505.04597), narrow: two steps up by ConvTranspose, two by bilinear Resize."""
# mypy: allow-subclassing-any
# torch is untyped here (see pyproject.toml), so every module's base class is Any.

import torch
from torch import Tensor, nn

from benchmarks.suite.layers import conv_norm


def double(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(conv_norm(inside, outside, 3, act=nn.ReLU()), conv_norm(outside, outside, 3, act=nn.ReLU()))


def enlarge(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False), conv_norm(inside, outside))


class UNet(nn.Module):
    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(5)]
        self.down = nn.ModuleList(double(a, b) for a, b in zip([3, *widths], widths, strict=False))
        steps = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, 2) if a >= widths[3] else enlarge(a, b) for a, b in steps)
        self.join = nn.ModuleList(double(b * 2, b) for _, b in steps)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for stage in self.down[:-1]:
            kept.append(stage(x))
            x = nn.functional.max_pool2d(kept[-1], 2)
        x = self.down[-1](x)
        for up, join in zip(self.up, self.join, strict=True):
            x = join(torch.cat((kept.pop(), up(x)), dim=1))
        return self.head(x).sigmoid()


def unet() -> nn.Module:
    return UNet(16, 2)
