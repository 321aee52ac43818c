"""Graphs with a transformer's quantized weights: in standard ONNX, and for ONNX Runtime."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from edgewright.formats.neighbors import find_read_names
from edgewright.formats.onnx.attributes import OWN_DOMAINS, keep_only
from edgewright.formats.onnx.constants import add_initializers
from edgewright.formats.onnx.editable import EditableGraph, NodeReplacement
from edgewright.formats.onnx.fold import SMALL
from edgewright.formats.onnx.normalize.weights import WeightNode
from edgewright.schema.arrays import Array

LARGEST_BLOCK = 256  # block size of MatMulNBits; a scale per output channel is repeated for each block
VENDOR = "com.microsoft"  # the domain of ONNX Runtime's operators


class QuantizedMatmul(NamedTuple):
    """A weight node's weights as integers.

    Attributes:
        numbers: [outputs, K], int8 in the range of `bits`.
        scale: [outputs, blocks], float32; one block is a scale per output channel.
        size: columns of a block; the last may have fewer.
        bias: the new bias [outputs]; None if it does not change or does not exist.
        bias_read: the node and input position that read the bias; None without a bias.
    """

    weight_node: WeightNode
    numbers: Array
    scale: Array
    bits: int
    size: int
    bias: Array | None
    bias_read: tuple[str, int] | None

    def real(self) -> Array:
        """Return the dequantized weights, [outputs, K], float32."""
        columns = self.numbers.shape[1]
        real: Array = self.numbers.astype(np.float32) * np.repeat(self.scale, self.size, axis=1)[:, :columns]
        return real


class EmbeddingTable(NamedTuple):
    """An int8 embedding table with a scale per row: numbers [rows, width], scale [rows, 1]."""

    node: str
    numbers: Array
    scale: Array


NodeWriter = Callable[[Any, QuantizedMatmul], NodeReplacement]


def write_graph(
    graph: EditableGraph, stored: Mapping[str, QuantizedMatmul], tables: Mapping[str, EmbeddingTable], write: NodeWriter
) -> Any:
    """Return the graph as a message with the weight nodes that `write` returns and with int8 tables."""
    copy = graph.to_message(SMALL)
    nodes, constants = list[Any](), dict[str, Array]()
    biases = {one.bias_read[0]: one for one in stored.values() if one.bias_read is not None and one.bias is not None}
    for node in copy.graph.node:
        if (moved := biases.get(node.name)) is not None and moved.bias is not None and moved.bias_read is not None:
            node.input[moved.bias_read[1]] = name_bias(moved)
            constants[name_bias(moved)] = moved.bias
        part = NodeReplacement([node], {})
        if node.name in stored:
            part = write(node, stored[node.name])
        elif node.name in tables:
            part = _write_embedding_table(node, tables[node.name])
        nodes += part.nodes
        constants |= part.constants
    read = find_read_names(nodes) | {value.name for value in copy.graph.output}
    kept = [tensor for tensor in copy.graph.initializer if tensor.name in read and tensor.name not in constants]
    keep_only(copy.graph.node, nodes)
    keep_only(copy.graph.initializer, kept)
    graph.fill(copy)
    add_initializers(copy.graph, constants)
    del copy.graph.value_info[:]
    return copy


def name_bias(stored: QuantizedMatmul) -> str:
    return f"{stored.weight_node.node}/bias"


# Forms


def write_dequantize(node: Any, stored: QuantizedMatmul) -> NodeReplacement:
    """Write the standard form: DequantizeLinear of the integers, and the original operator.

    A shorter last block is stored in full and sliced after: OpenVINO requires equal blocks.
    """
    from onnx import helper

    name, axis, (outputs, depth) = node.name, stored.weight_node.axis, stored.numbers.shape
    blocked = stored.scale.shape[1] > 1
    turn = (lambda array: array) if axis == 0 else np.transpose
    whole = np.zeros((outputs, stored.scale.shape[1] * stored.size if blocked else depth), np.int8)
    whole[:, :depth] = stored.numbers
    numbers = _cast_to_bits(np.ascontiguousarray(turn(whole)), stored.bits)
    scale = np.ascontiguousarray(turn(stored.scale)) if blocked else stored.scale[:, 0]
    attributes: dict[str, Any] = {"axis": 1 - axis, "block_size": stored.size} if blocked else {"axis": axis}
    inputs = [f"{name}/stored", f"{name}/scale"]
    pair = helper.make_node("DequantizeLinear", inputs, [f"{name}/real"], f"{name}/dequantize", **attributes)
    node.input[1] = f"{name}/real"
    constants = {f"{name}/stored": numbers, f"{name}/scale": scale}
    if whole.shape[1] == depth:
        return NodeReplacement([pair, node], constants)
    places = {f"{name}/begin": 0, f"{name}/end": depth, f"{name}/axis": 1 - axis}
    cut = helper.make_node("Slice", [f"{name}/real", *places], [f"{name}/cut"], f"{name}/cut")
    node.input[1] = f"{name}/cut"
    return NodeReplacement([pair, cut, node], constants | {place: np.array([value]) for place, value in places.items()})


def _cast_to_bits(numbers: Array, bits: int) -> Array:
    """Return int4 values for 4 bits; onnx packs two of them into a byte, the first in the low half."""
    import ml_dtypes

    return numbers.astype(ml_dtypes.int4 if bits == 4 else np.int8)


def make_dynamic_writer(high_precision: Collection[str]) -> NodeWriter:
    """Return a writer for ONNX Runtime's dynamic INT8: an input is rounded once for all its readers.

    ONNX Runtime fuses the nodes into DynamicQuantizeMatMul, or MatMulIntegerToFloat if several share an input.
    Inputs in `fine` are rounded twice, the value and its error: the sum of two INT8 products has the precision
    of 16 bits and is still faster than a float product.
    """
    from onnx import helper

    rounded: set[str] = set()

    def write(node: Any, stored: QuantizedMatmul) -> NodeReplacement:
        name, x = node.name, node.input[0]
        terms = [x, f"{x}/rest"] if x in high_precision else [x]
        nodes = [] if x in rounded else _make_input_quantization(x, terms)
        rounded.add(x)
        ends = [f"{name}/product", f"{name}/rest"][: len(terms)]
        bias = [node.input[2]] if len(node.input) > 2 and node.input[2] else []
        sums = [f"{name}/both"] * (len(terms) - 1) + [f"{name}/whole"] * len(bias)
        final = sums or ends
        final[-1] = node.output[0]
        for number, (term, end) in enumerate(zip(terms, ends, strict=True)):
            nodes += _make_integer_matmul(name if not number else f"{name}/rest", name, term, end)
        for number, (left, right) in enumerate(zip([ends[0], *sums], [*ends[1:], *bias], strict=False)):
            nodes.append(helper.make_node("Add", [left, right], [sums[number]], f"{name}/add{number}"))
        numbers = np.ascontiguousarray(stored.numbers.T)
        return NodeReplacement(nodes, {f"{name}/stored": numbers, f"{name}/scale": stored.scale[:, 0]})

    return write


def _make_input_quantization(x: str, terms: Sequence[str]) -> list[Any]:
    """Return `x/stored`, `x/scale` and `x/zero`; for a second term those of the first one's error."""
    from onnx import helper

    first, *more = ([f"{term}/stored", f"{term}/scale", f"{term}/zero"] for term in terms)
    nodes = [helper.make_node("DynamicQuantizeLinear", [x], first, f"{x}/quantize")]
    for rest, parts in zip(terms[1:], more, strict=True):
        nodes += [
            helper.make_node("DequantizeLinear", first, [f"{x}/coarse"], f"{x}/dequantize"),
            helper.make_node("Sub", [x, f"{x}/coarse"], [rest], f"{x}/subtract"),
            helper.make_node("DynamicQuantizeLinear", [rest], parts, f"{rest}/quantize"),
        ]
    return nodes


def _make_integer_matmul(name: str, weights: str, x: str, output: str) -> list[Any]:
    """Return an integer product and its conversion to float, in nodes that ONNX Runtime fuses."""
    from onnx import helper

    factors = [f"{x}/stored", f"{weights}/stored", f"{x}/zero"]
    return [
        helper.make_node("MatMulInteger", factors, [f"{name}/sum"], name),
        helper.make_node("Cast", [f"{name}/sum"], [f"{name}/cast"], f"{name}/to_float", to=1),
        helper.make_node("Mul", [f"{x}/scale", f"{weights}/scale"], [f"{name}/scales"], f"{name}/join"),
        helper.make_node("Mul", [f"{name}/cast", f"{name}/scales"], [output], f"{name}/dequantize"),
    ]


def make_nbits_writer(accuracy: int) -> NodeWriter:
    """Return a writer for ONNX Runtime's MatMulNBits: `accuracy` 1 computes in float32, 4 in block-wise int8."""
    from onnx import helper

    def write(node: Any, stored: QuantizedMatmul) -> NodeReplacement:
        name, (outputs, depth) = node.name, stored.numbers.shape
        size = stored.size if stored.bits == 4 else min(LARGEST_BLOCK, max(16, 1 << (depth - 1).bit_length()))
        blocks = -(-depth // size)
        scale = np.ascontiguousarray(np.broadcast_to(stored.scale, (outputs, blocks)))
        attributes = {"K": depth, "N": outputs, "bits": stored.bits, "block_size": size}
        bias = [node.input[2]] if len(node.input) > 2 and node.input[2] else []
        inputs = [node.input[0], f"{name}/stored", f"{name}/scale", *(["", "", *bias] if bias else [])]
        product = helper.make_node(
            "MatMulNBits", inputs, [node.output[0]], name, domain=VENDOR, accuracy_level=accuracy, **attributes
        )
        packed = _pack(stored.numbers, blocks, size, stored.bits)
        return NodeReplacement([product], {f"{name}/stored": packed, f"{name}/scale": scale})

    return write


def _pack(numbers: Array, blocks: int, size: int, bits: int) -> Array:
    """Pack unsigned integers to [outputs, blocks, bytes]; 4-bit values two per byte, the first in the low half."""
    whole = np.zeros((len(numbers), blocks * size), np.int16)
    whole[:, : numbers.shape[1]] = numbers
    shifted = (whole + 2 ** (bits - 1)).astype(np.uint8).reshape(len(numbers), blocks, size)
    packed: Array = shifted if bits == 8 else shifted[..., 0::2] | (shifted[..., 1::2] << 4)
    return packed


def _write_embedding_table(node: Any, table: EmbeddingTable) -> NodeReplacement:
    """Gather int8 rows and their scales, and dequantize only the gathered rows."""
    from onnx import helper

    name, indices = node.name, node.input[1]
    nodes = [
        helper.make_node("Gather", [f"{name}/stored", indices], [f"{name}/picked"], name),
        helper.make_node("Gather", [f"{name}/scale", indices], [f"{name}/step"], f"{name}/pick_scale"),
        helper.make_node("Cast", [f"{name}/picked"], [f"{name}/cast"], f"{name}/to_float", to=1),
        helper.make_node("Mul", [f"{name}/cast", f"{name}/step"], [node.output[0]], f"{name}/dequantize"),
    ]
    return NodeReplacement(nodes, {f"{name}/stored": table.numbers, f"{name}/scale": table.scale})


def prevent_skip_norm_fusion(model: Any) -> None:
    """Replace the Add before a LayerNormalization by Sum, in place.

    ONNX Runtime fuses the two into SkipLayerNormalization, whose CPU kernel is several times slower.
    """
    normed = {node.input[0] for node in model.graph.node if node.op_type == "LayerNormalization" and not node.domain}
    for node in model.graph.node:
        if node.op_type == "Add" and not node.domain and node.output[0] in normed:
            node.op_type = "Sum"


def set_opset(model: Any, domain: str, version: int) -> None:
    for entry in model.opset_import:
        if entry.domain in ((domain,) if domain else OWN_DOMAINS):
            entry.version = max(entry.version, version)
            return
    entry = model.opset_import.add()
    entry.domain, entry.version = domain, version


def count_bytes(model: Any, names: Iterable[str]) -> int:
    """Return the stored size of these initializers in bytes."""
    wanted = set(names)
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer if tensor.name in wanted)


def list_initializer_names(parts: Sequence[str]) -> list[str]:
    return [name for part in parts for name in (f"{part}/stored", f"{part}/scale")]
