"""Coupled indices: one label for each index of each axis, and the labels that must be removed together."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
Axes = tuple[Labels, ...]  # of one value

FIXED_LABEL = 0  # the label of an index that is never removed: a pixel, a token position, a sample
OUT, IN, SCALE = "out", "in", "scale"  # roles of a constant's indices in a layer


class Coupling(NamedTuple):
    """Labels by connected component.

    Attributes:
        root: by label, the smallest label of its component.
        reason: by root, the index of the first reason that fixes it; −1 if there is none.
        inexact: by root, whether a normalization computes its statistics over these indices.
        role: by label, 1 + the position in (OUT, IN, SCALE); 0 without a role.
    """

    root: Labels
    reason: Labels
    inexact: NDArray[np.bool_]
    role: Labels


class CouplingBuilder:
    """Collects labels, their couplings and fixed labels; `settle` returns the components.

    Attributes:
        reasons: texts, in the order in which they were added.
    """

    def __init__(self) -> None:
        self._count = 1
        self._ties: list[tuple[Labels, Labels]] = []
        self._fixed: list[tuple[Labels, int]] = []
        self._inexact: list[Labels] = []
        self._roles: list[tuple[Labels, str]] = []
        self.reasons: list[str] = []

    def make(self, count: int) -> Labels:
        """Return new labels; a single index is fixed."""
        if count < 2:
            return np.zeros(count, np.int64)
        self._count += count
        return np.arange(self._count - count, self._count)

    def couple(self, left: Labels, right: Labels, why: str) -> None:
        """Couple labels of equal (or broadcast) shape; `why` is the reason if one of them is fixed."""
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
        """Note that removing these labels changes the result slightly."""
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
    """Return the smallest label of each label's component: roots are linked to smaller ones until nothing changes."""
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
