"""MobileNet v1 (Howard et al. 2017, arXiv:1704.04861, table 1), v2 (Sandler et al. 2018, arXiv:1801.04381, table 2)."""

from torch import nn

from benchmarks.suite.layers import Classifier, InvertedResidual, conv_norm

V1 = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
V2 = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def mobilenet_v1(classes: int = 1000) -> nn.Module:
    parts = [conv_norm(3, 32, 3, 2, act=nn.ReLU())]
    inside = 32
    for outside, stride in V1:
        parts.append(conv_norm(inside, inside, 3, stride, inside, nn.ReLU()))
        parts.append(conv_norm(inside, outside, act=nn.ReLU()))
        inside = outside
    return nn.Sequential(*parts, Classifier(inside, classes))


def mobilenet_v2(classes: int = 1000) -> nn.Module:
    parts = [conv_norm(3, 32, 3, 2, act=nn.ReLU6())]
    inside = 32
    for expand, outside, times, stride in V2:
        for turn in range(times):
            parts.append(InvertedResidual(inside, outside, stride if turn == 0 else 1, expand))
            inside = outside
    return nn.Sequential(*parts, conv_norm(inside, 1280, act=nn.ReLU6()), Classifier(1280, classes))
