"""Nodes, constants and signature of an ONNX file as plain records."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import numpy_helper

from edgewright.errors import ModelNotConvertible
from edgewright.formats.onnx.external import load_external
from edgewright.formats.onnx.functions import inline_functions
from edgewright.formats.onnx.reader import OnnxFile, parse_model
from edgewright.formats.onnx_to_torch.call import Array
from edgewright.schema.model import Signature

OLDEST_OPSET = 9
OWN_DOMAINS = ("", "ai.onnx")
MOST_BODIES = 3  # definitions may have operators with definitions


class SourceNode(NamedTuple):
    """A node; `sources` has the names of the file's nodes that it computes."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    sources: tuple[str, ...]


class SourceGraph(NamedTuple):
    opset: int
    nodes: list[SourceNode]
    constants: dict[str, Array]
    signature: Signature


def read_graph(path: Path, known: Mapping[str, object]) -> SourceGraph:
    """Return the main graph; operators that are not `known` are replaced by ONNX's definition, if there is
    one.

    Raises ModelUnreadable or ModelNotConvertible.
    """
    signature = OnnxFile(path).signature()
    model = parse_model(path)
    load_external(path, model)
    model = _inline_bodies(inline_functions(model), known)
    opset = _read_opset(model)
    if missing := _unknown_operators(model.graph, known):
        raise ModelNotConvertible("the model cannot be converted to torch", "\n".join(missing))
    if model.graph.sparse_initializer:
        raise ModelNotConvertible("the model cannot be converted to torch", "it has sparse weights")
    constants = {tensor.name: _read_tensor(tensor) for tensor in model.graph.initializer}
    nodes = [_read_node(node, position) for position, node in enumerate(model.graph.node)]
    return SourceGraph(opset, nodes, constants, signature)


def _read_opset(model: Any) -> int:
    opset = max((entry.version for entry in model.opset_import if entry.domain in OWN_DOMAINS), default=0)
    if opset < OLDEST_OPSET:
        raise ModelNotConvertible(
            f"the model uses opset {opset}",
            f"opsets {OLDEST_OPSET} and newer are supported",
            "export it with a newer opset",
        )
    return int(opset)


def _unknown_operators(graph: Any, known: Mapping[str, object]) -> list[str]:
    """Return each operator that is not in the table, with its first node."""
    found: dict[str, str] = {}
    for node in graph.node:
        if node.domain not in OWN_DOMAINS or node.op_type not in known:
            name = f"{node.domain}::{node.op_type}" if node.domain not in OWN_DOMAINS else node.op_type
            found.setdefault(name, f"{name} ('{node.name}'): no torch operator is known for it")
    return list(found.values())


def _inline_bodies(model: Any, known: Mapping[str, object]) -> Any:
    """Return the model with unknown operators replaced by their definitions; unchanged if onnx fails."""
    import onnx.inliner

    for _ in range(MOST_BODIES):
        bodies = _find_bodies(model, known)
        if not bodies:
            return model
        for tensor in model.graph.initializer:  # definitions depend on the types of their inputs
            made = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            model.graph.value_info.append(made)
        _add_defaults(model, bodies)
        try:
            model = onnx.inliner.inline_selected_functions(model, bodies, inline_schema_functions=True)
        except Exception:  # the operators are then rejected by name
            return model
    return model


def _find_bodies(model: Any, known: Mapping[str, object]) -> list[tuple[str, str]]:
    found = []
    for op in sorted({node.op_type for node in model.graph.node if node.domain in OWN_DOMAINS} - set(known)):
        schema = _find_schema(op, _read_opset(model))
        if schema and (schema.has_function or schema.has_context_dependent_function):
            found.append(("", op))
    return found


def _find_schema(op: str, opset: int) -> Any:
    try:
        return onnx.defs.get_schema(op, opset, "")
    except onnx.defs.SchemaError:
        return None


def _add_defaults(model: Any, bodies: list[tuple[str, str]]) -> None:
    """Write default attributes explicitly, since onnx's inliner drops those within a definition."""
    for node in model.graph.node:
        if ("", node.op_type) in bodies:
            given = {attribute.name for attribute in node.attribute}
            for name, attribute in _find_schema(node.op_type, _read_opset(model)).attributes.items():
                if name not in given and attribute.default_value.type:
                    node.attribute.append(attribute.default_value)


def _read_node(node: Any, position: int) -> SourceNode:
    name = node.name or f"{node.op_type}#{position}"
    attributes = {attribute.name: _read_attribute(attribute, name) for attribute in node.attribute}
    return SourceNode(name, node.op_type, tuple(node.input), tuple(node.output), attributes, (name,))


def _read_attribute(attribute: Any, node: str) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return _read_tensor(value)
    if isinstance(value, onnx.GraphProto | onnx.SparseTensorProto):
        raise ModelNotConvertible("the model cannot be converted to torch", f"'{node}' has a subgraph")
    return value


def _read_tensor(tensor: Any) -> Array:
    """Return NumPy's array in a type that torch supports."""
    array = numpy_helper.to_array(tensor)
    wider = {"uint16": np.int32, "uint32": np.int64, "uint64": np.int64}
    return np.ascontiguousarray(array.astype(wider[array.dtype.name]) if array.dtype.name in wider else array).reshape(
        array.shape
    )
