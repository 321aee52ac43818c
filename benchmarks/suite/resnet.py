"""ResNet-18 (He et al. 2016, arXiv:1512.03385, table 1), shortcut option B."""
# mypy: allow-subclassing-any
# torch is untyped here (see pyproject.toml), so every module's base class is Any.

from torch import Tensor, nn

from benchmarks.suite.layers import Classifier, conv_norm


class Basic(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_norm(inside, outside, 3, stride, act=nn.ReLU()), conv_norm(outside, outside, 3))
        same = inside == outside and stride == 1
        self.shortcut = nn.Identity() if same else conv_norm(inside, outside, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(self.body(x) + self.shortcut(x))


def resnet18(classes: int = 1000) -> nn.Module:
    parts = [conv_norm(3, 64, 7, 2, act=nn.ReLU()), nn.MaxPool2d(3, 2, 1)]
    inside = 64
    for outside, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        parts += [Basic(inside, outside, stride), Basic(outside, outside, 1)]
        inside = outside
    return nn.Sequential(*parts, Classifier(inside, classes))
