"""EfficientNet-Lite0: the B0 rows of Tan & Le 2019 (arXiv:1905.11946, table 1) with ReLU6 and no squeeze-and-excite."""
# mypy: allow-subclassing-any
# torch is untyped here (see pyproject.toml), so every module's base class is Any.

from torch import Tensor, nn

from benchmarks.suite.layers import Classifier, conv_norm

# expansion, kernel, stride, output width, times
ROWS = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)


class MBConv(nn.Module):
    def __init__(self, inside: int, outside: int, expand: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = inside * expand
        parts = [conv_norm(inside, wide, act=nn.ReLU6())] if expand > 1 else []
        parts += [conv_norm(wide, wide, kernel, stride, wide, nn.ReLU6()), conv_norm(wide, outside)]
        self.body = nn.Sequential(*parts)
        self.shortcut = stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.shortcut else self.body(x)


def efficientnet_lite0(classes: int = 1000) -> nn.Module:
    parts = [conv_norm(3, 32, 3, 2, act=nn.ReLU6())]
    inside = 32
    for expand, kernel, stride, outside, times in ROWS:
        for turn in range(times):
            parts.append(MBConv(inside, outside, expand, kernel, stride if turn == 0 else 1))
            inside = outside
    return nn.Sequential(*parts, conv_norm(inside, 1280, act=nn.ReLU6()), Classifier(1280, classes))
