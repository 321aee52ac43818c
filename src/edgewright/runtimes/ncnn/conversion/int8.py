"""INT8 layers in ncnn's files, with the scales of a QDQ graph.

ncnn quantizes activations to integers of -127 to 127 without a zero point, so that the largest absolute value sets the
scale, `127 / reach`. Weights keep their integers. Their float values are searched in the `.bin` byte by byte
and replaced by integers, so that other layers need not be parsed. The layout is that of
`load_model` in ncnn's `convolution.cpp`, `convolutiondepthwise.cpp`, `innerproduct.cpp` and `modelbin.cpp`. Passing
integers from one layer to the next follows ncnn's own `ncnn2int8.cpp`.
"""

import struct
from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np

from edgewright.formats.onnx.constants import make_tensor
from edgewright.formats.onnx.qdq import ActivationQuantParams, ExtractedFloatModel, QdqWeights, iterate_quantized_layers
from edgewright.runtimes.ncnn.param import ParamRow
from edgewright.schema.arrays import Array

FLOAT_TAG, INT8_TAG = 0, 0x000D4B38
LARGEST = 127.0
TERM = "8"
PER_OUTPUT, PER_GROUP, PASSES_INTEGERS = 2, 1, 100
REQUESTED_REASON = "as requested"
UINT8_OFFSET = 128  # the zero point of symmetric weights in uint8


class ParameterNumbers(NamedTuple):
    """Parameter numbers of a layer type."""

    outputs: str
    bias: str
    group: str


KINDS = {
    "Convolution": ParameterNumbers("0", "5", ""),
    "ConvolutionDepthWise": ParameterNumbers("0", "5", "7"),
    "InnerProduct": ParameterNumbers("0", "1", ""),
}
CONVOLUTIONS = ("Convolution", "ConvolutionDepthWise")


class NcnnInt8Layer(NamedTuple):
    """A layer that becomes INT8, and the position of its weights in the `.bin`.

    Attributes:
        scales: ncnn's multipliers of the weights, one for each output or group.
        bottom: ncnn's multiplier of the input.
        begin, end: of the float weights with their tag.
        biases: number of floats of bias that follow.
    """

    position: int
    values: Array
    scales: Array
    bottom: float
    begin: int
    end: int
    biases: int


class QuantizedFiles(NamedTuple):
    """The files with INT8 layers.

    Attributes:
        steps: of the inputs of the INT8 layers, by source node.
        left: the source nodes that stay in float, and the reasons.
    """

    rows: list[ParamRow]
    weights: bytes
    steps: dict[str, float]
    left: dict[str, str]


def quantize_layers(
    rows: Sequence[ParamRow],
    weights: bytes,
    nodes: Sequence[tuple[str, ...]],
    extracted: ExtractedFloatModel,
    kept: Collection[str] = (),
) -> QuantizedFiles:
    """Convert the layers whose input and weights are quantized in the QDQ graph to INT8.

    Args:
        rows: pnnx's layers of the float graph.
        weights: pnnx's `.bin`, in float32.
        nodes: the nodes of the float graph that each row computes.
        extracted: the QDQ graph, decomposed.
        kept: types of layers that stay in float.
    """
    wanted = {
        node.name: (node, given, quant_params) for node, given, quant_params in iterate_quantized_layers(extracted)
    }
    layers: dict[int, NcnnInt8Layer] = {}
    steps: dict[str, float] = {}
    left: dict[str, str] = {}
    place = 0
    for position, (row, names) in enumerate(zip(rows, nodes, strict=True)):
        found = [name for name in names if name in wanted]
        if not found:
            continue
        made: NcnnInt8Layer | str
        if row.op in kept:
            made = REQUESTED_REASON
        elif len(found) > 1:
            made = "pnnx fused several layers into one"
        else:
            made = _find_layer(position, row, wanted[found[0]], weights, place)
        if isinstance(made, NcnnInt8Layer):
            layers[position] = made
            steps[found[0]] = 1 / made.bottom
            place = made.end
        else:
            left.update(dict.fromkeys(found, made))
    computed_names = {name for names in nodes for name in names}
    left.update({name: "no ncnn layer has its name" for name in wanted if name not in computed_names})
    tops = _find_tops(rows, layers)
    changed = [_mark_int8(row, layers[i], tops.get(i)) if i in layers else row for i, row in enumerate(rows)]
    return QuantizedFiles(changed, _rewrite(weights, layers, tops), steps, left)


def _find_layer(
    position: int, row: ParamRow, wanted: tuple[object, QdqWeights, ActivationQuantParams], weights: bytes, place: int
) -> NcnnInt8Layer | str:
    """Return the INT8 layer, or why it stays in float."""
    _, given, quant_params = wanted
    numbers = KINDS.get(row.op)
    if numbers is None:
        return f"ncnn's {row.op} has no INT8 form with fixed scales"
    values = as_signed(given)
    if values is None:
        return "its weights have a zero point"
    outputs = int(row.params[numbers.outputs])
    factors = int(row.params.get(numbers.group, "1")) if numbers.group else outputs
    scales = broadcast_scales(given.scales, outputs, factors)
    if scales is None:
        return "it has more weight scales than ncnn has groups"
    if not quant_params.max_abs or not bool((scales > 0).all()):
        return "it has a scale of zero"
    for stored, floats in _orders(values, given):
        begin = weights.find(struct.pack("<I", FLOAT_TAG) + floats.tobytes(), place)
        if begin >= 0:
            biases = outputs if row.params.get(numbers.bias, "0") == "1" else 0
            return NcnnInt8Layer(
                position, stored, 1 / scales, LARGEST / quant_params.max_abs, begin, begin + 4 + floats.nbytes, biases
            )
    return "pnnx changed its weights"


def as_signed(given: QdqWeights) -> Array | None:
    """Return the weights as int8 without zero points; None if they have any."""
    middle = UINT8_OFFSET if given.values.dtype == np.uint8 else 0
    if given.values.dtype not in (np.int8, np.uint8) or not bool((given.zeros == middle).all()):
        return None
    return np.asarray(given.values.astype(np.int16) - middle, np.int8)


def broadcast_scales(scales: Array, outputs: int, factors: int) -> Array | None:
    """Return the scale of each output or group; None where the outputs of a group differ."""
    every = np.broadcast_to(scales.reshape(-1), outputs) if scales.size in (1, outputs) else None
    if every is None:
        return None
    grouped = every.reshape(factors, -1)
    return grouped[:, 0].astype(np.float32) if bool((grouped == grouped[:, :1]).all()) else None


def _orders(values: Array, given: QdqWeights) -> list[tuple[Array, Array]]:
    """Return the integers and the floats in the possible orders of ncnn: unchanged, or
    transposed.
    """
    from edgewright.formats.onnx.qdq import dequantize_weights

    floats = dequantize_weights(given)
    plain = (values, floats)
    return [plain, (np.ascontiguousarray(values.T), np.ascontiguousarray(floats.T))] if values.ndim == 2 else [plain]


def _find_tops(rows: Sequence[ParamRow], layers: Mapping[int, NcnnInt8Layer]) -> dict[int, float]:
    """Return the scale at which a convolution may output integers: that of all its readers, which are INT8
    convolutions.
    """
    readers: dict[str, list[int]] = {}
    for position, row in enumerate(rows):
        for bottom in row.bottoms:
            readers.setdefault(bottom, []).append(position)
    tops = {}
    for position in layers:
        if rows[position].op in CONVOLUTIONS:
            ends = _find_readers(rows, rows[position].tops[0], readers)
            scales = {layers[i].bottom if i in layers and rows[i].op in CONVOLUTIONS else None for i in ends}
            if len(scales) == 1 and (scale := next(iter(scales))) is not None:
                tops[position] = scale
    return tops


def _find_readers(rows: Sequence[ParamRow], blob: str, readers: Mapping[str, Sequence[int]]) -> list[int]:
    """Return the readers of a blob and its copies; -1 is an output of the model."""
    found = []
    for position in readers.get(blob, ()):
        if rows[position].op == "Split":
            found += [end for top in rows[position].tops for end in _find_readers(rows, top, readers)]
        else:
            found.append(position)
    return found or [-1]


def _mark_int8(row: ParamRow, layer: NcnnInt8Layer, top: float | None) -> ParamRow:
    term = PER_GROUP if row.op == "ConvolutionDepthWise" else PER_OUTPUT
    return row._replace(params={**row.params, TERM: str(term + (PASSES_INTEGERS if top is not None else 0))})


def _rewrite(weights: bytes, layers: Mapping[int, NcnnInt8Layer], tops: Mapping[int, float]) -> bytes:
    """Return the `.bin` with integers instead of the layers' floats, and their scales after the bias."""
    parts, place = [], 0
    for layer in layers.values():
        behind = layer.end + 4 * layer.biases
        parts += [weights[place : layer.begin], pack_integers(layer.values), weights[layer.end : behind]]
        scales = [*layer.scales, layer.bottom, *([tops[layer.position]] if layer.position in tops else [])]
        parts.append(np.asarray(scales, "<f4").tobytes())
        place = behind
    return b"".join([*parts, weights[place:]])


def pack_integers(values: Array) -> bytes:
    """Return the integers with their tag, padded to four bytes."""
    data = values.tobytes()
    return struct.pack("<I", INT8_TAG) + data + bytes(-len(data) % 4)


def make_reference_model(extracted: ExtractedFloatModel, steps: Mapping[str, float]) -> Any:
    """Return the float graph in ONNX, with the inputs of INT8 layers rounded like in ncnn."""
    from onnx import helper

    reference = deepcopy(extracted.model)
    nodes: list[Any] = []
    rounded: dict[tuple[str, float], str] = {}
    numbers: dict[str, Array] = {}
    for node in reference.graph.node:
        step = steps.get(node.name)
        if step is not None:
            source = node.input[0]
            made = rounded.setdefault((source, step), f"{source}__ncnn{len(rounded)}")
            names = (f"{made}/step", f"{made}/zero")
            if names[0] not in numbers:
                numbers |= {names[0]: np.asarray(step, np.float32), names[1]: np.asarray(0, np.int8)}
                nodes.append(helper.make_node("QuantizeLinear", [source, *names], [f"{made}/integers"]))
                nodes.append(helper.make_node("DequantizeLinear", [f"{made}/integers", *names], [made]))
            node.input[0] = made
        nodes.append(node)
    constants = [*reference.graph.initializer, *(make_tensor(name, array) for name, array in numbers.items())]
    reference.graph.CopyFrom(
        helper.make_graph(nodes, "source", reference.graph.input, reference.graph.output, constants)
    )
    return reference


def describe_quantized(made: QuantizedFiles, extracted: ExtractedFloatModel) -> tuple[str, ...]:
    """Return notes: which layers are INT8, and what ncnn's format cannot store."""
    total = sum(1 for _ in iterate_quantized_layers(extracted))
    notes = [
        f"{len(made.steps)} of {total} quantized layers with weights are INT8; ncnn has no other INT8 operators here"
    ]
    all_quant_params = [quant_params for _, _, quant_params in iterate_quantized_layers(extracted)]
    if any(quant_params.signed().zero != 0 for quant_params in all_quant_params):
        notes.append("ncnn has no zero points: layer inputs are quantized to 127 steps on either side of zero")
    requested = sum(1 for why in made.left.values() if why == REQUESTED_REASON)
    notes += [f"{requested} depthwise convolutions stay in float32, as requested"] if requested else []
    notes += [f"'{name}' stays in float32: {why}" for name, why in made.left.items() if why != REQUESTED_REASON]
    return tuple(notes)
