"""Reading of ONNX: signature, graph, precision and weight files."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

from edgewright.errors import ModelUnreadable
from edgewright.formats.onnx.external import check_external, iterate_model_tensors
from edgewright.formats.onnx.stored_weights import has_cast_weights
from edgewright.formats.onnx.weightless import (
    FileBytes,
    StrippedModel,
    load_without_weights,
    map_file,
    strip_weights,
)
from edgewright.schema.model import GraphNode, Signature, TensorSpec
from edgewright.schema.vocabulary import Precision

DTYPE_NAMES = {
    "FLOAT": "float32",
    "DOUBLE": "float64",
    "STRING": "str",
}
INT8_OPS = {"QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeMatMul", "QGemm"}


class OnnxFile:
    """An ONNX file without its external weights, read lazily.

    Raises:
        ModelUnreadable: the bytes are not an ONNX model, or its graph is invalid.
        ExternalDataMissing: weights are in a file that is absent, or outside of the model's folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model = parse_model(path, weights=False)
        self.graph = self.model.graph
        if not self.graph.node and not self.graph.output:
            raise ModelUnreadable(f"{path} has no graph", "it has no operators and no outputs")
        self.constants = {tensor.name for tensor in self.graph.initializer} | {
            sparse.values.name for sparse in self.graph.sparse_initializer
        }

    def data_files(self) -> tuple[str, ...]:
        """Return the names of the weight files, relative to the model, in the order of first use: see
        `check_external`."""
        return check_external(self.path, self.model)

    def signature(self) -> Signature:
        inputs = [value for value in self.graph.input if value.name not in self.constants]
        for title, values in (("inputs", inputs), ("outputs", self.graph.output)):
            if len({value.name for value in values}) < len(values):  # a runtime returns only one of them
                raise ModelUnreadable(f"{self.path} cannot be used", f"two of its {title} have the same name")
        return Signature(
            inputs=tuple(map(describe_value, inputs)), outputs=tuple(map(describe_value, self.graph.output))
        )

    def nodes(self) -> tuple[GraphNode, ...]:
        return describe_nodes(self.graph, self.constants)

    def precision(self) -> Precision:
        """Return the precision of its operators: QDQ and integer operators, else the type of most weights."""
        ops = [node.op_type for node in self.graph.node]
        if "DynamicQuantizeLinear" in ops or "DynamicQuantizeMatMul" in ops:
            return "w8a8-dynamic"
        if "QuantizeLinear" in ops or INT8_OPS & set(ops):
            return self._activation_precision()
        if "MatMulNBits" in ops:
            return self._block_precision()
        if "DequantizeLinear" in ops:
            return "w4" if self._has_most_in_four_bits() else "w8"
        if has_cast_weights(self.graph):
            return "w8"
        return self._float_precision()

    def _activation_precision(self) -> Precision:
        wide = {5, 4}  # TensorProto.INT16, UINT16
        zero_points = {tensor.name: tensor.data_type for tensor in self.graph.initializer}
        quantize = [node for node in self.graph.node if node.op_type == "QuantizeLinear" and len(node.input) > 2]
        sixteen = sum(zero_points.get(node.input[2]) in wide for node in quantize)
        if quantize and sixteen * 2 > len(quantize):
            return "w8a16"
        return "w4a8" if self._has_most_in_four_bits() else "w8a8"

    def _block_precision(self) -> Precision:
        """Return the precision of the first MatMulNBits: its bits, 4 by default, and whether it may round activations
        to int8."""
        node = next(one for one in self.graph.node if one.op_type == "MatMulNBits")
        attributes = {one.name: one.i for one in node.attribute}
        if attributes.get("bits", 4) != 4:
            return "w8"
        return "w4a8" if attributes.get("accuracy_level", 0) == 4 else "w4"

    def _has_most_in_four_bits(self) -> bool:
        """Return whether most integer weights are of 4 bits."""
        sizes = {4: 0, 8: 0}
        for tensor in self.graph.initializer:
            bits = {21: 4, 22: 4, 2: 8, 3: 8}.get(tensor.data_type)  # TensorProto.UINT4, INT4, UINT8, INT8
            if bits:
                sizes[bits] += prod(tensor.dims)
        return sizes[4] > sizes[8]

    def _float_precision(self) -> Precision:
        sizes: dict[int, int] = {}
        for tensor in self.graph.initializer:
            sizes[tensor.data_type] = sizes.get(tensor.data_type, 0) + _count_elements(tensor.dims)
        floats: dict[int, Precision] = {1: "fp32", 11: "fp32", 10: "fp16", 16: "bf16"}
        most = max((kind for kind in sizes if kind in floats), key=lambda kind: sizes[kind], default=1)
        return floats[most]


def parse_model(path: Path, *, weights: bool = True) -> Any:
    """Return the protobuf message, or one without large weights. Raises ModelUnreadable for other bytes."""
    with _report_damage(path):
        return _parse(path.read_bytes() if weights else load_without_weights(path))


def map_model(model: Path | bytes) -> tuple[Any, StrippedModel]:
    """Return the message without its large initializers, which stay in the mapped file. Raises ModelUnreadable."""
    with _report_damage("the given bytes" if isinstance(model, bytes) else model):
        stripped = strip_weights(map_file(model))
        return _parse(stripped.message), stripped


@contextmanager
def open_model(path: Path) -> Iterator[tuple[Any, StrippedModel]]:
    """Open a file, and yield the message without its large initializers, which are read from the file on request.

    Raises ModelUnreadable.
    """
    with _report_damage(path):
        file = path.open("rb")
    with file:
        with _report_damage(path):
            stripped = strip_weights(FileBytes(file))
            model = _parse(stripped.message)
        yield model, stripped


@contextmanager
def _report_damage(source: object) -> Iterator[None]:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # ships no types

    try:
        yield
    except (DecodeError, ValueError, MemoryError, OSError) as error:
        raise ModelUnreadable(f"{source} cannot be read as ONNX", str(error).strip() or type(error).__name__) from None


def _parse(message: bytes) -> Any:
    """Return the message. Raises ValueError for a text that is not UTF-8, for which protobuf returns bytes on
    access."""
    from onnx import ModelProto

    model = ModelProto.FromString(message)
    if any(isinstance(text, bytes) for text in _texts_of(model)):
        raise ValueError("a name in it is not UTF-8")
    return model


def _texts_of(model: Any) -> Iterator[str | bytes]:
    graph = model.graph
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
    for value in (*graph.input, *graph.output):
        yield from (value.name, *(dim.dim_param for dim in value.type.tensor_type.shape.dim))
    for tensor in iterate_model_tensors(model):
        yield from (tensor.name, *(text for entry in tensor.external_data for text in (entry.key, entry.value)))
    yield from (sparse.values.name for sparse in graph.sparse_initializer)


def describe_nodes(graph: Any, constants: Collection[str]) -> tuple[GraphNode, ...]:
    return tuple(
        GraphNode(
            name=node.name or f"{node.op_type}#{position}",
            op=node.op_type,
            inputs=tuple(name for name in node.input if name and name not in constants),
            outputs=tuple(node.output),
        )
        for position, node in enumerate(graph.node)
    )


def describe_value(value: Any) -> TensorSpec:
    kind = value.type.tensor_type
    return TensorSpec(name=value.name, dtype=get_dtype_name(kind.elem_type), shape=tuple(_sizes(kind)))


def get_dtype_name(number: int) -> str:
    import onnx

    try:
        name = str(onnx.TensorProto.DataType.Name(number))
    except ValueError:
        return "unknown"
    return DTYPE_NAMES.get(name, name.lower())


def _sizes(kind: Any) -> Iterator[int | str]:
    for dim in kind.shape.dim:
        yield dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else dim.dim_param


def _count_elements(dims: Any) -> int:
    total = 1
    for size in dims:
        total *= max(0, size)
    return total
