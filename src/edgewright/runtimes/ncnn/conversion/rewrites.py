"""One function for each ONNX operator that pnnx or ncnn reads incorrectly or not at all.

Each receives the node, the graph and the source's opset and returns the replacements, or None for no change.
"""

from collections.abc import Callable, Sequence
from string import ascii_lowercase
from typing import Any

import numpy as np

from edgewright.formats.onnx.attributes import read_attributes
from edgewright.runtimes.contract import NotConvertible
from edgewright.runtimes.ncnn.conversion.booleans import BOOLEANS
from edgewright.runtimes.ncnn.conversion.data_movement import MOVE_REWRITES, add_separated
from edgewright.runtimes.ncnn.conversion.gelu import expand_gelu
from edgewright.runtimes.ncnn.conversion.graph import Node, ObservedGraph, make_node
from edgewright.runtimes.ncnn.conversion.recurrent import write_recurrent
from edgewright.runtimes.ncnn.conversion.stable import (
    expand_log_softmax,
    expand_log_sum,
    expand_softplus,
    reduce_one_by_one,
)
from edgewright.runtimes.windows import (
    POOLS,
    complete_window,
    has_uneven_pads,
    separate_padding,
)

Rewrite = Callable[[Node, ObservedGraph, int], list[Node] | None]

AXES_BY_ATTRIBUTE = 18  # from this opset on ReduceMean and similar operators have their axes as an input
LARGEST_POWER = 8
ELLIPSIS = "..."
MOST_SLICES = 64
GEMM_INPUTS = 3


def _reduce_by_attribute(node: Node, graph: ObservedGraph, opset: int) -> list[Node] | None:
    """Write the axes as an attribute: pnnx loses an input with one axis, and then silently reduces nothing."""
    attributes = read_attributes(node)
    axes = graph.constant(node, 1)
    if axes is None and opset >= AXES_BY_ATTRIBUTE and attributes.get("noop_with_empty_axes"):
        return [make_node("Identity", node.input[:1], node.output[0])]
    rank = len(graph.shape(node.input[0]))
    chosen = attributes.get("axes") if axes is None else axes.reshape(-1).tolist()
    chosen = sorted(axis % rank for axis in (chosen or range(rank)))
    keep = attributes.get("keepdims", 1)
    if node.op_type in ("ReduceMax", "ReduceMin"):
        return _reduce_each(node, graph, chosen)
    if node.op_type == "ReduceLogSumExp":
        return expand_log_sum(node, graph, chosen)
    if node.op_type != "ReduceSum":
        return [make_node(node.op_type, node.input[:1], node.output[0], axes=chosen, keepdims=keep)]
    mean = graph.fresh(node.output[0])
    count = float(np.prod([graph.shape(node.input[0])[axis] for axis in chosen]))
    return [
        make_node("ReduceMean", node.input[:1], mean, axes=chosen, keepdims=keep),
        make_node("Mul", [mean, graph.add(count, np.float32)], node.output[0]),
    ]


def _reduce_each(node: Node, graph: ObservedGraph, axes: Sequence[int]) -> list[Node]:
    made, last = reduce_one_by_one(node, graph, axes, node.op_type)
    if made and len(graph.shape(node.output[0])) == len(graph.shape(node.input[0])):
        made[-1].output[0] = node.output[0]
        return made
    sizes = graph.integers(graph.shape(node.output[0]) or (1,))
    return [*made, make_node("Reshape", [last, sizes], node.output[0])]


def _gemm_as_linear(node: Node, graph: ObservedGraph, opset: int) -> list[Node] | None:
    """Write a Gemm as torch's linear layer: without a bias, pnnx writes a matrix product, and reads the batch from only
    one operand.

    With a bias and the weights by outputs, it becomes an InnerProduct.
    """
    attributes, weight, bias = read_attributes(node), graph.constant(node, 1), graph.constant(node, 2)
    absent = len(node.input) < GEMM_INPUTS or not node.input[2]
    if weight is None or attributes.get("transA", 0) or (bias is None and not absent):
        return None
    rows = weight if attributes.get("transB", 0) else weight.T
    added = np.zeros(len(rows)) if bias is None else bias * attributes.get("beta", 1.0)
    if added.size not in (1, len(rows)):
        return None  # a separate bias for each row
    added = np.broadcast_to(added.reshape(-1), (len(rows),))
    inputs = [node.input[0], graph.add(rows * attributes.get("alpha", 1.0), np.float32), graph.add(added, np.float32)]
    return [make_node("Gemm", inputs, node.output[0], transB=1)]


def _power_as_product(node: Node, graph: ObservedGraph, opset: int) -> list[Node] | None:
    """Write a constant power as a product: ncnn's vectorized pow is wrong for a negative base."""
    exponent = graph.constant(node, 1)
    if exponent is None or exponent.size != 1:
        return None
    power = float(exponent.reshape(-1)[0])
    if power != int(power) or not 2 <= power <= LARGEST_POWER:
        return None
    names = [graph.fresh(node.output[0]) for _ in range(int(power) - 2)] + [node.output[0]]
    return [
        make_node("Mul", [last, node.input[0]], name)
        for last, name in zip([node.input[0], *names], names, strict=False)
    ]


def _gelu_as_erf(node: Node, graph: ObservedGraph, opset: int) -> list[Node] | None:
    """Expand Gelu, which requires opset 20; pnnx fuses the replacement again."""
    if read_attributes(node).get("approximate", b"none") == b"tanh":
        return _gelu_as_tanh(node, graph)
    return expand_gelu(graph, node.input[0], node.output[0])


def _gelu_as_tanh(node: Node, graph: ObservedGraph) -> list[Node]:
    x = node.input[0]
    square, cube, small, inner, scaled, tanh, one, half = (graph.fresh(node.output[0]) for _ in range(8))
    return [
        make_node("Mul", [x, x], square),
        make_node("Mul", [square, x], cube),
        make_node("Mul", [cube, graph.add(0.044715, np.float32)], small),
        make_node("Add", [x, small], inner),
        make_node("Mul", [inner, graph.add(np.sqrt(2 / np.pi), np.float32)], scaled),
        make_node("Tanh", [scaled], tanh),
        make_node("Add", [tanh, graph.add(1.0, np.float32)], one),
        make_node("Mul", [x, one], half),
        make_node("Mul", [half, graph.add(0.5, np.float32)], node.output[0]),
    ]


def _mish_as_softplus(node: Node, graph: ObservedGraph, opset: int) -> list[Node] | None:
    """Expand Mish, which requires opset 18."""
    soft, tanh = graph.fresh(node.output[0]), graph.fresh(node.output[0])
    x = node.input[0]
    return [
        make_node("Softplus", [x], soft),
        make_node("Tanh", [soft], tanh),
        make_node("Mul", [x, tanh], node.output[0]),
    ]


def _softsign_as_product(node: Node, graph: ObservedGraph, opset: int) -> list[Node] | None:
    """Expand Softsign, which ncnn does not have; pnnx would fuse x / (1 + |x|) to one."""
    size, one, inverse = (graph.fresh(node.output[0]) for _ in range(3))
    return [
        make_node("Abs", node.input[:1], size),
        make_node("Add", [size, graph.add(1.0, np.float32)], one),
        make_node("Reciprocal", [one], inverse),
        make_node("Mul", [node.input[0], inverse], node.output[0]),
    ]


def _group_norm_as_instance_norm(node: Node, graph: ObservedGraph, opset: int) -> list[Node] | None:
    """Expand GroupNormalization, which requires opset 18 and has weights per channel since 21; pnnx fuses the nodes."""
    attributes = read_attributes(node)
    groups, shape = int(attributes["num_groups"]), graph.shape(node.input[0])
    weights = [graph.constant(node, position) for position in (1, 2)]
    if any(weight is None for weight in weights):
        return None
    each = [np.repeat(w, shape[1] // w.size) if w.size != shape[1] else w for w in weights if w is not None]
    wide = [graph.add(w.reshape(-1, *[1] * (len(shape) - 2)), np.float32) for w in each]
    flat, normal, back, scaled = (graph.fresh(node.output[0]) for _ in range(4))
    ones, zeros = graph.add(np.ones(groups), np.float32), graph.add(np.zeros(groups), np.float32)
    epsilon = attributes.get("epsilon", 1e-5)
    return [
        make_node("Reshape", [node.input[0], graph.integers([0, groups, -1])], flat),
        make_node("InstanceNormalization", [flat, ones, zeros], normal, epsilon=epsilon),
        make_node("Reshape", [normal, graph.integers(shape)], back),
        make_node("Mul", [back, wide[0]], scaled),
        make_node("Add", [scaled, wide[1]], node.output[0]),
    ]


def _pad_apart(node: Node, graph: ObservedGraph, opset: int) -> list[Node] | None:
    """Write padding as numbers, and uneven padding as a Pad or a Slice: pnnx supports neither."""
    names = [name for name in (*node.input[:2], *node.output) if name in graph.values or name in graph.constants]
    shapes = {name: graph.shape(name) for name in names}
    if node.op_type in POOLS and max(read_attributes(node).get("dilations") or [1]) > 1:
        raise NotConvertible(f"{node.op_type} '{node.name}': ncnn's pools have no dilations")
    if node.op_type == "MaxPool" and len(node.output) > 1 and node.output[1]:
        raise NotConvertible(f"MaxPool '{node.name}': ncnn returns no indices")
    complete_window(node, shapes)
    if not has_uneven_pads(node):
        return [node]
    return add_separated(separate_padding(node, shapes), graph)


def _spell_out_ellipsis(node: Node, graph: ObservedGraph, opset: int) -> list[Node] | None:
    """Write letters for the axes of an ellipsis, which pnnx loses."""
    equation = read_attributes(node)["equation"].decode().replace(" ", "")
    if ELLIPSIS not in equation:
        return None
    given, arrow, result = equation.partition("->")
    terms = given.split(",")
    shapes = [graph.shape(name) for name in node.input]
    counts = {len(shape) - len(term.replace(ELLIPSIS, "")) for shape, term in zip(shapes, terms, strict=True)
              if ELLIPSIS in term}  # fmt: skip
    free = [letter for letter in ascii_lowercase if letter not in equation]
    if len(counts) != 1 or not arrow:
        raise NotConvertible(f"Einsum '{node.name}': ncnn's converter reads no ellipsis of several lengths")
    letters = "".join(free[: counts.pop()])
    spelled = ",".join(term.replace(ELLIPSIS, letters) for term in terms)
    return [make_node("Einsum", node.input, node.output[0], equation=f"{spelled}->{result.replace(ELLIPSIS, letters)}")]


def _split_by_sizes(node: Node, graph: ObservedGraph, opset: int) -> list[Node] | None:
    """Write the sizes of a Split, since `num_outputs` requires opset 18."""
    from onnx import helper

    if graph.constant(node, 1) is not None:
        return None
    axis = read_attributes(node).get("axis", 0)
    sizes = graph.integers([graph.shape(name)[axis] for name in node.output])
    return [helper.make_node("Split", [node.input[0], sizes], list(node.output), name=node.name, axis=axis)]


def _clip_once(node: Node, graph: ObservedGraph, opset: int) -> list[Node] | None:
    """Make bounds scalars: pnnx reads a bound with one element and rank 1 as a list."""
    for position in (1, 2):
        bound = graph.constant(node, position)
        if bound is not None:
            node.input[position] = graph.add(bound.reshape(()))
    return None


def _rewrite_gather(node: Node, graph: ObservedGraph, opset: int) -> list[Node] | None:
    """Remove an explicit `axis=0`, without which pnnx writes an Embed; constant indices become slices."""
    index = graph.constant(node, 1)
    axis = read_attributes(node).get("axis", 0)
    if index is not None:
        return _pick(node, graph, index, axis % len(graph.shape(node.input[0])))
    if node.input[0] not in graph.constants:
        raise NotConvertible(f"Gather '{node.name}': ncnn looks up rows only in a constant table")
    if axis != 0 or len(graph.shape(node.input[0])) != 2:
        raise NotConvertible(f"Gather '{node.name}': ncnn looks up rows only along axis 0 of a table with two axes")
    del node.attribute[:]
    return None


def _pick(node: Node, graph: ObservedGraph, index: Any, axis: int) -> list[Node] | None:
    """Return concatenated slices for constant indices; of several indices pnnx selects only the first."""
    if index.ndim == 0:
        return None
    size, output = graph.shape(node.input[0])[axis], node.output[0]
    runs = _find_runs([int(i) % size for i in index.reshape(-1)])
    if index.ndim > 1:
        flat = graph.fresh(output)
        made = _join_runs(node, graph, runs, axis, flat) if runs != [(0, size - 1)] else []
        source = flat if made else _before_reshape(node.input[0], graph)
        return [*made, make_node("Reshape", [source, graph.integers(graph.shape(output))], output)]
    return _join_runs(node, graph, runs, axis, output)


def _join_runs(node: Node, graph: ObservedGraph, runs: Sequence[tuple[int, int]], axis: int, output: str) -> list[Node]:
    """Return concatenated slices of the node's first input along the axis."""
    if len(runs) > MOST_SLICES:
        raise NotConvertible(
            f"Gather '{node.name}': its indices have {len(runs)} contiguous ranges; ncnn can "
            "only slice and concatenate them"
        )
    places = graph.integers([axis])
    pieces = [output] if len(runs) == 1 else [graph.fresh(output) for _ in runs]
    made = [
        make_node("Slice", [node.input[0], graph.integers([first]), graph.integers([last + 1]), places], piece)
        for (first, last), piece in zip(runs, pieces, strict=True)
    ]
    return made if len(runs) == 1 else [*made, make_node("Concat", pieces, output, axis=axis)]


def _before_reshape(tensor: str, graph: ObservedGraph) -> str:
    """Return the input of the Reshape that made the tensor, since two Reshapes in a row are one; else the tensor."""
    return next((one.input[0] for one in graph.nodes if one.op_type == "Reshape" and one.output[0] == tensor), tensor)


def _find_runs(indices: Sequence[int]) -> list[tuple[int, int]]:
    """Return the first and last of each run of consecutive indices."""
    runs: list[tuple[int, int]] = []
    for i in indices:
        if runs and runs[-1][1] + 1 == i:
            runs[-1] = (runs[-1][0], i)
        else:
            runs.append((i, i))
    return runs


REDUCTIONS = (
    "ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceSumSquare"
)
REWRITES: dict[str, Rewrite] = {
    **dict.fromkeys(REDUCTIONS.split(), _reduce_by_attribute),
    "Gemm": _gemm_as_linear,
    "Pow": _power_as_product,
    "Gelu": _gelu_as_erf,
    "Mish": _mish_as_softplus,
    "Softsign": _softsign_as_product,
    "Softplus": expand_softplus,
    "LogSoftmax": expand_log_softmax,
    **dict.fromkeys((*POOLS, "Conv", "ConvTranspose"), _pad_apart),
    "GroupNormalization": _group_norm_as_instance_norm,
    "Einsum": _spell_out_ellipsis,
    "Split": _split_by_sizes,
    "Clip": _clip_once,
    "Gather": _rewrite_gather,
    **dict.fromkeys(("LSTM", "GRU", "RNN"), write_recurrent),
    **MOVE_REWRITES,
    **BOOLEANS,
}
