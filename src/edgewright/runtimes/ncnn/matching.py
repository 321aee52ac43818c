"""Mapping of ncnn's blobs to the source's tensors with the same values in the same run.

pnnx keeps no names. Both models are run on the same seeded inputs; a blob that equals no tensor is inside of pnnx's
replacement of several operators.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from edgewright.runtimes.ncnn.param import COPIES, ParamRow
from edgewright.schema.arrays import Array

CLOSE = 1e-3  # relative difference up to which two tensors are equal, in float32
CLOSE_HALF = 3e-2
NUMBERS = "fiub"


def match_blobs(
    rows: Sequence[ParamRow], blobs: Mapping[str, Array], values: Mapping[str, Array], half: bool, known: set[str]
) -> dict[str, str]:
    """Return the source's tensor by blob, each tensor once, in the order of the layers.

    Args:
        rows: ncnn's layers.
        blobs: their outputs in one run.
        values: the source's tensors in the same run, in execution order.
        half: whether ncnn's weights are in half precision.
        known: blobs that are not searched.
    """
    flat = {name: array.reshape(-1) for name, array in values.items() if array.dtype.kind in NUMBERS and array.size}
    by_size: dict[int, list[str]] = {}
    for name, array in flat.items():
        by_size.setdefault(array.size, []).append(name)
    found: dict[str, str] = {}
    for top in (top for row in rows if row.op not in COPIES for top in row.tops if top in blobs and top not in known):
        names = by_size.get(blobs[top].size, [])
        match = _find_equal(blobs[top].reshape(-1), names, flat, CLOSE_HALF if half else CLOSE)
        if match is not None:
            found[top] = match
            names.remove(match)
    return found


def _find_equal(blob: Array, names: Iterable[str], values: Mapping[str, Array], tolerance: float) -> str | None:
    """Return the first tensor with nearly the same values; zeros match nothing, since they identify nothing."""
    with np.errstate(over="ignore"):  # of a padding with the lowest number
        size = float(np.linalg.norm(blob))
    if not size or not np.isfinite(size):
        return None
    for name in names:
        other = values[name].astype(np.float32)
        if (
            abs(float(other[0]) - float(blob[0])) <= tolerance * size
            and np.linalg.norm(other - blob) <= tolerance * size
        ):
            return name
    return None
