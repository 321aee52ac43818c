"""Rejection of ONNX nodes that MNN's converter accepts and computes differently.

Each was observed in ONNX's own node tests with MNN 3.6.1.
"""

from collections.abc import Callable, Mapping
from typing import Any

from edgewright.formats.onnx.attributes import read_attribute
from edgewright.runtimes.contract import NotConvertible
from edgewright.runtimes.windows import POOLS

CONTROL_FLOW = ("If", "Loop", "Scan", "SequenceMap")
RECURRENT = ("RNN", "GRU", "LSTM")
LENGTHS = 4  # position of the lengths among the inputs of a recurrent node
SAMPLED_OTHERWISE = (b"half_pixel_symmetric", b"tf_crop_and_resize")
ROUNDED_OTHERWISE = (b"ceil", b"round_prefer_ceil")

RejectionRule = Callable[[Any], str]


def reject_nodes(graph: Any) -> None:
    """Raise NotConvertible with a line for each node that MNN would compute differently than ONNX."""
    found = [(node, reason) for node in graph.node if (reason := _find_reason(node))]
    if found:
        lines = [f"{node.op_type} (node {node.name}): MNN {reason}" for node, reason in found[:10]]
        raise NotConvertible(
            "\n".join(lines), "export the model without these operators, or compile for another runtime"
        )


def _find_reason(node: Any) -> str:
    find_problem = REJECTION_RULES.get(node.op_type)
    return find_problem(node) if find_problem and not node.domain else ""


def _reject_control_flow(node: Any) -> str:
    return "does not run branches or loops in its interpreter"


def _reject_last_index(node: Any) -> str:
    return "returns the first of equal values" if read_attribute(node, "select_last_index", 0) else ""


def _reject_grid_sample(node: Any) -> str:
    reflects = read_attribute(node, "padding_mode", b"zeros") == b"reflection"
    cubic = b"cubic" in read_attribute(node, "mode", b"linear")
    return "supports neither cubic interpolation nor reflection here" if reflects or cubic else ""


def _reject_pool(node: Any) -> str:
    if node.op_type == "MaxPool" and len(node.output) > 1 and node.output[1]:
        return "returns no indices"
    return "does not support dilations here" if max(read_attribute(node, "dilations", None) or [1]) > 1 else ""


def _reject_recurrent(node: Any) -> str:
    if len(node.input) > LENGTHS and node.input[LENGTHS]:
        return "does not support sequence lengths"
    return "requires time as the first axis" if read_attribute(node, "layout", 0) else ""


def _reject_resize(node: Any) -> str:
    mode = read_attribute(node, "mode", b"nearest")
    if mode == b"cubic" or read_attribute(node, "antialias", 0):
        return "has other cubic weights, and no antialiasing"
    if read_attribute(node, "coordinate_transformation_mode", b"") in SAMPLED_OTHERWISE:
        return "does not support this coordinate transformation"
    return (
        "rounds down here"
        if mode == b"nearest" and read_attribute(node, "nearest_mode", b"") in ROUNDED_OTHERWISE
        else ""
    )


def _reject_scatter_reduction(node: Any) -> str:
    return "replaces values instead of combining them" if read_attribute(node, "reduction", b"none") != b"none" else ""


def _reject_max_roi_align(node: Any) -> str:
    return "interpolates before it takes the maximum" if read_attribute(node, "mode", b"avg") == b"max" else ""


def _reject_shrink(node: Any) -> str:
    return "loses negative values"


REJECTION_RULES: Mapping[str, RejectionRule] = {
    **dict.fromkeys(CONTROL_FLOW, _reject_control_flow),
    **dict.fromkeys(("ArgMax", "ArgMin"), _reject_last_index),
    **dict.fromkeys(POOLS, _reject_pool),
    **dict.fromkeys(RECURRENT, _reject_recurrent),
    **dict.fromkeys(("ScatterElements", "ScatterND"), _reject_scatter_reduction),
    "GridSample": _reject_grid_sample,
    "Resize": _reject_resize,
    "RoiAlign": _reject_max_roi_align,
    "Shrink": _reject_shrink,
}
