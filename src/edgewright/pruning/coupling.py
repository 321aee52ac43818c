"""What hangs together: one label for each place of each axis, and which labels can only go together."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
Axes = tuple[Labels, ...]  # of one value

FIXED_LABEL = 0  # the label of a place that is never taken away: a pixel, a word's position, a sample
OUT, IN, SCALE = "out", "in", "scale"  # what the places of a constant are to a layer


class Coupling(NamedTuple):
    """Labels by what hangs together.

    Attributes:
        root: by label, the smallest label of its part.
        reason: by root, the number of the first reason for which it stays; −1 where there is none.
        inexact: by root, whether a normalisation takes its statistics over these places.
        role: by label, 1 + the position in (OUT, IN, SCALE); 0 has none.
    """

    root: Labels
    reason: Labels
    inexact: NDArray[np.bool_]
    role: Labels


class CouplingBuilder:
    """Labels that are made, tied and fixed; `settle` tells what has become of them.

    Attributes:
        reasons: words, in the order in which they were given.
    """

    def __init__(self) -> None:
        self._count = 1
        self._ties: list[tuple[Labels, Labels]] = []
        self._fixed: list[tuple[Labels, int]] = []
        self._inexact: list[Labels] = []
        self._roles: list[tuple[Labels, str]] = []
        self.reasons: list[str] = []

    def make(self, count: int) -> Labels:
        """New labels; a single place has no choice and stays."""
        if count < 2:
            return np.zeros(count, np.int64)
        self._count += count
        return np.arange(self._count - count, self._count)

    def couple(self, left: Labels, right: Labels, why: str) -> None:
        """Let labels of equal (or broadcast) shape go together only; `why` is told where one of them stays."""
        left, right = (one.ravel() for one in np.broadcast_arrays(left, right))
        stays = (left == FIXED_LABEL) != (right == FIXED_LABEL)
        self.fix(left[stays] + right[stays], why)
        both = (left != right) & ~stays
        if both.any():
            self._ties.append((left[both], right[both]))

    def fix(self, places: Labels, why: str) -> None:
        held = places[places != FIXED_LABEL]
        if held.size:
            self._fixed.append((held, len(self.reasons)))
            self.reasons.append(why)

    def mark_inexact(self, places: Labels) -> None:
        """Note that what is computed changes a little where these go."""
        self._inexact.append(places.ravel())

    def assign(self, places: Labels, role: str) -> None:
        self._roles.append((places.ravel(), role))

    def settle(self) -> Coupling:
        root = _find_connected_components(self._count, self._ties)
        reason = np.full(self._count, -1)
        for places, number in reversed(self._fixed):
            reason[root[places]] = number
        inexact = np.zeros(self._count, bool)
        for places in self._inexact:
            inexact[root[places]] = True
        role = np.zeros(self._count, np.int64)
        for places, name in reversed(self._roles):
            role[places] = 1 + (OUT, IN, SCALE).index(name)
        return Coupling(root, reason, inexact, role)


def _find_connected_components(count: int, ties: list[tuple[Labels, Labels]]) -> Labels:
    """The smallest label of each one's connected part: roots are hooked onto smaller ones until no tie joins two."""
    root = np.arange(count)
    if not ties:
        return root
    left, right = (np.concatenate(side) for side in zip(*ties, strict=True))
    while True:
        first, second = root[left], root[right]
        apart = first != second
        if not apart.any():
            return root
        left, right, first, second = left[apart], right[apart], first[apart], second[apart]
        np.minimum.at(root, np.maximum(first, second), np.minimum(first, second))
        while (onward := root[root])[root != onward].size:
            root = onward
