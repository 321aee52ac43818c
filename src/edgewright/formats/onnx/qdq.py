"""Decomposition of a QDQ graph into its float graph and the quantization parameters of its tensors.

It is for runtimes whose files have scales beside a float graph instead of Q/DQ pairs. A quantizer
may remove a Relu or Clip that saturation replaces. If a tensor's quantization range begins at
zero and its values do not, the float graph bounds it again.
"""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np

from edgewright.errors import ModelNotConvertible
from edgewright.formats.neighbors import find_read_names
from edgewright.formats.onnx.attributes import read_attribute, read_opset
from edgewright.formats.onnx.constants import make_tensor, read_array, read_initializers
from edgewright.schema.arrays import Array

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
OWN_DOMAINS = ("", "ai.onnx", "com.microsoft")
OLDEST_OPSET = 11
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
NOT_NEGATIVE = ("Relu", "Sigmoid", "Softmax", "HardSigmoid", "Abs", "Exp", "Sqrt")
VALUE_PRESERVING_OPS = (  # return input values, or means of them
    *("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax", "Resize", "Concat"),
    *("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Slice", "Gather", "Split", "Expand"),
    *("Tile", "DepthToSpace", "SpaceToDepth"),
)
EIGHT_BIT_LEVELS = 256
QDQ_HINT = "quantize it in QDQ form: a DequantizeLinear before each operator, a QuantizeLinear after it"

INTEGER_IO_HINT = (
    "export it with float inputs and outputs, quantize the float model with edgewright quantize, or compile for "
    "onnxruntime, litert or openvino"
)


class ActivationQuantParams(NamedTuple):
    """Integers from `low` to `high` that represent `(integer - zero) * scale`."""

    scale: float
    zero: int
    low: int
    high: int

    @property
    def floor(self) -> float:
        return (self.low - self.zero) * self.scale

    @property
    def ceiling(self) -> float:
        return (self.high - self.zero) * self.scale

    @property
    def max_abs(self) -> float:
        """Largest magnitude of a representable value."""
        return max(abs(self.floor), abs(self.ceiling))

    @property
    def is_eight_bit(self) -> bool:
        """Whether it has eight bits. Tensors with more bits are floats here, with only the bounds of the range."""
        return self.high - self.low < EIGHT_BIT_LEVELS

    def signed(self) -> "ActivationQuantParams":
        """Return the parameters of the same values with signed integers."""
        shift = 0 if self.low < 0 else (self.high + 1) // 2
        return ActivationQuantParams(self.scale, self.zero - shift, self.low - shift, self.high - shift)


class QdqWeights(NamedTuple):
    """A constant's integers, and their scales and zero points along `axis` (or one of each for the whole tensor)."""

    values: Array
    scales: Array
    zeros: Array
    axis: int


class ExtractedFloatModel(NamedTuple):
    """A decomposed QDQ graph.

    Attributes:
        model: the float graph. Nodes keep their names; a node that bounds a tensor has the name of the QuantizeLinear.
        weights: by name of the constant in the float graph.
        input_params: quantization parameters of node inputs, by node name and input position.
        output_params: quantization parameters of the tensors of the float graph that some nodes read quantized.
    """

    model: Any
    weights: Mapping[str, QdqWeights]
    input_params: Mapping[tuple[str, int], ActivationQuantParams]
    output_params: Mapping[str, ActivationQuantParams]


def extract_float_model(model: Any) -> ExtractedFloatModel:
    """Decompose a model whose nodes have unique names; `model` is not changed.

    The output of a layer with weights is bounded at both ends of its quantization range, since runtimes do so within
    the layer.

    Raises ModelNotConvertible for integers with readers other than DequantizeLinear, for activations with
    more than one scale or in other types than integers of eight and sixteen bits, and for scales that are computed or
    not float32.
    """
    opset = read_opset(model)
    if opset < OLDEST_OPSET:
        why = f"opset {opset} is older than {OLDEST_OPSET}, in which Clip first takes its limits as inputs"
        raise ModelNotConvertible(
            "the float model cannot be extracted from the QDQ graph", why, "export it with opset 13 or newer"
        )
    parts = FloatModelExtractor(model)
    for node in model.graph.node:
        parts.take(node)
    return parts.finish()


class FloatModelExtractor:
    """Visits the graph once, in its order."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.constants = read_initializers(model.graph)
        self.added: dict[str, Array] = {}
        self.weights: dict[str, QdqWeights] = {}
        self.quantized: dict[
            str, tuple[str, ActivationQuantParams, str]
        ] = {}  # by integer tensor: its source, quantization parameters, quantizing node
        self.dequantized: dict[
            str, tuple[str, ActivationQuantParams, str]
        ] = {}  # the same by output of DequantizeLinear
        self.nodes: list[Any] = []
        self.input_params: dict[tuple[str, int], ActivationQuantParams] = {}
        self.output_params: dict[str, ActivationQuantParams] = {}
        self.producer: dict[str, Any] = {}
        self.bounded: dict[tuple[str, ActivationQuantParams], str] = {}
        self.direct = {name for node in model.graph.node if not _is_qdq_node(node) for name in node.input}
        self.direct |= {value.name for value in model.graph.output}

    def take(self, node: Any) -> None:
        if node.op_type == "Constant" and (value := read_attribute(node, "value")) is not None:
            self.constants[node.output[0]] = read_array(value)
            self.nodes.append(node)
        elif node.op_type == QUANTIZE and node.domain in OWN_DOMAINS:
            self.round(node)
        elif node.op_type == DEQUANTIZE and node.domain in OWN_DOMAINS:
            self.dequantize(node)
        else:
            self.keep(node)

    def round(self, node: Any) -> None:
        source = node.input[0]
        scales, zeros, axis = self.read_scales(node)
        if source in self.constants:
            self.constants[node.output[0]] = _quantize_constant(self.constants[source], scales, zeros, axis)
        else:
            quant_params = self.read_quant_params(node, scales, zeros)
            source = self.dequantized[source][0] if source in self.dequantized else source
            self.quantized[node.output[0]] = (source, quant_params, node.name)

    def dequantize(self, node: Any) -> None:
        source, result = node.input[0], node.output[0]
        scales, zeros, axis = self.read_scales(node)
        if source in self.constants:
            values = self.constants[source]
            self.weights[result] = QdqWeights(values, scales, zeros, axis)
            self.constants[result] = self.added[result] = dequantize_weights(self.weights[result])
        elif source in self.quantized:
            tensor, quant_params, quantizer = self.quantized[source]
            if (quant_params.scale, quant_params.zero) != (float(scales[0]), int(zeros[0])):
                raise _make_rejection(node, "its scale or zero point differs from that of its QuantizeLinear")
            self.dequantized[result] = (tensor, quant_params, quantizer)
        else:
            raise self.reject_integer_source(node)

    def reject_integer_source(self, node: Any) -> ModelNotConvertible:
        source = node.input[0]
        if source not in {value.name for value in self.model.graph.input}:
            return _make_rejection(node, f"its input '{source}' is not the output of a QuantizeLinear")
        return _make_rejection(node, f"the model's input '{source}' has integers, not floats", INTEGER_IO_HINT)

    def keep(self, node: Any) -> None:
        kept = deepcopy(node)
        for position, name in enumerate(node.input):
            if name in self.quantized:
                raise _make_rejection(node, f"it reads the integers '{name}' directly")
            if name in self.dequantized:
                tensor, quant_params, quantizer = self.dequantized[name]
                kept.input[position] = self.bound(tensor, quant_params, quantizer)
                if quant_params.is_eight_bit:
                    self.input_params[node.name, position] = quant_params
        self.nodes.append(kept)
        self.producer.update(dict.fromkeys(kept.output, kept))

    def bound(self, tensor: str, quant_params: ActivationQuantParams, quantizer: str) -> str:
        """Return the tensor bounded to its range, unless it is bounded already."""
        if (tensor, quant_params) in self.bounded:
            return self.bounded[tensor, quant_params]
        if quant_params.is_eight_bit:
            self.output_params.setdefault(tensor, quant_params)
        made = self.producer.get(tensor)
        below = quant_params.floor >= 0 and not self.is_not_negative(tensor)
        weighted = made is not None and made.op_type in WEIGHTED
        if not (below or weighted) or tensor in self.constants:
            self.bounded[tensor, quant_params] = tensor
            return tensor
        source, result = tensor, f"{tensor}__{quantizer}"
        if (
            made is not None
            and tensor not in self.direct
            and self.output_params.get(tensor, quant_params) == quant_params
        ):
            source, result = f"{tensor}__unbounded", tensor
            made.output[list(made.output).index(tensor)] = source
            self.producer[source] = made
        self.add_bound(source, result, quant_params, quantizer)
        self.bounded[tensor, quant_params] = result
        return result

    def add_bound(self, source: str, result: str, quant_params: ActivationQuantParams, quantizer: str) -> None:
        from onnx import helper

        ends = [f"{result}__floor", f"{result}__ceiling"]
        numbers = (np.asarray(quant_params.floor, np.float32), np.asarray(quant_params.ceiling, np.float32))
        self.added.update(zip(ends, numbers, strict=True))
        self.constants.update(zip(ends, numbers, strict=True))
        node = helper.make_node("Clip", [source, *ends], [result], name=quantizer)
        self.nodes.append(node)
        self.producer[result] = node
        if quant_params.is_eight_bit:
            self.output_params[result] = quant_params

    def is_not_negative(self, tensor: str) -> bool:
        """Return whether the tensor's operators show that it has no negative values."""
        node = self.producer.get(tensor)
        if node is None:
            return tensor in self.constants and bool((self.constants[tensor] >= 0).all())
        if node.op_type == "Clip":
            least = self.constants.get(node.input[1]) if len(node.input) > 1 else None
            own = read_attribute(node, "min", -1.0)
            return bool((own if least is None else least) >= 0)
        if node.op_type in VALUE_PRESERVING_OPS:
            carried = list(node.input) if node.op_type == "Concat" else node.input[:1]
            return all(self.is_not_negative(name) for name in carried)
        return node.op_type in NOT_NEGATIVE

    def read_scales(self, node: Any) -> tuple[Array, Array, int]:
        if node.input[1] not in self.constants:
            raise _make_rejection(node, "its scale is computed")
        scales = np.atleast_1d(self.constants[node.input[1]])
        if scales.dtype != np.float32:
            raise _make_rejection(node, f"its scale is {scales.dtype.name}")
        has_zero = len(node.input) > 2 and node.input[2]
        if has_zero and node.input[2] not in self.constants:
            raise _make_rejection(node, "its zero point is computed")
        zeros = self.constants[node.input[2]] if has_zero else np.zeros(scales.shape, np.uint8)
        axis = read_attribute(node, "axis", 1)
        if read_attribute(node, "block_size"):
            raise _make_rejection(node, "it has blockwise scales")
        return scales, np.broadcast_to(np.atleast_1d(zeros), scales.shape), axis

    def read_quant_params(self, node: Any, scales: Array, zeros: Array) -> ActivationQuantParams:
        if scales.size != 1:
            raise _make_rejection(node, "an activation has more than one scale")
        if zeros.dtype not in (np.uint8, np.int8, np.uint16, np.int16):
            raise _make_rejection(node, f"an activation is {zeros.dtype.name}")
        limits = np.iinfo(zeros.dtype)
        return ActivationQuantParams(float(scales[0]), int(zeros[0]), int(limits.min), int(limits.max))

    def finish(self) -> ExtractedFloatModel:
        from onnx import helper

        for value in self.model.graph.output:
            if value.name in self.dequantized:
                self.name_output(value.name)
            elif value.name in self.quantized:
                raise ModelNotConvertible(
                    "the model has an integer output", f"its output '{value.name}' is quantized", INTEGER_IO_HINT
                )
        read = find_read_names(self.nodes) | {one.name for one in self.model.graph.output}
        nodes = [node for node in self.nodes if node.op_type != "Constant" or node.output[0] in read]
        kept = [one for one in self.model.graph.initializer if one.name in read]
        made = [make_tensor(name, array) for name, array in self.added.items() if name in read]
        graph = helper.make_graph(
            nodes, self.model.graph.name, list(self.model.graph.input), list(self.model.graph.output),
            [*kept, *made],
        )  # fmt: skip
        result = deepcopy(self.model)
        result.graph.CopyFrom(graph)
        return ExtractedFloatModel(result, self.weights, self.input_params, self.output_params)

    def name_output(self, name: str) -> None:
        """Give a float graph's output its own name."""
        from onnx import helper

        tensor, quant_params, quantizer = self.dequantized[name]
        bounded = self.bound(tensor, quant_params, quantizer)
        producer = self.producer.get(bounded)
        if producer is not None and bounded not in self.direct and not self.is_read(bounded):
            producer.output[list(producer.output).index(bounded)] = name
            self.producer[name] = producer
        else:
            self.nodes.append(helper.make_node("Identity", [bounded], [name], name=f"{quantizer}/{name}"))
        if quant_params.is_eight_bit:
            self.output_params[name] = quant_params

    def is_read(self, tensor: str) -> bool:
        return any(tensor in node.input for node in self.nodes)


def _is_qdq_node(node: Any) -> bool:
    return node.op_type in (QUANTIZE, DEQUANTIZE) and node.domain in OWN_DOMAINS


def reshape_along_axis(array: Array, axis: int, rank: int) -> Array:
    """Return one value, or one for each entry of an axis, in a shape that broadcasts to the tensor."""
    if array.size == 1:
        return array.reshape(())
    shape = [1] * rank
    shape[axis if axis < rank else 0] = -1  # the default axis is 1, which a bias does not have
    return array.reshape(shape)


def dequantize_weights(weights: QdqWeights) -> Array:
    rank = weights.values.ndim
    shifted = weights.values.astype(np.float32) - reshape_along_axis(weights.zeros, weights.axis, rank).astype(
        np.float32
    )
    return np.asarray(shifted * reshape_along_axis(weights.scales, weights.axis, rank), np.float32)


def _quantize_constant(array: Array, scales: Array, zeros: Array, axis: int) -> Array:
    limits = np.iinfo(zeros.dtype)
    scaled = np.rint(array.astype(np.float32) / reshape_along_axis(scales, axis, array.ndim))
    shifted = scaled + reshape_along_axis(zeros, axis, array.ndim).astype(np.float32)
    return np.asarray(np.clip(shifted, limits.min, limits.max), zeros.dtype)


def _make_rejection(node: Any, why: str, hint: str = QDQ_HINT) -> ModelNotConvertible:
    return ModelNotConvertible(
        "the float model cannot be extracted from the QDQ graph", f"{node.op_type} ('{node.name}'): {why}", hint
    )


def iterate_quantized_layers(extracted: ExtractedFloatModel) -> Iterator[tuple[Any, QdqWeights, ActivationQuantParams]]:
    """Yield the nodes with a quantized activation and quantized weights, with both."""
    for node in extracted.model.graph.node:
        quant_params = extracted.input_params.get((node.name, 0))
        if node.op_type in WEIGHTED and quant_params is not None and node.input[1] in extracted.weights:
            yield node, extracted.weights[node.input[1]], quant_params
