"""A network over raw sound, one-dimensional throughout.

A strided stem and pools (Dai et al. 2017, arXiv:1610.00087), then dilated residual blocks with gates (Bai et al. 2018,
arXiv:1803.01271; van den Oord et al. 2016, arXiv:1609.03499).
"""
# mypy: allow-subclassing-any
# torch is untyped here (see pyproject.toml), so every module's base class is Any.

from torch import Tensor, nn


class Gated(nn.Module):
    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.filter = nn.Conv1d(width, 2 * width, 3, padding=dilation, dilation=dilation)
        self.mix = nn.Sequential(nn.Conv1d(width, width, 1, bias=False), nn.BatchNorm1d(width))

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.filter(x).chunk(2, dim=1)
        return x + self.mix(value.tanh() * gate.sigmoid())


def step(inside: int, outside: int, kernel: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv1d(inside, outside, kernel, stride, kernel // 2, bias=False)
    return [convolution, nn.BatchNorm1d(outside), nn.LeakyReLU(0.1), nn.MaxPool1d(4)]


def audio_tcn(classes: int = 35) -> nn.Module:
    parts = [*step(1, 64, 79, 4), *step(64, 128, 3, 1)]
    parts += [Gated(128, 2**power) for power in range(4)]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(128, classes))
