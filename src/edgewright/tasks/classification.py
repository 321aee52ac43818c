"""Scoring classifiers."""

from math import sqrt

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Z_95 = 1.959963984540054  # the normal distribution's 97.5 % point


class Score(Struct, frozen=True, kw_only=True):
    """A share between `low` and `high` (95 %) of `n` samples."""

    value: float
    low: float
    high: float
    n: int


def accuracy(labels: NDArray[np.integer], scores: NDArray[np.generic]) -> Score:
    """Share of the samples whose highest score is at their label.

    Args:
        labels: [n] class numbers.
        scores: [n, classes], of any type that orders.

    Raises:
        ValueError: no samples, or shapes that do not belong together.
    """
    if scores.ndim != 2 or len(labels) != len(scores) or not len(labels):
        raise ValueError(f"labels {labels.shape} and scores {scores.shape} do not belong together")
    return share_of(int((scores.argmax(axis=1) == labels).sum()), len(labels))


def share_of(hits: int, n: int) -> Score:
    """A share with Wilson's score interval (JASA 22, 1927), which holds near 0 and 1 too."""
    share, z2 = hits / n, Z_95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return Score(value=share, low=max(0.0, middle - half), high=min(1.0, middle + half), n=n)
