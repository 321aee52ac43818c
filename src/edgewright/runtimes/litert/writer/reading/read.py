"""Stage 1: read an ONNX file into a graph, with checks and limits."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgewright.errors import InputError, ModelNotConvertible, ModelUnreadable
from edgewright.formats.neighbors import order_nodes
from edgewright.formats.onnx.attributes import OWN_DOMAINS, read_opset
from edgewright.formats.onnx.constants import map_array
from edgewright.formats.onnx.external import check_external
from edgewright.formats.onnx.functions import expand_operators, inline_functions
from edgewright.formats.onnx.reader import map_model
from edgewright.formats.onnx.weightless import StrippedModel
from edgewright.runtimes.litert.writer.graph import Graph, Node, Shape
from edgewright.schema.arrays import Array

OLDEST_OPSET = 11
NEWEST_OPSET = 10_000  # far beyond any that onnx will define; its C++ fails on larger ones
MOST_NODES = 200_000
# A TFLite flatbuffer is addressed by signed 32-bit offsets.
MOST_TENSOR_BYTES = 2**31 - 1
MOST_DIMENSIONS = 8
TENSORS, GRAPHS = 9, 10  # AttributeProto.TENSORS, GRAPHS


def read_graph(model: Path | bytes, shapes: Mapping[str, Sequence[int]], known: Collection[str]) -> Graph:
    """Return the main graph with the inputs' sizes set; other values' shapes are still unknown.

    Operators that are not `known` are replaced by ONNX's definition in other operators, if there is one.

    Raises:
        ModelUnreadable: damaged, cyclic, or with impossible sizes.
        ModelNotConvertible: the opset is too old, or it has unknown functions or domains.
        InputError: `shapes` has a name that is no input, or omits a dynamic size.
        ExternalDataMissing: weights are in a file that is absent.
    """
    proto, stripped = map_model(model)
    if not proto.graph.node and not proto.graph.output:
        raise ModelUnreadable("the model has no graph", "it has no operators and no outputs")
    opset = _check_opset(proto)
    if isinstance(model, Path):
        check_external(model, proto)  # for all weights: ONNX Runtime loads the source too
    _check_size(proto.graph)
    _set_sizes(proto.graph, shapes)
    proto = expand_operators(inline_functions(proto), lambda op: op not in known)
    _check_size(proto.graph)
    folder = None if isinstance(model, bytes) else model
    graph = Graph(opset, [], [], [value.name for value in proto.graph.output])
    for tensor in proto.graph.initializer:
        graph.set_constant(tensor.name, read_tensor(tensor, folder, stripped))
    if proto.graph.sparse_initializer:
        why = "LiteRT's sparse format is not supported"
        raise ModelNotConvertible("the model has sparse weights", why, "store the weights as dense tensors")
    _add_inputs(graph, proto.graph, shapes)
    nodes = [read_node(node, position, folder) for position, node in enumerate(proto.graph.node)]
    graph.nodes = order_nodes(nodes, {*graph.constants, *graph.inputs}, graph.outputs, model="the model")
    return graph


def _check_opset(proto: Any) -> int:
    opset = read_opset(proto)
    if opset < OLDEST_OPSET:
        raise ModelNotConvertible(
            f"the model uses opset {opset}",
            f"opsets {OLDEST_OPSET} and newer are supported",
            "export it with a newer opset",
        )
    if opset > NEWEST_OPSET:
        raise ModelUnreadable(f"the model uses opset {opset}", "this opset does not exist")
    return opset


def _set_sizes(graph: Any, shapes: Mapping[str, Sequence[int]]) -> None:
    """Write the sizes into dynamic inputs, from which some definitions of operators follow."""
    for value in graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, shapes.get(value.name, ()), strict=False):
            if not dim.HasField("dim_value") and 0 < size < MOST_TENSOR_BYTES:
                dim.dim_value = size


def _check_size(graph: Any) -> None:
    if len(graph.node) > MOST_NODES:
        why = f"up to {MOST_NODES} nodes are supported"
        raise ModelNotConvertible(f"the graph has {len(graph.node)} nodes", why, "export it in several models")


def read_tensor(tensor: Any, model: Path | None, stripped: StrippedModel | None = None) -> Array:
    """Return the data of a tensor. Raises ModelUnreadable if its bytes do not fit its sizes."""
    _check_dimensions(tensor.name, tuple(tensor.dims))
    return map_array(tensor, model, stripped)


def _check_dimensions(name: str, sizes: tuple[int, ...]) -> None:
    total = 1
    for size in sizes:
        total *= max(size, 1)
        if size < 0 or total > MOST_TENSOR_BYTES:
            raise ModelUnreadable(f"'{name[:200]}' has impossible sizes", f"{sizes[:16]}")


def _add_inputs(graph: Graph, proto: Any, shapes: Mapping[str, Sequence[int]]) -> None:
    inputs = [value for value in proto.input if value.name not in graph.constants]
    if unknown := set(shapes) - {value.name for value in inputs}:
        names = ", ".join(sorted(value.name for value in inputs))
        raise InputError(f"the model has no input '{sorted(unknown)[0]}'", f"its inputs are {names}")
    for value in inputs:
        if value.type.WhichOneof("value") != "tensor_type":
            why = "LiteRT supports only tensors"
            raise ModelNotConvertible(f"input '{value.name}' is not a tensor", why, "make each tensor a separate input")
        _add_input(graph, value, shapes.get(value.name))


def _add_input(graph: Graph, value: Any, wanted: Sequence[int] | None) -> None:
    from onnx import helper

    kind = value.type.tensor_type
    own = [dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim]
    shape = tuple(int(size or 0) for size in (wanted if wanted is not None else own))
    _check_dimensions(value.name, tuple(size for size in own if size is not None))
    _check_fit(value.name, kind.HasField("shape"), own, shape)
    _check_dimensions(value.name, shape)
    try:
        graph.dtypes[value.name] = np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type))
    except (KeyError, ValueError):
        raise ModelUnreadable(
            f"input '{value.name}' has an unknown type", f"its type number is {kind.elem_type}"
        ) from None
    graph.shapes[value.name] = shape
    graph.inputs.append(value.name)


def _check_fit(name: str, has_shape: bool, own: Sequence[int | None], shape: Shape) -> None:
    if any(size == 0 for size in own):
        why = "LiteRT does not support empty tensors"
        raise ModelNotConvertible(f"input '{name}' is a tensor without elements", why, "give it sizes of at least 1")
    if has_shape and len(own) != len(shape):
        raise InputError(f"the shape given for '{name}' has {len(shape)} axes", f"the model has {len(own)} axes there")
    if any(has and has != size for has, size in zip(own, shape, strict=False)):
        raise InputError(f"the shape given for '{name}' is {list(shape)}", f"the model's shape is {list(own)}")
    if any(size <= 0 for size in shape) or (not has_shape and not shape):
        raise InputError(
            f"input '{name}' has no fixed shape",
            "a LiteRT file requires fixed shapes" if min(shape, default=0) >= 0 else f"{list(shape)}",
            f"give its shape, as shapes={{'{name}': (1, …)}}",
        )


def read_node(node: Any, position: int, model: Path | None) -> Node:
    metadata = {entry.key: entry.value for entry in getattr(node, "metadata_props", ())}
    return Node(
        op=node.op_type,
        inputs=list(node.input),
        outputs=list(node.output),
        attributes={attribute.name: _read_attribute(attribute, model) for attribute in node.attribute},
        sources=(node.name or f"{node.op_type}#{position}",),
        domain="" if node.domain in OWN_DOMAINS else node.domain,
        location=metadata.get("pkg.torch.onnx.stack_trace", "").strip().splitlines()[0][:200]
        if metadata.get("pkg.torch.onnx.stack_trace", "").strip()
        else "",
    )


def _read_attribute(attribute: Any, model: Path | None) -> Any:
    from onnx import helper

    if attribute.HasField("t"):
        return read_tensor(attribute.t, model)
    try:
        value = helper.get_attribute_value(attribute)
    except ValueError as error:
        raise ModelUnreadable(f"attribute '{attribute.name[:100]}' cannot be read", str(error)[:200]) from None
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return list(value) if attribute.type in range(6, TENSORS) else value
