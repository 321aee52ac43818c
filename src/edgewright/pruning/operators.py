"""Rules of operators: each couples the labels of an operator's inputs and returns those of its outputs.

A rule rejects nodes that it does not support; the labels of such a node are fixed.
"""

from typing import Any

import numpy as np

from edgewright.formats.onnx.attributes import read_attributes
from edgewright.pruning import reshape
from edgewright.pruning.coupling import Axes, Labels
from edgewright.pruning.propagation import LabelPropagation, NodeRejected, PropagationRule, make_fixed_labels

# Layers


def _removes_whole_groups(inputs: int, outputs: int, groups: int) -> bool:
    """Return whether to remove whole groups of a convolution rather than the same index of every group."""
    return groups >= max(inputs // groups, outputs // groups)


def _couple_groups(
    propagation: LabelPropagation, node: Any, wide: Labels, narrow: Labels, groups: int, *, whole: bool
) -> Labels:
    """Couple the channels of all groups, `wide`, to one group's weights. Return the labels by group or by index."""
    table = wide.reshape(groups, -1)
    if not whole:
        table = table.T
    propagation.couple(node, table[:, 1:].ravel(), np.repeat(table[:, 0], table.shape[1] - 1))
    if not whole:
        propagation.couple(node, table[:, 0], narrow)
    return table[:, 0]


def _propagate_conv(propagation: LabelPropagation, node: Any) -> list[Axes]:
    x, w = propagation.input_labels(node, 0), propagation.input_labels(node, 1)
    groups = int(read_attributes(node).get("group", 1))
    propagation.require_all(node, *x[2:], *w[2:])
    reads = w[1]
    if groups == 1:
        propagation.couple(node, x[1], w[1])
    else:
        whole = _removes_whole_groups(x[1].size, w[0].size, groups)
        first = _couple_groups(propagation, node, x[1], w[1], groups, whole=whole)
        table = w[0].reshape(groups, -1)
        if whole:
            reads = make_fixed_labels(0)
            propagation.couple(node, table.ravel(), np.repeat(first, table.shape[1]))
        else:
            propagation.couple(node, table[1:].ravel(), np.tile(table[0], groups - 1))
    return _finish_conv(propagation, node, x[0], w[0], w[0], reads)


def _propagate_conv_transpose(propagation: LabelPropagation, node: Any) -> list[Axes]:
    x, w = propagation.input_labels(node, 0), propagation.input_labels(node, 1)
    groups = int(read_attributes(node).get("group", 1))
    propagation.require_all(node, *x[2:], *w[2:])
    propagation.couple(node, x[1], w[0])
    made, makes = w[1], w[1]
    if groups > 1:
        whole = _removes_whole_groups(x[1].size, w[1].size * groups, groups)
        first = _couple_groups(
            propagation, node, x[1], make_fixed_labels(0) if whole else x[1][: x[1].size // groups], groups, whole=whole
        )
        made = np.repeat(first, w[1].size) if whole else np.tile(w[1], groups)
        makes = w[0] if whole else w[1]
    return _finish_conv(propagation, node, x[0], made, makes, make_fixed_labels(0) if makes is w[0] else w[0])


def _finish_conv(
    propagation: LabelPropagation, node: Any, batch: Labels, made: Labels, makes: Labels, reads: Labels
) -> list[Axes]:
    if propagation.has_input(node, 2):
        propagation.couple(node, propagation.input_labels(node, 2)[0], made)
    propagation.note_layer(node, 1, makes, reads)
    return [(batch, made, *map(make_fixed_labels, propagation.made(node)[2:]))]


def _propagate_gemm(propagation: LabelPropagation, node: Any) -> list[Axes]:
    attributes = read_attributes(node)
    a, b = propagation.input_labels(node, 0), propagation.input_labels(node, 1)
    rows, inner = a[::-1] if attributes.get("transA", 0) else a
    other, columns = b[::-1] if attributes.get("transB", 0) else b
    propagation.couple(node, inner, other)
    if propagation.has_input(node, 2):
        _broadcast_labels(propagation, node, [(rows, columns), propagation.input_labels(node, 2)])
    propagation.note_layer(node, 1, columns, other)
    return [(rows, columns)]


def _propagate_matmul(propagation: LabelPropagation, node: Any) -> list[Axes]:
    a, b = propagation.input_labels(node, 0), propagation.input_labels(node, 1)
    propagation.couple(node, a[-1], b[-2] if len(b) > 1 else b[-1])
    batch = _broadcast_labels(propagation, node, [a[:-2], b[:-2]])
    rows, columns = a[-2:-1], b[-1:] if len(b) > 1 else ()
    if columns:
        propagation.note_layer(node, 1, columns[0], b[-2])
    if rows:
        propagation.note_layer(node, 0, rows[0], a[-1])
    if not (propagation.is_constant(node, 0) or propagation.is_constant(node, 1)):
        propagation.heads.extend(batch)
    return [(*batch, *rows, *columns)]


def _propagate_einsum(propagation: LabelPropagation, node: Any) -> list[Axes]:
    equation = read_attributes(node)["equation"].decode().replace(" ", "")
    if "." in equation or "->" not in equation:
        raise NodeRejected("its equation is not explicit")
    sides, result = equation.split("->")
    found: dict[str, Labels] = {}
    for place, letters in enumerate(sides.split(",")):
        own = dict(zip(letters, propagation.input_labels(node, place), strict=True))
        for letter, axis in own.items():
            propagation.couple(node, found.setdefault(letter, axis), axis)
        kept, summed = ([axis for letter, axis in own.items() if (letter in result) == side] for side in (True, False))
        propagation.note_layer(
            node, place, np.concatenate([make_fixed_labels(0), *kept]), np.concatenate([make_fixed_labels(0), *summed])
        )
    return [tuple(found[letter] for letter in result)]


def _propagate_gather(propagation: LabelPropagation, node: Any) -> list[Axes]:
    """Propagate Gather: known indices are updated on removal; computed ones require every row."""
    data, rows = (
        propagation.input_labels(node, 0),
        propagation.labels_of(node.input[1]) if not propagation.is_constant(node, 1) else None,
    )
    axis = int(read_attributes(node).get("axis", 0)) % len(data)
    before, after = data[:axis], data[axis + 1 :]
    numbers = propagation.static_graph.values.get(node.input[1])
    if numbers is not None and numbers.size == max(numbers.shape, default=1):
        chosen = data[axis][numbers].ravel()
        if numbers.size == 1:
            propagation.require_all(node, chosen)
        return [(*before, *(chosen if size == chosen.size else make_fixed_labels(1) for size in numbers.shape), *after)]
    propagation.require_all(node, data[axis])
    if propagation.is_constant(node, 0) and len(data) == 2:
        propagation.note_layer(node, 0, data[1 - axis], make_fixed_labels(0))
    middle = rows if rows is not None else tuple(map(make_fixed_labels, propagation.static_graph.shapes[node.input[1]]))
    return [(*before, *middle, *after)]


def _propagate_gather_nd(propagation: LabelPropagation, node: Any) -> list[Axes]:
    data, numbers = propagation.input_labels(node, 0), propagation.static_graph.shapes.get(node.input[1])
    if numbers is None or read_attributes(node).get("batch_dims", 0):
        raise NodeRejected("its axes are unknown")
    propagation.require_all(node, *data[: numbers[-1]])
    return [(*map(make_fixed_labels, numbers[:-1]), *data[numbers[-1] :])]


def _propagate_recurrent(propagation: LabelPropagation, node: Any) -> list[Axes]:
    """Propagate LSTM, GRU and RNN: a hidden unit is in every gate and at the same index of both directions."""
    attributes = read_attributes(node)
    if attributes.get("layout", 0) or "activations" in attributes or propagation.has_input(node, 7):
        raise NodeRejected("pruning supports it only with its default activations and layout")
    x, w, r = (propagation.input_labels(node, place) for place in range(3))
    hidden = r[2]
    propagation.couple(node, x[2], w[2])
    for gates in (w[1], r[1], *([propagation.input_labels(node, 3)[1]] if propagation.has_input(node, 3) else [])):
        propagation.couple(node, gates, np.tile(hidden, gates.size // hidden.size))
    for place in (5, 6):
        if propagation.has_input(node, place):
            propagation.couple(node, propagation.input_labels(node, place)[2], hidden)
    propagation.note_layer(node, 1, w[1], w[2])
    propagation.note_layer(node, 2, r[1], r[2])
    state = (make_fixed_labels(w[0].size), x[1], hidden)
    return [(x[0], state[0], x[1], hidden), state, state][: len(node.output)]


# Normalization


def _propagate_batch_norm(propagation: LabelPropagation, node: Any) -> list[Axes]:
    x = propagation.input_labels(node, 0)
    for place in range(1, 5):
        propagation.couple(node, x[1], propagation.input_labels(node, place)[0])
    propagation.coupling_builder.assign(propagation.input_labels(node, 1)[0], "scale")
    return [x, *((x[1],) for _ in node.output[1:])]


def _propagate_instance_norm(propagation: LabelPropagation, node: Any) -> list[Axes]:
    x = propagation.input_labels(node, 0)
    propagation.require_all(node, *x[2:])
    for place in (1, 2):
        propagation.couple(node, x[1], propagation.input_labels(node, place)[0])
    return [x]


def _propagate_group_norm(propagation: LabelPropagation, node: Any) -> list[Axes]:
    """Propagate whole groups with their statistics; scale and shift are per channel or, in opset 18, per group."""
    x, groups = propagation.input_labels(node, 0), int(read_attributes(node)["num_groups"])
    propagation.require_all(node, *x[2:])
    first = _couple_groups(propagation, node, x[1], make_fixed_labels(0), groups, whole=True)
    for place in (1, 2):
        own = propagation.input_labels(node, place)[0]
        propagation.couple(node, own, first if own.size == groups else x[1])
    return [x]


def _propagate_layer_norm(propagation: LabelPropagation, node: Any) -> list[Axes]:
    """Propagate the normalized axes; removal changes the statistics of the other indices."""
    x = propagation.input_labels(node, 0)
    start = int(read_attributes(node).get("axis", -1)) % len(x)
    for place in (1, 2):
        if propagation.has_input(node, place):
            _broadcast_labels(propagation, node, [x, propagation.input_labels(node, place)])
    for axis in x[start:]:
        propagation.coupling_builder.mark_inexact(axis)
    if propagation.has_input(node, 1) and len(propagation.input_labels(node, 1)) == 1:
        propagation.coupling_builder.assign(propagation.input_labels(node, 1)[0], "scale")
    statistics = (*x[:start], *(make_fixed_labels(1) for _ in x[start:]))
    return [x, *(statistics for _ in node.output[1:])]


def _propagate_along_axis(propagation: LabelPropagation, node: Any) -> list[Axes]:
    """Fix the axis of an operator that requires all its indices."""
    x, axis = (
        propagation.input_labels(node, 0),
        int(read_attributes(node).get("axis", -1 if propagation.static_graph.opset >= 13 else 1)),
    )
    coerced = node.op_type in ("Softmax", "LogSoftmax", "Hardmax") and propagation.static_graph.opset < 13
    propagation.require_all(node, *(x[axis % len(x) :] if coerced else [x[axis % len(x)]]))
    return [x]


def _propagate_lp_norm(propagation: LabelPropagation, node: Any) -> list[Axes]:
    return [propagation.input_labels(node, 0)]  # zeros add nothing to a length


# Elementwise


def _propagate_unary(propagation: LabelPropagation, node: Any) -> list[Axes]:
    return [propagation.input_labels(node, 0) for _ in node.output]


def _propagate_broadcast(propagation: LabelPropagation, node: Any) -> list[Axes]:
    return [_broadcast_labels(propagation, node, [propagation.labels_of(name) for name in node.input])]


def _broadcast_labels(propagation: LabelPropagation, node: Any, values: list[Axes]) -> Axes:
    """Return the labels of values that are broadcast to one shape."""
    rank = max(map(len, values), default=0)
    result = []
    for place in range(-rank, 0):
        own = [axes[place] for axes in values if len(axes) >= -place]
        size = max((axis.size for axis in own if axis.size != 1), default=1)
        wide = [axis for axis in own if axis.size == size]
        for axis in wide[1:]:
            propagation.couple(node, wide[0], axis)
        result.append(wide[0])
    return tuple(result)


# Parts of axes


def _propagate_concat(propagation: LabelPropagation, node: Any) -> list[Axes]:
    parts = [propagation.labels_of(name) for name in node.input]
    axis = int(read_attributes(node)["axis"]) % len(parts[0])
    rest = _broadcast_labels(propagation, node, [(*part[:axis], *part[axis + 1 :]) for part in parts])
    return [(*rest[:axis], np.concatenate([part[axis] for part in parts]), *rest[axis:])]


def _propagate_split(propagation: LabelPropagation, node: Any) -> list[Axes]:
    x = propagation.input_labels(node, 0)
    axis = int(read_attributes(node).get("axis", 0)) % len(x)
    ends = np.cumsum([propagation.made(node, place)[axis] for place in range(len(node.output))])
    return [(*x[:axis], part, *x[axis + 1 :]) for part in np.split(x[axis], ends[:-1])]


def _propagate_slice(propagation: LabelPropagation, node: Any) -> list[Axes]:
    x = list(propagation.input_labels(node, 0))
    starts, ends = propagation.read_ints(node, 1, "starts"), propagation.read_ints(node, 2, "ends")
    if starts is None or ends is None:
        raise NodeRejected("its starts and ends are unknown")
    axes = propagation.read_ints(node, 3, "axes") or range(len(starts))
    steps = propagation.read_ints(node, 4, "steps") or [1] * len(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if step != 1:
            propagation.require_all(node, x[axis])
        x[axis] = x[axis][start:end:step]
    return [tuple(x)]


def _propagate_pad(propagation: LabelPropagation, node: Any) -> list[Axes]:
    x = list(propagation.input_labels(node, 0))
    pads = propagation.read_ints(node, 1, "pads")
    if pads is None:
        raise NodeRejected("its pads are unknown")
    axes = propagation.read_ints(node, 3, "axes") or list(range(len(x)))
    constant = read_attributes(node).get("mode", b"constant") == b"constant"
    for place, axis in enumerate(axes):
        before, behind = pads[place], pads[place + len(axes)]
        if (before or behind) and (not constant or min(before, behind) < 0):
            propagation.require_all(node, x[axis])
            x[axis] = make_fixed_labels(x[axis].size + before + behind)
        else:
            x[axis] = np.concatenate([make_fixed_labels(before), x[axis], make_fixed_labels(behind)])
    return [tuple(x)]


def _propagate_pool(propagation: LabelPropagation, node: Any) -> list[Axes]:
    x = propagation.input_labels(node, 0)
    propagation.require_all(node, *x[2:])
    if len(node.output) > 1 and node.output[1]:
        propagation.require_all(node, x[1])  # indices count the channels too
    return [(*x[:2], *map(make_fixed_labels, propagation.made(node)[2:])) for _ in node.output]


def _propagate_resize(propagation: LabelPropagation, node: Any) -> list[Axes]:
    x, after = propagation.input_labels(node, 0), propagation.made(node)
    propagation.require_all(node, *(axis for axis, size in zip(x, after, strict=True) if axis.size != size))
    return [tuple(axis if axis.size == size else make_fixed_labels(size) for axis, size in zip(x, after, strict=True))]


def _propagate_reduce(propagation: LabelPropagation, node: Any) -> list[Axes]:
    """Propagate reductions: a sum ignores removed units; a mean or a maximum requires all indices."""
    x, attributes = propagation.input_labels(node, 0), read_attributes(node)
    chosen = propagation.read_ints(node, 1, "axes")
    if not chosen and attributes.get("noop_with_empty_axes", 0):
        return [x]
    gone = {i % len(x) for i in chosen} if chosen else set(range(len(x)))
    if node.op_type not in SUMS:
        propagation.require_all(node, *(x[i] for i in gone))
    kept = (
        make_fixed_labels(1) if i in gone else axis
        for i, axis in enumerate(x)
        if i not in gone or attributes.get("keepdims", 1)
    )
    return [tuple(kept)]


def _propagate_selection(propagation: LabelPropagation, node: Any) -> list[Axes]:
    """Propagate ArgMax, ArgMin and TopK, which require all indices of their axis."""
    x, attributes = list(propagation.input_labels(node, 0)), read_attributes(node)
    axis = int(attributes.get("axis", -1 if node.op_type == "TopK" else 0)) % len(x)
    propagation.require_all(node, x[axis])
    if node.op_type == "TopK" or attributes.get("keepdims", 1):
        x[axis] = make_fixed_labels(propagation.made(node)[axis])
    else:
        del x[axis]
    return [tuple(x) for _ in node.output]


def _propagate_shape(propagation: LabelPropagation, node: Any) -> list[Axes]:
    return [tuple(map(make_fixed_labels, propagation.made(node)))]  # a tensor's shape: see `StaticGraph.get_used_sizes`


UNARY = ("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Cast", "CastLike", "Ceil",
         "Celu", "Clip", "Cos", "Cosh", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid",
         "HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu", "Log", "Mish", "Neg", "Not",
         "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus",
         "Softsign", "Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu")  # fmt: skip
BROADCAST = ("Add", "And", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater", "GreaterOrEqual",
             "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "PRelu", "Pow", "Sub",
             "Sum", "Where", "Xor")  # fmt: skip
POOLS = ("AveragePool", "MaxPool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")  # fmt: skip
SUMS = ("ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare")  # fmt: skip
REDUCTIONS = ("ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd")  # fmt: skip
RULES: dict[str, PropagationRule] = {
    **dict.fromkeys(UNARY, _propagate_unary),
    **dict.fromkeys(BROADCAST, _propagate_broadcast),
    **dict.fromkeys(POOLS, _propagate_pool),
    **dict.fromkeys((*SUMS, *REDUCTIONS), _propagate_reduce),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _propagate_recurrent),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), _propagate_along_axis),
    **dict.fromkeys(("ArgMax", "ArgMin", "TopK"), _propagate_selection),
    **dict.fromkeys(("Shape", "Size"), _propagate_shape),
    **dict.fromkeys(("Reshape", "Flatten"), reshape.propagate_reshape),
    "BatchNormalization": _propagate_batch_norm,
    "Concat": _propagate_concat,
    "ConstantOfShape": reshape.propagate_fill,
    "Conv": _propagate_conv,
    "ConvTranspose": _propagate_conv_transpose,
    "DepthToSpace": reshape.propagate_depth_to_space,
    "Einsum": _propagate_einsum,
    "Expand": reshape.propagate_expand,
    "Gather": _propagate_gather,
    "GatherND": _propagate_gather_nd,
    "Gemm": _propagate_gemm,
    "GroupNormalization": _propagate_group_norm,
    "InstanceNormalization": _propagate_instance_norm,
    "LayerNormalization": _propagate_layer_norm,
    "LpNormalization": _propagate_lp_norm,
    "MatMul": _propagate_matmul,
    "Pad": _propagate_pad,
    "RMSNormalization": _propagate_layer_norm,
    "Resize": _propagate_resize,
    "Slice": _propagate_slice,
    "SpaceToDepth": reshape.propagate_space_to_depth,
    "Split": _propagate_split,
    "Squeeze": reshape.propagate_squeeze,
    "Tile": reshape.propagate_tile,
    "Transpose": reshape.propagate_transpose,
    "Unsqueeze": reshape.propagate_unsqueeze,
}
