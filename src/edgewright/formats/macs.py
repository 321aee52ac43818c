"""Multiply-accumulates of one operator, by its definition.

ONNX's are those of https://onnx.ai/onnx/operators/, TFLite's those of its kernels
(https://ai.google.dev/edge/litert).
"""

from collections.abc import Callable
from math import isqrt, prod

from edgewright.formats.typed_graph import TypedGraph, TypedNode, limit_count

OWN_DOMAINS = ("", "com.microsoft")


class UnknownSize(Exception):
    """Raised if a required size is dynamic; the text names it."""


Sizes = tuple[int, ...]
Rule = Callable[[TypedGraph, TypedNode], int]


def count_macs(graph: TypedGraph, node: TypedNode) -> int | None:
    """Return the multiply-accumulates of one node; None if a size is dynamic or wrong, or known only after a run."""
    if node.bodies or node.domain not in OWN_DOMAINS:
        return None
    rule = (TFLITE_RULES if graph.format == "tflite" else ONNX_RULES).get(node.op)
    if rule is None:
        return 0
    try:
        return limit_count(rule(graph, node))
    except (UnknownSize, LookupError, ArithmeticError, TypeError, ValueError):  # invalid inputs or attributes
        return None


def _sizes(graph: TypedGraph, node: TypedNode, position: int) -> Sizes:
    """Return the shape of an input. Raises UnknownSize for a dynamic size."""
    return _fixed(graph, node.inputs[position])


def _read_output_sizes(graph: TypedGraph, node: TypedNode) -> Sizes:
    return _fixed(graph, node.outputs[0])


def _fixed(graph: TypedGraph, name: str) -> Sizes:
    kind = graph.tensors[name]
    if kind.shape is None or any(isinstance(size, str) for size in kind.shape):
        raise UnknownSize(name)
    return tuple(size for size in kind.shape if isinstance(size, int))


def _conv(weights: int) -> Rule:
    """Return output elements × (channels of a group × kernel): the weights' sizes [out, in / groups, …] but the
    first."""
    return lambda graph, node: prod(_read_output_sizes(graph, node)) * prod(_sizes(graph, node, weights)[1:])


def _conv_transpose(graph: TypedGraph, node: TypedNode) -> int:
    """Return input elements × (output channels of a group × kernel): weights are [in, out / groups, …]."""
    return prod(_sizes(graph, node, 0)) * prod(_sizes(graph, node, 1)[1:])


def _matmul(left: int) -> Rule:
    """Return output elements × contracted length."""
    return lambda graph, node: prod(_read_output_sizes(graph, node)) * _sizes(graph, node, left)[-1]


def _gemm(graph: TypedGraph, node: TypedNode) -> int:
    first = _sizes(graph, node, 0)
    return prod(_read_output_sizes(graph, node)) * (first[0] if node.attributes.get("transA") else first[-1])


def _einsum(graph: TypedGraph, node: TypedNode) -> int:
    """Return one MAC for each combination of all labels, times the number of factors minus one."""
    equation = str(node.attributes.get("equation", "")).replace(" ", "")
    labels: dict[str, int] = {}
    for i, term in enumerate(equation.split("->")[0].split(",")):
        if "." in term:
            raise UnknownSize("…")
        labels.update(zip(term, _sizes(graph, node, i), strict=False))
    return prod(labels.values()) * max(0, len(node.inputs) - 1)


def _recurrent(graph: TypedGraph, node: TypedNode) -> int:
    """Return steps × batch × the elements of both weight matrices of every direction."""
    steps, batch, _ = _sizes(graph, node, 0)
    return steps * batch * (prod(_sizes(graph, node, 1)) + prod(_sizes(graph, node, 2)))


def _attention(graph: TypedGraph, node: TypedNode) -> int:
    """Return the MACs of two products for each head: queries × keys, and the result × values (ONNX's Attention-23)."""
    query, key, value = (_sizes(graph, node, i) for i in range(3))
    heads = int(node.attributes.get("q_num_heads", 0)) if len(query) == 3 else query[1]
    width = query[-1] // heads if len(query) == 3 else query[-1]
    key_heads = int(node.attributes.get("kv_num_heads", heads)) if len(query) == 3 else 1
    value_width = value[-1] // key_heads if len(query) == 3 else value[-1]
    return query[0] * heads * query[-2] * key[-2] * (width + value_width)


def _packed_matmul(graph: TypedGraph, node: TypedNode) -> int:
    """Return the MACs of MatMulNBits, whose attributes K and N are the sizes of the matrix."""
    return prod(_sizes(graph, node, 0)[:-1]) * int(node.attributes["K"]) * int(node.attributes["N"])


def _depthwise(graph: TypedGraph, node: TypedNode) -> int:
    """Return the MACs of a depthwise convolution; TFLite's weights are [1, height, width, channels]."""
    return prod(_read_output_sizes(graph, node)) * prod(_sizes(graph, node, 1)[1:3])


def _transposed(graph: TypedGraph, node: TypedNode) -> int:
    """Return the MACs of a transposed convolution; TFLite's inputs are the output's shape, weights [out, height, width,
    in], and the image."""
    return prod(_sizes(graph, node, 2)) * prod(_sizes(graph, node, 1)[:3])


def _batch_matmul(graph: TypedGraph, node: TypedNode) -> int:
    """Return the MACs of a batched product. TFLite may transpose operands: their elements over the result's give the
    inner size squared."""
    left, right, result = _sizes(graph, node, 0), _sizes(graph, node, 1), _read_output_sizes(graph, node)
    return prod(result) * isqrt(prod(left[-2:]) * prod(right[-2:]) // prod(result[-2:]))


def _fully_connected(graph: TypedGraph, node: TypedNode) -> int:
    return prod(_read_output_sizes(graph, node)) * _sizes(graph, node, 1)[-1]


def _cell(axes: int) -> Rule:
    """Return the MACs of RNN, LSTM and SVDF: every matrix is used once for each sample and step.

    `axes` are those of the input for batch and time, in either order.
    """

    def rule(graph: TypedGraph, node: TypedNode) -> int:
        runs = prod(_sizes(graph, node, 0)[:axes])
        weights = [_fixed(graph, name) for name in node.inputs[1:] if name and graph.tensors[name].stored]
        matrices = [shape for shape in weights if len(shape) == 2]
        if not matrices:
            raise UnknownSize("its weights are computed at run time")
        return runs * sum(map(prod, matrices))

    return rule


ONNX_RULES: dict[str, Rule] = {
    "Conv": _conv(1),
    "ConvInteger": _conv(1),
    "QLinearConv": _conv(3),
    "FusedConv": _conv(1),
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "FusedGemm": _gemm,
    "MatMul": _matmul(0),
    "MatMulInteger": _matmul(0),
    "QLinearMatMul": _matmul(0),
    "FusedMatMul": _matmul(0),
    "DynamicQuantizeMatMul": _matmul(0),
    "MatMulNBits": _packed_matmul,
    "Einsum": _einsum,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
    "Attention": _attention,
}

TFLITE_RULES: dict[str, Rule] = {
    "CONV_2D": _conv(1),
    "CONV_3D": lambda graph, node: prod(_read_output_sizes(graph, node)) * prod(_sizes(graph, node, 1)[:-1]),
    "DEPTHWISE_CONV_2D": _depthwise,
    "TRANSPOSE_CONV": _transposed,
    "FULLY_CONNECTED": _fully_connected,
    "BATCH_MATMUL": _batch_matmul,
    "RNN": _cell(1),
    "LSTM": _cell(1),
    "SVDF": _cell(1),
    "UNIDIRECTIONAL_SEQUENCE_RNN": _cell(2),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _cell(2),
    "BIDIRECTIONAL_SEQUENCE_RNN": _cell(2),
    "BIDIRECTIONAL_SEQUENCE_LSTM": _cell(2),
}
