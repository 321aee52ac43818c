"""Stage 3: replacement of operators by equivalent supported ones."""

import numpy as np

from edgewright.runtimes.litert.writer.graph import Graph, Node
from edgewright.runtimes.litert.writer.passes.lift import lift_flat_windows

# Operators that only this stage handles.
REWRITTEN = {"QLinearConv", "QLinearMatMul"}


def rewrite_nodes(graph: Graph) -> None:
    """Replace QLinear operators, float16, pools over whole images, and one-dimensional windows."""
    _widen_floats(graph)
    graph.nodes = [
        new for node in graph.nodes for new in (_expand_qlinear(graph, node) if _is_linear(node) else [node])
    ]
    for node in graph.nodes:
        if node.op == "AveragePool" and not node.domain and _is_global_pool(graph, node):
            node.op, node.attributes = "GlobalAveragePool", {}
    lift_flat_windows(graph)


def _is_linear(node: Node) -> bool:
    return node.op in REWRITTEN and not node.domain


def _expand_qlinear(graph: Graph, node: Node) -> list[Node]:
    """Expand QLinearConv and QLinearMatMul to DequantizeLinear, the operator, QuantizeLinear."""
    nodes = []
    axes = (1, 0) if node.op == "QLinearConv" else (-1, -1)
    real = []
    for first, axis in zip((0, 3), axes, strict=True):
        made = graph.add_value(f"{node.inputs[first]}/real", graph.shapes[node.inputs[first]], np.float32)
        nodes.append(Node("DequantizeLinear", node.inputs[first : first + 3], [made], {"axis": axis}, node.sources))
        real.append(made)
    if node.has(8):
        bias = _expand_bias(graph, node)
        if bias is None:
            return [node]
        real.append(bias)
    output = node.outputs[0]
    result = graph.add_value(f"{output}/real", graph.shapes[output], np.float32)
    nodes.append(Node(node.op[7:], real, [result], node.attributes, node.sources, "", node.location))
    return [*nodes, Node("QuantizeLinear", [result, *node.inputs[6:8]], [output], {"axis": 1}, node.sources)]


def _expand_bias(graph: Graph, node: Node) -> str | None:
    """Return the int32 bias as floats, with the scales of input × weights; None if any of these is computed."""
    parts = [graph.constants.get(name) for name in (node.inputs[8], node.inputs[1], node.inputs[4])]
    if any(part is None for part in parts):
        return None
    bias, x_scale, w_scale = (np.asarray(part, np.float64).reshape(-1) for part in parts)
    return graph.add_constant(node.inputs[8], (bias * x_scale * w_scale).astype(np.float32))


def _widen_floats(graph: Graph) -> None:
    for name, dtype in graph.dtypes.items():
        if dtype == np.float16:
            graph.dtypes[name] = np.dtype(np.float32)
            if name in graph.constants:
                graph.constants[name] = graph.constants[name].astype(np.float32)


def _is_global_pool(graph: Graph, node: Node) -> bool:
    """Return whether a pool's only window is the whole image: XNNPACK supports no other average in int8."""
    sizes = list(graph.shapes[node.inputs[0]][2:])
    is_padded = any(node.attributes.get("pads") or [0]) or node.attributes.get("auto_pad", "NOTSET") not in (
        "NOTSET",
        "",
    )
    return list(node.attributes.get("kernel_shape", [])) == sizes and not is_padded and _steps_once(graph, node)


def _steps_once(graph: Graph, node: Node) -> bool:
    dilated = any(d != 1 for d in node.attributes.get("dilations") or [1])
    return not dilated and all(size == 1 for size in graph.shapes[node.outputs[0]][2:])


def reorder_flattened_weights(graph: Graph) -> None:
    """Let a fully connected layer after a flattened image read it with channels last, by reordering its weights.

    ONNX flattens [N, C, H, W] in that order. A Transpose to [N, H, W, C] before it is free if a convolution
    or a pool made the value, since it is stored in this order.
    """
    producers, readers = graph.producers(), graph.consumers()
    nodes: list[Node] = []
    for node in graph.nodes:
        if _is_image_flattened(graph, node, producers) and _reorder_weights(graph, node, readers):
            source = node.inputs[0]
            batch, channels, *spatial = graph.shapes[source]
            moved = graph.add_value(f"{source}/nhwc", (batch, *spatial, channels), graph.dtypes[source])
            if source in graph.scales:
                graph.scales[moved] = graph.scales[source]
            order = [0, *range(2, len(spatial) + 2), 1]
            nodes.append(Node("Transpose", [source], [moved], {"perm": order}, node.sources))
            node = Node("Reshape", [moved], node.outputs, {}, node.sources)
        nodes.append(node)
    graph.nodes = nodes


def _is_image_flattened(graph: Graph, node: Node, producers: dict[str, Node]) -> bool:
    if node.op not in {"Reshape", "Flatten"} or node.domain:
        return False
    old, new = graph.shapes[node.inputs[0]], graph.shapes[node.outputs[0]]
    if len(old) not in (4, 5) or new != (old[0], int(np.prod(old[1:]))) or int(np.prod(old[2:])) == 1 or old[1] == 1:
        return False
    name, limit = node.inputs[0], 32
    while (producer := producers.get(name)) is not None and limit:
        if producer.op in {"Conv", "ConvTranspose", "MaxPool", "AveragePool"}:
            return True
        name, limit = next((n for n in producer.inputs if n not in graph.constants), ""), limit - 1
    return False


def _reorder_weights(graph: Graph, flat: Node, readers: dict[str, list[Node]]) -> bool:
    """Reorder the weights if all readers of the flat value are products with constant matrices; return whether they
    are."""
    products = readers.get(flat.outputs[0], [])
    if not products or flat.outputs[0] in graph.outputs or not all(_is_product(graph, p, flat) for p in products):
        return False
    channels, *spatial = graph.shapes[flat.inputs[0]][1:]
    for product in products:
        name = product.inputs[1]
        weights = graph.constants[name]
        axis = 1 if product.op == "Gemm" and product.attributes.get("transB", 0) else 0
        image = np.moveaxis(weights, axis, 0).reshape(channels, *spatial, -1)
        moved = np.moveaxis(image, 0, -2).reshape(np.moveaxis(weights, axis, 0).shape)
        product.inputs[1] = graph.add_constant(name, np.ascontiguousarray(np.moveaxis(moved, 0, axis)))
        if name in graph.scales:
            graph.scales[product.inputs[1]] = graph.scales[name]
    return True


def _is_product(graph: Graph, node: Node, flat: Node) -> bool:
    return (
        node.op in {"Gemm", "MatMul"}
        and not node.attributes.get("transA", 0)
        and node.inputs[0] == flat.outputs[0]
        and node.inputs[1] in graph.constants
        and len(graph.shapes[node.inputs[1]]) == 2
    )
