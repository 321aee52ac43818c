"""Quantized matrices: codes with a scale, and at 4 bits a minimum, for each group of neighbors in a row."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from edgewright.schema.arrays import Array

GROUP = 32


class Packed(NamedTuple):
    """A matrix whose element is `code * scale + minimum` of its group.

    Attributes:
        codes: integers [rows, columns]: 0 to 15 at 4 bits, -127 to 127 at 8 bits.
        scales: float16 values as float32 [rows, columns / GROUP].
        minima: like the scales; None if all are 0.
        bits: 4 or 8.
    """

    codes: Array
    scales: Array
    minima: Array | None
    bits: int

    def restore(self) -> Array:
        """Return the matrix in float32 [rows, columns]."""
        groups = self.codes.reshape(*self.scales.shape, GROUP).astype(np.float32)
        found = groups * self.scales[..., None]
        if self.minima is not None:
            found += self.minima[..., None]
        return found.reshape(self.codes.shape)


class PackedWeights(Mapping[str, Array]):
    """The weights of a model, of which some are packed; these are restored when they are read."""

    def __init__(self, weights: Mapping[str, Array], packed: Mapping[str, Packed]) -> None:
        self.plain, self.packed = weights, packed

    def __getitem__(self, name: str) -> Array:
        return self.packed[name].restore() if name in self.packed else self.plain[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.plain)

    def __len__(self) -> int:
        return len(self.plain)


def round_8bit(matrix: Array) -> Packed:
    """Return the matrix at 8 bits, symmetric, rounded to the nearest."""
    groups = matrix.reshape(len(matrix), -1, GROUP)
    scales = to_half(np.abs(groups).max(-1) / 127)
    divisors = np.where(scales > 0, scales, np.float32(1))[..., None]
    codes = np.clip(np.rint(groups / divisors), -127, 127).astype(np.int8)
    return Packed(codes.reshape(matrix.shape), scales, None, 8)


def to_half(values: Array) -> Array:
    """Return values rounded to float16, as float32."""
    return values.astype(np.float16).astype(np.float32)
