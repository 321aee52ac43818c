"""ESPCN (Shi et al. 2016, arXiv:1609.05158): super-resolution ×3 by a pixel shuffle, here with PReLU."""

from torch import nn


def espcn() -> nn.Module:
    first = [nn.Conv2d(3, 64, 5, padding=2), nn.PReLU(64), nn.Conv2d(64, 64, 3, padding=1), nn.PReLU(64)]
    second = [nn.Conv2d(64, 64, 3, padding=1), nn.PReLU(), nn.Conv2d(64, 128, 3, padding=1), nn.Tanh()]
    return nn.Sequential(*first, *second, nn.Conv2d(128, 27, 3, padding=1), nn.PixelShuffle(3))
