"""Conversion of real values to a model input's dtype."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.schema.model import TensorSpec


def store_as(values: NDArray[np.floating], spec: TensorSpec) -> NDArray[Any]:
    """Convert real values to the input's dtype; quantized inputs by scale and zero point, rounded half to even."""
    if spec.quantization is None:
        return values.astype(spec.dtype)
    limits = np.iinfo(spec.dtype)
    stored = np.rint(values / spec.quantization.scale) + spec.quantization.zero_point
    clipped: NDArray[Any] = np.clip(stored, limits.min, limits.max).astype(spec.dtype)
    return clipped
