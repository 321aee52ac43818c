"""Quantization-aware training of a QDQ graph's weights.

The forward pass rounds, the backward pass is straight-through (Bengio et al. 2013, https://arxiv.org/abs/1308.3432).
Weight scales are trained too (LSQ, Esser et al. 2020, https://arxiv.org/abs/1902.08153), activation ranges are not.
Training starts at the quantizer's result and writes the same graph with other integers.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from edgewright.errors import ModelNotConvertible
from edgewright.formats.neighbors import find_producers, find_read_names
from edgewright.formats.onnx.attributes import read_attributes
from edgewright.formats.onnx.constants import make_tensor
from edgewright.formats.onnx.editable import EditableGraph
from edgewright.formats.onnx.normalize.weights import fold
from edgewright.formats.onnx.prepare import name_nodes
from edgewright.formats.onnx.qdq import DEQUANTIZE, OWN_DOMAINS, QUANTIZE, WEIGHTED, reshape_along_axis
from edgewright.formats.onnx_to_torch.build import load_network
from edgewright.quantization.network import FloatNetwork as FloatNetwork
from edgewright.quantization.static.write import pack_four_bits
from edgewright.schema.arrays import Array
from edgewright.system.temporary import TemporaryFolder
from edgewright.training.loop.checkpoint import write_atomically

Tensor = Any
MAX_OFFSET = 0.45  # of a step: maximum initial distance of a weight from its integer
MIN_SCALE = 1e-12
INT4 = 22  # TensorProto.INT4
QUANTIZE_HINT = "quantize it with edgewright quantize --precision w8a8, w8a16 or w4a8"


class QuantizedInitializer(NamedTuple):
    """The integer input of a DequantizeLinear.

    Attributes:
        values, scales, zeros: names of its inputs; `zeros` may be empty.
        axis: of the scales, if there are several. `low` and `high`: range of the integers.
    """

    values: str
    scales: str
    zeros: str
    axis: int
    low: int
    high: int


class TrainedTensor(NamedTuple):
    """A trained tensor, with the name by which its layer reads it.

    Attributes:
        start: real numbers, in the layout of the graph.
        stored: its quantized form; None if it is stored in float.
        layer, position: name of the layer, and index of its input.
    """

    start: Array
    stored: QuantizedInitializer | None
    layer: str
    position: int


def build_qat_module(graph: Path, float_graph: Path | None, shapes: Mapping[str, Sequence[int]]) -> "QatModule":
    """Return the graph as a torch module with inputs and outputs by name, which can write the trained graph.

    Args:
        graph: with QuantizeLinear and DequantizeLinear, a batch of 1.
        float_graph: its float graph; None starts every weight at its integer.

    Raises:
        ModelNotConvertible: it is not quantized or not trainable: block-wise scales, sizes that include the batch.
    """
    qat_graph = QatGraph(EditableGraph.open(graph))
    if not qat_graph.rounds and not any(one.stored for one in qat_graph.trained.values()):
        raise ModelNotConvertible(
            "the graph is not quantized", "it has no QuantizeLinear and no integer weights", QUANTIZE_HINT
        )
    offsets = _compute_offsets(qat_graph, float_graph) if float_graph else {}
    return QatModule(qat_graph, offsets, shapes)


def build_float_module(graph: Path, shapes: Mapping[str, Sequence[int]]) -> "QatModule":
    """Return a float graph with folded batch normalizations as a torch module: the same weights without quantization.
    Raises ModelNotConvertible if it has no weights, or sizes that include the batch."""
    qat_graph = QatGraph(_load_folded_graph(graph))
    if not qat_graph.trained:
        raise ModelNotConvertible("the graph cannot be trained", "it has no weights of layers", "")
    return QatModule(qat_graph, {}, shapes)


def _load_folded_graph(graph: Path) -> EditableGraph:
    """Load the float graph with the quantizer's node names."""
    loaded = EditableGraph.open(graph)
    name_nodes(loaded.model.graph)
    fold(loaded)
    return loaded


class QatGraph:
    """A graph with its trained tensors and its activation quantizers."""

    def __init__(self, source: EditableGraph) -> None:
        self.model = model = source.to_message()
        self.constants = source.constants
        self.types = {one.name: one.data_type for one in model.graph.initializer}
        self.producers = find_producers(model.graph.node)
        self.trained: dict[str, TrainedTensor] = {}
        self.rounds: dict[str, tuple[str, str]] = {}  # name of a QuantizeLinear: names of scale and zero point
        for node in model.graph.node:
            if node.op_type in WEIGHTED and node.domain in OWN_DOMAINS:
                self.collect_layer(node)
            elif node.op_type == QUANTIZE and node.input[0] not in self.constants:
                self.collect_activation(node)

    def collect_layer(self, node: Any) -> None:
        for position, name in enumerate(node.input[:3]):
            producer = self.producers.get(name)
            if position == 0 or not name or name in self.trained:
                continue
            if name in self.constants and self.constants[name].dtype == np.float32:
                self.trained[name] = TrainedTensor(self.constants[name], None, node.name, position)
            elif producer is not None and producer.op_type == DEQUANTIZE and producer.input[0] in self.constants:
                stored = self.read_stored(producer)
                self.trained[name] = TrainedTensor(self.real(stored), stored, node.name, position)

    def collect_activation(self, node: Any) -> None:
        scale, zero = (self.constants.get(name) for name in node.input[1:3])
        if len(node.input) < 3 or scale is None or zero is None or scale.size != 1 or zero.dtype.itemsize > 2:
            why = f"QuantizeLinear ('{node.name}') has no single constant scale with a zero point of 8 or 16 bits"
            raise ModelNotConvertible("the graph cannot be trained", why, QUANTIZE_HINT)
        self.rounds[node.name] = (node.input[1], node.input[2])

    def read_stored(self, node: Any) -> QuantizedInitializer:
        attributes = read_attributes(node)
        if attributes.get("block_size") or node.input[1] not in self.constants:
            why = f"DequantizeLinear ('{node.name}') has block-wise or computed scales"
            raise ModelNotConvertible("the graph cannot be trained", why, QUANTIZE_HINT)
        values = self.constants[node.input[0]].astype(np.int64)
        if self.types[node.input[0]] == INT4:
            limits = (-8, 7)
        else:
            dtype = self.constants[node.input[0]].dtype
            limits = (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
        zeros = node.input[2] if len(node.input) > 2 else ""
        # Values that the quantizer excludes for some processors' kernels remain excluded.
        low = limits[0] + 1 if limits[0] < 0 and values.min(initial=0) > limits[0] else limits[0]
        return QuantizedInitializer(node.input[0], node.input[1], zeros, attributes.get("axis", 1), low, limits[1])

    def real(self, stored: QuantizedInitializer) -> Array:
        values = self.constants[stored.values].astype(np.float32)
        zeros = self.zeros(stored)
        rank = values.ndim
        scales = reshape_along_axis(np.atleast_1d(self.constants[stored.scales]), stored.axis, rank)
        return np.asarray((values - reshape_along_axis(zeros, stored.axis, rank)) * scales, np.float32)

    def zeros(self, stored: QuantizedInitializer) -> Array:
        size = np.atleast_1d(self.constants[stored.scales]).shape
        found = self.constants[stored.zeros] if stored.zeros else np.zeros(size)
        return np.asarray(np.atleast_1d(found), np.float32)

    def open_graph(self) -> Any:
        """Return the graph with trained tensors as inputs and each quantizer as an Identity with its name."""
        import onnx
        from onnx import helper

        model = deepcopy(self.model)
        graph = model.graph
        gone = set(self.trained)
        nodes = []
        for node in graph.node:
            rounds = node.op_type in (QUANTIZE, DEQUANTIZE) and node.domain in OWN_DOMAINS
            if gone.intersection(node.output):
                continue
            if node.name in self.rounds or (rounds and node.input[0] not in self.constants):
                node = helper.make_node("Identity", [node.input[0]], list(node.output), name=node.name)
            nodes.append(node)
        read = find_read_names(nodes) | {one.name for one in graph.output}
        kept = [one for one in graph.initializer if one.name in read - gone]
        inputs = [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, one.start.shape)
            for name, one in self.trained.items()
        ]
        made = helper.make_graph(nodes, graph.name, [*graph.input, *inputs], list(graph.output), kept)
        model.graph.CopyFrom(made)
        return model


def _compute_offsets(qat_graph: QatGraph, float_graph: Path) -> dict[str, Array]:
    """Return, by name of quantized weights, the distance of the float weights from their integers, in steps; 0 if it is
    more than one, because those weights were rescaled before rounding.
    """
    network = FloatNetwork(_load_folded_graph(float_graph))
    found = {}
    for name, one in qat_graph.trained.items():
        layer = network.weight_nodes.get(one.layer)
        if one.stored is None or one.position != 1 or layer is None:
            continue
        real = network.constants[layer.weight]
        if real.shape != one.start.shape:
            continue
        scales = reshape_along_axis(np.atleast_1d(qat_graph.constants[one.stored.scales]), one.stored.axis, real.ndim)
        steps = (real - one.start) / np.maximum(scales, MIN_SCALE)
        found[name] = np.where(np.abs(steps) > 1, 0, np.clip(steps, -MAX_OFFSET, MAX_OFFSET)).astype(np.float32)
    return found


class WeightQuantizer(nn.Module):  # type: ignore[misc]  # torch's types are not read by mypy
    """Fake quantization of weights per channel, with the logarithm of the scale's change as a parameter."""

    def __init__(self, stored: QuantizedInitializer, scales: Array, zeros: Array, shape: Sequence[int]) -> None:
        super().__init__()
        self.stored, self.rank = stored, len(shape)
        first = torch.from_numpy(np.maximum(np.atleast_1d(scales).astype(np.float32), MIN_SCALE))
        self.change = nn.Parameter(torch.zeros_like(first))
        self.register_buffer("first", first)
        self.register_buffer("zeros", torch.from_numpy(zeros))

    def scales(self) -> Tensor:
        return self.first * self.change.exp()

    def broadcast(self, tensor: Tensor) -> Tensor:
        if tensor.numel() == 1:
            return tensor.reshape(())
        shape = [1] * self.rank
        shape[self.stored.axis if self.stored.axis < self.rank else 0] = -1
        return tensor.reshape(shape)

    def forward(self, weights: Tensor) -> Tensor:
        scales, zeros = self.broadcast(self.scales()), self.broadcast(self.zeros)
        steps = torch.clamp(weights / scales, self.stored.low - zeros, self.stored.high - zeros)
        return (steps + (steps.round() - steps).detach()) * scales

    def integers(self, weights: Tensor) -> Array:
        made = (weights / self.broadcast(self.scales())).round() + self.broadcast(self.zeros)
        return np.asarray(made.clamp(self.stored.low, self.stored.high).detach().cpu().numpy())


class QatModule(nn.Module):  # type: ignore[misc]  # torch's types are not read by mypy
    """An ONNX graph with trainable weights."""

    def __init__(self, qat_graph: QatGraph, offsets: Mapping[str, Array], shapes: Mapping[str, Sequence[int]]) -> None:
        super().__init__()
        self.qat_graph = qat_graph
        self.names = list(qat_graph.trained)
        self.weights = nn.ParameterList()
        self.rounders = nn.ModuleDict()
        for place, (name, one) in enumerate(qat_graph.trained.items()):
            start = one.start
            if one.stored is not None and one.position == 1:
                scales, zeros = qat_graph.constants[one.stored.scales], qat_graph.zeros(one.stored)
                self.rounders[str(place)] = rounder = WeightQuantizer(one.stored, scales, zeros, start.shape)
                steps = rounder.broadcast(rounder.first).numpy()
                start = start + offsets.get(name, np.float32(0)) * steps
            self.weights.append(nn.Parameter(torch.from_numpy(np.array(start, np.float32))))
        self.network = self.build(shapes)
        self.check_batch(shapes)  # before activations are rounded, where a tiny difference may become a whole step
        self.round_activations()

    def build(self, shapes: Mapping[str, Sequence[int]]) -> Any:
        import onnx

        with TemporaryFolder() as folder:
            path = folder / "model.onnx"
            onnx.save(self.qat_graph.open_graph(), str(path))
            network = load_network(path, shapes)
        _make_batch_dynamic(network)
        return network

    def round_activations(self) -> None:
        for step in self.network.steps:
            if step.call.name in self.qat_graph.rounds:
                scale, zero = (
                    self.qat_graph.constants[name].reshape(-1)[0] for name in self.qat_graph.rounds[step.call.name]
                )
                step.function = _make_fake_quantize(float(scale), int(zero), zero.dtype)

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        held = {}
        for place, name in enumerate(self.names):
            weights = self.weights[place]
            held[name] = self.rounders[str(place)](weights) if str(place) in self.rounders else weights
        made = self.network(*(inputs[name] if name in inputs else held[name] for name in self.network.inputs))
        return dict(zip(self.network.outputs, made, strict=True))

    def check_batch(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """Check that a batch of two gives the same outputs as each sample alone."""
        torch_type = {name: one.dtype for name, one in zip(self.network.inputs, self.network.examples, strict=True)}
        made = torch.Generator().manual_seed(0)
        pair = {name: torch.rand(2, *sizes[1:], generator=made).to(torch_type[name]) for name, sizes in shapes.items()}
        try:
            with torch.no_grad():
                both = self(**pair)
                alone = [self(**{name: one[at : at + 1] for name, one in pair.items()}) for at in (0, 1)]
        except RuntimeError as error:
            raise ModelNotConvertible(
                "the graph cannot be trained in batches", str(error)[:300], QUANTIZE_HINT
            ) from error
        for name, tensor in both.items():
            wanted = torch.cat([one[name] for one in alone])
            if tensor.shape != wanted.shape or not torch.allclose(
                tensor, wanted, atol=1e-3 * float(wanted.abs().max())
            ):
                why = f"the output '{name}' of a batch of two differs from that of each sample alone"
                raise ModelNotConvertible("the graph cannot be trained in batches", why, QUANTIZE_HINT)

    def write(self, path: Path) -> None:
        """Write the graph with the trained values."""
        trained_arrays = self.trained_arrays()
        model = deepcopy(self.qat_graph.model)
        for tensor in model.graph.initializer:
            if tensor.name in trained_arrays:
                array = trained_arrays[tensor.name]
                four = tensor.data_type == INT4
                made = pack_four_bits(tensor.name, array) if four else make_tensor(tensor.name, array)
                tensor.CopyFrom(made)
        write_atomically(path, lambda file: file.write(model.SerializeToString()))

    def trained_arrays(self) -> dict[str, Array]:
        """Return the trained initializers of the graph by name."""
        found: dict[str, Array] = {}
        scales: dict[str, Array] = {}  # of the weights, by layer
        for place, (name, one) in enumerate(self.qat_graph.trained.items()):
            weights = self.weights[place].detach().cpu()
            if one.stored is None:
                found[name] = weights.contiguous().numpy()
            elif one.position == 1:
                rounder = self.rounders[str(place)]
                own = self.qat_graph.constants[one.stored.scales]
                scales[one.layer] = rounder.scales().detach().cpu().numpy().reshape(own.shape)
                found[one.stored.scales] = scales[one.layer]
                dtype = self.qat_graph.constants[one.stored.values].dtype
                found[one.stored.values] = np.ascontiguousarray(rounder.integers(self.weights[place]).astype(dtype))
        for place, one in enumerate(self.qat_graph.trained.values()):
            if one.stored is not None and one.position == 2:
                bias = self.weights[place].detach().cpu().numpy().astype(np.float64)
                found |= self.write_bias(one, one.stored, bias, scales)
        return found

    def write_bias(
        self, one: TrainedTensor, stored: QuantizedInitializer, bias: Array, scales: Mapping[str, Array]
    ) -> dict[str, Array]:
        """Return the integers of a bias; its scale remains input × weights if it was so."""
        own = self.qat_graph.constants[stored.scales]
        layer = next(node for node in self.qat_graph.model.graph.node if node.name == one.layer)
        source = self.qat_graph.producers.get(layer.input[0])
        if source is not None and source.op_type == DEQUANTIZE and one.layer in scales:
            before = next(
                self.qat_graph.constants[t.stored.scales]
                for t in self.qat_graph.trained.values()
                if t.layer == one.layer and t.position == 1 and t.stored is not None
            )
            product = self.qat_graph.constants[source.input[1]] * before
            if np.allclose(product, own, rtol=1e-3):
                own = np.asarray(self.qat_graph.constants[source.input[1]] * scales[one.layer], np.float32)
        zeros = self.qat_graph.zeros(stored)
        made = np.clip(np.rint(bias / np.maximum(own, 1e-30)) + zeros, stored.low, stored.high)
        return {stored.scales: own, stored.values: made.astype(self.qat_graph.constants[stored.values].dtype)}


def _make_fake_quantize(scale: float, zero: int, dtype: np.dtype[Any]) -> Callable[..., Tensor]:
    """Return a fake quantizer of an activation with a fixed range."""
    limits = np.iinfo(dtype)
    low, high = int(limits.min), int(limits.max)

    def run(call: Any, tensor: Tensor) -> Tensor:
        return torch.fake_quantize_per_tensor_affine(tensor.float(), scale, zero, low, high)

    return run


def _make_batch_dynamic(network: Any) -> None:
    """Make the batch of constant shapes dynamic."""
    sizes: dict[str, Sequence[int]] = {}

    def note(step: Any, given: Any, made: Any) -> None:
        results = made if isinstance(made, tuple | list) else (made,)
        sizes.update({name: tuple(one.shape) for name, one in zip(step.outputs, results, strict=False)})

    hooks = [step.register_forward_hook(note) for step in network.steps]
    with torch.no_grad():
        network(*network.examples)
    for hook in hooks:
        hook.remove()
    for step in network.steps:
        shape = sizes.get(step.outputs[0], ())
        if step.call.op == "Reshape" and shape and shape[0] == 1:
            step.arguments = (step.arguments[0], np.array([-1, *shape[1:]], np.int64))
