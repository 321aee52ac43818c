"""What each operator ties together: a rule takes the labels of its inputs and gives those of its outputs.

A rule refuses what it cannot follow; the places that the node touches then stay.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from edgewright.compress.network import attributes_of
from edgewright.compress.pruning import reshape
from edgewright.compress.pruning.atoms import Axes, Places
from edgewright.compress.pruning.flow import Flow, Refused, stay

Rule = Callable[[Flow, Any], list[Axes]]


# Layers


def by_group(inputs: int, outputs: int, groups: int) -> bool:
    """Whether whole groups of a convolution give way, or the same place of every group: what leaves more units."""
    return groups >= max(inputs // groups, outputs // groups)


def tie_group(flow: Flow, node: Any, wide: Places, narrow: Places, groups: int, *, whole: bool) -> Places:
    """Tie the channels of all groups, `wide`, to the places of one group's weights; the labels by group or by place."""
    table = wide.reshape(groups, -1)
    if not whole:
        table = table.T
    flow.tie(node, table[:, 1:].ravel(), np.repeat(table[:, 0], table.shape[1] - 1))
    if not whole:
        flow.tie(node, table[:, 0], narrow)
    return table[:, 0]


def conv(flow: Flow, node: Any) -> list[Axes]:
    x, w = flow.take(node, 0), flow.take(node, 1)
    groups = int(attributes_of(node).get("group", 1))
    flow.hold(node, *x[2:], *w[2:])
    reads = w[1]
    if groups == 1:
        flow.tie(node, x[1], w[1])
    else:
        whole = by_group(x[1].size, w[0].size, groups)
        first = tie_group(flow, node, x[1], w[1], groups, whole=whole)
        table = w[0].reshape(groups, -1)
        if whole:
            reads = stay(0)
            flow.tie(node, table.ravel(), np.repeat(first, table.shape[1]))
        else:
            flow.tie(node, table[1:].ravel(), np.tile(table[0], groups - 1))
    return finish_conv(flow, node, x[0], w[0], w[0], reads)


def conv_transpose(flow: Flow, node: Any) -> list[Axes]:
    x, w = flow.take(node, 0), flow.take(node, 1)
    groups = int(attributes_of(node).get("group", 1))
    flow.hold(node, *x[2:], *w[2:])
    flow.tie(node, x[1], w[0])
    made, makes = w[1], w[1]
    if groups > 1:
        whole = by_group(x[1].size, w[1].size * groups, groups)
        first = tie_group(flow, node, x[1], stay(0) if whole else x[1][: x[1].size // groups], groups, whole=whole)
        made = np.repeat(first, w[1].size) if whole else np.tile(w[1], groups)
        makes = w[0] if whole else w[1]
    return finish_conv(flow, node, x[0], made, makes, stay(0) if makes is w[0] else w[0])


def finish_conv(flow: Flow, node: Any, batch: Places, made: Places, makes: Places, reads: Places) -> list[Axes]:
    if flow.has(node, 2):
        flow.tie(node, flow.take(node, 2)[0], made)
    flow.note_layer(node, 1, makes, reads)
    return [(batch, made, *map(stay, flow.made(node)[2:]))]


def gemm(flow: Flow, node: Any) -> list[Axes]:
    attributes = attributes_of(node)
    a, b = flow.take(node, 0), flow.take(node, 1)
    rows, inner = a[::-1] if attributes.get("transA", 0) else a
    other, columns = b[::-1] if attributes.get("transB", 0) else b
    flow.tie(node, inner, other)
    if flow.has(node, 2):
        meet(flow, node, [(rows, columns), flow.take(node, 2)])
    flow.note_layer(node, 1, columns, other)
    return [(rows, columns)]


def matmul(flow: Flow, node: Any) -> list[Axes]:
    a, b = flow.take(node, 0), flow.take(node, 1)
    flow.tie(node, a[-1], b[-2] if len(b) > 1 else b[-1])
    batch = meet(flow, node, [a[:-2], b[:-2]])
    rows, columns = a[-2:-1], b[-1:] if len(b) > 1 else ()
    if columns:
        flow.note_layer(node, 1, columns[0], b[-2])
    if rows:
        flow.note_layer(node, 0, rows[0], a[-1])
    if not (flow.is_constant(node, 0) or flow.is_constant(node, 1)):
        flow.heads.extend(batch)
    return [(*batch, *rows, *columns)]


def einsum(flow: Flow, node: Any) -> list[Axes]:
    equation = attributes_of(node)["equation"].decode().replace(" ", "")
    if "." in equation or "->" not in equation:
        raise Refused("its equation is not spelt out")
    sides, result = equation.split("->")
    found: dict[str, Places] = {}
    for place, letters in enumerate(sides.split(",")):
        own = dict(zip(letters, flow.take(node, place), strict=True))
        for letter, axis in own.items():
            flow.tie(node, found.setdefault(letter, axis), axis)
        kept, summed = ([axis for letter, axis in own.items() if (letter in result) == side] for side in (True, False))
        flow.note_layer(node, place, np.concatenate([stay(0), *kept]), np.concatenate([stay(0), *summed]))
    return [tuple(found[letter] for letter in result)]


def gather(flow: Flow, node: Any) -> list[Axes]:
    """Rows by number: numbers that are known are put right when places go; others need every row."""
    data, rows = flow.take(node, 0), flow.of(node.input[1]) if not flow.is_constant(node, 1) else None
    axis = int(attributes_of(node).get("axis", 0)) % len(data)
    before, after = data[:axis], data[axis + 1 :]
    numbers = flow.outline.values.get(node.input[1])
    if numbers is not None and numbers.size == max(numbers.shape, default=1):
        chosen = data[axis][numbers].ravel()
        if numbers.size == 1:
            flow.hold(node, chosen)
        return [(*before, *(chosen if size == chosen.size else stay(1) for size in numbers.shape), *after)]
    flow.hold(node, data[axis])
    if flow.is_constant(node, 0) and len(data) == 2:
        flow.note_layer(node, 0, data[1 - axis], stay(0))
    middle = rows if rows is not None else tuple(map(stay, flow.outline.shapes[node.input[1]]))
    return [(*before, *middle, *after)]


def gather_nd(flow: Flow, node: Any) -> list[Axes]:
    data, numbers = flow.take(node, 0), flow.outline.shapes.get(node.input[1])
    if numbers is None or attributes_of(node).get("batch_dims", 0):
        raise Refused("which axes it reads is not known")
    flow.hold(node, *data[: numbers[-1]])
    return [(*map(stay, numbers[:-1]), *data[numbers[-1] :])]


def recurrent(flow: Flow, node: Any) -> list[Axes]:
    """LSTM, GRU and RNN: a hidden number lies in every gate, and at the same place of both directions."""
    attributes = attributes_of(node)
    if attributes.get("layout", 0) or "activations" in attributes or flow.has(node, 7):
        raise Refused("pruning follows it with its usual activations and layout only")
    x, w, r = (flow.take(node, place) for place in range(3))
    hidden = r[2]
    flow.tie(node, x[2], w[2])
    for gates in (w[1], r[1], *([flow.take(node, 3)[1]] if flow.has(node, 3) else [])):
        flow.tie(node, gates, np.tile(hidden, gates.size // hidden.size))
    for place in (5, 6):
        if flow.has(node, place):
            flow.tie(node, flow.take(node, place)[2], hidden)
    flow.note_layer(node, 1, w[1], w[2])
    flow.note_layer(node, 2, r[1], r[2])
    state = (stay(w[0].size), x[1], hidden)
    return [(x[0], state[0], x[1], hidden), state, state][: len(node.output)]


# Normalisation


def batch_norm(flow: Flow, node: Any) -> list[Axes]:
    x = flow.take(node, 0)
    for place in range(1, 5):
        flow.tie(node, x[1], flow.take(node, place)[0])
    flow.atoms.assign(flow.take(node, 1)[0], "scale")
    return [x, *((x[1],) for _ in node.output[1:])]


def instance_norm(flow: Flow, node: Any) -> list[Axes]:
    x = flow.take(node, 0)
    flow.hold(node, *x[2:])
    for place in (1, 2):
        flow.tie(node, x[1], flow.take(node, place)[0])
    return [x]


def group_norm(flow: Flow, node: Any) -> list[Axes]:
    """Whole groups, each with its own statistics; scale and shift are by channel or, in opset 18, by group."""
    x, groups = flow.take(node, 0), int(attributes_of(node)["num_groups"])
    flow.hold(node, *x[2:])
    first = tie_group(flow, node, x[1], stay(0), groups, whole=True)
    for place in (1, 2):
        own = flow.take(node, place)[0]
        flow.tie(node, own, first if own.size == groups else x[1])
    return [x]


def layer_norm(flow: Flow, node: Any) -> list[Axes]:
    """Places of the normalised axes may go, but the statistics of the others then change."""
    x = flow.take(node, 0)
    start = int(attributes_of(node).get("axis", -1)) % len(x)
    for place in (1, 2):
        if flow.has(node, place):
            meet(flow, node, [x, flow.take(node, place)])
    for axis in x[start:]:
        flow.atoms.doubt(axis)
    if flow.has(node, 1) and len(flow.take(node, 1)) == 1:
        flow.atoms.assign(flow.take(node, 1)[0], "scale")
    statistics = (*x[:start], *(stay(1) for _ in x[start:]))
    return [x, *(statistics for _ in node.output[1:])]


def along(flow: Flow, node: Any) -> list[Axes]:
    """An operator that needs all places of its axis."""
    x, axis = flow.take(node, 0), int(attributes_of(node).get("axis", -1 if flow.outline.opset >= 13 else 1))
    coerced = node.op_type in ("Softmax", "LogSoftmax", "Hardmax") and flow.outline.opset < 13
    flow.hold(node, *(x[axis % len(x) :] if coerced else [x[axis % len(x)]]))
    return [x]


def norm_over(flow: Flow, node: Any) -> list[Axes]:
    return [flow.take(node, 0)]  # zeros add nothing to a length


# Elementwise


def unary(flow: Flow, node: Any) -> list[Axes]:
    return [flow.take(node, 0) for _ in node.output]


def broadcast(flow: Flow, node: Any) -> list[Axes]:
    return [meet(flow, node, [flow.of(name) for name in node.input])]


def meet(flow: Flow, node: Any, values: list[Axes]) -> Axes:
    """The labels of values that are brought to one shape from the right."""
    rank = max(map(len, values), default=0)
    result = []
    for place in range(-rank, 0):
        own = [axes[place] for axes in values if len(axes) >= -place]
        size = max((axis.size for axis in own if axis.size != 1), default=1)
        wide = [axis for axis in own if axis.size == size]
        for axis in wide[1:]:
            flow.tie(node, wide[0], axis)
        result.append(wide[0])
    return tuple(result)


# Parts of axes


def concat(flow: Flow, node: Any) -> list[Axes]:
    parts = [flow.of(name) for name in node.input]
    axis = int(attributes_of(node)["axis"]) % len(parts[0])
    rest = meet(flow, node, [(*part[:axis], *part[axis + 1 :]) for part in parts])
    return [(*rest[:axis], np.concatenate([part[axis] for part in parts]), *rest[axis:])]


def split(flow: Flow, node: Any) -> list[Axes]:
    x = flow.take(node, 0)
    axis = int(attributes_of(node).get("axis", 0)) % len(x)
    ends = np.cumsum([flow.made(node, place)[axis] for place in range(len(node.output))])
    return [(*x[:axis], part, *x[axis + 1 :]) for part in np.split(x[axis], ends[:-1])]


def cut_slice(flow: Flow, node: Any) -> list[Axes]:
    x = list(flow.take(node, 0))
    starts, ends = flow.ints(node, 1, "starts"), flow.ints(node, 2, "ends")
    if starts is None or ends is None:
        raise Refused("where it begins and ends is not known")
    axes = flow.ints(node, 3, "axes") or range(len(starts))
    steps = flow.ints(node, 4, "steps") or [1] * len(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if step != 1:
            flow.hold(node, x[axis])
        x[axis] = x[axis][start:end:step]
    return [tuple(x)]


def pad(flow: Flow, node: Any) -> list[Axes]:
    x = list(flow.take(node, 0))
    pads = flow.ints(node, 1, "pads")
    if pads is None:
        raise Refused("how much is padded is not known")
    axes = flow.ints(node, 3, "axes") or list(range(len(x)))
    constant = attributes_of(node).get("mode", b"constant") == b"constant"
    for place, axis in enumerate(axes):
        before, behind = pads[place], pads[place + len(axes)]
        if (before or behind) and (not constant or min(before, behind) < 0):
            flow.hold(node, x[axis])
            x[axis] = stay(x[axis].size + before + behind)
        else:
            x[axis] = np.concatenate([stay(before), x[axis], stay(behind)])
    return [tuple(x)]


def pool(flow: Flow, node: Any) -> list[Axes]:
    x = flow.take(node, 0)
    flow.hold(node, *x[2:])
    if len(node.output) > 1 and node.output[1]:
        flow.hold(node, x[1])  # numbers of places count the channels too
    return [(*x[:2], *map(stay, flow.made(node)[2:])) for _ in node.output]


def resize(flow: Flow, node: Any) -> list[Axes]:
    x, after = flow.take(node, 0), flow.made(node)
    flow.hold(node, *(axis for axis, size in zip(x, after, strict=True) if axis.size != size))
    return [tuple(axis if axis.size == size else stay(size) for axis, size in zip(x, after, strict=True))]


def reduce(flow: Flow, node: Any) -> list[Axes]:
    """Zeros add nothing to a sum; a mean or a maximum needs all places that it is taken over."""
    x, attributes = flow.take(node, 0), attributes_of(node)
    chosen = flow.ints(node, 1, "axes")
    if not chosen and attributes.get("noop_with_empty_axes", 0):
        return [x]
    gone = {i % len(x) for i in chosen} if chosen else set(range(len(x)))
    if node.op_type not in SUMS:
        flow.hold(node, *(x[i] for i in gone))
    kept = (
        stay(1) if i in gone else axis for i, axis in enumerate(x) if i not in gone or attributes.get("keepdims", 1)
    )
    return [tuple(kept)]


def pick(flow: Flow, node: Any) -> list[Axes]:
    """ArgMax, ArgMin and TopK need all places of their axis, and give others there."""
    x, attributes = list(flow.take(node, 0)), attributes_of(node)
    axis = int(attributes.get("axis", -1 if node.op_type == "TopK" else 0)) % len(x)
    flow.hold(node, x[axis])
    if node.op_type == "TopK" or attributes.get("keepdims", 1):
        x[axis] = stay(flow.made(node)[axis])
    else:
        del x[axis]
    return [tuple(x) for _ in node.output]


def measure(flow: Flow, node: Any) -> list[Axes]:
    return [tuple(map(stay, flow.made(node)))]  # a tensor's shape: see `Outline.uses`


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
RULES: dict[str, Rule] = {
    **dict.fromkeys(UNARY, unary),
    **dict.fromkeys(BROADCAST, broadcast),
    **dict.fromkeys(POOLS, pool),
    **dict.fromkeys((*SUMS, *REDUCTIONS), reduce),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), recurrent),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), along),
    **dict.fromkeys(("ArgMax", "ArgMin", "TopK"), pick),
    **dict.fromkeys(("Shape", "Size"), measure),
    **dict.fromkeys(("Reshape", "Flatten"), reshape.reshape),
    "BatchNormalization": batch_norm,
    "Concat": concat,
    "ConstantOfShape": reshape.fill,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "DepthToSpace": reshape.depth_to_space,
    "Einsum": einsum,
    "Expand": reshape.expand,
    "Gather": gather,
    "GatherND": gather_nd,
    "Gemm": gemm,
    "GroupNormalization": group_norm,
    "InstanceNormalization": instance_norm,
    "LayerNormalization": layer_norm,
    "LpNormalization": norm_over,
    "MatMul": matmul,
    "Pad": pad,
    "RMSNormalization": layer_norm,
    "Resize": resize,
    "Slice": cut_slice,
    "SpaceToDepth": reshape.space_to_depth,
    "Split": split,
    "Squeeze": reshape.squeeze,
    "Tile": reshape.tile,
    "Transpose": reshape.transpose,
    "Unsqueeze": reshape.unsqueeze,
}
