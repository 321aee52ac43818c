"""Rewrites of LSTM, GRU and RNN nodes, which MNN runs forward only."""

from typing import Any

import numpy as np

from edgewright.formats.onnx.attributes import read_attribute, write_attribute
from edgewright.formats.onnx.editable import NodeReplacement
from edgewright.runtimes.mnn.conversion.replacement import ModelFacts, make_replacement


def run_forward(node: Any, known: ModelFacts) -> NodeReplacement | None:
    """Name a recurrent node's first output, which MNN would otherwise treat as absent."""
    if node.output and not node.output[0]:
        node.output[0] = f"{node.name}/Y"
    shape = known.shapes.get(node.input[0])
    direction = read_attribute(node, "direction", b"forward")
    if shape is None:
        return None
    if shape[0] == 1 and len(node.output) > 1 and node.output[1] and direction != b"reverse":
        return _take_only_state(node)
    if direction == b"reverse":
        return _reverse_twice(node, shape[0])
    if direction == b"bidirectional" and node.op_type == "GRU" and len(node.output) > 1 and node.output[1]:
        return _gather_last(node, shape[0])
    return None


def _reverse_twice(node: Any, steps: int) -> NodeReplacement:
    """Reverse the sequence and the output of a backward network: MNN only runs forward."""
    source, result = node.input[0], node.output[0]
    order = f"{result}/order"
    write_attribute(node, "direction", "forward")
    node.input[0], node.output[0] = f"{source}/{node.name}/reversed", f"{result}/reversed"
    before = make_replacement(node, "Gather", [source, order], node.input[0])
    behind = make_replacement(node, "Gather", [node.output[0], order], result)
    return NodeReplacement([before, node, behind], {order: np.arange(steps - 1, -1, -1, dtype=np.int64)})


def _take_only_state(node: Any) -> NodeReplacement:
    """Take the last state of a single step from all states: MNN lets both outputs share their memory, so an operator
    that works in place on the one changes the other."""
    axis = f"{node.output[1]}/axis"
    squeeze = make_replacement(node, "Squeeze", [node.output[0], axis], node.output[1])
    node.output[1] = ""
    return NodeReplacement([node, squeeze], {axis: np.zeros(1, np.int64)})


def _gather_last(node: Any, steps: int) -> NodeReplacement:
    """Select the last states of a bidirectional GRU from all of its states: MNN returns others."""
    every, last = node.output[0], node.output[1]
    numbers = {"ends": [steps - 1, 0], "stops": [steps, 1], "begins": [0, 1], "to": [1, 2], "axes": [0, 1], "axis": [0]}
    constants = {f"{last}/{name}": np.asarray(value, np.int64) for name, value in numbers.items()}
    node.output[1] = ""
    ahead = make_replacement(
        node, "Slice", [every, *(f"{last}/{name}" for name in ("ends", "stops", "axes"))], f"{last}/ahead"
    )
    back = make_replacement(
        node, "Slice", [every, *(f"{last}/{name}" for name in ("begins", "to", "axes"))], f"{last}/back"
    )
    both = make_replacement(node, "Concat", [f"{last}/ahead", f"{last}/back"], f"{last}/both")
    write_attribute(both, "axis", 1)
    return NodeReplacement(
        [node, ahead, back, both, make_replacement(node, "Squeeze", [both.output[0], f"{last}/axis"], last)], constants
    )
