"""Rewrites of ONNX nodes into equivalent ones that MNN's converter handles correctly.

The last replacement of a node gets its output's name, by which layers find it.
"""

from collections.abc import Callable, Mapping, Sequence
from math import prod, sqrt
from typing import Any

import numpy as np

from edgewright.formats.neighbors import find_readers
from edgewright.formats.onnx.attributes import read_attribute, write_attribute
from edgewright.formats.onnx.constants import add_initializers, find_constants, make_tensor, read_array
from edgewright.formats.onnx.editable import NodeReplacement
from edgewright.formats.onnx.fold import ConstantFolder, copy_without_weights
from edgewright.runtimes.contract import NotConvertible
from edgewright.runtimes.mnn.conversion.recurrent import run_forward
from edgewright.runtimes.mnn.conversion.replacement import (
    ModelFacts,
    make_replacement,
    make_scalar,
)
from edgewright.runtimes.windows import (
    complete_window,
    crop_negative_pads,
    has_uneven_pads,
    separate_padding,
)

SOFTMAX_ON_LAST = 13  # the opset from which on a softmax is over the last axis by default
PAD_AXES = 3  # position of the axes among the inputs of Pad
ERF_P, ERF_A = 0.3275911, (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)
BROADCAST = ("Add", "Sub", "Mul", "Div", "Max", "Min")


Rewrite = Callable[[Any, ModelFacts], NodeReplacement | None]


def rewrite_nodes(model: Any) -> None:
    """Apply every matching rewrite."""
    graph = model.graph
    opset = max((one.version for one in model.opset_import if not one.domain), default=SOFTMAX_ON_LAST)
    known = ModelFacts(find_constants(graph), _read_sizes(model), _find_reading_ops(graph), opset)
    changes = [(node, _find_change(node, known)) for node in graph.node]
    del graph.node[:]
    for node, change in changes:
        graph.node.extend(change.nodes if change else [node])
        add_initializers(graph, change.constants if change else {})


def _read_sizes(model: Any) -> dict[str, tuple[int, ...]]:
    """Return the sizes of all values that have fixed ones, also of those that follow from computed constants."""
    types = ConstantFolder(copy_without_weights(model)).resolve()
    return {
        name: tuple(int(size) for size in kind.shape or ())
        for name, kind in types.items()
        if kind.elements() is not None
    }


def _find_reading_ops(graph: Any) -> dict[str, frozenset[str]]:
    return {name: frozenset(one.op_type for one in nodes) for name, nodes in find_readers(graph.node).items()}


def _find_change(node: Any, known: ModelFacts) -> NodeReplacement | None:
    complete_window(node, known.shapes)
    rewrite = REWRITES.get(node.op_type)
    return rewrite(node, known) if rewrite and not node.domain else None


def _pad_apart(node: Any, known: ModelFacts) -> NodeReplacement | None:
    """Write uneven padding of a transposed convolution as a Slice, and that of an average as a Pad: MNN pads the other
    end, and divides by other counts."""
    uneven = has_uneven_pads(node) and all(name in known.shapes for name in (node.input[0], node.output[0]))
    if not uneven or (node.op_type == "AveragePool" and not read_attribute(node, "count_include_pad", 0)):
        return None
    return separate_padding(node, known.shapes)


def _expand_gelu(node: Any, known: ModelFacts) -> NodeReplacement | None:
    """Expand to `x / 2 · (1 + erf(x / √2))`: MNN's Gelu is wrong from the fourth digit on."""
    if read_attribute(node, "approximate", b"none") != b"none":
        return None
    source, result = node.input[0], node.output[0]
    root, half, one = (f"{result}/{part}" for part in ("root", "half", "one"))
    erf = _expand_erf(make_replacement(node, "Erf", [f"{result}/scaled"], f"{result}/erf"), known)
    nodes = [
        make_replacement(node, "Mul", [source, root], f"{result}/scaled"),
        *erf.nodes,
        make_replacement(node, "Add", [f"{result}/erf", one], f"{result}/shifted"),
        make_replacement(node, "Mul", [source, half], f"{result}/halved"),
        make_replacement(node, "Mul", [f"{result}/halved", f"{result}/shifted"], result),
    ]
    return NodeReplacement(
        nodes, {**erf.constants, root: make_scalar(sqrt(0.5)), half: make_scalar(0.5), one: make_scalar(1.0)}
    )


def _expand_erf(node: Any, known: ModelFacts) -> NodeReplacement:
    """Expand Erf to operators that MNN has vectorized; its own takes 31 ns per element, 25 ms of 37 ms of a
    ConvNeXt.

    Abramowitz and Stegun, Handbook of Mathematical Functions, formula 7.1.26: for x ≥ 0 and t = 1 / (1 + p · x), erf(x)
    = 1 − (a1 · t + … + a5 · t⁵) · exp(−x²), with an error of 1.5e-7 at most, about one step of float32.
    """
    source, result = node.input[0], node.output[0]
    constants = {"p": ERF_P, "one": 1.0} | {f"a{i}": a for i, a in enumerate(ERF_A, 1)}
    nodes: list[Any] = []

    def then(op: str, inputs: list[str], output: str) -> str:
        nodes.append(make_replacement(node, op, inputs, f"{result}/{output}" if output else result))
        return str(nodes[-1].output[0])

    size = then("Abs", [source], "size")
    t = then("Reciprocal", [then("Add", [then("Mul", [size, f"{result}/p"], "small"), f"{result}/one"], "below")], "t")
    tail = then("Mul", [t, f"{result}/a{len(ERF_A)}"], f"tail{len(ERF_A)}")
    for i in range(len(ERF_A) - 1, 0, -1):
        tail = then("Mul", [then("Add", [tail, f"{result}/a{i}"], f"sum{i}"), t], f"tail{i}")
    bell = then("Exp", [then("Neg", [then("Mul", [source, source], "square")], "minus")], "bell")
    rest = then("Sub", [f"{result}/one", then("Mul", [tail, bell], "tail")], "rest")
    then("Mul", [then("Sign", [source], "sign"), rest], "")
    return NodeReplacement(nodes, {f"{result}/{name}": make_scalar(number) for name, number in constants.items()})


def _transpose_first_input(node: Any, known: ModelFacts) -> NodeReplacement | None:
    """Replace a Gemm with transA by a Transpose and a Gemm: MNN ignores transA."""
    if not read_attribute(node, "transA", 0):
        return None
    transposed = f"{node.output[0]}/turned"
    transpose = make_replacement(node, "Transpose", [node.input[0]], transposed)
    write_attribute(transpose, "perm", [1, 0])
    write_attribute(node, "transA", 0)
    node.input[0] = transposed
    return NodeReplacement([transpose, node])


def _count_from_begin(node: Any, known: ModelFacts) -> NodeReplacement | None:
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
    return NodeReplacement([node], {name: np.where(indices < 0, indices + size, indices)})


def _make_depth_integer(node: Any, known: ModelFacts) -> NodeReplacement | None:
    """Make a constant depth of OneHot an integer: MNN reads the bits of a float as an integer, and allocates
    all memory.
    """
    tensor = known.constants.get(node.input[1])
    if tensor is None or read_array(tensor).dtype.kind != "f":
        return None
    name = f"{node.output[0]}/depth"
    node.input[1] = name
    return NodeReplacement([node], {name: read_array(tensor).astype(np.int64)})


def _expand_reduction(node: Any, known: ModelFacts) -> NodeReplacement | None:
    """Expand norms and logarithms of sums: MNN reduces all axes if the axes are an input."""
    if len(node.input) < 2 or not node.input[1]:
        return None
    source, result = node.input[0], node.output[0]
    before, behind = REDUCTIONS[node.op_type]
    operands = {"": [], "Abs": [source], "Mul": [source, source]}[before]
    nodes = [make_replacement(node, before, operands, f"{result}/before")] if before else []
    summed = make_replacement(
        node, "ReduceSum", [nodes[0].output[0] if nodes else source, node.input[1]], f"{result}/sum"
    )
    for name, default in (("keepdims", 1), ("noop_with_empty_axes", 0)):
        write_attribute(summed, name, read_attribute(node, name, default))
    if not behind:
        summed.output[0] = result
    return NodeReplacement(
        [*nodes, summed, *([make_replacement(node, behind, [summed.output[0]], result)] if behind else [])]
    )


def _write_axis(node: Any, known: ModelFacts) -> NodeReplacement | None:
    """Write the default axis of a softmax: the converter would otherwise read it from uninitialized
    memory.
    """
    if read_attribute(node, "axis", None) is None:
        write_attribute(node, "axis", -1 if known.opset >= SOFTMAX_ON_LAST else 1)
    return None


def _write_value(node: Any, known: ModelFacts) -> NodeReplacement | None:
    """Write the default zero of ConstantOfShape: the converter would read uninitialized memory."""
    if read_attribute(node, "value", None) is None:
        write_attribute(node, "value", make_tensor("", np.zeros(1, np.float32)))
    return None


def _raise_to_float(node: Any, known: ModelFacts) -> NodeReplacement | None:
    """Make a constant integer exponent a float: MNN's Pow requires operands of one type."""
    tensor = known.constants.get(node.input[1])
    if tensor is None or read_array(tensor).dtype.kind != "i":
        return None
    name = f"{node.output[0]}/exponent"
    node.input[1] = name
    return NodeReplacement([node], {name: read_array(tensor).astype(np.float32)})


def _pad_all_axes(node: Any, known: ModelFacts) -> NodeReplacement | None:
    """Extend constant pads of some axes to all axes, as MNN ignores the `axes` input; negative ones become a Slice."""
    shape = known.shapes.get(node.input[0])
    if len(node.input) <= PAD_AXES or not node.input[PAD_AXES]:
        given = known.constants.get(node.input[1]) if len(node.input) > 1 else None
        cropped = None if given is None else crop_negative_pads(node, read_array(given).tolist())
        return cropped if cropped else None
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
    if cropped := crop_negative_pads(node, every.reshape(-1).tolist()):
        return cropped
    return NodeReplacement([node], {name: every.reshape(-1)})


def _broadcast_scalar(node: Any, known: ModelFacts) -> NodeReplacement | None:
    """Make a constant of one element a scalar: MNN fuses one of several axes into a convolution before it, wrongly."""
    ranks = [len(known.shapes[name]) if name in known.shapes else -1 for name in node.input]
    constants = {}
    for at, name in enumerate(node.input):
        tensor = known.constants.get(name)
        if tensor is None or ranks[at] < 1 or prod(tensor.dims) != 1 or max(ranks[:at] + ranks[at + 1 :]) < ranks[at]:
            continue
        node.input[at] = f"{node.output[0]}/scalar{at}"
        constants[node.input[at]] = read_array(tensor).reshape(())
    return NodeReplacement([node], constants) if constants else None


def _scatter_flat(node: Any, known: ModelFacts) -> NodeReplacement | None:
    """Number the elements of the indexed axes: MNN scatters over one axis only."""
    tensor, shape = known.constants.get(node.input[1]), known.shapes.get(node.input[0])
    count = known.shapes.get(node.input[1], (1,))[-1]
    if count < 2:
        return None
    if tensor is None or shape is None:
        reason = f"ScatterND (node {node.name}): MNN scatters over one axis only, and its indices are computed"
        raise NotConvertible(reason, "export the model with constant indices, or compile for another runtime")
    result, sizes = node.output[0], shape[:count]
    indices = np.moveaxis(read_array(tensor), -1, 0) % np.asarray(sizes).reshape(-1, *[1] * (len(tensor.dims) - 1))
    constants = {
        "indices": np.ravel_multi_index(tuple(indices), sizes)[..., None].astype(np.int64),
        "flat": np.asarray([prod(sizes), *shape[count:]], np.int64),
        "back": np.asarray(shape, np.int64),
    }
    names = [f"{result}/{name}" for name in constants]
    source, scattered = f"{result}/rows", f"{result}/scattered"
    nodes = [
        make_replacement(node, "Reshape", [node.input[0], names[1]], source),
        make_replacement(node, "ScatterND", [source, names[0], node.input[2]], scattered),
        make_replacement(node, "Reshape", [scattered, names[2]], result),
    ]
    return NodeReplacement(nodes, {f"{result}/{name}": array for name, array in constants.items()})


def _expand_softplus(node: Any, known: ModelFacts) -> NodeReplacement | None:
    """Expand to max(x, 0) + log(1 + exp(−|x|)), which does not overflow: MNN's is at most 87, enough for a Tanh."""
    if known.readers.get(node.output[0]) == frozenset(["Tanh"]):
        return None
    source, result = node.input[0], node.output[0]
    steps = [("Abs", [source], "size"), ("Neg", ["size"], "minus"), ("Exp", ["minus"], "bell"),
             ("Add", ["bell", "one"], "more"), ("Log", ["more"], "tail"), ("Relu", [source], "above"),
             ("Add", ["above", "tail"], "")]  # fmt: skip
    return NodeReplacement(_chain(node, steps, (source,)), {f"{result}/one": make_scalar(1.0)})


def _expand_log_sum(node: Any, known: ModelFacts) -> NodeReplacement | None:
    """Expand to m + log(sum(exp(x − m))) with the maximum m, which does not overflow."""
    source, result = node.input[0], node.output[0]
    rank, shape = len(known.shapes.get(source, ())), known.shapes.get(result)
    axes = read_attribute(node, "axes", None)
    if len(node.input) > 1 and node.input[1]:
        axes = read_array(known.constants[node.input[1]]).tolist() if node.input[1] in known.constants else None
        if axes is None:
            return None
    if not rank or shape is None or (not axes and read_attribute(node, "noop_with_empty_axes", 0)):
        return None
    axes = sorted(axis % rank for axis in axes or range(rank))
    steps = [("ReduceMax", [source], "most"), ("Sub", [source, "most"], "less"), ("Exp", ["less"], "powers"),
             ("ReduceSum", ["powers", "axes"], "sum"), ("Log", ["sum"], "log"), ("Add", ["log", "most"], "all"),
             ("Reshape", ["all", "shape"], "")]  # fmt: skip
    nodes = _chain(node, steps, (source,))
    write_attribute(nodes[0], "axes", axes)
    numbers = {"axes": np.asarray(axes, np.int64), "shape": np.asarray(shape, np.int64)}
    return NodeReplacement(nodes, {f"{result}/{name}": array for name, array in numbers.items()})


def _chain(node: Any, steps: Sequence[tuple[str, list[str], str]], given: Sequence[str]) -> list[Any]:
    """Return nodes whose tensors are named after the node's output; the `given` names stay."""
    result = node.output[0]
    return [
        make_replacement(
            node,
            op,
            [name if name in given else f"{result}/{name}" for name in inputs],
            f"{result}/{output}" if output else result,
        )
        for op, inputs, output in steps
    ]


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
    "ReduceLogSumExp": _expand_log_sum,
    "ScatterND": _scatter_flat,
    "Softplus": _expand_softplus,
    "AveragePool": _pad_apart,
    "ConvTranspose": _pad_apart,
    **dict.fromkeys(BROADCAST, _broadcast_scalar),
    **dict.fromkeys(REDUCTIONS, _expand_reduction),
    "RNN": run_forward,
    "GRU": run_forward,
    "LSTM": run_forward,
}
