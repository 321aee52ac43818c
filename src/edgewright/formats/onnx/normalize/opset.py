"""Old opsets: a model gets the oldest opset whose operators all converters read alike."""

from typing import Any

from edgewright.formats.onnx.attributes import OWN_DOMAINS, iterate_subgraphs, read_opset, write_attribute

COMMON = 13  # Softmax has one axis, and axes and bounds are inputs
REDUCED = 18  # OpenVINO ignores the axes of the operators below in their older form, where they are an attribute
REDUCTIONS = ("ReduceL1", "ReduceLogSum", "ReduceLogSumExp")
# onnx's converter keeps the operator, whose axis has another meaning from opset 13.
NOT_CONVERTED = ("Hardmax",)
HALF_PIXEL = 11  # the first opset in which Resize can have other coordinates than asymmetric ones
FORMAT = 8  # a version of the file format that has these opsets


def find_opset(model: Any) -> int | None:
    """Return the opset to which a model must be raised; None if its own one is recent enough."""
    own = read_opset(model)
    ops = {node.op_type for node in model.graph.node if node.domain in OWN_DOMAINS}
    wanted = REDUCED if ops.intersection(REDUCTIONS) else COMMON
    return wanted if 0 < own < wanted and not ops.intersection(NOT_CONVERTED) else None


def raise_opset(model: Any) -> Any:
    """Return the model in the opset that it needs; the same model if it needs none, or onnx cannot convert it.

    Args:
        model: which may lack the data of large initializers; the result lacks the same.
    """
    wanted = find_opset(model)
    if wanted is None:
        return model
    from onnx import version_converter

    try:
        raised = version_converter.convert_version(model, wanted)
    except Exception:  # onnx's own classes: the converters see the model as it is
        return model
    raised.ir_version = max(model.ir_version, FORMAT)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for tensor in raised.graph.initializer:
        if tensor.name in stored:
            tensor.CopyFrom(stored[tensor.name])
    if read_opset(model) < HALF_PIXEL:
        _keep_coordinates(raised.graph)
    return raised


def _keep_coordinates(graph: Any) -> None:
    """Give each Resize the coordinates of its older form, which onnx's converter omits."""
    for node in graph.node:
        if node.op_type == "Resize" and node.domain in OWN_DOMAINS:
            write_attribute(node, "coordinate_transformation_mode", "asymmetric")
            write_attribute(node, "nearest_mode", "floor")
        for inner in iterate_subgraphs(node):
            _keep_coordinates(inner)
