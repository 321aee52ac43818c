"""Parallel incremental execution of a float transformer and of its partially quantized copy."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np

from edgewright.errors import InputError
from edgewright.formats.onnx.normalize.weights import WeightNode
from edgewright.quantization.executor import IncrementalExecutor
from edgewright.quantization.features import from_matrices, to_matrices
from edgewright.quantization.matmul.blocks import compute_block_params, round_blocks, round_nearest, search_block_params
from edgewright.quantization.matmul.graphs import EmbeddingTable, QuantizedMatmul, name_bias
from edgewright.quantization.matmul.moments import CrossMoments
from edgewright.quantization.network import FloatNetwork
from edgewright.schema.arrays import Array
from edgewright.schema.metrics import compute_sqnr_db

# Ridge strengths of the compensation of earlier errors, as fractions of the mean moment: weak … infinite.
RIDGE_FRACTIONS = (0.03, 0.3, float("inf"))
SHRINKAGE = 0.3  # shrinkage of the off-diagonal moments if there are no columns
# An input with this share of the noise gets more bits; among few inputs one always has such a share.
LARGE_SHARE, MIN_INPUTS = 0.15, 8


class PairedExecutor:
    """Two incremental executors with the same samples; the quantized one reads weights as soon as they are rounded.

    Args:
        samples: if there are none, weights are rounded without moments of their inputs.
        rounded: tensors that weight nodes read in 8 bits, as DynamicQuantizeLinear rounds them.
    """

    def __init__(
        self,
        network: FloatNetwork,
        weight_nodes: Sequence[WeightNode],
        tables: Iterable[EmbeddingTable],
        samples: Sequence[Mapping[str, Array]],
        *,
        rounded: Collection[str],
    ) -> None:
        self._network, self._rounded = network, rounded
        self._remaining_reads = Counter(weight_node.input for weight_node in weight_nodes)
        self._half_moments: dict[str, tuple[CrossMoments, CrossMoments]] = {}
        self._constants = dict(network.constants)
        self._bias_reads = {weight_node.node: _find_bias(network, weight_node) for weight_node in weight_nodes}
        self._count = len(samples)
        self._exact = self._quant = None
        if samples:
            self._exact = IncrementalExecutor(
                network.nodes, network.constants, samples, network.types, opset=network.opset
            )
            nodes = self._replace(weight_nodes, tables)
            self._quant = IncrementalExecutor(nodes, self._constants, samples, network.types, opset=network.opset)

    def _replace(self, weight_nodes: Sequence[WeightNode], tables: Iterable[EmbeddingTable]) -> list[Any]:
        """Return the nodes of the quantized network, with dequantized weights as constants."""

        chosen = {weight_node.node: weight_node for weight_node in weight_nodes}
        picked = {table.node: table for table in tables}
        biases = {
            found[0][0]: (weight_node, found[0][1])
            for weight_node, found in self._bias_reads.items()
            if found is not None
        }
        nodes: list[Any] = []
        done: set[str] = set()
        for node in self._network.nodes:
            copy = deepcopy(node)
            if node.name in biases:
                weight_node, position = biases[node.name]
                copy.input[position] = f"{weight_node}/bias"
            if node.name in picked:
                copy.input[0] = f"{node.name}/real"
                table = picked[node.name]
                self._constants[copy.input[0]] = table.numbers.astype(np.float32) * table.scale
            if node.name in chosen:
                copy.input[1] = f"{node.name}/real"
                copy.input[0] = self._input_name(chosen[node.name])
            if node.name in chosen and copy.input[0] != node.input[0] and copy.input[0] not in done:
                done.add(copy.input[0])
                nodes += _make_dynamic_quantization(node.input[0], copy.input[0])
            nodes.append(copy)
        return nodes

    def _input_name(self, weight_node: WeightNode) -> str:
        return f"{weight_node.input}/rounded" if weight_node.input in self._rounded else weight_node.input

    def round_node(self, weight_node: WeightNode, bits: int, block: int, *, adaptive: bool) -> QuantizedMatmul:
        """Return the node's weights as integers. Raises InputError if its input is not finite."""
        rows = to_matrices(weight_node, self._network.constants[weight_node.weight])[0].astype(np.float64)
        size = block if bits == 4 else rows.shape[1]
        found = self._bias_reads[weight_node.node]
        bias_read, bias = found if found is not None else (None, None)
        if not adaptive:
            blocks = compute_block_params(rows, bits, size)
            numbers = round_nearest(rows, blocks).astype(np.int8)
            return QuantizedMatmul(weight_node, numbers, blocks.scale.astype(np.float32), bits, size, bias, bias_read)
        first, second = self._collect_moments(weight_node)
        whole = first.join(second)
        free = bias is not None  # compensates the shift of the mean
        goal = _compensate_weights(rows, first, second, free=free)
        square = _shrink_moments(whole.moments(centered=free)[0], whole.n)
        numbers, blocks = round_blocks(goal, square, search_block_params(goal, square, bits, size))
        if bias is not None:
            exact, quant = whole.means
            shift = rows @ exact - blocks.real(numbers) @ quant
            bias = (bias.astype(np.float64) + shift).astype(np.float32)
        scale = blocks.scale.astype(np.float32)
        return QuantizedMatmul(weight_node, numbers.astype(np.int8), scale, bits, size, bias, bias_read)

    def restore_node(
        self, weight_node: WeightNode, bits: int, block: int, known: Mapping[str, Array]
    ) -> QuantizedMatmul:
        """Restore a weight node that an interrupted attempt has rounded."""
        self._remaining_reads[weight_node.input] -= 1
        found, bias = self._bias_reads[weight_node.node], known["bias"] if known["bias"].size else None
        size = block if bits == 4 else known["numbers"].shape[1]
        return QuantizedMatmul(
            weight_node, known["numbers"], known["scale"], bits, size, bias, found[0] if found is not None else None
        )

    def _collect_moments(self, weight_node: WeightNode) -> tuple[CrossMoments, CrossMoments]:
        """Return the moments of the node's input for even and for odd samples; nodes with the same input share them."""
        self._remaining_reads[weight_node.input] -= 1
        if weight_node.input not in self._half_moments and self._exact is not None and self._quant is not None:
            name = self._input_name(weight_node)
            self._exact.reach(weight_node.input)
            self._quant.reach(name)
            depth = self._exact.live[0][weight_node.input].shape[-1]
            halves = CrossMoments(depth), CrossMoments(depth)
            for place, (exact, quant) in enumerate(zip(self._exact.live, self._quant.live, strict=True)):
                columns = [_to_float64_columns(live) for live in (exact[weight_node.input], quant[name])]
                if not all(np.isfinite(part).all() for part in columns):
                    raise InputError(f"sample {place}: the input of {weight_node.node} is not finite",
                                     f"{weight_node.input} has NaN or infinity in the float or the quantized model",
                                     "check the samples, or keep the nodes before it in float")  # fmt: skip
                for half, part in self._split(place, columns, halves):
                    half.add(*part)
            self._half_moments[weight_node.input] = halves
        halves = self._half_moments[weight_node.input]
        if not self._remaining_reads[weight_node.input]:
            del self._half_moments[weight_node.input]
        return halves

    def _split(
        self, place: int, columns: list[Array], halves: tuple[CrossMoments, CrossMoments]
    ) -> list[tuple[CrossMoments, list[Array]]]:
        """Assign samples to the halves alternately, or the columns of a single sample."""
        if self._count > 1:
            return [(halves[place % 2], columns)]
        return [(half, [part[:, start::2] for part in columns]) for start, half in enumerate(halves)]

    def update_weights(self, stored: QuantizedMatmul) -> float | None:
        """Use the rounded weights in the quantized network. Return the SQNR of the node's output with bias, in dB."""
        weight_node, shape = stored.weight_node, self._network.constants[stored.weight_node.weight].shape
        self._constants[f"{weight_node.node}/real"] = from_matrices(weight_node, stored.real()[np.newaxis], shape)
        output = weight_node.output
        if stored.bias_read is not None and stored.bias is not None:
            self._constants[name_bias(stored)] = stored.bias
            output = next(node.output[0] for node in self._network.nodes if node.name == stored.bias_read[0])
        if self._exact is None or self._quant is None:
            return None
        self._exact.reach(output)
        self._quant.reach(output)
        pairs = zip(self._exact.live, self._quant.live, strict=True)
        return compute_pairs_sqnr_db([(exact[output], quant[output]) for exact, quant in pairs])


def _find_bias(network: FloatNetwork, weight_node: WeightNode) -> tuple[tuple[str, int], Array] | None:
    """Return the node and position that read the bias, and the bias: the node's own or that of the following Add."""
    node, position = network.producer[weight_node.output], 2
    if not weight_node.bias:
        consumers = network.consumers.get(weight_node.output, [])
        if (
            len(consumers) != 1
            or consumers[0].op_type != "Add"
            or consumers[0].domain
            or weight_node.output in network.outputs
        ):
            return None
        node = consumers[0]
        position = 1 - list(node.input).index(weight_node.output)
    bias = network.constants.get(node.input[position])
    count = network.constants[weight_node.weight].shape[weight_node.axis]
    if bias is None or bias.dtype != np.float32 or bias.shape != (count,):
        return None
    return (node.name, position), bias


def find_high_precision_inputs(
    network: FloatNetwork, weight_nodes: Sequence[WeightNode], samples: Sequence[Mapping[str, Array]]
) -> list[str]:
    """Return the inputs that cause a large share of the noise if activations are rounded to 8 bits."""
    exact = _run_network(network, samples, "")
    noise = {}
    for name in dict.fromkeys(weight_node.input for weight_node in weight_nodes):
        reads = {weight_node.node for weight_node in weight_nodes if weight_node.input == name}
        rough = _run_network(network, samples, name, reads)
        noise[name] = sum(
            10 ** (-compute_pairs_sqnr_db(list(zip(a, b, strict=True))) / 10) for a, b in zip(exact, rough, strict=True)
        )
    large = LARGE_SHARE * sum(noise.values())
    return [name for name, one in noise.items() if one > large and len(noise) >= MIN_INPUTS]


def _run_network(
    network: FloatNetwork, samples: Sequence[Mapping[str, Array]], rounded: str, reads: Collection[str] = ()
) -> list[list[Array]]:
    """Run the float network; nodes in `reads` read `rounded` in 8 bits. Return each sample's values by output."""

    nodes: list[Any] = []
    done = False
    for node in network.nodes:
        copy = deepcopy(node)
        if node.name in reads:
            copy.input[0] = f"{rounded}/rounded"
            nodes += _make_dynamic_quantization(rounded, copy.input[0]) if not done else []
            done = True
        nodes.append(copy)
    executor = IncrementalExecutor(
        nodes, network.constants, samples, network.types, network.outputs, opset=network.opset
    )
    executor.reach(*network.outputs)
    return [[live[name] for live in executor.live] for name in network.outputs]


def _make_dynamic_quantization(name: str, to: str) -> list[Any]:
    from onnx import helper

    outputs = [f"{to}/stored", f"{to}/scale", f"{to}/zero"]
    return [
        helper.make_node("DynamicQuantizeLinear", [name], outputs, f"{to}/quantize"),
        helper.make_node("DequantizeLinear", outputs, [to], f"{to}/dequantize"),
    ]


def _to_float64_columns(x: Array) -> Array:
    return np.ascontiguousarray(x.reshape(-1, x.shape[-1]).T, np.float64)


def _shrink_moments(square: Array, count: int) -> Array:
    """Shrink the off-diagonal moments of few columns, which overestimate correlations."""
    share = SHRINKAGE * len(square) / (len(square) + count)
    shrunk: Array = (1 - share) * square + share * np.diag(np.diag(square))
    return shrunk


def _compensate_weights(rows: Array, first: CrossMoments, second: CrossMoments, *, free: bool) -> Array:
    """Return real weights that reproduce the float output from the quantized network's inputs.

    Ridge regression towards the original weights; its strength is chosen by cross-validation between two halves of the
    samples.
    """
    if not first.n or not second.n:
        return rows
    loss = np.zeros(len(RIDGE_FRACTIONS))
    for known, new in ((first, second), (second, first)):
        square, cross = new.moments(centered=free)
        for place, ridge in enumerate(RIDGE_FRACTIONS):
            moved = _solve_ridge(rows, *known.moments(centered=free), ridge)
            loss[place] += ((moved @ square - 2 * rows @ cross) * moved).sum()
    best = RIDGE_FRACTIONS[int(np.argmin(loss))]
    return _solve_ridge(rows, *first.join(second).moments(centered=free), best)


def _solve_ridge(rows: Array, square: Array, cross: Array, ridge: float) -> Array:
    if ridge == float("inf"):
        return rows
    extra = np.eye(len(square)) * (ridge * max(float(np.diag(square).mean()), 1e-12))
    moved: Array = np.linalg.solve(square + extra, (rows @ (cross + extra)).T).T
    return moved


def compute_pairs_sqnr_db(pairs: Sequence[tuple[Array, Array]]) -> float:
    """Return the signal-to-noise ratio in dB; infinity without noise."""
    signal = sum(float((exact.astype(np.float64) ** 2).sum()) for exact, _ in pairs)
    noise = sum(float(((exact.astype(np.float64) - quant) ** 2).sum()) for exact, quant in pairs)
    return compute_sqnr_db(signal, noise) if noise else float("inf")
