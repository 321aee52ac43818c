"""INT8 layers in MNN's files, with the scales and zero points of a QDQ graph.

MNN's converter reads them from a file of compression parameters, with one entry for each layer by its output's name.
That file is a protobuf message `MNN.Compression.Pipeline` (tools/converter/source/compression/MNN_compression.proto of
alibaba/MNN); the few required fields are written here. The file sets the quantization parameters of tensors, and MNN
runs all operators between such tensors in INT8.
"""

import struct
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgewright.formats.neighbors import find_readers
from edgewright.formats.onnx.attributes import read_attribute, read_attributes
from edgewright.formats.onnx.constants import read_static_shapes
from edgewright.formats.onnx.qdq import ActivationQuantParams, ExtractedFloatModel, QdqWeights, iterate_quantized_layers
from edgewright.formats.onnx.weightless import FIXED32, LENGTH, VARINT, encode_varint
from edgewright.runtimes.contract import NotConvertible
from edgewright.runtimes.mnn.graph import NET_OPS, NET_TENSORS, OP_MAIN, OP_OUTPUTS, OP_TYPE, FlatbufferTable
from edgewright.schema.arrays import Array

# Field numbers.
VERSION, ALGORITHMS = 1, 2
QUANTIZED_FIELD = 2
LAYERS = 4
INPUTS, WEIGHTS, OUTPUTS = 1, 2, 3
NAME, SCALES, ZERO, LOW, HIGH = 1, 3, 4, 5, 6
WEIGHTS_LOW, WEIGHTS_HIGH = 4, 5

OWN_VERSION = "0.0.0"
NO_LAYER = "no convolution or matrix product of the model has both quantized inputs and quantized weights"
CONVOLUTIONS = (12, 13)  # members of OpType: Convolution, ConvolutionDepthwise
SYMMETRIC = 4  # slot of Convolution2D's symmetricQuan, which only INT8 convolutions have
BOUNDS = ("Relu", "Clip", "Identity")  # fused by MNN into a layer, which then has their tensor's name
NEGATIVE = 2**64
# Suffixes by the converter: of products that become convolutions, and of outputs in its own layout.
CONVERTED, BEFORE_LAYOUT = "__matmul_converted", "__before_tr"
SUFFIXES = ("", CONVERTED, BEFORE_LAYOUT)


class MnnInt8Layer(NamedTuple):
    """A layer that can be INT8.

    Attributes:
        node: its name in the source.
        tensors: its possible names: its output, and those of activations that MNN fuses into it.
        scales: of the weights, one for each output.
        least: the smallest integer of the weights.
    """

    node: str
    tensors: tuple[str, ...]
    weights: str
    scales: Array
    least: int
    source: str
    input_params: ActivationQuantParams
    output_params: ActivationQuantParams


def find_layers(extracted: ExtractedFloatModel) -> tuple[list[MnnInt8Layer], dict[str, str]]:
    """Return the layers that MNN can store in INT8, and the reasons against the other quantized ones by name."""
    layers, left = [], {}
    readers = find_readers(extracted.model.graph.node)
    constants = {tensor.name: tuple(tensor.dims) for tensor in extracted.model.graph.initializer}
    shapes = read_static_shapes(extracted.model.graph)
    for node, given, quant_params in iterate_quantized_layers(extracted):
        tensors = _follow_bounds(node.output[0], readers)
        output_params = next(
            (extracted.output_params[name] for name in reversed(tensors) if name in extracted.output_params), None
        )
        scales = _broadcast_scales(node, given)
        if why := _find_reason(node, given, scales, output_params) or _find_odd_product(node, given, constants, shapes):
            left[node.name] = why
        elif output_params is not None and scales is not None:
            least = int(given.values.min())
            named = (node.name, tensors, node.input[1], scales, least, node.input[0], quant_params, output_params)
            layers.append(MnnInt8Layer(*named))
    return layers, left


def make_no_layer_error(left: Mapping[str, str]) -> NotConvertible:
    """Return the error for a model without a layer that MNN can store in INT8."""
    return NotConvertible("\n".join(f"'{name}': {why}" for name, why in left.items()) or NO_LAYER)


def _find_reason(
    node: Any, given: QdqWeights, scales: Array | None, output_params: ActivationQuantParams | None
) -> str:
    if node.op_type == "ConvTranspose":
        return "MNN's converter supports scales only for Conv"
    if given.values.dtype != np.int8 or bool(given.zeros.any()):
        return "its weights are not int8 with zero point 0"
    if scales is None:
        return "its scales are not per output channel"
    return "its output is not quantized, but MNN's INT8 layers write integers" if output_params is None else ""


def _find_odd_product(
    node: Any, given: QdqWeights, constants: Mapping[str, tuple[int, ...]], shapes: Mapping[str, tuple[int, ...]]
) -> str:
    """Return why a product is not a 1×1 convolution; empty if it is one, or if the node is not a product."""
    if node.op_type == "MatMul":
        known = given.values.ndim == 2 and node.output[0] in shapes
        return "" if known else "it is not a product with a matrix, or its sizes are not known"
    if node.op_type != "Gemm":
        return ""
    numbers = read_attributes(node)
    if numbers.get("transA") or numbers.get("alpha", 1.0) != 1 or numbers.get("beta", 1.0) != 1:
        return "MNN's convolutions support neither a transposed nor a scaled input"
    outputs = given.values.shape[0 if numbers.get("transB") else 1]
    if len(node.input) > 2 and constants.get(node.input[2]) != (outputs,):
        return "its bias is not a constant vector"
    return ""


def _follow_bounds(tensor: str, readers: Mapping[str, Sequence[Any]]) -> tuple[str, ...]:
    """Return the tensor, and those after it up to the end of a chain of Relu and Clip."""
    found = [tensor]
    while (after := readers.get(found[-1], ())) and len(after) == 1 and after[0].op_type in BOUNDS:
        found.append(after[0].output[0])
    return tuple(found)


def _broadcast_scales(node: Any, given: QdqWeights) -> Array | None:
    """Return the scale of each output."""
    transposed = node.op_type == "MatMul" or not read_attribute(node, "transB")
    axis = 0 if node.op_type == "Conv" or not transposed else given.values.ndim - 1
    count = given.values.shape[axis]
    if given.scales.size > 1 and given.axis % given.values.ndim != axis:
        return None
    return np.broadcast_to(given.scales.reshape(-1), count) if given.scales.size in (1, count) else None


def write_parameters(layers: Iterable[MnnInt8Layer], path: Path) -> None:
    """Write the file of compression parameters."""
    named = [(layer, name + suffix) for layer in layers for name in layer.tensors for suffix in SUFFIXES]
    entries = b"".join(_block(LAYERS, _write_layer(layer, name)) for layer, name in named)
    path.write_bytes(_block(VERSION, OWN_VERSION.encode()) + _block(ALGORITHMS, _block(QUANTIZED_FIELD, entries)))


def _write_layer(layer: MnnInt8Layer, output: str) -> bytes:
    weights = _block(NAME, layer.weights.encode()) + b"".join(_real(SCALES, float(one)) for one in layer.scales)
    weights += _encode_integer(WEIGHTS_LOW, min(layer.least, -127)) + _encode_integer(WEIGHTS_HIGH, 127)
    made = [
        (INPUTS, _encode_quant_params(layer.source, layer.input_params)),
        (WEIGHTS, weights),
        (OUTPUTS, _encode_quant_params(output, layer.output_params)),
    ]
    return b"".join(_block(number, body) for number, body in made)


def _encode_quant_params(name: str, quant_params: ActivationQuantParams) -> bytes:
    signed = quant_params.signed()
    numbers = _encode_integer(ZERO, signed.zero) + _encode_integer(LOW, signed.low) + _encode_integer(HIGH, signed.high)
    return _block(NAME, name.encode()) + _real(SCALES, signed.scale) + numbers


def _block(number: int, body: bytes) -> bytes:
    return encode_varint(number << 3 | LENGTH) + encode_varint(len(body)) + body


def _encode_integer(number: int, value: int) -> bytes:
    return encode_varint(number << 3 | VARINT) + encode_varint(value % NEGATIVE)


def _real(number: int, value: float) -> bytes:
    return encode_varint(number << 3 | FIXED32) + struct.pack("<f", value)


def find_quantized_layers(path: Path, layers: Sequence[MnnInt8Layer]) -> set[str]:
    """Return the nodes of the layers that are INT8 in the converter's file."""
    net = FlatbufferTable.root(path.read_bytes())
    tensors = net.texts(NET_TENSORS)
    made = {tensors[i] for table in net.tables(NET_OPS) if _is_quantized(table) for i in table.numbers(OP_OUTPUTS)}
    made |= {name.removesuffix(suffix) for name in made for suffix in SUFFIXES}
    return {layer.node for layer in layers if made.intersection(layer.tensors)}


def _is_quantized(table: FlatbufferTable) -> bool:
    main = table.table(OP_MAIN) if table.number(OP_TYPE) in CONVOLUTIONS else None
    return main is not None and bool(main.find(SYMMETRIC))


def describe_layers(done: Collection[str], left: Mapping[str, str]) -> tuple[str, ...]:
    """Return warnings about the layers."""
    total = len(done) + len(left)
    return (
        f"{len(done)} of {total} quantized layers with weights are INT8",
        *(f"'{name}' stays in float32: {why}" for name, why in left.items()),
    )
