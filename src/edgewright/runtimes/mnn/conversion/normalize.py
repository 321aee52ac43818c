"""Preparation of ONNX graphs for MNN's converter: nodes that it converts incorrectly are rejected, expanded or
rewritten."""

from contextlib import suppress
from typing import Any

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
    model = infer_shapes(_expand_functions(model))
    rewrite_nodes(model)
    if precision == "fp16":
        from edgewright.runtimes.mnn.conversion.half import fold_batch_norms, round_weights

        fold_batch_norms(model.graph)
        round_weights(model.graph)
    return model


def _expand_functions(model: Any) -> Any:
    """Return the model with each operator that MNN does not support replaced by ONNX's own definition, if there is
    one.
    """
    from onnx import inliner
    from onnx.helper import make_tensor_value_info

    if not any(node.op_type in EXPANDED_OPS and not node.domain for node in model.graph.node):
        return model
    for tensor in model.graph.initializer:  # the inliner reads all types from here
        model.graph.value_info.append(make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    with suppress(RuntimeError):  # it fails on optional inputs; the converter then names the operator
        return inliner.inline_selected_functions(model, [("", op) for op in EXPANDED_OPS], inline_schema_functions=True)
    return model


def infer_shapes(model: Any) -> Any:
    import onnx

    return onnx.shape_inference.infer_shapes(model) if model.ByteSize() < 2**31 else model
