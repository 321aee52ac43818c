"""Extraction of the part of an ONNX graph before a tensor, so that it can be compiled alone."""

from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

from edgewright.formats.neighbors import select_needed
from edgewright.formats.onnx.attributes import keep_only, list_all_inputs
from edgewright.formats.onnx.constants import list_inputs_without_constants
from edgewright.formats.onnx.external import load_external
from edgewright.formats.onnx.reader import parse_model

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
        self._values = {value.name: value for value in (*inferred.graph.value_info, *inferred.graph.output)}

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
        import onnx

        part = deepcopy(self._model)
        graph = part.graph
        keep_only(graph.node, select_needed(graph.node, [tensor], list_all_inputs))
        names = {name for node in graph.node for name in list_all_inputs(node)}
        keep_only(graph.initializer, [one for one in graph.initializer if one.name in names])
        keep_only(graph.output, [self._values[tensor]])
        keep_only(graph.input, [value for value in graph.input if value.name in names])
        del graph.value_info[:]
        onnx.save(part, str(to))
        return to
