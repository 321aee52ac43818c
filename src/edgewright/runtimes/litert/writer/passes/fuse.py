"""Stage 3: fusion of operators that LiteRT computes by one."""

import numpy as np

from edgewright.formats.onnx.constants import fold_batch_norm
from edgewright.runtimes.litert.writer.graph import Graph, Node
from edgewright.runtimes.litert.writer.passes.patterns import fuse_patterns

# Operators whose kernels have a fused activation.
ACTIVATED = {"Conv", "Gemm", "Add", "Sub", "Mul", "Div"}
BOUNDS = {(0.0, float("inf")): "RELU", (0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1"}


def fuse_operators(graph: Graph) -> None:
    """Fuse operators; each step keeps the graph's results."""
    fuse_patterns(graph)
    graph.drop_unused()
    _fold_batch_norms(graph)
    _add_matmul_biases(graph)
    _reorder_shuffles(graph)
    _fuse_activations(graph)
    graph.drop_unused()


def _follow_once(graph: Graph, node: Node, readers: dict[str, list[Node]]) -> Node | None:
    """Return the single reader of this node's only output."""
    output = node.outputs[0]
    found = readers.get(output, [])
    return found[0] if len(found) == 1 and output not in graph.outputs and not any(node.outputs[1:]) else None


def _absorb_follower(node: Node, follower: Node) -> None:
    """Let `node` produce its follower's output, and drop the follower."""
    node.outputs[0] = follower.outputs[0]
    node.sources = (*node.sources, *follower.sources)
    follower.outputs = []


# BatchNormalization into the convolution before it


def _fold_batch_norms(graph: Graph) -> None:
    readers = graph.consumers()
    for node in list(graph.nodes):
        if node.op in {"Conv", "ConvTranspose"} and node.outputs and not node.domain:
            follower = _follow_once(graph, node, readers)
            if follower is not None and follower.op == "BatchNormalization" and _fold(graph, node, follower):
                _absorb_follower(node, follower)


def _fold(graph: Graph, conv: Node, norm: Node) -> bool:
    parts = [graph.constants.get(name) for name in (*conv.inputs[1:3], *norm.inputs[1:5])]
    grouped = conv.op == "ConvTranspose" and conv.attributes.get("group", 1) != 1
    if any(part is None for part in parts) or norm.attributes.get("training_mode") or any(norm.outputs[1:]) or grouped:
        return False
    bias = graph.constants[conv.inputs[2]] if conv.has(2) else None
    statistics, epsilon = [graph.constants[name] for name in norm.inputs[1:5]], norm.attributes.get("epsilon", 1e-5)
    weights = graph.constants[conv.inputs[1]]
    new_weights, new_bias = fold_batch_norm(weights, bias, statistics, epsilon, int(conv.op != "Conv"))
    conv.inputs[1] = graph.add_constant(conv.inputs[1], new_weights)
    conv.inputs[2:] = [graph.add_constant(f"{conv.name}/bias", new_bias)]
    return True


# A pixel shuffle after a convolution


def _reorder_shuffles(graph: Graph) -> None:
    """Change DepthToSpace from the order of torch's PixelShuffle (CRD) to LiteRT's (DCR) by reordering a Conv's
    outputs."""
    producers, readers = graph.producers(), graph.consumers()
    for node in graph.nodes:
        if node.op == "DepthToSpace" and not node.domain and node.attributes.get("mode") == "CRD":
            conv = producers.get(node.inputs[0])
            if conv is not None and conv.op == "Conv" and _follow_once(graph, conv, readers) is node:
                _reorder_channels(graph, conv, node)


def _reorder_channels(graph: Graph, conv: Node, shuffle: Node) -> None:
    names = conv.inputs[1 : 3 if conv.has(2) else 2]
    if conv.attributes.get("group", 1) != 1 or any(graph.dtypes.get(name) != np.float32 for name in names):
        return
    if any(name not in graph.constants for name in names):
        return
    square = int(shuffle.attributes["blocksize"]) ** 2
    for at, name in enumerate(names, start=1):
        data = graph.constants[name]
        parts = data.reshape(-1, square, *data.shape[1:])
        conv.inputs[at] = graph.add_constant(name, np.swapaxes(parts, 0, 1).reshape(data.shape))
    shuffle.attributes = shuffle.attributes | {"mode": "DCR"}


# MatMul with a constant matrix and an Add of a row


def _add_matmul_biases(graph: Graph) -> None:
    readers, producers = graph.consumers(), graph.producers()
    for node in list(graph.nodes):
        if not node.outputs or not _is_layer(graph, node, producers):
            continue
        follower = _follow_once(graph, node, readers)
        if follower is None or follower.op != "Add":
            continue
        other = next((name for name in follower.inputs if name != node.outputs[0]), "")
        if len(graph.shapes[node.inputs[0]]) >= 2 and _is_row(graph, other, graph.shapes[node.outputs[0]][-1]):
            node.inputs = [*node.inputs[:2], other]
            _absorb_follower(node, follower)


def _is_layer(graph: Graph, node: Node, producers: dict[str, Node]) -> bool:
    """Return whether a MatMul has a constant matrix, which may be quantized."""
    ranks = [len(graph.shapes[name]) for name in node.inputs[:2]] if node.op == "MatMul" else []
    if node.op != "MatMul" or node.domain or ranks[0] < 2 or ranks[1] != 2:
        return False
    producer = producers.get(node.inputs[1])
    while producer is not None and producer.op in {"DequantizeLinear", "Transpose"} and producer.inputs[0] in producers:
        producer = producers[producer.inputs[0]]
    name = node.inputs[1] if producer is None else producer.inputs[0]
    quantized = producer is None or producer.op == "DequantizeLinear"
    return quantized and name in graph.constants


def _is_row(graph: Graph, name: str, columns: int) -> bool:
    return name in graph.constants and graph.shapes[name] == (columns,) and graph.dtypes[name] == np.float32


# Activations


def _fuse_activations(graph: Graph) -> None:
    readers, producers = graph.consumers(), graph.producers()
    for node in list(graph.nodes):
        if (
            (node.op not in ACTIVATED and not _is_layer(graph, node, producers))
            or not node.outputs
            or node.domain
            or graph.dtypes.get(node.outputs[0]) != np.float32
        ):
            continue
        follower = _follow_once(graph, node, readers)
        if follower is not None and (clamp := _find_clamp(graph, follower)):
            node.attributes["activation"] = clamp
            _absorb_follower(node, follower)


def _find_clamp(graph: Graph, node: Node) -> str | None:
    """Return the fused activation that a node corresponds to."""
    if node.domain or node.op not in {"Relu", "Clip"}:
        return None
    if node.op == "Relu":
        return "RELU"
    numbers = [graph.number(node.inputs[at]) if node.has(at) else bound for at, bound in ((1, -np.inf), (2, np.inf))]
    if None in numbers:
        return None
    return BOUNDS.get((float(numbers[0] or 0.0), float(numbers[1] or 0.0)))
