"""Stage 6: write the program as a TFLite flatbuffer.

The schema's generated classes are `ai_edge_litert.schema_py_generated`; the file carries one signature, whose names are
the source's. Data of tensors is aligned to 16 bytes, as the schema requires.
"""

from collections.abc import Mapping, Sequence
from io import BytesIO
from struct import Struct
from typing import Any

import numpy as np

from edgewright.errors import ModelNotConvertible
from edgewright.formats.onnx.weightless import release_pages
from edgewright.runtimes.litert.writer.graph import Scales
from edgewright.runtimes.litert.writer.program import Operator, Program, Tensor
from edgewright.schema.arrays import Array

ALIGNMENT = 16
VERSION = 3
IDENTIFIER = b"TFL3"
SIGNATURE = "serving_default"
MOST_FILE_BYTES = 2**31 - 2**20
LENGTH_BYTES = 4
OFFSET = Struct("<I")
PLACEHOLDER = 2**31 - 1
BUFFER_FIELDS = 3
# Pages of the source are released after this number of written bytes.
RELEASED_BYTES = 2**22
DESCRIPTION = "Written by Edgewright from ONNX"

# Names of options tables that differ from the operator's name.
OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "CONV_3D": "Conv3DOptions",
    "CONV_3D_TRANSPOSE": "Conv3DOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
    "ARG_MAX": "ArgMaxOptions",
    "ARG_MIN": "ArgMinOptions",
    "MEAN": "ReducerOptions",
    "SUM": "ReducerOptions",
    "REDUCE_MAX": "ReducerOptions",
    "REDUCE_MIN": "ReducerOptions",
    "REDUCE_PROD": "ReducerOptions",
    "REDUCE_ANY": "ReducerOptions",
    "REDUCE_ALL": "ReducerOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "LOCAL_RESPONSE_NORMALIZATION": "LocalResponseNormalizationOptions",
    "TOPK_V2": "TopKV2Options",
    "SELECT_V2": "SelectV2Options",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTMOptions",
}
# Operators without an options table, or whose table is empty and optional.
_PLAIN = """
    RELU RELU6 RELU_N1_TO_1 RELU_0_TO_1 LOGISTIC TANH ABS EXP LOG SQRT RSQRT SIN COS FLOOR CEIL ROUND NEG SIGN ELU
    HARD_SWISH PRELU QUANTIZE DEQUANTIZE PAD PADV2 LOGICAL_OR LOGICAL_AND LOGICAL_NOT EQUAL NOT_EQUAL LESS
    LESS_EQUAL GREATER GREATER_EQUAL POW FLOOR_MOD FLOOR_DIV SELECT SELECT_V2 SLICE TILE BROADCAST_TO SQUARE
    SQUARED_DIFFERENCE GATHER_ND SCATTER_ND REVERSE_V2 TRANSPOSE ATAN2 MAXIMUM MINIMUM FILL EXPAND_DIMS
    LOG_SOFTMAX BITWISE_XOR BITCAST TOPK_V2 ZEROS_LIKE
"""
PLAIN = frozenset(_PLAIN.split())
# Kernel versions that introduced a feature; older runtimes then reject the file instead of failing later.
INT8_VERSIONS = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4, "ADD": 2, "MUL": 2, "SUB": 2, "MEAN": 2,
                 "AVERAGE_POOL_2D": 2, "MAX_POOL_2D": 2, "CONCATENATION": 2, "PAD": 2, "PADV2": 2, "TRANSPOSE": 2,
                 "SOFTMAX": 2, "LOGISTIC": 2, "TANH": 2, "RELU": 2, "RELU6": 2, "QUANTIZE": 1, "DEQUANTIZE": 2,
                 "STRIDED_SLICE": 2, "SPLIT": 2, "GATHER": 2, "RESIZE_BILINEAR": 2, "RESIZE_NEAREST_NEIGHBOR": 2,
                 "TRANSPOSE_CONV": 2, "BATCH_MATMUL": 2, "RESHAPE": 1}  # fmt: skip
TRANSPOSE_CONV_VERSIONS = (2, 3)  # without and with a bias
HYBRID_VERSION = 12  # of FULLY_CONNECTED with scales along the channels
CHANNELS_VERSION = 5  # of DEQUANTIZE with scales along an axis
INT16_VERSIONS = {"CONV_2D": 4, "DEPTHWISE_CONV_2D": 5, "FULLY_CONNECTED": 7, "ADD": 3, "SUB": 5, "MUL": 4, "MEAN": 3,
                  "AVERAGE_POOL_2D": 3, "MAX_POOL_2D": 3, "CONCATENATION": 3, "DEQUANTIZE": 3}  # fmt: skip
HALF_VERSIONS = {"DEQUANTIZE": 3}
# Kernels without a version 1.
LEAST_VERSIONS = {"BROADCAST_TO": 2}
PADDINGS = ("SAME", "VALID")
ACTIVATIONS = ("NONE", "RELU", "RELU_N1_TO_1", "RELU6", "TANH", "SIGN_BIT")


def write_file(program: Program, metadata: Mapping[str, bytes] | None = None) -> bytes:
    """Return the bytes of the file; equal programs give equal bytes. Raises ModelNotConvertible if it is too
    large.

    The tables come first, then the tensors' data, so that weights are copied only once: from their source,
    usually a mapped file, into the result.
    """
    import ai_edge_litert.schema_py_generated as schema
    import flatbuffers  # type: ignore[import-untyped]  # ships no types

    tables = _Tables(schema)
    model = tables.make_model(program)
    model.metadata = [tables.make_metadata(name, data, model.buffers) for name, data in (metadata or {}).items()]
    total = sum(buffer.bytes + 64 for buffer in model.buffers)
    if total > MOST_FILE_BYTES:
        raise ModelNotConvertible(
            f"the file would hold {total / 2**30:.1f} GiB", "a TFLite flatbuffer holds up to 2 GiB"
        )
    builder = flatbuffers.Builder(1024 * (len(program.operators) + 64))
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return _append(bytes(builder.Output()), model.buffers)


def _append(head: bytes, buffers: "Sequence[AlignedBuffer]") -> bytes:
    """Return the tables followed by the data, with each buffer's offset set."""
    tables, ends = bytearray(head), len(head)
    for buffer in buffers:
        if buffer.bytes:
            begin = -(-(ends + LENGTH_BYTES) // ALIGNMENT) * ALIGNMENT
            field = len(head) - buffer.field
            OFFSET.pack_into(tables, field, begin - LENGTH_BYTES - field)
            ends = begin + buffer.bytes
    file, untouched = BytesIO(), 0
    file.write(tables)
    for buffer in buffers:
        if buffer.data is not None and buffer.bytes:
            file.write(bytes(-(file.tell() + LENGTH_BYTES) % ALIGNMENT) + OFFSET.pack(buffer.bytes))
            file.write(_raw(buffer.data).data)
            untouched += buffer.bytes
            if untouched > RELEASED_BYTES:
                release_pages(buffer.data)
                untouched = 0
            buffer.data = None
    return file.getvalue()


def _index_tensors(program: Program) -> list[Tensor]:
    """Return the tensors in the file's order: inputs first, then as operators use them."""
    order: dict[int, Tensor] = {id(tensor): tensor for tensor in program.inputs.values()}
    for operator in program.operators:
        for tensor in (*operator.inputs, *operator.outputs):
            if tensor is not None:
                order.setdefault(id(tensor), tensor)
    for tensor in program.outputs.values():
        order.setdefault(id(tensor), tensor)
    return list(order.values())


class AlignedBuffer:
    """The data of one tensor, stored after the tables; `field` is the position of its offset from the tables' end."""

    def __init__(self, data: Array | None) -> None:
        self.data = data
        self.field = 0
        self.bytes = 0 if data is None else _count_bytes(data)

    def Pack(self, builder: Any) -> Any:  # the method name that the generated classes call
        builder.StartObject(BUFFER_FIELDS)
        if self.bytes:
            builder.PrependUint32Slot(0, PLACEHOLDER, 0)
            self.field = builder.Offset()
        return builder.EndObject()


def _count_bytes(data: Array) -> int:
    return -(-data.size // 2) if data.dtype.name == "int4" else data.nbytes


def _raw(data: Array) -> Array:
    """Return the bytes in storage order; a byte has two 4-bit numbers, the first in the low half."""
    if data.dtype.name != "int4":
        return np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    flat = np.ascontiguousarray(data).reshape(-1).astype(np.int8).view(np.uint8) & 15
    flat = np.concatenate([flat, np.zeros(flat.size % 2, np.uint8)])
    return np.asarray(flat[::2] | flat[1::2] << 4, np.uint8)


class _Tables:
    """Creates the schema's objects of one file."""

    def __init__(self, schema: Any) -> None:
        self.schema = schema
        self.kinds = {
            "float32": schema.TensorType.FLOAT32,
            "float16": schema.TensorType.FLOAT16,
            "int32": schema.TensorType.INT32,
            "int64": schema.TensorType.INT64,
            "int16": schema.TensorType.INT16,
            "int8": schema.TensorType.INT8,
            "uint8": schema.TensorType.UINT8,
            "bool": schema.TensorType.BOOL,
            "int4": schema.TensorType.INT4,
        }

    def make_model(self, program: Program) -> Any:
        tensors = _index_tensors(program)
        index = {id(tensor): position for position, tensor in enumerate(tensors)}
        buffers = [AlignedBuffer(None)]
        codes = sorted({(operator.code, _find_version(operator)) for operator in program.operators})
        graph = self.schema.SubGraphT()
        graph.name = "main"
        graph.tensors = [self._make_tensor(tensor, buffers, name) for tensor, name in _name_uniquely(tensors)]
        for tensor, made in zip(tensors, list(graph.tensors), strict=True):
            if tensor.scales is not None and tensor.scales.block:
                made.quantization = self._make_blocks(tensor.scales, len(graph.tensors))
                scales = Tensor(f"{tensor.name}/scales", tensor.scales.scale.shape, np.dtype(np.float16))
                scales.data = tensor.scales.scale.astype(np.float16)
                graph.tensors.append(self._make_tensor(scales, buffers, scales.name))
        graph.inputs = np.asarray([index[id(tensor)] for tensor in program.inputs.values()], np.int32)
        graph.outputs = np.asarray([index[id(tensor)] for tensor in program.outputs.values()], np.int32)
        graph.operators = [self._make_operator(operator, codes, index) for operator in program.operators]
        model = self.schema.ModelT()
        model.version, model.description = VERSION, DESCRIPTION
        model.operatorCodes = [self._make_code(*code) for code in codes]
        model.subgraphs, model.buffers = [graph], buffers
        model.signatureDefs = [self._make_signature(program, index)]
        return model

    def make_metadata(self, name: str, data: bytes, buffers: "list[AlignedBuffer]") -> Any:
        made = self.schema.MetadataT()
        made.name, made.buffer = name, len(buffers)
        buffers.append(AlignedBuffer(np.frombuffer(data, np.uint8)))
        return made

    def _make_code(self, name: str, version: int) -> Any:
        code = self.schema.OperatorCodeT()
        number = getattr(self.schema.BuiltinOperator, name)
        code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), version
        return code

    def _make_tensor(self, tensor: Tensor, buffers: list[AlignedBuffer], name: str) -> Any:
        made = self.schema.TensorT()
        made.name, made.type = name, self.kinds[tensor.dtype.name]
        made.shape = np.asarray(tensor.shape, np.int32)
        made.hasRank = True
        if tensor.data is not None:
            made.buffer = len(buffers)
            buffers.append(AlignedBuffer(tensor.data))
            tensor.data = None  # so that each can be freed when it is written
        if tensor.scales is not None and not tensor.scales.block:
            made.quantization = self._make_scales(tensor.scales)
        return made

    def _make_scales(self, scales: Scales) -> Any:
        made = self.schema.QuantizationParametersT()
        made.scale = scales.scale.reshape(-1).astype(np.float32)
        made.zeroPoint = scales.zero_point.reshape(-1).astype(np.int64)
        made.quantizedDimension = scales.axis if scales.scale.size > 1 else 0
        return made

    def _make_blocks(self, scales: Scales, place: int) -> Any:
        """Return block-wise parameters, whose scales are a tensor of their own."""
        made, details = self.schema.QuantizationParametersT(), self.schema.BlockwiseQuantizationT()
        details.scales, details.zeroPoints, details.blockSize = place, -1, scales.block
        made.detailsType, made.details = self.schema.QuantizationDetails.BlockwiseQuantization, details
        return made

    def _make_operator(self, operator: Operator, codes: Sequence[tuple[str, int]], index: Mapping[int, int]) -> Any:
        made = self.schema.OperatorT()
        made.opcodeIndex = codes.index((operator.code, _find_version(operator)))
        made.inputs = np.asarray([-1 if t is None else index[id(t)] for t in operator.inputs], np.int32)
        made.outputs = np.asarray([index[id(t)] for t in operator.outputs], np.int32)
        if operator.code not in PLAIN or operator.options:
            name = OPTIONS.get(operator.code) or f"{operator.code.title().replace('_', '')}Options"
            made.builtinOptionsType = getattr(self.schema.BuiltinOptions, name)
            made.builtinOptions = self._fill(getattr(self.schema, f"{name}T")(), operator.options)
        return made

    def _fill(self, table: Any, options: Mapping[str, Any]) -> Any:
        for key, value in options.items():
            if not hasattr(table, key):
                raise KeyError(f"{type(table).__name__} has no field {key}")
            setattr(table, key, self._number(value))
        return table

    def _number(self, value: Any) -> Any:
        """Return names of the schema's enumerations as its numbers."""
        if isinstance(value, np.dtype):
            return self.kinds[value.name]
        if isinstance(value, str):
            kind = self.schema.Padding if value in PADDINGS else self.schema.ActivationFunctionType
            return getattr(kind, value)
        return value

    def _make_signature(self, program: Program, index: Mapping[int, int]) -> Any:
        made = self.schema.SignatureDefT()
        made.signatureKey, made.subgraphIndex = SIGNATURE, 0
        made.inputs = [self._make_entry(name, index[id(t)]) for name, t in program.inputs.items()]
        made.outputs = [self._make_entry(name, index[id(t)]) for name, t in program.outputs.items()]
        return made

    def _make_entry(self, name: str, index: int) -> Any:
        made = self.schema.TensorMapT()
        made.name, made.tensorIndex = name, index
        return made


def _find_version(operator: Operator) -> int:
    """Return the kernel version that the operator requires."""
    first = next((tensor for tensor in operator.inputs if tensor is not None), None)
    if first is not None and first.dtype == np.float16:
        return HALF_VERSIONS.get(operator.code, 1)
    if operator.code == "TRANSPOSE_CONV":
        return TRANSPOSE_CONV_VERSIONS[len(operator.inputs) > 3]
    weights = operator.inputs[1] if len(operator.inputs) > 1 else None
    if operator.code == "FULLY_CONNECTED" and first is not None and first.dtype == np.float32:
        return HYBRID_VERSION if weights is not None and weights.scales is not None else 1
    if operator.code == "DEQUANTIZE" and first is not None and first.scales is not None and first.scales.scale.size > 1:
        return CHANNELS_VERSION
    if first is not None and first.dtype == np.int8 and first.scales is not None:
        return INT8_VERSIONS.get(operator.code, 1)
    if first is not None and first.dtype == np.int16 and first.scales is not None:
        return INT16_VERSIONS.get(operator.code, 1)
    return LEAST_VERSIONS.get(operator.code, 1)


def _name_uniquely(tensors: Sequence[Tensor]) -> list[tuple[Tensor, str]]:
    """Return tensors with unique names: a repeated name gets a number appended."""
    seen: dict[str, int] = {}
    named = []
    for tensor in tensors:
        count = seen[tensor.name] = seen.get(tensor.name, -1) + 1
        named.append((tensor, f"{tensor.name}#{count}" if count else tensor.name))
    return named
