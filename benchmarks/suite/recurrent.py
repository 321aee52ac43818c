"""LSTM (Hochreiter & Schmidhuber 1997), two layers both ways, and GRU (Cho et al. 2014, arXiv:1406.1078), one way."""
# mypy: allow-subclassing-any
# torch is untyped here (see pyproject.toml), so every module's base class is Any.

from torch import Tensor, nn


class LastStep(nn.Module):
    """Classes of a whole sequence, from its last step."""

    def __init__(self, inside: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.cells = nn.LSTM(inside, hidden, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(2 * hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cells(x)[0][:, -1])


class EveryStep(nn.Module):
    """Scores of every step, as a streaming recogniser gives them."""

    def __init__(self, inside: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.cells = nn.GRU(inside, hidden, batch_first=True)
        self.head = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cells(x)[0]).log_softmax(dim=-1)


def lstm() -> nn.Module:
    return LastStep(40, 128, 32)


def gru() -> nn.Module:
    return EveryStep(40, 256, 32)
