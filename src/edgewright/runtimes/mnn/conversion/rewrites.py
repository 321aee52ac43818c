"""Rewrites of ONNX nodes into equivalent ones that MNN's converter handles correctly.

The last replacement of a node gets its output's name, by which layers find it.
"""

from collections.abc import Callable, Mapping, Sequence
from math import ceil, sqrt
from typing import Any, NamedTuple

import numpy as np

from edgewright.formats.onnx.attributes import read_attribute, write_attribute
from edgewright.formats.onnx.constants import find_constants, make_tensor, read_array, read_static_shapes

POOLS = ("AveragePool", "MaxPool", "LpPool")
SOFTMAX_ON_LAST = 13  # the opset from which on a softmax is over the last axis by default
PAD_AXES = 3  # position of the axes among the inputs of Pad
ERF_P, ERF_A = 0.3275911, (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)
WINDOWED = (*POOLS, "Conv")
Sizes = Sequence[int]


class ModelFacts(NamedTuple):
    """Properties of a model: its constant tensors, the sizes of all tensors, and its opset."""

    constants: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    opset: int


class ReplacementNodes(NamedTuple):
    """The replacement of a node: other nodes and their new constants."""

    nodes: Sequence[Any]
    constants: Sequence[Any] = ()


Rewrite = Callable[[Any, ModelFacts], ReplacementNodes | None]


def rewrite_nodes(model: Any) -> None:
    """Apply every matching rewrite; the model's shapes must have been inferred."""
    graph = model.graph
    opset = max((one.version for one in model.opset_import if not one.domain), default=SOFTMAX_ON_LAST)
    known = ModelFacts(find_constants(graph), read_static_shapes(graph), opset)
    changes = [(node, _find_change(node, known)) for node in graph.node]
    del graph.node[:]
    for node, change in changes:
        graph.node.extend(change.nodes if change else [node])
        graph.initializer.extend(change.constants if change else [])


def _find_change(node: Any, known: ModelFacts) -> ReplacementNodes | None:
    _complete_window(node, known)
    rewrite = REWRITES.get(node.op_type)
    return rewrite(node, known) if rewrite and not node.domain else None


def _complete_window(node: Any, known: ModelFacts) -> None:
    """Write strides and padding explicitly. MNN reads absent strides of a pool as 0, and misreads some automatic
    padding."""
    kernel = read_attribute(node, "kernel_shape", None)
    if node.op_type not in WINDOWED or not kernel:
        return
    strides = read_attribute(node, "strides", None) or [1] * len(kernel)
    write_attribute(node, "strides", list(strides))
    shape = known.shapes.get(node.input[0])
    rule = read_attribute(node, "auto_pad", b"NOTSET")
    if rule in (b"SAME_LOWER", b"SAME_UPPER") and shape:
        dilations = read_attribute(node, "dilations", None) or [1] * len(kernel)
        small, large = _pad_same(shape[2:], kernel, strides, dilations)
        write_attribute(node, "auto_pad", "NOTSET")
        write_attribute(node, "pads", [*large, *small] if rule == b"SAME_LOWER" else [*small, *large])


def _pad_same(sizes: Sizes, kernel: Sizes, strides: Sizes, dilations: Sizes) -> tuple[list[int], list[int]]:
    """Return the padding of each axis for an output of ⌈size / stride⌉: the smaller one, and that of the other side."""
    totals = [
        max((ceil(size / stride) - 1) * stride + (extent - 1) * dilation + 1 - size, 0)
        for size, extent, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True)
    ]
    return [total // 2 for total in totals], [total - total // 2 for total in totals]


def _expand_gelu(node: Any, known: ModelFacts) -> ReplacementNodes | None:
    """Expand to `x / 2 · (1 + erf(x / √2))`: MNN's Gelu is wrong from the fourth digit on."""
    if read_attribute(node, "approximate", b"none") != b"none":
        return None
    source, result = node.input[0], node.output[0]
    root, half, one = (f"{result}/{part}" for part in ("root", "half", "one"))
    erf = _expand_erf(_make(node, "Erf", [f"{result}/scaled"], f"{result}/erf"), known)
    nodes = [
        _make(node, "Mul", [source, root], f"{result}/scaled"),
        *erf.nodes,
        _make(node, "Add", [f"{result}/erf", one], f"{result}/shifted"),
        _make(node, "Mul", [source, half], f"{result}/halved"),
        _make(node, "Mul", [f"{result}/halved", f"{result}/shifted"], result),
    ]
    return ReplacementNodes(nodes, [*erf.constants, _scalar(root, sqrt(0.5)), _scalar(half, 0.5), _scalar(one, 1.0)])


def _expand_erf(node: Any, known: ModelFacts) -> ReplacementNodes:
    """Expand Erf to operators that MNN has vectorized; its own takes 31 ns per element, 25 ms of 37 ms of a
    ConvNeXt.

    Abramowitz and Stegun, Handbook of Mathematical Functions, formula 7.1.26: for x ≥ 0 and t = 1 / (1 + p · x), erf(x)
    = 1 − (a1 · t + … + a5 · t⁵) · exp(−x²), with an error of 1.5e-7 at most, about one step of float32.
    """
    source, result = node.input[0], node.output[0]
    constants = {"p": ERF_P, "one": 1.0} | {f"a{i}": a for i, a in enumerate(ERF_A, 1)}
    nodes: list[Any] = []

    def then(op: str, inputs: list[str], output: str) -> str:
        nodes.append(_make(node, op, inputs, f"{result}/{output}" if output else result))
        return str(nodes[-1].output[0])

    size = then("Abs", [source], "size")
    t = then("Reciprocal", [then("Add", [then("Mul", [size, f"{result}/p"], "small"), f"{result}/one"], "below")], "t")
    tail = then("Mul", [t, f"{result}/a{len(ERF_A)}"], f"tail{len(ERF_A)}")
    for i in range(len(ERF_A) - 1, 0, -1):
        tail = then("Mul", [then("Add", [tail, f"{result}/a{i}"], f"sum{i}"), t], f"tail{i}")
    bell = then("Exp", [then("Neg", [then("Mul", [source, source], "square")], "minus")], "bell")
    rest = then("Sub", [f"{result}/one", then("Mul", [tail, bell], "tail")], "rest")
    then("Mul", [then("Sign", [source], "sign"), rest], "")
    return ReplacementNodes(nodes, [_scalar(f"{result}/{name}", number) for name, number in constants.items()])


def _transpose_first_input(node: Any, known: ModelFacts) -> ReplacementNodes | None:
    """Replace a Gemm with transA by a Transpose and a Gemm: MNN ignores transA."""
    if not read_attribute(node, "transA", 0):
        return None
    transposed = f"{node.output[0]}/turned"
    transpose = _make(node, "Transpose", [node.input[0]], transposed)
    write_attribute(transpose, "perm", [1, 0])
    write_attribute(node, "transA", 0)
    node.input[0] = transposed
    return ReplacementNodes([transpose, node])


def _count_from_begin(node: Any, known: ModelFacts) -> ReplacementNodes | None:
    """Make negative constant indices positive: MNN does not count them from the end."""
    tensor, shape = known.constants.get(node.input[1]), known.shapes.get(node.input[0])
    if tensor is None or shape is None:
        return None
    indices = read_array(tensor)
    if not (indices < 0).any():
        return None
    size = shape[read_attribute(node, "axis", 0)]
    name = f"{node.output[0]}/indices"
    node.input[1] = name
    return ReplacementNodes([node], [make_tensor(name, np.where(indices < 0, indices + size, indices))])


def _make_depth_integer(node: Any, known: ModelFacts) -> ReplacementNodes | None:
    """Make a constant depth of OneHot an integer: MNN reads the bits of a float as an integer, and allocates
    all memory.
    """
    tensor = known.constants.get(node.input[1])
    if tensor is None or read_array(tensor).dtype.kind != "f":
        return None
    name = f"{node.output[0]}/depth"
    node.input[1] = name
    return ReplacementNodes([node], [make_tensor(name, read_array(tensor).astype(np.int64))])


def _expand_reduction(node: Any, known: ModelFacts) -> ReplacementNodes | None:
    """Expand norms and logarithms of sums: MNN reduces all axes if the axes are an input."""
    if len(node.input) < 2 or not node.input[1]:
        return None
    source, result = node.input[0], node.output[0]
    before, behind = REDUCTIONS[node.op_type]
    operands = {"": [], "Abs": [source], "Mul": [source, source]}[before]
    nodes = [_make(node, before, operands, f"{result}/before")] if before else []
    summed = _make(node, "ReduceSum", [nodes[0].output[0] if nodes else source, node.input[1]], f"{result}/sum")
    for name, default in (("keepdims", 1), ("noop_with_empty_axes", 0)):
        write_attribute(summed, name, read_attribute(node, name, default))
    if not behind:
        summed.output[0] = result
    return ReplacementNodes([*nodes, summed, *([_make(node, behind, [summed.output[0]], result)] if behind else [])])


def _write_axis(node: Any, known: ModelFacts) -> ReplacementNodes | None:
    """Write the default axis of a softmax: the converter would otherwise read it from uninitialized
    memory.
    """
    if read_attribute(node, "axis", None) is None:
        write_attribute(node, "axis", -1 if known.opset >= SOFTMAX_ON_LAST else 1)
    return None


def _write_value(node: Any, known: ModelFacts) -> ReplacementNodes | None:
    """Write the default zero of ConstantOfShape: the converter would read uninitialized memory."""
    if read_attribute(node, "value", None) is None:
        write_attribute(node, "value", make_tensor("", np.zeros(1, np.float32)))
    return None


def _raise_to_float(node: Any, known: ModelFacts) -> ReplacementNodes | None:
    """Make a constant integer exponent a float: MNN's Pow requires operands of one type."""
    tensor = known.constants.get(node.input[1])
    if tensor is None or read_array(tensor).dtype.kind != "i":
        return None
    name = f"{node.output[0]}/exponent"
    node.input[1] = name
    return ReplacementNodes([node], [make_tensor(name, read_array(tensor).astype(np.float32))])


def _pad_all_axes(node: Any, known: ModelFacts) -> ReplacementNodes | None:
    """Extend constant pads of some axes to all axes: MNN ignores the `axes` input."""
    if len(node.input) <= PAD_AXES or not node.input[PAD_AXES]:
        return None
    shape = known.shapes.get(node.input[0])
    pads, axes = (known.constants.get(node.input[i]) for i in (1, PAD_AXES))
    if shape is None or pads is None or axes is None:
        return None
    begins, ends = read_array(pads).reshape(2, -1)
    every = np.zeros((2, len(shape)), np.int64)
    for axis, begin, end in zip(read_array(axes), begins, ends, strict=True):
        every[:, axis] = begin, end
    name = f"{node.output[0]}/pads"
    node.input[1] = name
    del node.input[PAD_AXES]
    return ReplacementNodes([node], [make_tensor(name, every.reshape(-1))])


def _run_forward(node: Any, known: ModelFacts) -> ReplacementNodes | None:
    """Name a recurrent node's first output, which MNN would otherwise treat as absent."""
    if node.output and not node.output[0]:
        node.output[0] = f"{node.name}/Y"
    shape = known.shapes.get(node.input[0])
    direction = read_attribute(node, "direction", b"forward")
    if shape is None:
        return None
    if direction == b"reverse":
        return _reverse_twice(node, shape[0])
    if direction == b"bidirectional" and node.op_type == "GRU" and len(node.output) > 1 and node.output[1]:
        return _gather_last(node, shape[0])
    return None


def _reverse_twice(node: Any, steps: int) -> ReplacementNodes:
    """Reverse the sequence and the output of a backward network: MNN only runs forward."""
    source, result = node.input[0], node.output[0]
    order = make_tensor(f"{result}/order", np.arange(steps - 1, -1, -1, dtype=np.int64))
    write_attribute(node, "direction", "forward")
    node.input[0], node.output[0] = f"{source}/{node.name}/reversed", f"{result}/reversed"
    before = _make(node, "Gather", [source, order.name], node.input[0])
    behind = _make(node, "Gather", [node.output[0], order.name], result)
    return ReplacementNodes([before, node, behind], [order])


def _gather_last(node: Any, steps: int) -> ReplacementNodes:
    """Select the last states of a bidirectional GRU from all of its states: MNN returns others."""
    every, last = node.output[0], node.output[1]
    numbers = {"ends": [steps - 1, 0], "stops": [steps, 1], "begins": [0, 1], "to": [1, 2], "axes": [0, 1], "axis": [0]}
    constants = [make_tensor(f"{last}/{name}", np.asarray(value, np.int64)) for name, value in numbers.items()]
    node.output[1] = ""
    ahead = _make(node, "Slice", [every, *(f"{last}/{name}" for name in ("ends", "stops", "axes"))], f"{last}/ahead")
    back = _make(node, "Slice", [every, *(f"{last}/{name}" for name in ("begins", "to", "axes"))], f"{last}/back")
    both = _make(node, "Concat", [f"{last}/ahead", f"{last}/back"], f"{last}/both")
    write_attribute(both, "axis", 1)
    return ReplacementNodes(
        [node, ahead, back, both, _make(node, "Squeeze", [both.output[0], f"{last}/axis"], last)], constants
    )


def _make(node: Any, op: str, inputs: list[str], output: str) -> Any:
    from onnx.helper import make_node

    return make_node(op, inputs, [output], name=f"{node.name}/{op}#{output}")


def _scalar(name: str, value: float) -> Any:
    return make_tensor(name, np.asarray(value, np.float32))


# Operators before and after the sum.
REDUCTIONS = {
    "ReduceL1": ("Abs", ""),
    "ReduceL2": ("Mul", "Sqrt"),
    "ReduceSumSquare": ("Mul", ""),
    "ReduceLogSum": ("", "Log"),
}
REWRITES: Mapping[str, Rewrite] = {
    "ConstantOfShape": _write_value,
    "Erf": _expand_erf,
    "Gelu": _expand_gelu,
    "Gemm": _transpose_first_input,
    "GatherElements": _count_from_begin,
    "ScatterElements": _count_from_begin,
    "LogSoftmax": _write_axis,
    "Softmax": _write_axis,
    "OneHot": _make_depth_integer,
    "Pad": _pad_all_axes,
    "Pow": _raise_to_float,
    **dict.fromkeys(REDUCTIONS, _expand_reduction),
    "RNN": _run_forward,
    "GRU": _run_forward,
    "LSTM": _run_forward,
}
