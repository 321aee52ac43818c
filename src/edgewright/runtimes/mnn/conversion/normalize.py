"""Preparation of ONNX graphs for MNN's converter: nodes that it converts incorrectly are rejected, expanded or
rewritten."""

from typing import Any

from edgewright.errors import ModelNotConvertible
from edgewright.formats.onnx.editable import EditableGraph
from edgewright.formats.onnx.functions import expand_operators
from edgewright.formats.onnx.normalize.weights import fold_batch_norms
from edgewright.formats.onnx.qdq import ExtractedFloatModel, extract_float_model
from edgewright.runtimes.contract import NotConvertible
from edgewright.runtimes.mnn.conversion.half import CONVOLUTIONS, round_weights
from edgewright.runtimes.mnn.conversion.rejections import reject_nodes
from edgewright.runtimes.mnn.conversion.rewrites import rewrite_nodes
from edgewright.schema.vocabulary import Precision

# Operators that MNN does not support and that ONNX defines by others.
EXPANDED_OPS = ("Attention", "GroupNormalization", "Mish", "RMSNormalization", "Swish")


def normalize_model(model: Any, precision: Precision) -> Any:
    """Return the model for the converter, with inferred shapes. Raises NotConvertible with the nodes that MNN converts
    incorrectly.
    """
    reject_nodes(model.graph)
    model = infer_shapes(expand_operators(model, EXPANDED_OPS.__contains__))
    rewrite_nodes(model)
    if precision == "fp16":
        graph = EditableGraph(model)
        fold_batch_norms(graph, CONVOLUTIONS)
        model = graph.to_message()
        round_weights(model.graph)
    return model


def extract_floats(model: Any) -> ExtractedFloatModel:
    """Return the parts of a QDQ model, with inferred shapes. Raises NotConvertible."""
    try:
        extracted = extract_float_model(model)
    except ModelNotConvertible as error:
        raise NotConvertible(error.why, error.try_this) from error
    return extracted._replace(model=infer_shapes(extracted.model))


def infer_shapes(model: Any) -> Any:
    import onnx

    return onnx.shape_inference.infer_shapes(model) if model.ByteSize() < 2**31 else model
