"""Nodes, constants and signature of an ONNX file as plain records."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx

from edgewright.errors import ModelNotConvertible
from edgewright.formats.onnx.attributes import OWN_DOMAINS, read_attributes, read_opset
from edgewright.formats.onnx.constants import map_array
from edgewright.formats.onnx.external import check_external
from edgewright.formats.onnx.functions import expand_operators, inline_functions
from edgewright.formats.onnx.reader import OnnxFile, map_model
from edgewright.schema.arrays import Array
from edgewright.schema.model import Signature

OLDEST_OPSET = 9


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
    model, stripped = map_model(path)
    check_external(path, model)
    model = expand_operators(inline_functions(model), lambda op: op not in known)
    opset = _read_opset(model)
    if missing := _unknown_operators(model.graph, known):
        raise ModelNotConvertible("the model cannot be converted to torch", "\n".join(missing))
    if model.graph.sparse_initializer:
        raise ModelNotConvertible("the model cannot be converted to torch", "it has sparse weights")
    constants = {one.name: _widen(map_array(one, path, stripped)) for one in model.graph.initializer}
    nodes = [_read_node(node, position, path) for position, node in enumerate(model.graph.node)]
    return SourceGraph(opset, nodes, constants, signature)


def _read_opset(model: Any) -> int:
    opset = read_opset(model)
    if opset < OLDEST_OPSET:
        raise ModelNotConvertible(
            f"the model uses opset {opset}",
            f"opsets {OLDEST_OPSET} and newer are supported",
            "export it with a newer opset",
        )
    return opset


def _unknown_operators(graph: Any, known: Mapping[str, object]) -> list[str]:
    """Return each operator that is not in the table, with its first node."""
    found: dict[str, str] = {}
    for node in graph.node:
        if node.domain not in OWN_DOMAINS or node.op_type not in known:
            name = f"{node.domain}::{node.op_type}" if node.domain not in OWN_DOMAINS else node.op_type
            found.setdefault(name, f"{name} ('{node.name}'): no torch operator is known for it")
    return list(found.values())


def _read_node(node: Any, position: int, path: Path) -> SourceNode:
    name = node.name or f"{node.op_type}#{position}"
    attributes = {key: _convert_value(value, name, path) for key, value in read_attributes(node).items()}
    return SourceNode(name, node.op_type, tuple(node.input), tuple(node.output), attributes, (name,))


def _convert_value(value: Any, node: str, path: Path) -> Any:
    if isinstance(value, onnx.TensorProto):
        return _widen(map_array(value, path))
    if isinstance(value, onnx.GraphProto | onnx.SparseTensorProto):
        raise ModelNotConvertible("the model cannot be converted to torch", f"'{node}' has a subgraph")
    return value


def _widen(array: Array) -> Array:
    """Return an array in a type that torch supports."""
    wider = {"uint16": np.int32, "uint32": np.int64, "uint64": np.int64}
    made = array.astype(wider[array.dtype.name]) if array.dtype.name in wider else array
    return np.ascontiguousarray(made).reshape(array.shape)
