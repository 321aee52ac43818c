"""A detector of the YOLO kind, written from papers: boxes in pixels and class scores, decoded inside the graph.

CSP stages (Wang et al. 2020, arXiv:1911.11929), spatial pyramid pooling by chained max-pools (He et al. 2015,
arXiv:1406.4729), a feature pyramid up and down (Liu et al. 2018, arXiv:1803.01534), an anchor-free head (Tian et al.
2019, arXiv:1904.01355) whose distances are means of distributions (Li et al. 2020, arXiv:2006.04388). The stem folds
2 × 2 pixels into channels by strided slices.
"""
# mypy: allow-subclassing-any
# torch is untyped here (see pyproject.toml), so every module's base class is Any.

import torch
from torch import Tensor, nn

from benchmarks.suite.layers import conv_norm

BINS = 16
STRIDES = (8, 16, 32)


def conv(inside: int, outside: int, kernel: int = 1, stride: int = 1) -> nn.Sequential:
    return conv_norm(inside, outside, kernel, stride, act=nn.SiLU())


class Fold(nn.Module):
    def __init__(self, outside: int) -> None:
        super().__init__()
        self.conv = conv(12, outside, 3)

    def forward(self, x: Tensor) -> Tensor:
        top, bottom = x[:, :, ::2], x[:, :, 1::2]
        return self.conv(torch.cat((top[..., ::2], bottom[..., ::2], top[..., 1::2], bottom[..., 1::2]), dim=1))


class Stage(nn.Module):
    """Half of the channels go through residual blocks; every intermediate result is joined at the end."""

    def __init__(self, inside: int, outside: int, times: int, *, residual: bool) -> None:
        super().__init__()
        self.half, self.residual = outside // 2, residual
        self.first = conv(inside, outside)
        blocks = (nn.Sequential(conv(self.half, self.half, 3), conv(self.half, self.half, 3)) for _ in range(times))
        self.blocks = nn.ModuleList(blocks)
        self.last = conv(self.half * (2 + times), outside)

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.first(x).split((self.half, self.half), dim=1))
        for block in self.blocks:
            done = block(parts[-1])
            parts.append(parts[-1] + done if self.residual else done)
        return self.last(torch.cat(parts, dim=1))


class PyramidPool(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.last = conv(width, width // 2), conv(width * 2, width)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.first(x)]
        for _ in range(3):
            parts.append(nn.functional.max_pool2d(parts[-1], 5, 1, 2))
        return self.last(torch.cat(parts, dim=1))


class Head(nn.Module):
    def __init__(self, inside: int, width: int, classes: int) -> None:
        super().__init__()
        self.box = nn.Sequential(conv(inside, width, 3), conv(width, width, 3), nn.Conv2d(width, 4 * BINS, 1))
        self.kind = nn.Sequential(conv(inside, width, 3), conv(width, width, 3), nn.Conv2d(width, classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.box(x), self.kind(x)), dim=1).flatten(2)


class Yolo(nn.Module):
    def __init__(self, width: int, classes: int, size: int) -> None:
        super().__init__()
        a, b, c, d = width * 2, width * 4, width * 8, width * 16
        self.stem = nn.Sequential(Fold(width), conv(width, a, 3, 2), Stage(a, a, 1, residual=True))
        self.third = nn.Sequential(conv(a, b, 3, 2), Stage(b, b, 2, residual=True))
        self.fourth = nn.Sequential(conv(b, c, 3, 2), Stage(c, c, 2, residual=True))
        self.fifth = nn.Sequential(conv(c, d, 3, 2), Stage(d, d, 1, residual=True), PyramidPool(d))
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.up4, self.up3 = Stage(c + d, c, 1, residual=False), Stage(b + c, b, 1, residual=False)
        self.down3, self.down4 = conv(b, b, 3, 2), conv(c, c, 3, 2)
        self.out4, self.out5 = Stage(b + c, c, 1, residual=False), Stage(c + d, d, 1, residual=False)
        self.heads = nn.ModuleList(Head(inside, b, classes) for inside in (b, c, d))
        self.classes = classes
        centres, strides = grid(size)
        self.register_buffer("centres", centres)
        self.register_buffer("strides", strides)
        self.register_buffer("bins", torch.arange(BINS, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        third = self.third(self.stem(x))
        fourth = self.fourth(third)
        fifth = self.fifth(fourth)
        up4 = self.up4(torch.cat((self.up(fifth), fourth), dim=1))
        out3 = self.up3(torch.cat((self.up(up4), third), dim=1))
        out4 = self.out4(torch.cat((self.down3(out3), up4), dim=1))
        out5 = self.out5(torch.cat((self.down4(out4), fifth), dim=1))
        raw = [head(level) for head, level in zip(self.heads, (out3, out4, out5), strict=True)]
        return self.decode(torch.cat(raw, dim=2))

    def decode(self, raw: Tensor) -> Tensor:
        """(b, 4 · BINS + classes, n) → (b, 4 + classes, n): centre x and y, width, height in pixels, then scores."""
        boxes, kinds = raw.split((4 * BINS, self.classes), dim=1)
        distances = boxes.reshape(boxes.shape[0], 4, BINS, -1).softmax(dim=2)
        near, far = (distances * self.bins.reshape(1, 1, BINS, 1)).sum(dim=2).chunk(2, dim=1)
        low, high = self.centres - near, self.centres + far
        return torch.cat(((low + high) / 2 * self.strides, (high - low) * self.strides, kinds.sigmoid()), dim=1)


def grid(size: int) -> tuple[Tensor, Tensor]:
    """Centres of all cells in units of their own stride, (1, 2, n), and those strides, (1, 1, n)."""
    centres, strides = [], []
    for stride in STRIDES:
        line = torch.arange(size // stride) + 0.5
        rows, columns = torch.meshgrid(line, line, indexing="ij")
        centres.append(torch.stack((columns.flatten(), rows.flatten())))
        strides.append(torch.full((1, len(line) ** 2), float(stride)))
    return torch.cat(centres, dim=1)[None], torch.cat(strides, dim=1)[None]


def yolo() -> nn.Module:
    return Yolo(16, 20, 256)
