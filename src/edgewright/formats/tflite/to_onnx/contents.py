"""What the signature of a TFLite file does not need: options of operators, weights, quantization parameters."""

import mmap
from math import prod
from typing import Any, NamedTuple

import numpy as np

from edgewright.formats.tflite.flatbuffer import FlatbufferReader, MalformedFlatbuffer
from edgewright.formats.tflite.reader import TfliteGraph
from edgewright.formats.tflite.schema import Slot
from edgewright.formats.tflite.to_onnx.options import OPTIONS
from edgewright.schema.arrays import Array

Options = dict[str, Any]


class UnsupportedContent(Exception):
    """Raised for content that ONNX cannot express or that is not read; `remedy` is a fix that works."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.reason, self.remedy = reason, remedy


class Steps(NamedTuple):
    """Quantization parameters of a tensor; one scale and zero point, or one for each index along `axis`."""

    scale: Array
    zero_point: Array
    axis: int


class TfliteContents:
    """The content of the main subgraph, by the positions of operators and the indices of tensors in `graph`."""

    def __init__(self, data: mmap.mmap, graph: TfliteGraph) -> None:
        self.graph = graph
        self._flat = flat = FlatbufferReader(data)
        model = flat.follow(0)
        self._buffers = list(flat.tables(model, Slot.MODEL_BUFFERS))
        subgraph = next(flat.tables(model, Slot.MODEL_SUBGRAPHS))
        self._tensors = list(flat.tables(subgraph, Slot.GRAPH_TENSORS))
        self._operators = list(flat.tables(subgraph, Slot.GRAPH_OPERATORS))

    def options(self, position: int) -> Options:
        """Return the options of an operator by name; the schema's defaults where the file has none."""
        fields = OPTIONS.get(self.graph.operators[position].op, ())
        at = self._flat.field(self._operators[position], Slot.OPERATOR_OPTIONS)
        if not at:
            return {one.name: () if one.vector else one.default for one in fields}
        table = self._flat.follow(at)
        return {
            one.name: self._flat.numbers(table, one.slot, one.code)
            if one.vector
            else self._flat.value(table, one.slot, one.code, one.default)
            for one in fields
        }

    def data(self, index: int) -> Array:
        """Return the stored numbers of a constant tensor; int4 as int8."""
        tensor, at = self.graph.tensors[index], self._tensors[index]
        if self._flat.field(at, Slot.TENSOR_SPARSITY) or self._flat.value(at, Slot.TENSOR_EXTERNAL, "I"):
            raise UnsupportedContent("its weights are sparse or in another file", "export the model with dense weights")
        raw = self._read_buffer(self._flat.value(at, Slot.TENSOR_BUFFER, "I"))
        count = prod(tensor.default_shape)
        if tensor.dtype == "int4":
            pairs = np.frombuffer(raw, np.int8)
            values = np.stack([pairs << 4 >> 4, pairs >> 4], -1).reshape(-1)[:count]
        else:
            try:
                kind = np.dtype(tensor.dtype)
            except TypeError:
                raise UnsupportedContent(f"its weights are {tensor.dtype}", "export the model in float32") from None
            if kind.kind not in "biuf":
                raise UnsupportedContent(f"it reads a constant of type {tensor.dtype}", "remove the operator")
            if len(raw) != count * kind.itemsize:
                raise MalformedFlatbuffer(f"tensor {index} has {len(raw)} bytes of data for {count} {kind.name}")
            values = np.frombuffer(raw, kind)
        return values.reshape(tensor.default_shape)

    def _read_buffer(self, index: int) -> bytes:
        flat, buffer = self._flat, self._buffers[index]
        start, count = flat.vector(buffer, Slot.BUFFER_DATA, 1)
        if not count:
            start, count = flat.value(buffer, Slot.BUFFER_OFFSET, "Q"), flat.value(buffer, Slot.BUFFER_SIZE, "Q")
        return bytes(flat.data[start : start + count])

    def steps(self, index: int) -> Steps | None:
        """Return the quantization parameters of a tensor of integers; None if it has none."""
        if self.graph.tensors[index].dtype not in ("int8", "uint8", "int16", "int32", "int64", "int4"):
            return None
        at = self._flat.field(self._tensors[index], Slot.TENSOR_QUANTIZATION)
        if not at:
            return None
        table = self._flat.follow(at)
        if self._flat.value(table, Slot.QUANTIZATION_DETAILS, "B"):
            raise UnsupportedContent("its weights are quantized in blocks", "use the model that it was made from")
        scale = np.array(self._flat.numbers(table, Slot.QUANTIZATION_SCALE, "f"), np.float32)
        if not scale.any():
            return None
        zeros = np.array(self._flat.numbers(table, Slot.QUANTIZATION_ZERO_POINT, "q"), np.int64)
        zeros = np.resize(zeros, scale.shape) if zeros.size else np.zeros(scale.shape, np.int64)
        axis = self._flat.value(table, Slot.QUANTIZATION_AXIS, "i")
        shape = self.graph.tensors[index].default_shape
        if not np.isfinite(scale).all() or (scale <= 0).any():
            raise MalformedFlatbuffer(f"tensor {index} has an impossible scale")
        if scale.size > 1 and not (0 <= axis < len(shape) and shape[axis] == scale.size):
            raise MalformedFlatbuffer(f"tensor {index} has {scale.size} scales for the shape {list(shape)}")
        return Steps(scale, zeros, axis)
