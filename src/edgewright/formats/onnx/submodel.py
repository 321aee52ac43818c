"""Extraction of a part of an ONNX graph, so that it can be compiled alone."""

from collections.abc import Sequence
from copy import deepcopy
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from edgewright.formats.neighbors import select_needed
from edgewright.formats.onnx.attributes import keep_only, list_all_inputs
from edgewright.formats.onnx.constants import list_inputs_without_constants
from edgewright.formats.onnx.external import load_external
from edgewright.formats.onnx.prepare import save_model
from edgewright.formats.onnx.reader import parse_model

STRING = 8  # TensorProto.STRING
FLOATS = (1, 10, 11, 16)  # TensorProto.FLOAT, FLOAT16, DOUBLE, BFLOAT16


class CutPoint(NamedTuple):
    """A tensor after which the graph can be cut, and its producer."""

    tensor: str
    node: str
    op: str


class SubmodelExtractor:
    """An ONNX model that can be cut: static input shapes, a name on every node, nodes in execution order."""

    def __init__(self, path: Path) -> None:
        import onnx

        model = parse_model(path)
        load_external(path, model)
        self._model = model
        inferred = onnx.shape_inference.infer_shapes(model)
        graph = inferred.graph
        self._values = {value.name: value for value in (*graph.value_info, *graph.input, *graph.output)}

    def cut_points(self) -> list[CutPoint]:
        """Return every float tensor that depends on an input, in the order in which they are computed."""
        computed = {value.name for value in list_inputs_without_constants(self._model.graph)}
        found: list[CutPoint] = []
        for node in self._model.graph.node:
            if not any(name in computed for name in node.input):
                continue
            computed.update(node.output)
            found += [CutPoint(name, node.name, node.op_type) for name in node.output if self._is_float(name)]
        return found

    def _is_float(self, tensor: str) -> bool:
        value = self._values.get(tensor)
        return value is not None and value.type.tensor_type.elem_type in FLOATS

    def extract(self, tensor: str, to: Path) -> Path:
        """Write the part of the graph that `tensor` depends on, with it as the only output; inputs do not change."""
        return self.extract_between((), (tensor,), to)

    def extract_between(self, given: Sequence[str], wanted: Sequence[str], to: Path) -> Path:
        """Write the part of the graph that computes the tensors `wanted`, with those of `given` as further inputs."""
        part = deepcopy(self._model)
        graph = part.graph
        keep_only(graph.node, select_needed(graph.node, wanted, lambda node: set(list_all_inputs(node)) - set(given)))
        names = {name for node in graph.node for name in list_all_inputs(node)} | set(wanted)
        keep_only(graph.initializer, [one for one in graph.initializer if one.name in names])
        keep_only(graph.input, [value for value in graph.input if value.name in names and value.name not in given])
        graph.input.extend(self._values[name] for name in given)
        keep_only(graph.output, [])
        graph.output.extend(self._values[name] for name in wanted)
        del graph.value_info[:]
        save_model(part, to)
        return to

    def list_computed(self) -> list[Any]:
        """Return the nodes between the inputs and the outputs, in execution order."""
        inputs, outputs = self.list_ports()
        computed, found = set(inputs), []
        for node in select_needed(self._model.graph.node, outputs, list_all_inputs):
            if any(name in computed for name in list_all_inputs(node)):
                computed.update(filter(None, node.output))
                found.append(node)
        return found

    def list_ports(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the names of the inputs and of the outputs."""
        inputs = tuple(value.name for value in list_inputs_without_constants(self._model.graph))
        return inputs, tuple(value.name for value in self._model.graph.output)

    def measure(self, tensor: str) -> int | None:
        """Return the bytes of a tensor; None if its sizes or its type are not known before it is computed."""
        import onnx

        value = self._values.get(tensor)
        if value is None or not value.type.tensor_type.HasField("shape"):
            return None
        kind = value.type.tensor_type
        if any(not size.HasField("dim_value") for size in kind.shape.dim) or kind.elem_type in (0, STRING):
            return None
        item = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).itemsize
        return prod([int(size.dim_value) for size in kind.shape.dim]) * int(item)
