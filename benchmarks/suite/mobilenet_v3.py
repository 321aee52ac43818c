"""MobileNetV3-Small (Howard et al. 2019, arXiv:1905.02244, table 2): hard-swish, and squeeze-and-excite."""
# mypy: allow-subclassing-any
# torch is untyped here (see pyproject.toml), so every module's base class is Any.

from torch import Tensor, nn

from benchmarks.suite.layers import conv_norm

# kernel, expanded width, output width, squeeze-and-excite, hard-swish, stride
ROWS = (
    (3, 16, 16, True, False, 2),
    (3, 72, 24, False, False, 2),
    (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2),
    (5, 240, 40, True, True, 1),
    (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1),
    (5, 144, 48, True, True, 1),
    (5, 288, 96, True, True, 2),
    (5, 576, 96, True, True, 1),
    (5, 576, 96, True, True, 1),
)


class SqueezeExcite(nn.Module):
    """Hu et al. 2018 with a hard sigmoid for the gate; the hidden width is a quarter, a multiple of 8."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = max(8, (width // 4 + 4) // 8 * 8)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, hidden, 1),
            nn.ReLU(),
            nn.Conv2d(hidden, width, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


class Bottleneck(nn.Module):
    def __init__(self, inside: int, row: tuple[int, int, int, bool, bool, int]) -> None:
        super().__init__()
        kernel, wide, outside, squeezed, hard, stride = row
        act = nn.Hardswish if hard else nn.ReLU
        parts = [conv_norm(inside, wide, act=act())] if wide != inside else []
        parts.append(conv_norm(wide, wide, kernel, stride, wide, act()))
        parts += [SqueezeExcite(wide)] if squeezed else []
        self.body = nn.Sequential(*parts, conv_norm(wide, outside))
        self.shortcut = stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.shortcut else self.body(x)


def mobilenet_v3_small(classes: int = 1000) -> nn.Module:
    parts = [conv_norm(3, 16, 3, 2, act=nn.Hardswish())]
    inside = 16
    for row in ROWS:
        parts.append(Bottleneck(inside, row))
        inside = row[2]
    parts += [conv_norm(inside, 576, act=nn.Hardswish()), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*parts, nn.Linear(576, 1024), nn.Hardswish(), nn.Linear(1024, classes))
