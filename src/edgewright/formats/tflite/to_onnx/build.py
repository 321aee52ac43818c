"""The tensors of the TFLite file in the ONNX graph under construction.

Each tensor may be stored in several layouts. A layout is the permutation of the file's axes with which it is stored:
(0, 3, 1, 2) has an NHWC tensor as NCHW. An operator takes its inputs in the layout that ONNX requires, and places its
result in the one that it has; operators on single elements keep the layout of their input. Transpositions that cancel
therefore never arise.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from edgewright.formats.tflite.reader import TfliteGraph, free_name, name_ports
from edgewright.formats.tflite.to_onnx.contents import Steps, TfliteContents, UnsupportedContent
from edgewright.formats.tflite.to_onnx.nodes import NodeWriter, Sizes
from edgewright.schema.arrays import Array

Layout = tuple[int, ...]
QUANTIZED = ("int8", "uint8", "int16", "int4")
CHANNELS_FIRST: Layout = (0, 3, 1, 2)
OPSET, OPSET_OF_INT16 = 18, 21


class OnnxBuilder(NodeWriter):
    """The graph, and where each tensor of the file is stored.

    Attributes:
        options: of the operator that is being written.
    """

    def __init__(
        self, contents: TfliteContents, names: Sequence[str], sizes: Mapping[int, Sequence[int | str]]
    ) -> None:
        graph = contents.graph
        wide = any(tensor.dtype == "int16" and tensor.quantization for tensor in graph.tensors)
        inputs = [names[i] for i in graph.inputs]
        self._output_names = _name_outputs(graph, inputs)
        super().__init__(OPSET_OF_INT16 if wide else OPSET, [*inputs, *self._output_names])
        self.options: dict[str, Any] = {}
        self._contents, self._names = contents, names
        self._operator = 0
        self._placed: dict[int, dict[Layout, str]] = {}
        self._aliases: dict[int, int] = {}  # the constant that has a tensor's values
        self._blocked: set[int] = set()
        self._constant_places: dict[tuple[int, Layout], str] = {}
        self._integers: dict[str, str] = {}  # by the dequantized value
        self._inputs = [self._add_input(index, sizes[index]) for index in graph.inputs]

    def start(self, position: int) -> str:
        """Begin an operator of the file; return its TFLite name."""
        operator = self._contents.graph.operators[position]
        self.options = self._contents.options(position)
        self._operator = position
        self.origin = f"{operator.op}#{position}"
        return operator.op

    def block(self) -> None:
        """Record that the operator's results do not exist."""
        self._blocked.update(self.outputs)

    def is_blocked(self) -> bool:
        """Return whether a result that does not exist is an input of the operator."""
        return not self._blocked.isdisjoint(self.inputs)

    def list_sizes(self) -> dict[int, Sizes]:
        """Return the sizes of the tensors that are stored."""
        return {index: self.shape(index) for index in self._placed}

    # Inputs of the operator

    @property
    def inputs(self) -> tuple[int, ...]:
        return tuple(self._aliases.get(one, one) for one in self._contents.graph.operators[self._operator].inputs)

    @property
    def outputs(self) -> tuple[int, ...]:
        return self._contents.graph.operators[self._operator].outputs

    def has(self, place: int) -> bool:
        return place < len(self.inputs) and self.inputs[place] >= 0

    def input(self, place: int) -> int:
        """Return the tensor index of an input. Raises UnsupportedContent if there is none."""
        if not self.has(place):
            raise UnsupportedContent(f"its input {place} is missing", "export the model again")
        return self.inputs[place]

    def is_constant(self, index: int) -> bool:
        """Return whether the file stores the tensor's value; a tensor without elements has no stored value."""
        tensor = self._contents.graph.tensors[index]
        return index not in self._placed and (tensor.constant or 0 in tensor.default_shape)

    def known(self, place: int) -> Array | None:
        """Return the value of an input that is constant or follows from constants; None if it is computed."""
        index = self.input(place)
        if self.is_constant(index):
            return self._contents.data(index)
        name = self._placed.get(index, {}).get(make_plain(self.rank(index)), "")
        return self.constants.get(name)

    def numbers(self, place: int, what: str) -> list[int]:
        """Return the integers of a known input. Raises UnsupportedContent if they are computed."""
        array = self.known(place)
        if array is None:
            raise UnsupportedContent(
                f"its {what} are computed from values of the inputs", "export the model with constant ones"
            )
        return [int(number) for number in array.reshape(-1)]

    def dtype(self, index: int) -> str:
        """Return the type of a tensor's values in the graph: float32 for quantized values and half floats."""
        own = self._contents.graph.tensors[index].dtype
        return "float32" if own == "float16" or self.steps(index) else own

    def steps(self, index: int) -> Steps | None:
        """Return the quantization parameters if values of the tensor are quantized."""
        return self._contents.steps(index) if self._contents.graph.tensors[index].dtype in QUANTIZED else None

    def shape(self, index: int) -> Sizes:
        """Return the sizes of a tensor in the file's layout; None for unknown ones."""
        for layout, name in self._placed.get(index, {}).items():
            stored = self.sizes(name)
            return tuple(stored[layout.index(axis)] for axis in range(len(layout)))
        return tuple(self._contents.graph.tensors[index].default_shape)

    def rank(self, index: int) -> int:
        return len(self.shape(index))

    # Where tensors are stored

    def layout(self, index: int) -> Layout:
        """Return a layout in which the tensor is stored; the file's for constants."""
        places = self._placed.get(index)
        return next(iter(places)) if places else make_plain(self.rank(index))

    def take(self, index: int, layout: Layout | None = None) -> str:
        """Return the name of a tensor's real values in `layout`, the file's by default; transposed if necessary."""
        layout = make_plain(self.rank(index)) if layout is None else layout
        places = self._placed.get(index)
        if places is None:
            if not self.is_constant(index):
                why = f"it reads tensor '{self._names[index][:80]}', which is a variable or has no value yet"
                raise UnsupportedContent(why, "export the model without state, with its state as inputs and outputs")
            return self._take_constant(index, layout)
        if layout not in places:
            have, name = next(iter(places.items()))
            order = [have.index(axis) for axis in layout]
            if name in self.constants:
                places[layout] = self.constant(np.transpose(self.constants[name], order), name)
            else:
                self._place(index, self.emit("Transpose", [name], perm=order), layout)
        return places[layout]

    def take_first(self) -> tuple[str, Layout]:
        """Return the first input in a layout in which it is stored."""
        layout = self.layout(self.input(0))
        return self.take(self.input(0), layout), layout

    def take_stored(self, index: int, layout: Layout) -> str:
        """Return a tensor as it is stored: the integers of a quantized one."""
        value = self.take(index, layout)
        return self._integers.get(value, value) if self.steps(index) is not None else value

    def take_operand(self, index: int, layout: Layout) -> str:
        """Return a tensor as the operand of one with this layout, to whose rank it is extended."""
        rank, sizes = len(layout), self.shape(index)
        if len(sizes) == rank:
            return self.take(index, layout)
        value = self.take(index)
        if layout == make_plain(rank) or all(size == 1 for size in sizes):
            return value
        extended = self.emit("Unsqueeze", [value, self.ints(range(rank - len(sizes)))])
        return self.emit("Transpose", [extended], perm=layout)

    def take_alike(self, indices: Sequence[int]) -> tuple[list[str], Layout]:
        """Return tensors that are combined element by element in a common layout."""
        rank = max(self.rank(index) for index in indices)
        layouts = [self.layout(index) for index in indices if self.rank(index) == rank and not self.is_constant(index)]
        layout = next((one for one in layouts if one != make_plain(rank)), make_plain(rank))
        return [self.take_operand(index, layout) for index in indices], layout

    def place(self, name: str, layout: Layout | None = None, output: int = 0) -> None:
        """Record a result of the operator, in the file's layout by default."""
        self._place(self.outputs[output], name, make_plain(len(self.sizes(name))) if layout is None else layout)

    def place_same(self, order: Layout | None = None) -> None:
        """Record that the result has the values of the first input, with its axes in this order."""
        source, target = self.input(0), self.outputs[0]
        if self.is_constant(source) and order is None:
            self._aliases[target] = source
            return
        places = self._placed.get(source) or {make_plain(self.rank(source)): self.take(source)}
        self._placed[target] = {
            tuple(order.index(axis) for axis in layout) if order else layout: name for layout, name in places.items()
        }

    def take_bias(self, place: int) -> str:
        """Return a bias, with 32-bit integers behind a DequantizeLinear; empty if the operator has none."""
        if not self.has(place):
            return ""
        index = self.inputs[place]
        steps = self._contents.steps(index)
        if steps is None or not self.is_constant(index):
            return self.take(index)
        data = self._contents.data(index)
        if data.dtype != np.int32:  # ONNX does not dequantize 64-bit integers
            return self.constant((data * steps.scale.astype(np.float64)).astype(np.float32), self._names[index])
        return self._dequantize_constant(index, data, steps, (0,))

    def _place(self, index: int, name: str, layout: Layout) -> None:
        """Record where a tensor is stored, with a QuantizeLinear and a DequantizeLinear if it is quantized."""
        steps, stem = self.steps(index), self._names[index]
        if steps is not None:
            parameters, axis = self._add_steps(index, steps), _find_axis(steps, layout)
            integers = self.emit("QuantizeLinear", [name, *parameters], name=f"{stem}/quantized", **axis)
            name = self.emit("DequantizeLinear", [integers, *parameters], name=f"{stem}/dequantized", **axis)
            self._integers[name] = integers
        self._placed.setdefault(index, {})[layout] = name

    def _take_constant(self, index: int, layout: Layout) -> str:
        """Return a constant of the file, transposed; a quantized one behind a DequantizeLinear."""
        key = (index, layout)
        if key not in self._constant_places:
            data, steps = np.transpose(self._contents.data(index), layout), self.steps(index)
            if steps is None:
                data = data.astype(np.float32) if data.dtype.kind == "f" else data
                self._constant_places[key] = self.constant(data, self._names[index])
            else:
                self._constant_places[key] = self._dequantize_constant(index, data, steps, layout)
        return self._constant_places[key]

    def _dequantize_constant(self, index: int, data: Array, steps: Steps, layout: Layout) -> str:
        stem = self._names[index]
        stored = self.constant(data, f"{stem}/quantized")
        parameters = self._add_steps(index, steps)
        value = self.emit("DequantizeLinear", [stored, *parameters], name=stem, **_find_axis(steps, layout))
        self._integers[value] = stored
        return value

    def _add_steps(self, index: int, steps: Steps) -> list[str]:
        """Return the names of a tensor's scale and zero point."""
        own, stem = self._contents.graph.tensors[index].dtype, self._names[index]
        shape = () if steps.scale.size == 1 else steps.scale.shape
        zeros = steps.zero_point.astype("int8" if own == "int4" else own)
        return [
            self.constant(steps.scale.reshape(shape), f"{stem}/scale"),
            self.constant(zeros.reshape(shape), f"{stem}/zero_point"),
        ]

    # Inputs and outputs of the model

    def _add_input(self, index: int, sizes: Sequence[int | str]) -> onnx.ValueInfoProto:
        name, own, steps = self._names[index], self._contents.graph.tensors[index].dtype, self.steps(index)
        self.origin = name
        declared, value = self.declare(name, own, sizes), name
        if steps is not None:
            value = self.emit("DequantizeLinear", [name, *self._add_steps(index, steps)], name=f"{name}/dequantized")
            self._integers[value] = name
        elif own == "float16":
            value = self.emit("Cast", [name], name=f"{name}/float32", to=TensorProto.FLOAT)
        self._placed[index] = {make_plain(len(sizes)): value}
        return declared

    def build(self) -> onnx.ModelProto:
        """Return the model, whose inputs and outputs have the file's names, types and layouts."""
        outputs = {}
        for index, name in zip(self._contents.graph.outputs, self._output_names, strict=True):
            self.origin = name
            source = self._aliases.get(index, index)
            quantized = self.steps(index) is not None
            value = self.take_stored(source, make_plain(self.rank(source))) if quantized else self.take(source)
            if self._contents.graph.tensors[index].dtype == "float16":
                value = self.emit("Cast", [value], to=TensorProto.FLOAT16)
            outputs[name] = value
        return self.finish(self._inputs, outputs)


def make_plain(rank: int) -> Layout:
    return tuple(range(rank))


def make_channels_first(rank: int) -> Layout:
    """Return the layout that has a tensor's last axis as its second one."""
    return (0, rank - 1, *range(1, rank - 1))


def _name_outputs(graph: TfliteGraph, inputs: Sequence[str]) -> list[str]:
    """Return the outputs' names; an output that is also an input gets one of its own, which ONNX requires."""
    names: list[str] = []
    for index, name in zip(graph.outputs, name_ports(graph)[1], strict=True):
        names.append(free_name(name, index, (*inputs, *names)))
    return names


def _find_axis(steps: Steps, layout: Layout) -> dict[str, int]:
    return {"axis": layout.index(steps.axis)} if steps.scale.size > 1 else {}
