"""The graph that MNN's converter would get, without the converter."""

from typing import Any

from edgewright.runtimes.mnn.conversion.int8 import find_layers, make_no_layer_error
from edgewright.runtimes.mnn.conversion.int8_graph import prepare_int8_graph
from edgewright.runtimes.mnn.conversion.normalize import extract_floats, infer_shapes, normalize_model
from edgewright.schema.vocabulary import Precision


def rewrite_model(model: Any, precision: Precision) -> Any:
    """Return the rewritten model. Raises NotConvertible as the compiler does."""
    model = infer_shapes(model)
    if precision != "w8a8":
        return normalize_model(model, precision)
    extracted = extract_floats(model)
    layers, left = find_layers(extracted)
    if not layers:
        raise make_no_layer_error(left)
    return normalize_model(infer_shapes(prepare_int8_graph(extracted, layers)), precision)
