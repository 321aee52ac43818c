"""The blocks that several families share."""
# mypy: allow-subclassing-any
# torch is untyped here (see pyproject.toml), so every module's base class is Any.

from torch import Tensor, nn


def conv_norm(
    inside: int, outside: int, kernel: int = 1, stride: int = 1, groups: int = 1, act: nn.Module | None = None
) -> nn.Sequential:
    """Convolution with "same" padding at odd kernels, batch normalization, and an activation if given."""
    convolution = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=False)
    parts = [convolution, nn.BatchNorm2d(outside)]
    return nn.Sequential(*parts, *([act] if act is not None else []))


class InvertedResidual(nn.Module):
    """Sandler et al. 2018, section 3.3: expand, depthwise, project, and a shortcut where the shapes allow one."""

    def __init__(self, inside: int, outside: int, stride: int, expand: int) -> None:
        super().__init__()
        wide = inside * expand
        parts = [conv_norm(inside, wide, act=nn.ReLU6())] if expand > 1 else []
        parts += [conv_norm(wide, wide, 3, stride, wide, nn.ReLU6()), conv_norm(wide, outside)]
        self.body = nn.Sequential(*parts)
        self.shortcut = stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.shortcut else self.body(x)


class Classifier(nn.Module):
    """Global average pool and a linear layer."""

    def __init__(self, inside: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inside, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


class FeedForward(nn.Sequential):
    """Linear, GELU (`approximate` as of torch: `none` is the error function, `tanh` its approximation), linear."""

    def __init__(self, inside: int, hidden: int, approximate: str = "none") -> None:
        super().__init__(nn.Linear(inside, hidden), nn.GELU(approximate=approximate), nn.Linear(hidden, inside))
