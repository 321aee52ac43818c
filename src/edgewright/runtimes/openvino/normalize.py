"""Corrections of operators that OpenVINO's ONNX reader converts incorrectly.

Observed with OpenVINO 2026.4 on pools with `ceil_mode`, compared with ONNX Runtime and PyTorch.
"""

from importlib import import_module
from typing import Any


def fix_pools(model: Any) -> None:
    """Rebuild the pools that round their size up and would not compute the same as ONNX."""
    for op in model.get_ordered_ops():
        facts = op.get_attributes()
        kind = (op.get_type_name(), facts.get("rounding_type"))
        if kind == ("MaxPool", "ceil"):
            _replace(op, _rebuild_max(op, facts))
        elif kind == ("AvgPool", "ceil_torch") and not facts["exclude-pad"]:
            _replace(op, _rebuild_average(op, facts))
    model.validate_nodes_and_infer_types()


def _rebuild_max(op: Any, facts: dict[str, Any]) -> Any:
    """Remove a last window that begins after the input: OpenVINO fills it with the lowest float."""
    return _operators().max_pool(
        op.input_value(0),
        facts["strides"],
        facts["dilations"],
        facts["pads_begin"],
        facts["pads_end"],
        facts["kernel"],
        "ceil_torch",
        facts["auto_pad"],
        facts["index_element_type"],
        facts["axis"],
    )


def _rebuild_average(op: Any, facts: dict[str, Any]) -> Any:
    """Divide a last window beyond the padding by the number of its elements inside: OpenVINO divides by the whole
    window.

    The padding becomes a part of the input, so that only elements after it are not counted; a last window that begins
    in the padding is cut off.
    """
    source, none = op.input_value(0), [0] * len(facts["kernel"])
    if any((*facts["pads_begin"], *facts["pads_end"])):
        ends = [[0, 0, *facts[side]] for side in ("pads_begin", "pads_end")]
        source = (
            _operators().pad(source, *ends, "constant", _operators().constant(0.0, op.get_element_type())).output(0)
        )
    pool = _operators().avg_pool(source, facts["strides"], none, none, facts["kernel"], True, "ceil_torch", "explicit")
    shape = op.get_output_partial_shape(0)
    if shape.is_dynamic or shape == pool.get_output_partial_shape(0):
        return pool
    return _operators().slice(pool, [0] * len(shape), shape.to_shape(), [1] * len(shape))


def _operators() -> Any:
    return import_module("openvino.opset14")


def _replace(old: Any, new: Any) -> None:
    """Replace `old` by `new`, which gets its name and its tensors' names."""
    new.set_friendly_name(old.get_friendly_name())
    tensors = [port.get_names() for port in old.outputs()]
    import_module("openvino.utils").replace_node(old, new)
    for port, names in zip(new.outputs(), tensors, strict=True):
        if names:
            port.get_tensor().set_names(names)
