"""Nodes and constants of an ONNX graph under construction, with the type of every value."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgewright.formats.tflite.to_onnx.contents import UnsupportedContent
from edgewright.schema.arrays import Array

Sizes = tuple[int | None, ...]
FOLDED_ELEMENTS = 4096  # nodes whose constants are not larger are computed: shapes, indices, axes
IR_VERSION = 10
# Operators that only carry the values of the one after which a group of nodes is named.
CARRIERS = ("Transpose", "Reshape", "Unsqueeze", "Squeeze", "Cast", "QuantizeLinear", "DequantizeLinear", "Identity")


class NodeWriter:
    """The nodes in execution order, and the constants.

    Attributes:
        origin: name of the source operator of the nodes that are added.
    """

    def __init__(self, opset: int, reserved: Sequence[str]) -> None:
        self.origin = ""
        self.constants: dict[str, Array] = {}
        self._opset = opset
        self._nodes: list[onnx.NodeProto] = []
        self._origins: list[str] = []
        self._types: dict[str, onnx.TypeProto] = {}
        self._taken = set(reserved)
        self._counts: dict[str, int] = {}  # the last suffix of each stem

    def sizes(self, name: str) -> Sizes:
        """Return the sizes of a value; None for unknown ones."""
        kind = self._types[name].tensor_type
        if not kind.HasField("shape"):
            raise UnsupportedContent("the rank of a value is unknown", "set all sizes of the inputs with --shape")
        return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim)

    def declare(self, name: str, dtype: str, sizes: Sequence[int | str]) -> onnx.ValueInfoProto:
        """Return a new input of the graph."""
        self._types[name] = helper.make_tensor_type_proto(find_element_type(dtype), list(sizes))
        return helper.make_value_info(name, self._types[name])

    def constant(self, data: Array, stem: str = "constant") -> str:
        """Return the name of a new constant."""
        name = self._make_name(stem)
        self.constants[name] = data
        self._types[name] = helper.make_tensor_type_proto(find_element_type(data.dtype.name), data.shape)
        return name

    def ints(self, values: Iterable[int]) -> str:
        return self.constant(np.asarray(list(values), np.int64))

    def number(self, value: float, dtype: str = "float32") -> str:
        return self.constant(np.asarray(value, dtype))

    def emit(self, op: str, inputs: Sequence[str], *, name: str = "", **attributes: Any) -> str:
        """Add a node with one result, and return the result's name."""
        return self.emit_all(op, inputs, 1, name=name, **attributes)[0]

    def emit_all(
        self, op: str, inputs: Sequence[str], count: int, *, name: str = "", **attributes: Any
    ) -> Sequence[str]:
        """Add a node, and return the names of its results. A node that reads only small constants is computed."""
        stem = name or self.origin
        results = [self._make_name(stem) for _ in range(count)]
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        node = helper.make_node(op, list(inputs), results, **attributes)
        types = self._infer(node)
        if op != "DequantizeLinear" and self._is_small(inputs, types):
            return [self.constant(one, stem) for one in self._compute(node)]
        for result in results:
            if result not in types:
                raise UnsupportedContent(f"ONNX gives no type for the result of its {op}")
            self._types[result] = types[result]
        self._nodes.append(node)
        self._origins.append(self.origin)
        return results

    def _make_name(self, stem: str) -> str:
        name = stem
        while not name or name in self._taken:
            self._counts[stem] = self._counts.get(stem, 0) + 1
            name = f"{stem}#{self._counts[stem]}"
        self._taken.add(name)
        return name

    def _infer(self, node: onnx.NodeProto) -> dict[str, onnx.TypeProto]:
        schema = onnx.defs.get_schema(node.op_type, self._opset)
        known = {name: self._types[name] for name in node.input if name}
        small = {
            name: numpy_helper.from_array(self.constants[name])
            for name in known
            if name in self.constants and self.constants[name].size <= FOLDED_ELEMENTS
        }
        opset = [helper.make_opsetid("", self._opset)]
        found: dict[str, onnx.TypeProto] = onnx.shape_inference.infer_node_outputs(
            schema, node, known, small, None, opset
        )
        return found

    def _is_small(self, inputs: Sequence[str], types: Mapping[str, onnx.TypeProto]) -> bool:
        """Return whether a node's inputs are constants, and small like its results."""
        if not inputs or any(name and name not in self.constants for name in inputs):
            return False
        elements = float(sum(self.constants[name].size for name in inputs if name))
        for kind in types.values():
            elements += float(np.prod([dim.dim_value for dim in kind.tensor_type.shape.dim], dtype=np.float64))
        return elements <= FOLDED_ELEMENTS

    def _compute(self, node: onnx.NodeProto) -> Sequence[Array]:
        from onnx.reference import ReferenceEvaluator

        values = [helper.make_value_info(name, self._types[name]) for name in node.input if name]
        graph = helper.make_graph([node], "constants", values, [onnx.ValueInfoProto(name=name) for name in node.output])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self._opset)])
        feeds = {name: self.constants[name] for name in node.input if name}
        return [np.asarray(one) for one in ReferenceEvaluator(model).run(None, feeds)]

    def finish(self, inputs: Sequence[onnx.ValueInfoProto], outputs: Mapping[str, str]) -> onnx.ModelProto:
        """Return the model. `outputs` maps the names of its outputs to values, which get these names."""
        made = {name for node in self._nodes for name in node.output}
        renamed: dict[str, str] = {}
        copies = []
        for wanted, value in outputs.items():
            if value in made and value not in renamed:
                renamed[value] = wanted
            else:
                copies.append((value, wanted))
        for node in self._nodes:
            for names in (node.input, node.output):
                for place, name in enumerate(names):
                    names[place] = renamed.get(name, name)
        for value, wanted in copies:
            self._nodes.append(helper.make_node("Identity", [renamed.get(value, value)], [wanted]))
            self._origins.append(wanted)
        self._name_nodes()
        used = {name for node in self._nodes for name in node.input}
        graph = helper.make_graph(
            self._nodes,
            "main",
            list(inputs),
            [helper.make_value_info(wanted, self._types[value]) for wanted, value in outputs.items()],
            [numpy_helper.from_array(data, name) for name, data in self.constants.items() if name in used],
        )
        opset = [helper.make_opsetid("", self._opset)]
        return helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="edgewright")

    def _name_nodes(self) -> None:
        """Name the main node of each source operator like it, and the others after it and their own operator."""
        groups: dict[str, list[onnx.NodeProto]] = {}
        for node, origin in zip(self._nodes, self._origins, strict=True):
            groups.setdefault(origin, []).append(node)
        for origin, nodes in groups.items():
            main = next((node for node in nodes if node.op_type not in CARRIERS), nodes[-1])
            for place, node in enumerate(nodes):
                node.name = origin if node is main else f"{origin}/{node.op_type}{place or ''}"


def find_element_type(dtype: str) -> int:
    """Return ONNX's number of a type by numpy's name. Raises UnsupportedContent for types that ONNX has not."""
    try:
        return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
    except (TypeError, KeyError, ValueError):
        raise UnsupportedContent(f"a tensor has type {dtype}", "export the model in float32") from None
