"""LSTM, GRU and RNN nodes in the forms that pnnx recognizes.

It recognizes one direction followed by a Squeeze, and two followed by a Transpose and a Reshape. Of last states it
reads only those of a node with first states; the hidden one is taken from the outputs instead.
"""

import numpy as np

from edgewright.formats.neighbors import find_readers
from edgewright.formats.onnx.attributes import read_attribute, read_attributes
from edgewright.runtimes.contract import NotConvertible
from edgewright.runtimes.ncnn.conversion.graph import Node, ObservedGraph, make_node

LENGTHS, FIRST_HIDDEN, FIRST_CELL, MOST_INPUTS = 4, 5, 6, 7
SWAP = [0, 2, 1, 3]  # [steps, directions, batch, states] to the batch before the directions


def write_recurrent(node: Node, graph: ObservedGraph, opset: int) -> list[Node] | None:
    """Write the form that pnnx recognizes, and make all outputs from it; zero first states are omitted.

    That form's output is float32[steps, batch, directions × states].
    """
    _reject_unsupported(node, graph)
    both = read_attribute(node, "direction", b"forward") == b"bidirectional"
    outputs = [*node.output, "", "", ""][:3]
    every, hidden, cell = (name if name in _find_needed(graph) else "" for name in outputs)
    if cell and both:
        raise NotConvertible(f"{node.op_type} '{node.name}': ncnn does not return the cell states of both directions")
    states = _find_first_states(node, graph, needed=bool(cell))
    sizes = graph.shape(node.input[0])
    count = int(read_attribute(node, "hidden_size"))
    if every and _is_recognized(every, graph, both) and not hidden and not cell:
        return _replace_states(node, states)
    raw, joined = graph.fresh(outputs[0] or node.name), graph.fresh(outputs[0] or node.name)
    made = _replace_states(node, states)
    del made[0].output[:]
    made[0].output.extend([raw, graph.fresh(raw), cell] if cell else [raw])
    if both:
        turned = graph.fresh(raw)
        flat = graph.integers([0, 0, -1])
        made += [make_node("Transpose", [raw], turned, perm=SWAP), make_node("Reshape", [turned, flat], joined)]
    else:
        made.append(make_node("Squeeze", [raw, graph.integers([1])], joined))
    if every:
        shape = [sizes[0], 1 + both, sizes[1], count]
        made.append(make_node("Reshape", [joined, graph.integers(shape)], every))
    if hidden:
        made += _take_last(joined, hidden, graph, (sizes[0], sizes[1], count), both)
    return made


def _reject_unsupported(node: Node, graph: ObservedGraph) -> None:
    attributes = read_attributes(node)
    reason = ""
    if attributes.get("direction", b"forward") == b"reverse":
        reason = "runs forward or in both directions, not backward only"
    elif attributes.get("layout", 0):
        reason = "requires time as the first axis"
    elif len(node.input) > LENGTHS and node.input[LENGTHS]:
        reason = "does not support sequence lengths"
    elif node.op_type == "GRU" and not attributes.get("linear_before_reset", 0):
        reason = "applies the reset gate only after the product (linear_before_reset=1)"
    elif attributes.get("clip") or len(node.input) > MOST_INPUTS:
        reason = "supports neither clipped nor connected gates"
    if reason:
        raise NotConvertible(
            f"{node.op_type} '{node.name}': ncnn {reason}", "compile for another runtime, or export the layer so"
        )


def _find_needed(graph: ObservedGraph) -> set[str]:
    return {*graph.outputs, *(name for node in graph.nodes for name in node.input)}


def _find_first_states(node: Node, graph: ObservedGraph, *, needed: bool) -> list[str]:
    """Return the names of the first states: none if they are zero, unless they are needed.

    pnnx stores constant states of two directions as those of one, so that ncnn reads beyond them.
    """
    names = [node.input[at] for at in (FIRST_HIDDEN, FIRST_CELL) if at < len(node.input) and node.input[at]]
    zero = all(name in graph.constants and not np.any(graph.constants[name]) for name in names)
    both = read_attribute(node, "direction", b"forward") == b"bidirectional"
    if both and not zero and any(name in graph.constants for name in names):
        raise NotConvertible(f"{node.op_type} '{node.name}': ncnn misreads constant first states of both directions")
    if not zero:
        return names
    if not needed:
        return []
    shape = (1, graph.shape(node.input[0])[1], int(read_attribute(node, "hidden_size")))
    return [graph.add(np.zeros(shape), np.float32) for _ in range(2)]


def _replace_states(node: Node, states: list[str]) -> list[Node]:
    kept = [*node.input[:LENGTHS], *([""] * (LENGTHS + 1 - len(node.input[:LENGTHS])) if states else []), *states]
    del node.input[:]
    node.input.extend(kept)
    return [node]


def _is_recognized(every: str, graph: ObservedGraph, both: bool) -> bool:
    """Return whether pnnx recognizes what reads the outputs of all steps."""
    readers = find_readers(graph.nodes)
    after = readers.get(every, ())
    if len(after) != 1 or every in graph.outputs:
        return False
    if not both:
        axes = graph.constant(after[0], 1)
        return after[0].op_type == "Squeeze" and axes is not None and axes.reshape(-1).tolist() == [1]
    swapped = after[0].op_type == "Transpose" and list(read_attribute(after[0], "perm", ())) == SWAP
    behind = readers.get(after[0].output[0], ()) if swapped else ()
    return len(behind) == 1 and behind[0].op_type == "Reshape"


def _take_last(joined: str, hidden: str, graph: ObservedGraph, sizes: tuple[int, int, int], both: bool) -> list[Node]:
    """Return the states [directions, batch, states] of the last step, of the first one for the second direction."""
    steps, batch, count = sizes
    made, parts = [], []
    for step, first in [(steps - 1, 0), (0, count)] if both else [(steps - 1, 0)]:
        parts.append(graph.fresh(hidden))
        bounds = [graph.integers(numbers) for numbers in ([step, first], [step + 1, first + count], [0, 2])]
        made.append(make_node("Slice", [joined, *bounds], parts[-1]))
    source = parts[0]
    if both:
        source = graph.fresh(hidden)
        made.append(make_node("Concat", parts, source, axis=0))
    return [*made, make_node("Reshape", [source, graph.integers([len(parts), batch, count])], hidden)]
