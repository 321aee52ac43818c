"""Extraction of the part of an ONNX graph before a tensor, so that it can be compiled alone."""

from pathlib import Path
from typing import Any, NamedTuple

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
        self._makers = {name: node for node in model.graph.node for name in node.output if name}

    def cut_points(self) -> list[CutPoint]:
        """Return every float tensor that depends on an input, in the order in which they are computed."""
        computed = {value.name for value in self._model.graph.input} - {
            one.name for one in self._model.graph.initializer
        }
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

        needed, waiting = set(), [tensor]
        while waiting:
            node = self._makers.get(waiting.pop())
            if node is not None and node.name not in needed:
                needed.add(node.name)
                waiting.extend(list_inputs(node))
        part = onnx.ModelProto()
        part.CopyFrom(self._model)
        graph = part.graph
        kept = [node for node in graph.node if node.name in needed]
        names = {name for node in kept for name in list_inputs(node)}
        keep_only(graph.node, kept)
        keep_only(graph.initializer, [one for one in graph.initializer if one.name in names])
        keep_only(graph.output, [self._values[tensor]])
        keep_only(graph.input, [value for value in graph.input if value.name in names])
        del graph.value_info[:]
        onnx.save(part, str(to))
        return to


def list_inputs(node: Any) -> list[str]:
    """Return all tensors that a node and its subgraphs read."""
    inner = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return [*node.input, *(name for graph in inner for one in graph.node for name in list_inputs(one))]


def keep_only(field: Any, wanted: list[Any]) -> None:
    kept = list(wanted)
    del field[:]
    field.extend(kept)
