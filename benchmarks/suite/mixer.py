"""MLP-Mixer (Tolstikhin et al. 2021, arXiv:2105.01601), small, with GELU in its tanh form."""
# mypy: allow-subclassing-any
# torch is untyped here (see pyproject.toml), so every module's base class is Any.

from torch import Tensor, nn

from benchmarks.suite.layers import FeedForward


class MixerBlock(nn.Module):
    def __init__(self, patches: int, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.tokens, self.channels = FeedForward(patches, width, "tanh"), FeedForward(width, 4 * width, "tanh")

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm2(x))


class Mixer(nn.Module):
    def __init__(self, width: int, depth: int, patches: int, classes: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, width, 16, 16)
        self.blocks = nn.Sequential(*(MixerBlock(patches, width) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.embed(x).flatten(2).transpose(1, 2))
        return self.head(self.norm(x).mean(dim=1))


def mlp_mixer(classes: int = 1000) -> nn.Module:
    return Mixer(192, 6, 196, classes)
