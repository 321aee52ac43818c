"""Stage 4, second half: weight-only quantization.

FULLY_CONNECTED reads a matrix of int8 or int4, per output channel or in blocks, as stored: LiteRT rounds
each row of the activations to int8 at run time (dynamic range). Weights of a convolution stay int8 in the file with
a DEQUANTIZE that runs once. All other weights become float32 again.
"""

import numpy as np

from edgewright.runtimes.litert.writer.graph import Graph, Node, Scales
from edgewright.runtimes.litert.writer.reading.shapes import evaluate_node
from edgewright.schema.arrays import Array

MATRIX = {"Gemm", "MatMul"}
# XNNPACK's block sizes are multiples of this.
BLOCK = 32
LEAST_SCALE, MOST_SCALE = 2.0**-14, 65504.0  # of float16, in which the scales of blocks are stored
MOST_NAMED = 3  # weights in a note


def quantize_weights_only(graph: Graph) -> None:
    """Let operators read constant weights as stored; fold the remaining DequantizeLinear nodes on constants."""
    producers = graph.producers()
    for node in graph.nodes:
        if node.op in {*MATRIX, "Conv", "ConvTranspose"} and not node.domain and node.has(1):
            producer = producers.get(node.inputs[1])
            if (
                producer is not None
                and producer.op == "DequantizeLinear"
                and graph.dtypes[node.inputs[0]] == np.float32
            ):
                stored = (
                    _find_matrix(graph, node, producer) if node.op in MATRIX else _find_kernel(graph, node, producer)
                )
                node.inputs[1] = stored or node.inputs[1]
                node.sources = (*node.sources, *producer.sources) if stored else node.sources
    _gather_integers(graph, producers)
    graph.drop_unused()
    _fold_weights(graph)


def _gather_integers(graph: Graph, producers: dict[str, Node]) -> None:
    """Gather rows of a table with one scale as int8, and dequantize only these."""
    nodes: list[Node] = []
    for node in graph.nodes:
        nodes.append(node)
        producer = producers.get(node.inputs[0]) if node.op == "Gather" and not node.domain else None
        if producer is None or producer.op != "DequantizeLinear" or producer.inputs[0] not in graph.constants:
            continue
        scales, output = graph.scales.get(producer.inputs[0]), node.outputs[0]
        if scales is None or scales.scale.size != 1 or graph.dtypes[producer.inputs[0]] != np.int8:
            continue
        picked = graph.add_value(f"{output}/stored", graph.shapes[output], np.int8)
        graph.scales[picked] = scales
        node.inputs[0], node.outputs = producer.inputs[0], [picked]
        nodes.append(Node("DequantizeLinear", [picked, *producer.inputs[1:]], [output], {}, producer.sources))
    graph.nodes = nodes


def transpose_stored_weights(graph: Graph) -> None:
    """Replace a Transpose after the DequantizeLinear of a constant by a transposed constant."""
    producers = graph.producers()
    for node in graph.nodes:
        producer = producers.get(node.inputs[0]) if node.op == "Transpose" and not node.domain else None
        if (
            producer is None
            or producer.op != "DequantizeLinear"
            or any(n and n not in graph.constants for n in producer.inputs)
        ):
            continue
        data = graph.constants[producer.inputs[0]]
        order = [int(axis) for axis in node.attributes.get("perm") or range(data.ndim)[::-1]]
        axis = int(producer.attributes.get("axis", 1))
        parts = [graph.constants[name] for name in producer.inputs if name]
        transposed = [np.transpose(part, order) if part.ndim == data.ndim and data.ndim > 1 else part for part in parts]
        names = iter(graph.add_constant(f"{node.outputs[0]}/stored", part) for part in transposed)
        node.op, node.inputs = "DequantizeLinear", [next(names) if name else "" for name in producer.inputs]
        node.attributes = dict(producer.attributes)
        if data.ndim > 1:
            node.attributes["axis"] = order.index(axis % data.ndim)
        node.sources = (*producer.sources, *node.sources)


def _find_matrix(graph: Graph, node: Node, producer: Node) -> str | None:
    """Return symmetric weights that FULLY_CONNECTED supports with float activations."""
    shape = graph.shapes[node.inputs[1]]
    transposed = node.op == "Gemm" and bool(node.attributes.get("transB", 0))
    if len(shape) != 2 or len(graph.shapes[node.inputs[0]]) < 2 or node.attributes.get("alpha", 1.0) != 1.0:
        return None
    outputs, depth = (0, 1) if transposed else (1, 0)
    if producer.attributes.get("block_size", 0):
        return _find_blocks(graph, producer, depth)
    return _find_symmetric(graph, producer, outputs)


def _find_kernel(graph: Graph, node: Node, producer: Node) -> str | None:
    grouped = int(node.attributes.get("group", 1)) != 1
    if node.op == "ConvTranspose" and (grouped or any(d != 1 for d in node.attributes.get("dilations") or [1])):
        return None
    if np.prod(graph.shapes[node.inputs[1]][2:]) > MOST_TAPS:
        return None
    return _find_symmetric(graph, producer, 0 if node.op == "Conv" else 1)


# A depthwise kernel larger than this is written in bands, from floats.
MOST_TAPS = 25


def _find_symmetric(graph: Graph, producer: Node, axis: int) -> str | None:
    stored = producer.inputs[0]
    data, scales = graph.constants.get(stored), graph.scales.get(stored)
    if data is None or scales is None or np.any(scales.zero_point != 0) or data.dtype.name not in {"int8", "int4"}:
        return None
    if scales.scale.size > 1 and scales.axis != axis:
        return None
    if data.dtype.name == "int4" and len(data.shape) != 2:
        data = data.astype(np.int8)  # kernels of convolutions do not support int4
    name = graph.add_constant(stored, data)
    count = data.shape[axis]
    graph.scales[name] = Scales(np.broadcast_to(scales.scale, (count,)), np.zeros(count, np.int64), axis)
    return name


def _find_blocks(graph: Graph, producer: Node, depth: int) -> str | None:
    """Return int4 weights in blocks of 32, 64, … along the contracted axis, with scales of float16 range and no zero
    points."""
    parts = [graph.constants.get(name) for name in producer.inputs]
    size, axis = int(producer.attributes["block_size"]), int(producer.attributes.get("axis", 1)) % 2
    if any(part is None for part in parts) or axis != depth or size % BLOCK:
        return None
    data, scale = graph.constants[producer.inputs[0]], graph.constants[producer.inputs[1]].astype(np.float32)
    zero = graph.constants[producer.inputs[2]] if producer.has(2) else np.zeros(1, np.int8)
    if data.dtype.name != "int4" or np.any(zero.astype(np.int8) != 0) or data.shape[axis] % size:
        return None
    if np.any(scale < LEAST_SCALE) or np.any(scale > MOST_SCALE):
        return None
    name = graph.add_constant(producer.inputs[0], data)
    graph.scales[name] = Scales(scale, np.zeros(scale.shape, np.int64), axis, size)
    return name


def dequantize(data: Array, scales: Scales, dtype: type[np.floating]) -> Array:
    """Return the dequantized values, computed in float64 and rounded to `dtype`."""
    shape = [1] * data.ndim
    if scales.scale.size > 1:
        shape[scales.axis] = scales.scale.size
    real = (data.astype(np.float64) - scales.zero_point.reshape(shape)) * scales.scale.astype(np.float64).reshape(shape)
    return real.astype(dtype)


def _is_weight_matrix(graph: Graph, node: Node) -> bool:
    stored = graph.constants.get(node.inputs[0]) if node.op == "DequantizeLinear" else None
    return stored is not None and stored.ndim > 1 and all(n in graph.constants for n in node.inputs if n)


def _describe_folded(graph: Graph, nodes: list[Node]) -> str:
    """Return the note that quantized weights are floats in the file, and why."""
    sizes = [graph.constants[node.inputs[0]].size for node in nodes]
    blocks = sorted({int(node.attributes["block_size"]) for node in nodes if node.attributes.get("block_size")})
    why = f"blocks of {', '.join(map(str, blocks))}; " if blocks else ""
    names = ", ".join(f"'{node.inputs[0]}'" for node in nodes[:MOST_NAMED])
    more = f" and {len(nodes) - MOST_NAMED} more" if len(nodes) > MOST_NAMED else ""
    count = f"{len(nodes)} quantized weight{'s' if len(nodes) > 1 else ''} ({4 * sum(sizes) / 1e6:.3g} MB)"
    reason = f"LiteRT has no kernel for their form ({why}see docs/litert-writer.md)"
    return f"{count} stored as float32: {reason}: {names}{more}"


def _fold_weights(graph: Graph) -> None:
    """Fold the DequantizeLinear of a constant that no kernel reads quantized, and a Slice of it."""
    kept = []
    folded: set[str] = set()
    matrices = [node for node in graph.nodes if _is_weight_matrix(graph, node)]
    if matrices:
        graph.notes.append(_describe_folded(graph, matrices))
    for node in graph.nodes:
        if node.op == "DequantizeLinear" and node.inputs[0] in graph.constants and node.inputs[0] in graph.scales:
            real = dequantize(graph.constants[node.inputs[0]], graph.scales[node.inputs[0]], np.float32)
            graph.set_constant(node.outputs[0], real)
            folded.add(node.outputs[0])
        elif (node.op == "DequantizeLinear" or (node.op == "Slice" and node.inputs[0] in folded)) and all(
            name in graph.constants for name in node.inputs if name
        ):
            graph.set_constant(node.outputs[0], evaluate_node(graph, node)[0])
            folded.add(node.outputs[0])
        else:
            kept.append(node)
    graph.nodes = kept
