"""Second moments of a product's input in the float and in the quantized network, sample by sample."""

import numpy as np

from edgewright.schema.arrays import Array


class CrossMoments:
    """Sums over columns [K, P] of both networks at the same positions; `join` adds up several.

    Attributes:
        n: number of columns.
    """

    def __init__(self, depth: int) -> None:
        self.n = 0
        self._square, self._cross = np.zeros((depth, depth)), np.zeros((depth, depth))
        self._exact, self._quant = np.zeros(depth), np.zeros(depth)

    def add(self, exact: Array, quant: Array) -> None:
        self.n += quant.shape[1]
        self._square += quant @ quant.T
        self._cross += exact @ quant.T
        self._exact += exact.sum(axis=1)
        self._quant += quant.sum(axis=1)

    def join(self, other: "CrossMoments") -> "CrossMoments":
        whole = CrossMoments(len(self._exact))
        whole.n = self.n + other.n
        whole._square, whole._cross = self._square + other._square, self._cross + other._cross
        whole._exact, whole._quant = self._exact + other._exact, self._quant + other._quant
        return whole

    @property
    def means(self) -> tuple[Array, Array]:
        """Return the means of the float and of the quantized network's columns, [K] each."""
        return self._exact / self.n, self._quant / self.n

    def moments(self, *, centered: bool) -> tuple[Array, Array]:
        """Return the means of q qᵀ and f qᵀ, [K, K] each, f float and q quantized; central moments if `centered`."""
        square, cross = self._square / self.n, self._cross / self.n
        if centered:
            exact, quant = self.means
            square, cross = square - np.outer(quant, quant), cross - np.outer(exact, quant)
        return square, cross
