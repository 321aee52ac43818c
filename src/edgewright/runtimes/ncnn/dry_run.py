"""The graph that pnnx would get, without running pnnx or the model."""

from typing import Any

import numpy as np

from edgewright.formats.onnx.fold import ConstantFolder
from edgewright.formats.onnx.weightless import LARGE
from edgewright.runtimes.ncnn.conversion.normalize import check_model, extract_floats, normalize_model
from edgewright.schema.arrays import Array
from edgewright.schema.vocabulary import Precision


def rewrite_model(model: Any, precision: Precision) -> Any:
    """Return the rewritten model. Raises NotConvertible as the compiler does."""
    model = check_model(model)
    if precision == "w8a8":
        model = extract_floats(model).model
    return normalize_model(model, _estimate_values(model), retry=False)


def _estimate_values(model: Any) -> dict[str, Array]:
    """Return zeros in the inferred shape of each tensor, and the small constants that are known."""
    bare = type(model)()
    bare.CopyFrom(model)
    for tensor in bare.graph.initializer:
        if len(tensor.raw_data) > LARGE:
            tensor.raw_data = b""
    folder = ConstantFolder(bare)
    zeros = {}
    for name, kind in folder.resolve().items():
        sizes = [size for size in kind.shape or () if isinstance(size, int)]
        if kind.dtype and kind.elements() is not None:
            zeros[name] = np.broadcast_to(np.zeros((), kind.dtype), sizes)
    return zeros | folder.values
