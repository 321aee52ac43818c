"""Stage 5: each operator's function writes the LiteRT operators that replace it.

The builder knows in which layouts each value is stored, and converts it when an operator requires another layout
(see `layout`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgewright.runtimes.litert.writer.graph import Graph, Node, OperatorRejected, Scales, Shape
from edgewright.runtimes.litert.writer.passes.layout import (
    Layout,
    find_permutation,
    has_same_bytes,
    invert_layout,
    make_plain,
    permute_shape,
)
from edgewright.runtimes.litert.writer.program import Operator, Program, Tensor
from edgewright.schema.arrays import Array

# The element types that LiteRT's kernels compute with; tensors of others are rejected.
DTYPES = {"float32", "int32", "int64", "int8", "uint8", "int16", "bool", "float16", "int4"}


@dataclass
class Builder:
    """The program so far, and the tensors that store each value of the graph."""

    graph: Graph
    program: Program = field(default_factory=Program)
    node: Node = field(default_factory=lambda: Node("", [], []))
    placed: dict[str, dict[Layout, Tensor]] = field(default_factory=dict)
    shared: dict[tuple[Any, ...], Tensor] = field(default_factory=dict)

    def forget(self) -> None:
        """Release all weights except those of the program."""
        self.placed, self.shared = {}, {}
        self.graph.constants = {}

    # Properties of a value

    def shape(self, name: str) -> Shape:
        return self.graph.shapes[name]

    def rank(self, name: str) -> int:
        return len(self.graph.shapes[name])

    def dtype(self, name: str) -> np.dtype[Any]:
        return self.graph.dtypes[name]

    def constant(self, name: str) -> Array | None:
        return self.graph.constants.get(name)

    def scales(self, name: str) -> Scales | None:
        return self.graph.scales.get(name)

    def need_constant(self, position: int, what: str) -> Array:
        """Return the constant at an input of this node. Raises OperatorRejected if it is computed."""
        data = self.constant(self.node.inputs[position])
        if data is None:
            raise OperatorRejected(f"its {what} are not constant", f"export the model with constant {what}")
        return data

    def read_ints(self, attribute: str, position: int | None = None) -> list[int] | None:
        """Return the integers of an attribute or, in later opsets, of a constant input."""
        if attribute in self.node.attributes:
            value = self.node.attributes[attribute]
            return [int(v) for v in value] if isinstance(value, list) else [int(value)]
        if position is not None and self.node.has(position):
            return [int(v) for v in self.need_constant(position, attribute).reshape(-1)]
        return None

    # Where values are stored

    def layout(self, name: str) -> Layout:
        """Return a layout in which the value is stored; the plain one for constants."""
        places = self.placed.get(name)
        return next(iter(places)) if places else make_plain(self.rank(name))

    def layouts(self, name: str) -> Sequence[Layout]:
        return tuple(self.placed.get(name, ()))

    def take(self, name: str, layout: Layout | None = None) -> Tensor:
        """Return the value stored in `layout` (plain by default), transposed if necessary."""
        layout = make_plain(self.rank(name)) if layout is None else layout
        places = self.placed.setdefault(name, {})
        if layout not in places:
            places[layout] = self._move(name, layout)
        return places[layout]

    def _move(self, name: str, layout: Layout) -> Tensor:
        data = self.constant(name)
        if data is not None:
            stem = name if len(self.placed[name]) == 0 else f"{name}/{''.join(map(str, layout))}"
            tensor = self.add_constant(np.transpose(data, layout), stem, share=False)
            tensor.scales = _move_axis(self.scales(name), layout)
            return tensor
        if not self.placed[name]:
            if 0 in self.shape(name):
                raise OperatorRejected(
                    f"'{name}' is a tensor without elements", "LiteRT does not support empty tensors"
                )
            raise OperatorRejected(f"its input '{name}' could not be written")
        have, tensor = next(iter(self.placed[name].items()))
        for other, candidate in self.placed[name].items():
            if has_same_bytes(self.shape(name), other, layout):
                have, tensor = other, candidate
        stored = permute_shape(self.shape(name), layout)
        if has_same_bytes(self.shape(name), have, layout):
            return self.reshape(tensor, stored)
        return self.transpose(tensor, find_permutation(have, layout))

    def place(self, name: str, tensor: Tensor, layout: Layout | None = None) -> None:
        """Record that a value is stored in `tensor`, which gets its name."""
        layout = make_plain(self.rank(name)) if layout is None else layout
        if tensor.shape != permute_shape(self.shape(name), layout):
            raise OperatorRejected(
                f"the writer produced shape {tensor.shape} instead of {permute_shape(self.shape(name), layout)}"
            )
        if tensor.dtype != self.dtype(name):
            raise OperatorRejected(f"the writer produced type {tensor.dtype} instead of {self.dtype(name)}")
        self.placed.setdefault(name, {})[layout] = tensor

    # Writing

    def add_constant(self, data: Array, stem: str = "constant", *, share: bool = True) -> Tensor:
        """Return a constant tensor; small equal ones are stored once."""
        if data.dtype == np.float64:
            data = data.astype(np.float32)
        check_dtype(data.dtype)
        key = (data.dtype.str, data.shape, data.tobytes()) if share and data.size <= 1024 else None
        if key is not None and key in self.shared:
            return self.shared[key]
        tensor = Tensor(stem, tuple(data.shape), data.dtype, data)
        if key is not None:
            self.shared[key] = tensor
        return tensor

    def ints(self, values: Sequence[int]) -> Tensor:
        return self.add_constant(np.asarray(values, np.int32))

    def number(self, value: float, like: Tensor | np.dtype[Any]) -> Tensor:
        """Return a scalar of a tensor's type."""
        return self.add_constant(np.asarray(value, like.dtype if isinstance(like, Tensor) else like))

    def make(self, name: str, layout: Layout | None = None) -> Tensor:
        """Return a new tensor for a value of the graph."""
        layout = make_plain(self.rank(name)) if layout is None else layout
        check_dtype(self.dtype(name))
        tensor = Tensor(name, permute_shape(self.shape(name), layout), self.dtype(name), None, self.scales(name))
        self.placed.setdefault(name, {})[layout] = tensor
        return tensor

    def emit(
        self,
        code: str,
        inputs: Sequence[Tensor | None],
        outputs: Sequence[Tensor],
        options: dict[str, Any] | None = None,
    ) -> None:
        self.program.operators.append(
            Operator(code, list(inputs), list(outputs), dict(options or {}), self.node.sources)
        )

    def run(
        self,
        code: str,
        inputs: Sequence[Tensor | None],
        shape: Shape,
        *,
        dtype: Any = None,
        scales: Scales | None = None,
        options: dict[str, Any] | None = None,
    ) -> Tensor:
        """Write an operator with one result of the given shape; the default type is that of the first input."""
        first = next(tensor for tensor in inputs if tensor is not None)
        kind = np.dtype(dtype) if dtype is not None else first.dtype
        check_dtype(kind)
        stem = self.node.outputs[0] if self.node.outputs and self.node.outputs[0] else self.node.name
        result = Tensor(f"{stem}/{code.lower()}", tuple(int(size) for size in shape), kind, None, scales)
        self.emit(code, inputs, [result], options)
        return result

    def transpose(self, tensor: Tensor, permutation: Sequence[int]) -> Tensor:
        shape = permute_shape(tensor.shape, tuple(permutation))
        return self.run("TRANSPOSE", [tensor, self.ints(permutation)], shape, scales=tensor.scales)

    def reshape(self, tensor: Tensor, shape: Sequence[int]) -> Tensor:
        """Return the same bytes with another shape; the tensor itself if it has that shape."""
        shape = tuple(int(size) for size in shape)
        if tensor.shape == shape:
            return tensor
        if tensor.data is not None and tensor.scales is None:
            return self.add_constant(tensor.data.reshape(shape), tensor.name)
        options = {"newShape": list(shape)}
        return self.run("RESHAPE", [tensor, self.ints(shape)], shape, scales=tensor.scales, options=options)

    def cast(self, tensor: Tensor, dtype: Any) -> Tensor:
        dtype = np.dtype(dtype)
        if tensor.dtype == dtype:
            return tensor
        if tensor.data is not None:
            return self.add_constant(tensor.data.astype(dtype), tensor.name)
        options = {"inDataType": tensor.dtype, "outDataType": dtype}
        return self.run("CAST", [tensor], tensor.shape, dtype=dtype, options=options)


def check_dtype(dtype: np.dtype[Any]) -> None:
    if dtype.name not in DTYPES:
        raise OperatorRejected(f"LiteRT's kernels do not support {dtype.name}", "convert the model to float32 or int32")


def _move_axis(scales: Scales | None, layout: Layout) -> Scales | None:
    if scales is None or scales.scale.size == 1:
        return scales
    if scales.block:
        scale, zero_point = np.transpose(scales.scale, layout), np.transpose(scales.zero_point, layout)
        return Scales(scale, zero_point, invert_layout(layout)[scales.axis], scales.block)
    return Scales(scales.scale, scales.zero_point, invert_layout(layout)[scales.axis])
