"""A typed graph from a TFLite file. The reader checks every offset and touches no weights, so no process is needed."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from edgewright.errors import InputError
from edgewright.formats.tflite.reader import (
    TfliteTensor,
    find_precision,
    label_tensors,
    make_signature,
    read_tflite,
)
from edgewright.formats.typed_graph import Size, TensorType, TypedGraph, TypedNode


def read_tflite_graph(path: Path, shapes: Mapping[str, Sequence[int]] | None = None) -> TypedGraph:
    """Return the operators of the main subgraph with the shape and type of every tensor.

    Sizes are those with which the file runs; if some are dynamic, another shape cannot be
    propagated through the graph without LiteRT, and is rejected.

    Raises ModelUnreadable as `tflite.read_signature`, and InputError.
    """
    graph = read_tflite(path)
    signature = make_signature(graph)
    names = label_tensors(graph)
    taken: dict[str, tuple[Size, ...]] = {names[i]: tuple(graph.tensors[i].default_shape) for i in graph.inputs}
    _check_shapes(shapes or {}, taken)
    tensors = {names[i]: _describe(tensor) for i, tensor in enumerate(graph.tensors)}
    nodes = tuple(
        TypedNode(
            name=f"{operator.op}#{position}",
            op=operator.op,
            inputs=tuple(names[i] if i >= 0 else "" for i in operator.inputs),
            outputs=tuple(names[i] for i in operator.outputs if i >= 0),
        )
        for position, operator in enumerate(graph.operators)
    )
    free = [spec.name for spec in signature.inputs if any(isinstance(size, str) for size in spec.shape)]
    return TypedGraph(
        format="tflite",
        opset=None,
        domains={},
        signature=signature,
        precision=find_precision(graph),
        nodes=_mark_folded_nodes(nodes, tensors),
        tensors=tensors,
        inputs=tuple(names[i] for i in graph.inputs),
        outputs=tuple(names[i] for i in graph.outputs),
        shapes=taken,
        assumed=tuple(free),
    )


def _mark_folded_nodes(nodes: Sequence[TypedNode], tensors: dict[str, TensorType]) -> tuple[TypedNode, ...]:
    """Mark nodes that depend on constants only, such as the DEQUANTIZE of half-precision weights."""
    marked = []
    for node in nodes:
        folded = bool(node.inputs) and all(not name or tensors[name].constant for name in node.inputs)
        if folded:
            for name in node.outputs:
                tensors[name] = msgspec.structs.replace(tensors[name], constant=True)
        marked.append(msgspec.structs.replace(node, folded=folded))
    return tuple(marked)


def _check_shapes(shapes: Mapping[str, Sequence[int]], taken: Mapping[str, tuple[Size, ...]]) -> None:
    for name, sizes in shapes.items():
        if name not in taken:
            listed = ", ".join(taken) or "none"
            raise InputError(
                f"--shape {name}: the model has no such input", f"inputs are {listed}", "use one of these names"
            )
        if tuple(sizes) != taken[name]:
            own = ",".join(map(str, taken[name]))
            raise InputError(
                f"--shape {name}={','.join(map(str, sizes))} cannot be applied to a TFLite file",
                f"the file's tensors are planned for {own}",
                "analyze the ONNX source model, or omit --shape",
            )


def _describe(tensor: TfliteTensor) -> TensorType:
    sizes = tensor.default_shape
    shape = tuple(sizes) if min(sizes, default=0) >= 0 else tuple(size if size >= 0 else "" for size in sizes)
    return TensorType(dtype=tensor.dtype, shape=shape, constant=tensor.constant, stored=tensor.constant)
