"""Stage 4: turn QuantizeLinear and DequantizeLinear into quantization parameters of tensors.

An operator runs in int8 (or on int16 values with int8 weights) if LiteRT has such a kernel, all its inputs come
from DequantizeLinear and its output goes only to QuantizeLinear. The remaining pairs become QUANTIZE and
DEQUANTIZE, and the operators between stay in float. uint8 becomes int8: stored numbers and zero
points are shifted by 128.

Source of the rules (scales that must be equal, scales that are fixed, symmetric weights):
https://ai.google.dev/edge/litert/models/quantization_spec
"""

import numpy as np

from edgewright.runtimes.litert.writer.graph import Graph, Node, OperatorRejected, Scales
from edgewright.runtimes.litert.writer.operators.conv import is_single_kernel_transpose
from edgewright.runtimes.litert.writer.operators.resize import has_kernel
from edgewright.runtimes.litert.writer.passes.weight_only import (
    dequantize,
    quantize_weights_only,
    transpose_stored_weights,
)
from edgewright.schema.arrays import Array

# Weighted: inputs 0 (activation) and 1 (weights), int32 bias at 2.
WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
# Kernels that support any scales. HardSwish, AveragePool and Softmax are absent: XNNPACK has only their float kernels,
# and an operator outside XNNPACK costs more than it saves in int8 (hard-swish networks: 0.4 × the speed).
FREE = {"Add", "Sub", "Mul", "GlobalAveragePool", "ReduceMean", "LeakyRelu", "Relu"}
# Kernels that only move or select values: input and output have equal scales.
DATA_MOVEMENT_OPS = {"MaxPool", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice",
                     "Split",
          "Concat", "Pad", "Identity", "DepthToSpace", "SpaceToDepth", "Resize"}  # fmt: skip
# Kernels whose output has a fixed scale.
FIXED = {"Sigmoid": (1 / 256, -128), "Tanh": (1 / 128, 0)}
# Operators with a 16-bit kernel, besides the weighted ones.
WIDE = {"Relu", "Add", "Sub", "Mul", "GlobalAveragePool", "ReduceMean", "MaxPool", "Reshape", "Flatten", "Squeeze",
        "Unsqueeze", "Transpose", "Concat", "Identity"}  # fmt: skip
# Positions of data inputs; the others are parameters.
ALL = None
DATA: dict[str, int | None] = {"Add": 2, "Sub": 2, "Mul": 2, "Concat": ALL}
REQUANTIZE = "Requantize"


def quantize_graph(graph: Graph) -> None:
    """Turn Q/DQ pairs into parameters, then fold the remaining ones on weights back to floats."""
    if not any(node.op in {"QuantizeLinear", "DequantizeLinear"} for node in graph.nodes):
        return
    transpose_stored_weights(graph)
    pairs = _QuantizationPairs(graph)
    nodes: list[Node] = []
    for node in graph.nodes:
        nodes.extend(pairs.convert_node(node))
    graph.nodes = nodes
    _alias(graph, pairs.alias)
    _mark_widths(graph)
    graph.drop_unused()
    quantize_weights_only(graph)


class _QuantizationPairs:
    """The graph's quantized values by name; made once, and used while the nodes are visited in order."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.readers = graph.consumers()
        # Stored values that some operator reads as plain integers: no kernel may use them as quantized.
        self.raw = {name for name, nodes in self.readers.items() if any(n.op != "DequantizeLinear" for n in nodes)}
        # The quantized value of each dequantized one; and the replacement of each dropped equal QuantizeLinear.
        self.source: dict[str, str] = {}
        self.alias: dict[str, str] = {}
        for node in graph.nodes:
            if node.op in {"QuantizeLinear", "DequantizeLinear"} and not node.domain:
                self._read(node)

    def _read(self, node: Node) -> None:
        """Record the scales of the quantized value; an unsupported pair stays an operator."""
        graph = self.graph
        stored = node.inputs[0] if node.op == "DequantizeLinear" else node.outputs[0]
        scales = _read_scales(graph, node, stored)
        if scales is None:
            return
        known = graph.scales.get(stored)
        if known is not None and not _are_equal(known, scales):
            return
        graph.scales[stored] = scales
        if node.op == "DequantizeLinear":
            self.source[node.outputs[0]] = stored

    def convert_node(self, node: Node) -> list[Node]:
        """Return the node's replacement in the quantized graph."""
        if node.domain or node.op in {"QuantizeLinear", "DequantizeLinear"}:
            return [node]
        if node.op in WEIGHTED:
            return self._take_weighted(node) or [node]
        if node.op in FREE or node.op in DATA_MOVEMENT_OPS or node.op in FIXED:
            return self._take_plain(node) or [node]
        return [node]

    # Inputs and outputs

    def _find_stored(self, name: str) -> str | None:
        """Return the int8 value, per tensor, of a dequantized one."""
        stored = self.source.get(name)
        if stored is None:
            return None
        stored = self.alias.get(stored, stored)
        scales = self.graph.scales[stored]
        # uint8 inputs and outputs stay uint8, which the int8 kernels do not support.
        is_taken = _is_taken(scales, self.graph.dtypes[stored]) and stored not in self.graph.inputs
        if stored in self.graph.outputs:
            return None
        return stored if is_taken and scales.scale.size == 1 and stored not in self.raw else None

    def _find_quantized_output(self, name: str) -> str | None:
        """Return the int8 value to which all readers of a float quantize it."""
        readers = self.readers.get(name, [])
        if not readers or name in self.graph.outputs or any(r.op != "QuantizeLinear" for r in readers):
            return None
        made = [reader.outputs[0] for reader in readers]
        scales = [self.graph.scales.get(stored) for stored in made]
        first = scales[0]
        if first is None or any(s is None or not first.is_same(s) for s in scales):
            return None
        if any(not _is_taken(first, self.graph.dtypes[stored]) or stored in self.graph.outputs for stored in made):
            return None
        if self.raw.intersection(made):
            return None
        self.alias |= dict.fromkeys(made[1:], made[0])
        return made[0]

    # Families

    def _take_weighted(self, node: Node) -> list[Node] | None:
        stored, output = self._find_stored(node.inputs[0]), self._find_quantized_output(node.outputs[0])
        if stored is None or output is None or not self._has_plain_factors(node):
            return None
        if node.op == "ConvTranspose" and not is_single_kernel_transpose(self.graph, node):
            return None
        right = self._find_weights(node)
        if right is None or self.graph.dtypes[stored].itemsize != self.graph.dtypes[output].itemsize:
            return None
        if right not in self.graph.constants and self.graph.dtypes[right].itemsize > 1:
            return None
        inputs = [stored, right]
        if right in self.graph.constants:
            bias = self._make_bias(node, stored, right)
            if bias is None:
                return None
            inputs.append(bias)
        elif node.has(2) or node.op != "MatMul":
            return None
        return [Node(node.op, inputs, [output], node.attributes, self._list_sources(node, output), "", node.location)]

    def _has_plain_factors(self, node: Node) -> bool:
        attributes = node.attributes
        return (
            attributes.get("alpha", 1.0) == 1.0
            and attributes.get("beta", 1.0) == 1.0
            and (len(self.graph.shapes[node.inputs[0]]) >= 2)
        )

    def _find_weights(self, node: Node) -> str | None:
        """Return symmetric int8 weights, per tensor or along their output channels; or a computed int8 value."""
        name = node.inputs[1]
        stored = self.source.get(name)
        if stored is None:
            return None
        if stored not in self.graph.constants:
            return self._find_stored(name)
        scales, data = self.graph.scales[stored], self.graph.constants[stored]
        if data.dtype.name == "int4":
            data = data.astype(np.int8)  # for integer activations LiteRT has only kernels with int8 weights
        if data.dtype not in (np.int8, np.uint8) or np.any(_shift(scales, data.dtype).zero_point != 0):
            return None
        axis = 0 if node.op == "Conv" or (node.op == "Gemm" and node.attributes.get("transB", 0)) else 1
        if (scales.scale.size > 1 and scales.axis != axis) or data.ndim < 2 or (node.op == "MatMul" and data.ndim != 2):
            return None
        return self._as_signed(stored, data, scales, axis)

    def _as_signed(self, stored: str, data: Array, scales: Scales, axis: int) -> str:
        signed = data if data.dtype == np.int8 else (data.astype(np.int16) - 128).astype(np.int8)
        name = self.graph.add_constant(stored, signed)
        count = data.shape[axis]
        scale = np.broadcast_to(scales.scale.reshape(-1), (count,)).astype(np.float32)
        self.graph.scales[name] = Scales(scale, np.zeros(count, np.int64), axis)
        return name

    def _make_bias(self, node: Node, stored: str, weights: str) -> str | None:
        """Return an int32 bias with the scale of input × weights, as the kernels require, from an int32 or a float
        bias."""
        scales = self.graph.scales[weights]
        wanted = self.graph.scales[stored].scale.reshape(-1).astype(np.float64) * scales.scale.astype(np.float64)
        count = scales.scale.size
        data = np.zeros(count, np.int64 if self.graph.dtypes[stored] == np.int16 else np.int32)
        if node.has(2):
            exact = self._read_bias(node.inputs[2])
            if exact is None or exact.size != count:
                return None
            rounded = np.round(exact.reshape(-1) / wanted)
            if np.any(np.abs(rounded) > 2**31 - 1):
                return None
            data = rounded.astype(data.dtype)
        name = self.graph.add_constant(f"{node.name}/bias", data)
        self.graph.scales[name] = Scales(wanted.astype(np.float32), np.zeros(count, np.int64), 0)
        return name

    def _read_bias(self, name: str) -> Array | None:
        """Return the bias in float64."""
        if name in self.graph.constants:
            return self.graph.constants[name].astype(np.float64)
        stored = self.source.get(name)
        if stored is None or stored not in self.graph.constants:
            return None
        return dequantize(self.graph.constants[stored], self.graph.scales[stored], np.float64)

    def _take_plain(self, node: Node) -> list[Node] | None:
        count = DATA.get(node.op, 1)
        names = node.inputs if count is ALL else node.inputs[:count]
        stored = [self._find_stored(name) for name in names]
        if not all(stored) or not _is_supported(self.graph, node):
            return None
        outputs = [self._find_quantized_output(name) for name in node.outputs]
        if not all(outputs) or not self._is_one_width(node, [*stored, *outputs]):
            return None
        inputs, results = [s for s in stored if s], [o for o in outputs if o]
        before, after = self._match_scales(node, inputs, results)
        rest = node.inputs[len(names) :]
        sources = self._list_sources(node, results[0])
        made = Node(node.op, [*inputs, *rest], results, node.attributes, sources, "", node.location)
        return [*before, made, *after]

    def _is_one_width(self, node: Node, names: list[str | None]) -> bool:
        """Return whether all have 8 bits, or all 16 if the kernel supports that."""
        widths = {self.graph.dtypes[name].itemsize for name in names if name}
        return widths == {1} or (widths == {2} and node.op in WIDE)

    def _match_scales(self, node: Node, inputs: list[str], outputs: list[str]) -> tuple[list[Node], list[Node]]:
        """Requantize around a kernel that requires certain scales; replaces names in both lists."""
        before: list[Node] = []
        after: list[Node] = []
        if node.op in FREE:
            return before, after
        wanted = self.graph.scales[outputs[0] if node.op == "Concat" else inputs[0]]
        zero = self.graph.dtypes[outputs[0] if node.op == "Concat" else inputs[0]]
        if node.op in FIXED:
            scale, zero_point = FIXED[node.op]
            wanted, zero = (
                Scales(np.asarray([scale], np.float32), np.asarray([zero_point], np.int64)),
                np.dtype(np.int8),
            )
        if node.op == "Concat":
            for at, name in enumerate(inputs):
                if not self._has_scales(name, wanted, zero):
                    inputs[at] = self._add_requantized(name, wanted, zero, before, backwards=False)
            return before, after
        for at, name in enumerate(outputs):
            if not self._has_scales(name, wanted, zero):
                outputs[at] = self._add_requantized(name, wanted, zero, after, backwards=True)
        return before, after

    def _has_scales(self, name: str, wanted: Scales, dtype: np.dtype[np.generic]) -> bool:
        mine = _shift(self.graph.scales[name], self.graph.dtypes[name])
        return mine.is_same(_shift(wanted, dtype))

    def _add_requantized(
        self, name: str, wanted: Scales, dtype: np.dtype[np.generic], nodes: list[Node], *, backwards: bool
    ) -> str:
        other = self.graph.add_value(f"{name}/rescaled", self.graph.shapes[name], dtype)
        self.graph.scales[other] = wanted
        ends = (other, name) if backwards else (name, other)
        nodes.append(Node(REQUANTIZE, [ends[0]], [ends[1]], {}, (name,)))
        return other

    def _list_sources(self, node: Node, output: str) -> tuple[str, ...]:
        producer = next((r for r in self.readers.get(node.outputs[0], []) if r.outputs[0] == output), None)
        return (*node.sources, *(producer.sources if producer else ()))


def _is_taken(scales: Scales, dtype: np.dtype[np.generic]) -> bool:
    """Return whether int8 or int16 kernels support a value: those of 16 bits have no zero point."""
    return dtype in (np.int8, np.uint8) or (dtype == np.int16 and not np.any(scales.zero_point))


def _is_supported(graph: Graph, node: Node) -> bool:
    """Return whether the int8 kernel computes the same as the ONNX operator."""
    if node.op == "Pad":
        value = graph.number(node.inputs[2]) if node.has(2) else 0.0
        return node.attributes.get("mode", "constant") == "constant" and value == 0.0
    if node.op == "MaxPool":
        return not any(node.outputs[1:])
    if node.op == "Resize":
        return has_kernel(graph, node)
    return True


# Scales


def _read_scales(graph: Graph, node: Node, stored: str) -> Scales | None:
    """Return the constant scales of a pair per tensor or along one axis; None for blocks and computed scales."""
    if node.attributes.get("block_size", 0) or any(n and n not in graph.constants for n in node.inputs[1:3]):
        return None
    scale = graph.constants[node.inputs[1]].astype(np.float32)
    dtype = graph.dtypes.get(stored)
    if (
        dtype is None
        or (dtype.kind not in "iu" and dtype.name != "int4")
        or scale.ndim > 1
        or not np.all(np.isfinite(scale))
        or np.any(scale <= 0)
    ):
        return None
    zero = graph.constants[node.inputs[2]].astype(np.int64) if node.has(2) else np.zeros(scale.shape, np.int64)
    rank = len(graph.shapes[stored])
    axis = int(node.attributes.get("axis", 1)) % rank if rank else 0
    if scale.size > 1 and graph.shapes[stored][axis] != scale.size:
        raise OperatorRejected("its scales do not fit its axis")
    return Scales(scale.reshape(-1), np.broadcast_to(zero.reshape(-1), (scale.size,)), axis)


def _are_equal(one: Scales, other: Scales) -> bool:
    return (
        np.array_equal(one.scale, other.scale)
        and np.array_equal(one.zero_point, other.zero_point)
        and (one.scale.size == 1 or one.axis == other.axis)
    )


def _shift(scales: Scales, dtype: np.dtype[np.generic]) -> Scales:
    """Return the scales for int8 storage."""
    if dtype != np.uint8:
        return scales
    return Scales(scales.scale, scales.zero_point - 128, scales.axis)


# Afterwards


def _alias(graph: Graph, alias: dict[str, str]) -> None:
    for node in graph.nodes:
        node.inputs = [alias.get(name, name) for name in node.inputs]


def _mark_widths(graph: Graph) -> None:
    """Store uint8 as int8, except inputs, outputs and values that an operator reads as plain integers."""
    readers = graph.consumers()
    for name in list(graph.scales):
        raw = [r for r in readers.get(name, []) if r.op not in _UNDERSTANDING]
        if graph.dtypes[name] != np.uint8 or name in graph.inputs or name in graph.outputs or raw:
            continue
        graph.scales[name] = _shift(graph.scales[name], np.dtype(np.uint8))
        graph.dtypes[name] = np.dtype(np.int8)
        if name in graph.constants:
            graph.constants[name] = (graph.constants[name].astype(np.int16) - 128).astype(np.int8)
    for node in graph.nodes:
        if node.op in DATA_MOVEMENT_OPS and any(name in graph.scales for name in node.inputs[:1]):
            for name in node.outputs:
                graph.scales.setdefault(name, graph.scales[node.inputs[0]])


_UNDERSTANDING = {*WEIGHTED, *FREE, *DATA_MOVEMENT_OPS, *FIXED, REQUANTIZE, "DequantizeLinear", "QuantizeLinear"}
