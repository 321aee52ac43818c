"""Small torch sources for tests of training, as a user hands them over."""

from pathlib import Path

NETS = '''
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU(),
            nn.Conv2d(inner, inner, 3, 1, 1, groups=inner, bias=False), nn.BatchNorm2d(inner), nn.ReLU(),
            nn.Conv2d(inner, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x):
        return x + self.body(x)


class Mobile(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.blocks = nn.Sequential(*[Block(16, 32) for _ in range(4)])
        self.head = nn.Linear(16, 5)

    def forward(self, image):
        return self.head(self.blocks(self.stem(image)).mean((2, 3)))


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        n, length, _ = x.shape
        q, k, v = self.qkv(x).reshape(n, length, 3, self.heads, self.size).permute(2, 0, 3, 1, 4).unbind(0)
        y = (q @ k.transpose(-2, -1) * self.size**-0.5).softmax(-1) @ v
        return self.out(y.transpose(1, 2).reshape(n, length, self.heads * self.size))


class Layer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        x = x + self.attention(self.first(x))
        return x + self.mlp(self.second(x))


class Vision(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 32, 4, 4)
        self.position = nn.Parameter(torch.randn(1, 16, 32) * 0.02)
        self.layers = nn.Sequential(*[Layer(32, 4) for _ in range(4)])
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 5)

    def forward(self, image):
        x = self.patch(image).flatten(2).transpose(1, 2) + self.position
        return self.head(self.norm(self.layers(x)).mean(1))


class Stubborn(nn.Module):
    """Counts the channels of one layer by heart."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3, 1, 1), nn.Conv2d(8, 12, 3, 2, 1)
        self.head = nn.Linear(12 * 64, 5)

    def forward(self, image):
        x = torch.relu(self.two(torch.relu(self.one(image))))
        return self.head(x.view(-1, 12 * 64))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.inner, self.back = nn.Linear(8, 16), nn.Linear(16, 8)
        self.out = nn.Linear(8, 20, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, ids):
        return self.out(self.back(torch.relu(self.inner(self.embed(ids)))))


class Loaded(nn.Module):
    """Weights that no seed changes, as those of a factory that loads some."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.table = nn.Parameter(torch.arange(4.0))
        nn.init.eye_(self.layer.weight)

    def forward(self, x):
        return self.layer(x) + self.table


def loaded():
    return Loaded()


def mobile():
    return Mobile()


def vision():
    return Vision()


def stubborn():
    return Stubborn()


def tied():
    return Tied()


def attended():
    return nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)


def raises():
    raise ValueError("no such width")


def nothing():
    return 3
'''
IMAGE: dict[str, tuple[int, ...]] = {"image": (1, 3, 16, 16)}


def write_nets(folder: Path) -> str:
    """A file with several factories; append `:FACTORY`."""
    path = folder / "nets_of_the_test.py"
    path.write_text(NETS)
    return str(path)
