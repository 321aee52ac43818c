"""Static costs of a model: parameters, multiply-accumulates, bytes, arithmetic intensity, activation memory.

A multiply-accumulate (MAC) is one multiplication and one addition. Only operators that consist of MACs count;
elementwise operators, pools and normalizations count 0, as in the literature: MobileNetV2 at 224² has 300 million
(Sandler et al. 2018, https://arxiv.org/abs/1801.04381, table 4). Arithmetic intensity is operations (two for each MAC)
over bytes read and written once each (Williams et al. 2009, https://doi.org/10.1145/1498765.1498785).
"""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from edgewright.formats.arena import find_peak_memory
from edgewright.formats.macs import count_macs
from edgewright.formats.typed_graph import TensorType, TypedGraph, TypedNode, limit_count

TOO_LARGE = "the count exceeds 64 bits: the model's sizes are impossible"


class LayerCost(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One operator of an inference; None for values that depend on unknown sizes.

    Attributes:
        output_shape: of its first output; -1 for a dynamic size, None without a known rank.
        macs: multiply-accumulates; 0 for an operator without any.
        parameters: elements of the weights it reads; shared ones count for each of their readers.
        weight_bytes: bytes in the file of all constants that it reads.
        read_bytes, written_bytes: activations in and out, without weights.
        intensity: operations (two for each MAC) over all bytes; None without bytes.
    """

    name: str
    op: str
    output_shape: tuple[int, ...] | None
    output_dtype: str
    macs: int | None
    parameters: int
    weight_bytes: int
    read_bytes: int | None
    written_bytes: int | None
    intensity: float | None


class ModelCosts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The sums of a model. The reason of a figure that is None is in `unknown` under its name.

    Attributes:
        parameters: elements of all weights, each counted once.
        weight_bytes: bytes of all constants in the file.
        arena_bytes: peak of the bytes of activations, in the order of the nodes.
        arena_at: the node at the peak.
    """

    layers: tuple[LayerCost, ...]
    parameters: int
    weight_bytes: int
    macs: int | None
    arena_bytes: int | None
    arena_at: str
    intensity: float | None
    unknown: dict[str, str] = {}


def measure_costs(graph: TypedGraph) -> ModelCosts:
    """Return all figures of a model."""
    weights, counted = _trace_weights(graph), _count_parameters(graph)
    layers = tuple(_cost_layer(graph, node, weights, counted) for node in graph.computing())
    unknown: dict[str, str] = {}
    macs = _add_macs(graph, layers, unknown)
    arena, at = find_peak_memory(graph, unknown)
    if arena is not None and limit_count(arena) is None:
        arena, unknown["arena_bytes"] = None, TOO_LARGE
    stored = [kind for kind in graph.tensors.values() if kind.stored]
    moved = [_add(layer.read_bytes, layer.written_bytes, layer.weight_bytes) for layer in layers]
    total = None if any(one is None for one in moved) else sum(one or 0 for one in moved)
    return ModelCosts(
        layers=layers,
        parameters=sum(counted.values()),
        weight_bytes=sum(kind.bytes() or 0 for kind in stored),
        macs=macs,
        arena_bytes=arena,
        arena_at=at,
        intensity=2 * macs / total if macs is not None and total else None,
        unknown=unknown,
    )


def _add_macs(graph: TypedGraph, layers: Sequence[LayerCost], unknown: dict[str, str]) -> int | None:
    hidden = [layer for layer in layers if layer.macs is None]
    if not hidden:
        total = limit_count(sum(layer.macs or 0 for layer in layers))
        if total is None:
            unknown["macs"] = TOO_LARGE
        return total
    names = ", ".join(f"{layer.op} '{layer.name}'" for layer in hidden[:3])
    more = f" and {len(hidden) - 3} more" if len(hidden) > 3 else ""
    unknown["macs"] = (
        f"not known for {names}{more}: sizes are free or impossible, or the operator is not a standard ONNX operator"
    )
    return None


def _add(*parts: int | None) -> int | None:
    return None if any(part is None for part in parts) else limit_count(sum(part or 0 for part in parts))


def _cost_layer(
    graph: TypedGraph, node: TypedNode, weights: Mapping[str, frozenset[str]], parameters: Mapping[str, int]
) -> LayerCost:
    tensors = graph.tensors
    held = {root for name in node.inputs for root in weights.get(name, ())}
    activations = [tensors[name] for name in dict.fromkeys(node.inputs) if name and not tensors[name].constant]
    outputs = [tensors[name] for name in node.outputs if name]
    read, written = (_add(*(kind.bytes() for kind in side)) for side in (activations, outputs))
    weight_bytes = sum(tensors[root].bytes() or 0 for root in held)
    macs = count_macs(graph, node)
    moved = _add(read, written, weight_bytes)
    return LayerCost(
        name=node.name,
        op=node.op,
        output_shape=_plain_shape(outputs[0]) if outputs else None,
        output_dtype=outputs[0].dtype if outputs else "",
        macs=macs,
        parameters=sum(parameters.get(root, 0) for root in held),
        weight_bytes=weight_bytes,
        read_bytes=read,
        written_bytes=written,
        intensity=2 * macs / moved if macs is not None and moved else None,
    )


def _plain_shape(kind: TensorType) -> tuple[int, ...] | None:
    return None if kind.shape is None else tuple(size if isinstance(size, int) else -1 for size in kind.shape)


# Parameters

FLOATS = ("float16", "bfloat16", "float32", "float64", "complex64", "complex128")
# Inputs that are scales or zero points of a quantization, and those that are quantized weights, by operator.
SCALES: dict[str, tuple[int, ...]] = {
    "QuantizeLinear": (1, 2),
    "DequantizeLinear": (1, 2),
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "ConvInteger": (2, 3),
    "MatMulInteger": (2, 3),
    "MatMulNBits": (2, 3),
}
STORED: dict[str, tuple[int, ...]] = {
    "DequantizeLinear": (0,),
    "QLinearConv": (3, 8),
    "QLinearMatMul": (3,),
    "ConvInteger": (1,),
    "MatMulInteger": (1,),
    "MatMulNBits": (1,),
    "Conv": (1, 2),
    "Gemm": (1, 2),
    "MatMul": (1,),
    "CONV_2D": (1, 2),
    "DEPTHWISE_CONV_2D": (1, 2),
    "FULLY_CONNECTED": (1, 2),
    "TRANSPOSE_CONV": (1, 3),
    "BATCH_MATMUL": (1,),
    "DEQUANTIZE": (0,),
    "EMBEDDING_LOOKUP": (1,),
    "GATHER": (0,),
}


def _count_parameters(graph: TypedGraph) -> dict[str, int]:
    """Return the number of elements of every stored constant that is a parameter, by name.

    Parameters are all floats except quantization scales, and of the integers the quantized weights and biases.
    """
    scales, quantized = _roles(graph, SCALES), _roles(graph, STORED)
    return {
        name: kind.elements() or 0
        for name, kind in graph.tensors.items()
        if kind.stored
        and ((kind.dtype in FLOATS and name not in scales) or (kind.dtype not in FLOATS and name in quantized))
    }


def _roles(graph: TypedGraph, positions: Mapping[str, Sequence[int]]) -> set[str]:
    return {
        node.inputs[i]
        for node in graph.nodes
        for i in positions.get(node.op, ())
        if i < len(node.inputs) and node.inputs[i]
    }


def _trace_weights(graph: TypedGraph) -> dict[str, frozenset[str]]:
    """Return the stored constants from which each constant value is computed."""
    found = {name: frozenset([name]) for name, kind in graph.tensors.items() if kind.stored}
    for node in graph.nodes:
        if node.folded:
            made = frozenset[str]().union(*(found.get(name, frozenset()) for name in node.inputs))
            found.update({name: found.get(name, made) for name in node.outputs if name})
    return found
