"""DS-CNN, the large one, for keyword spotting (Zhang et al. 2017, arXiv:1711.07128, table 10): 49 frames × 10 MFCC."""

from torch import nn

from benchmarks.suite.layers import Classifier, conv_norm


def dscnn(classes: int = 12, width: int = 276) -> nn.Module:
    # A kernel of 10 × 4 pads unevenly when the size is to be kept; 5 + 4 and 1 + 2 is how TensorFlow splits it.
    stem = [
        nn.ZeroPad2d((1, 2, 4, 5)),
        nn.Conv2d(1, width, (10, 4), (2, 1), bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    ]
    parts: list[nn.Module] = []
    for turn in range(5):
        parts.append(conv_norm(width, width, 3, 2 if turn == 0 else 1, width, nn.ReLU()))
        parts.append(conv_norm(width, width, act=nn.ReLU()))
    return nn.Sequential(*stem, *parts, Classifier(width, classes))
