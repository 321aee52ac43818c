"""A typed graph from a TFLite file. The reader checks every offset and touches no weights, so it needs no process."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from edgewright.errors import InputError
from edgewright.formats.tflite.reader import (
    TfliteGraph,
    TfliteTensor,
    find_precision,
    label_tensors,
    make_signature,
    read_tflite,
)
from edgewright.formats.tflite.to_onnx.read import convert_tflite
from edgewright.formats.typed_graph import Size, TensorType, TypedGraph, TypedNode
from edgewright.schema.model import TensorSpec
from edgewright.system.temporary import TemporaryFolder


def read_tflite_graph(path: Path, shapes: Mapping[str, Sequence[int]] | None = None) -> TypedGraph:
    """Return the operators of the main subgraph with the shape and type of every tensor.

    A free leading size of an input is taken as 1 unless `shapes` has another; other free sizes stay unknown. Sizes that
    depend on free ones are computed in a process of its own; those in the file may be placeholders.

    Raises ModelUnreadable as `tflite.read_signature`, InputError, and the errors of `convert_tflite`.
    """
    graph = read_tflite(path)
    signature = make_signature(graph)
    names = label_tensors(graph)
    specs = dict(zip(graph.inputs, signature.inputs, strict=True))
    _check_shapes(shapes or {}, signature.inputs)
    taken = {spec.name: tuple((shapes or {}).get(spec.name) or _assume_first(spec)) for spec in signature.inputs}
    found = _compute_sizes(path, graph, taken)
    found |= {index: taken[spec.name] for index, spec in specs.items()}
    tensors = {names[i]: _describe(tensor, found.get(i)) for i, tensor in enumerate(graph.tensors)}
    nodes = tuple(
        TypedNode(
            name=f"{operator.op}#{position}",
            op=operator.op,
            inputs=tuple(names[i] if i >= 0 else "" for i in operator.inputs),
            outputs=tuple(names[i] for i in operator.outputs if i >= 0),
        )
        for position, operator in enumerate(graph.operators)
    )
    free = [spec.name for spec in signature.inputs if spec.shape[:1] and isinstance(spec.shape[0], str)]
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
        assumed=tuple(name for name in free if name not in (shapes or {})),
    )


def _assume_first(spec: TensorSpec) -> tuple[Size, ...]:
    return tuple(1 if size == "" and axis == 0 else size for axis, size in enumerate(spec.shape))


def _compute_sizes(
    path: Path, graph: TfliteGraph, taken: Mapping[str, tuple[Size, ...]]
) -> dict[int, tuple[Size, ...]]:
    """Return the sizes of computed tensors, as far as they are known, if the file has free ones."""
    if all(tensor.shape == tensor.default_shape for tensor in graph.tensors):
        return {}
    known = {name: [size for size in sizes if isinstance(size, int)] for name, sizes in taken.items()}
    whole = {name: sizes for name, sizes in known.items() if len(sizes) == len(taken[name])}
    with TemporaryFolder() as folder:
        sizes = convert_tflite(path, whole, folder / "sizes.onnx").sizes
    return {index: tuple("" if size is None else size for size in found) for index, found in sizes.items()}


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


def _check_shapes(shapes: Mapping[str, Sequence[int]], inputs: Sequence[TensorSpec]) -> None:
    specs = {spec.name: spec for spec in inputs}
    for name, sizes in shapes.items():
        if name not in specs:
            listed = ", ".join(specs) or "none"
            raise InputError(
                f"--shape {name}: the model has no such input", f"inputs are {listed}", "use one of these names"
            )
        own = specs[name].shape
        if len(sizes) != len(own) or any(o not in ("", w) for o, w in zip(own, sizes, strict=True)):
            raise InputError(
                f"--shape {name}={','.join(map(str, sizes))} does not fit",
                f"the file's shape is [{', '.join(str(size) or '?' for size in own)}]",
                "give the fixed sizes unchanged",
            )


def _describe(tensor: TfliteTensor, sizes: tuple[Size, ...] | None) -> TensorType:
    shape = sizes if sizes is not None else tuple("" if size < 0 else size for size in tensor.shape)
    return TensorType(dtype=tensor.dtype, shape=shape, constant=tensor.constant, stored=tensor.constant)
