"""INT8 layers in MNN's files, with the scales and zero points of a QDQ graph.

MNN's converter reads them from a file of compression parameters, one entry for each layer by the name of what it
makes. That file is a protobuf message `MNN.Compression.Pipeline`
(tools/converter/source/compression/MNN_compression.proto of alibaba/MNN); the few fields that are needed are written
here. Tensors get their grid by it, and MNN runs whatever stands between such tensors in INT8 by itself.
"""

import struct
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgewright.formats.onnx_qdq import Grid, TakenApart, Weights, quantised_layers
from edgewright.formats.onnx_skim import FIXED32, LENGTH, VARINT, varint
from edgewright.runtimes.contract import Array
from edgewright.runtimes.mnn.graph import OP_MAIN, OP_NAME, Table, read_operators

# Numbers of the fields.
VERSION, ALGORITHMS = 1, 2
QUANTISED = 2
LAYERS = 4
INPUTS, WEIGHTS, OUTPUTS = 1, 2, 3
NAME, SCALES, ZERO, LOW, HIGH = 1, 3, 4, 5, 6
WEIGHTS_LOW, WEIGHTS_HIGH = 4, 5

OWN_VERSION = "0.0.0"
SYMMETRIC = 4  # slot of Convolution2D's symmetricQuan, which INT8 convolutions alone have
BOUNDS = ("Relu", "Clip")
NEGATIVE = 2**64
CONVERTED = "__matmul_converted"  # what the converter adds to the name of a product that it makes a convolution


class Layer(NamedTuple):
    """A layer that can be INT8.

    Attributes:
        node: its name in the source.
        tensors: what it may be called after: its output, and that of activations which MNN joins to it.
        scales: of the weights, one for each output.
        least: the smallest integer of the weights.
    """

    node: str
    tensors: tuple[str, ...]
    weights: str
    scales: Array
    least: int
    source: str
    reads: Grid
    makes: Grid


def find_layers(apart: TakenApart) -> tuple[list[Layer], dict[str, str]]:
    """The layers that MNN can hold in INT8, and by the names of the other quantised ones why it cannot."""
    layers, left = [], {}
    readers = find_readers(apart.model.graph)
    for node, given, grid in quantised_layers(apart):
        tensors = follow_bounds(node.output[0], readers)
        makes = next((apart.makes[name] for name in reversed(tensors) if name in apart.makes), None)
        scales = spread_scales(node, given)
        if why := find_reason(node, given, scales, makes):
            left[node.name] = why
        elif makes is not None and scales is not None:
            least = int(given.values.min())
            named = (node.name, tensors, node.input[1], scales, least, node.input[0], grid, makes)
            layers.append(Layer(*named))
    return layers, left


def find_reason(node: Any, given: Weights, scales: Array | None, makes: Grid | None) -> str:
    if node.op_type == "ConvTranspose":
        return "MNN's converter takes scales for convolutions alone"
    if given.values.dtype != np.int8 or bool(given.zeros.any()):
        return "its weights are no int8 without zero points"
    if scales is None:
        return "its scales do not lie along its outputs"
    return "nothing rounds what it makes, and MNN's INT8 layers make integers" if makes is None else ""


def find_readers(graph: Any) -> Mapping[str, Sequence[Any]]:
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return readers


def follow_bounds(tensor: str, readers: Mapping[str, Sequence[Any]]) -> tuple[str, ...]:
    """The tensor, and those behind it up to the end of a chain of Relu and Clip."""
    found = [tensor]
    while (after := readers.get(found[-1], ())) and len(after) == 1 and after[0].op_type in BOUNDS:
        found.append(after[0].output[0])
    return tuple(found)


def spread_scales(node: Any, given: Weights) -> Array | None:
    """One scale for each output."""
    turned = node.op_type == "MatMul" or not any(one.name == "transB" and one.i for one in node.attribute)
    axis = 0 if node.op_type == "Conv" or not turned else given.values.ndim - 1
    count = given.values.shape[axis]
    if given.scales.size > 1 and given.axis % given.values.ndim != axis:
        return None
    return np.broadcast_to(given.scales.reshape(-1), count) if given.scales.size in (1, count) else None


def loosen(apart: TakenApart, layers: Iterable[Layer]) -> Any:
    """The float graph without the bounds that INT8 layers keep by themselves, since their integers end there."""
    from onnx import ModelProto

    model = ModelProto()
    model.CopyFrom(apart.model)
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    handed_out = {value.name for value in graph.output}
    for layer in layers:
        inner, *behind = layer.tensors
        if not behind or inner in handed_out or not is_own_bound(makers[behind[0]], layer.makes, graph):
            continue
        maker, bound = makers[inner], makers[behind[0]]
        maker.output[0] = behind[0]
        graph.node.remove(bound)
    return model


def is_own_bound(node: Any, grid: Grid, graph: Any) -> bool:
    """Whether a Clip ends where the grid does."""
    from onnx import numpy_helper

    if node.op_type != "Clip" or len(node.input) < 3:
        return False
    ends = [next((one for one in graph.initializer if one.name == name), None) for name in node.input[1:3]]
    given = [float(numpy_helper.to_array(one)) for one in ends if one is not None]
    return bool(np.allclose(given, (grid.floor, grid.ceiling))) if len(given) == len(ends) else False


def write_parameters(layers: Iterable[Layer], path: Path) -> None:
    """The file of compression parameters."""
    entries = b"".join(block(LAYERS, write_layer(layer, name)) for layer in layers for name in layer.tensors)
    path.write_bytes(block(VERSION, OWN_VERSION.encode()) + block(ALGORITHMS, block(QUANTISED, entries)))


def write_layer(layer: Layer, output: str) -> bytes:
    weights = block(NAME, layer.weights.encode()) + b"".join(real(SCALES, float(one)) for one in layer.scales)
    weights += whole(WEIGHTS_LOW, min(layer.least, -127)) + whole(WEIGHTS_HIGH, 127)
    made = [
        (INPUTS, write_grid(layer.source, layer.reads)),
        (WEIGHTS, weights),
        (OUTPUTS, write_grid(output, layer.makes)),
    ]
    return b"".join(block(number, body) for number, body in made)


def write_grid(name: str, grid: Grid) -> bytes:
    signed = grid.signed()
    numbers = whole(ZERO, signed.zero) + whole(LOW, signed.low) + whole(HIGH, signed.high)
    return block(NAME, name.encode()) + real(SCALES, signed.scale) + numbers


def block(number: int, body: bytes) -> bytes:
    return varint(number << 3 | LENGTH) + varint(len(body)) + body


def whole(number: int, value: int) -> bytes:
    return varint(number << 3 | VARINT) + varint(value % NEGATIVE)


def real(number: int, value: float) -> bytes:
    return varint(number << 3 | FIXED32) + struct.pack("<f", value)


def find_quantised(path: Path, layers: Sequence[Layer]) -> set[str]:
    """The nodes of the layers that the converter did make INT8, as its file tells."""
    made = {table.text(OP_NAME) for table in read_operators(path.read_bytes()) if is_quantised(table)}
    made |= {name.removesuffix(CONVERTED) for name in made}
    return {layer.node for layer in layers if made.intersection(layer.tensors)}


def is_quantised(table: Table) -> bool:
    main = table.table(OP_MAIN)
    return main is not None and bool(main.find(SYMMETRIC))


def describe(done: Collection[str], left: Mapping[str, str]) -> tuple[str, ...]:
    """What the user should know of the layers."""
    total = len(done) + len(left)
    return (
        f"{len(done)} of {total} quantised layers with weights are INT8",
        *(f"'{name}' stays in float32: {why}" for name, why in left.items()),
    )
