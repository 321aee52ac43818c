"""Construction of the network: one run of the graph on zeros, without the parts that do not depend on the inputs.

These, including shapes (all sizes are static), become constants.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from edgewright.errors import ModelNotConvertible
from edgewright.formats.neighbors import select_needed
from edgewright.formats.onnx_to_torch.call import Arranged, Call, Tensor, TorchOperator
from edgewright.formats.onnx_to_torch.network import Argument, Constant, NetworkStep, OnnxNetwork, Value
from edgewright.formats.onnx_to_torch.operators import OPERATORS
from edgewright.formats.onnx_to_torch.qdq import DEQUANTIZE_WEIGHTS_NODE, mark_quantized_nodes
from edgewright.formats.onnx_to_torch.read import SourceGraph, SourceNode, read_graph
from edgewright.formats.onnx_to_torch.rewrite import fuse_gelus
from edgewright.schema.arrays import Array
from edgewright.schema.model import TensorSpec

SHAPE_ALONE = ("Shape", "Size")  # the output does not depend on the input's values
HALF_LIMIT = float(np.finfo(np.float16).max)


def load_network(
    path: Path,
    shapes: Mapping[str, Sequence[int]],
    *,
    half: bool = False,
    unroll: bool = False,
    integers: bool = False,
) -> OnnxNetwork:
    """Return the network of an ONNX file, in evaluation mode, for these shapes of its inputs.

    With `half` weights and activations are float16, and inputs and outputs keep the source's types. With `unroll` LSTM,
    GRU and RNN are unrolled. With `integers` the Q/DQ pairs of a QDQ graph become torch's operators of
    quantized programs; else a QDQ graph is computed in floats.

    Raises ModelUnreadable, and ModelNotConvertible with the unsupported operator and node.
    """
    graph = fuse_gelus(read_graph(path, OPERATORS))
    graph = mark_quantized_nodes(graph) if integers else graph
    with torch.no_grad():
        return NetworkBuilder(graph, shapes, torch.float16 if half else torch.float32, unroll).build()


class NetworkBuilder:
    """Visits the graph once."""

    def __init__(self, graph: SourceGraph, shapes: Mapping[str, Sequence[int]], float_type: Any, unroll: bool) -> None:
        self.graph, self.float_type, self.unroll = graph, float_type, unroll
        self.known = {name: _to_tensor(array) for name, array in graph.constants.items()}
        inputs = [spec for spec in graph.signature.inputs if spec.name not in self.known]
        self.values = {spec.name: _make_example(spec, shapes) for spec in inputs}
        names = [spec.name for spec in graph.signature.outputs]
        self.network = OnnxNetwork([spec.name for spec in inputs], names, tuple(self.values.values()))

    def build(self) -> OnnxNetwork:
        for node in select_needed(self.graph.nodes, [spec.name for spec in self.graph.signature.outputs]):
            self.take(node)
        for name in self.network.outputs:
            self.add_output_step(name)
        results = [self.values[name] for name in self.network.outputs]
        self.network.sizes = tuple(tuple(tensor.shape) for tensor in results)
        self.network.types = tuple(tensor.dtype for tensor in results)
        self.network.float_type = self.float_type
        self.network.eval()
        return self.network

    def take(self, node: SourceNode) -> None:
        """Fold the node, or add a step for it."""
        call = Call(node.name, node.op, self.graph.opset, node.attributes, len(node.outputs), unroll=self.unroll)
        operator = OPERATORS[node.op]
        given = [self.known.get(name, self.values.get(name)) if name else None for name in node.inputs]
        if self.is_known(node):
            results = _compute(call, operator.function, self.arguments_of(call, operator, node, given))
            self.known.update(zip(node.outputs, results, strict=False))
            return
        function, arguments, constants = self.plan(call, operator, node, given)
        results = _compute(call, function, _fill(arguments, self.values, constants))
        step = NetworkStep(call._replace(float_type=self.float_type), function, arguments, node.outputs, node.sources)
        for name, tensor in constants.items():
            step.hold(name, self.convert(tensor))
        self.network.steps.append(step)
        self.values.update(zip(node.outputs, results, strict=False))

    def is_known(self, node: SourceNode) -> bool:
        if node.op == DEQUANTIZE_WEIGHTS_NODE:  # kept for the compiler
            return False
        return node.op in SHAPE_ALONE or all(not name or name in self.known for name in node.inputs)

    def arguments_of(self, call: Call, operator: TorchOperator, node: SourceNode, given: Sequence[Tensor]) -> list[Any]:
        """Return all inputs of a node that is folded."""
        if operator.arrange and node.op in ("LSTM", "GRU", "RNN"):
            raise call.reject("it does not depend on any input of the model")
        return [
            tensor.numpy() if position in operator.static and tensor is not None else tensor
            for position, tensor in enumerate(given)
        ]

    def plan(
        self, call: Call, operator: TorchOperator, node: SourceNode, given: Sequence[Tensor]
    ) -> tuple[Any, list[Argument], dict[str, Tensor]]:
        """Return the function to call, its arguments, and the constants of the step."""
        constants = {i: self.known[name] for i, name in enumerate(node.inputs) if name in self.known}
        arranged = operator.arrange(call, constants) if operator.arrange else None
        if operator.computed and self.find_computed(operator, node) is not None:
            arranged = Arranged(operator.computed, constants)
        if arranged is None:
            static = {i: tensor.numpy() for i, tensor in constants.items() if i in operator.static}
            held = {i: tensor for i, tensor in constants.items() if i not in static}
            self.check_static(call, operator, node)
            arranged = Arranged(operator.function, held)
        else:
            static = {}
        arguments = _place_arguments(node, self.values, arranged.constants, static)
        return arranged.function, arguments, {f"c{i}": tensor for i, tensor in arranged.constants.items()}

    def check_static(self, call: Call, operator: TorchOperator, node: SourceNode) -> None:
        if (position := self.find_computed(operator, node)) is not None:
            raise call.reject(f"its input {position} ('{node.inputs[position]}') is known only at run time")

    def find_computed(self, operator: TorchOperator, node: SourceNode) -> int | None:
        """Return the first position of an input that must be constant and is not."""
        given = [at for at in operator.static if at < len(node.inputs) and node.inputs[at]]
        return next((at for at in given if node.inputs[at] not in self.known), None)

    def convert(self, tensor: Tensor) -> Tensor:
        """Return a constant in the network's form."""
        if not tensor.is_floating_point():
            return tensor
        if tensor.dtype == torch.float32 and self.float_type == torch.float16:
            tensor = tensor.clamp(-HALF_LIMIT, HALF_LIMIT).to(torch.float16)
        return nn.Parameter(tensor, requires_grad=False)

    def add_output_step(self, name: str) -> None:
        """Add a step for an output that is a constant or an input."""
        if name in self.known:
            self.values[name] = self.known[name]
            step = NetworkStep(_identity_call(name, self.graph.opset), _copy, [Constant("c0")], [name], [])
            step.hold("c0", self.convert(self.known[name]))
        elif name in self.network.inputs:
            step = NetworkStep(_identity_call(name, self.graph.opset), _copy, [Value(name)], [name], [])
        elif name in self.values:
            return
        else:
            raise ModelNotConvertible("the model cannot be converted to torch", f"no node produces its output '{name}'")
        self.network.steps.append(step)


def _identity_call(name: str, opset: int) -> Call:
    return Call(name, "Identity", opset, {})


def _copy(call: Call, tensor: Tensor) -> Tensor:
    return tensor.clone()


def _to_tensor(array: Array) -> Tensor:
    try:
        return torch.from_numpy(np.array(array))
    except TypeError as error:
        raise ModelNotConvertible("the model cannot be converted to torch", f"a constant: {error}") from None


def _make_example(spec: TensorSpec, shapes: Mapping[str, Sequence[int]]) -> Tensor:
    """Return zeros of the input's type. Raises ModelNotConvertible for a dynamic size."""
    given = shapes.get(spec.name, spec.shape)
    shape = [size for size in given if isinstance(size, int)]
    if len(shape) != len(given):
        raise ModelNotConvertible("the model cannot be converted to torch", f"input '{spec.name}' has free sizes")
    try:
        return torch.from_numpy(np.zeros(tuple(shape), spec.dtype))
    except TypeError as error:
        raise ModelNotConvertible("the model cannot be converted to torch", f"input '{spec.name}': {error}") from None


def _place_arguments(
    node: SourceNode, values: Mapping[str, Tensor], held: Mapping[int, Tensor], static: Mapping[int, Array]
) -> list[Argument]:
    """Return the arguments by position, up to the last given one."""
    found: dict[int, Argument] = {i: Value(name) for i, name in enumerate(node.inputs) if name in values}
    found.update({i: Constant(f"c{i}") for i in held})
    found.update(static)
    return [found.get(i) for i in range(max(found) + 1)]


def _fill(arguments: Sequence[Argument], values: Mapping[str, Tensor], constants: Mapping[str, Tensor]) -> list[Any]:
    return [
        values[argument.name]
        if isinstance(argument, Value)
        else constants[argument.name]
        if isinstance(argument, Constant)
        else argument
        for argument in arguments
    ]


def _compute(call: Call, function: Any, arguments: Sequence[Any]) -> tuple[Tensor, ...]:
    """Return the node's outputs as a tuple; torch's errors name the node."""
    try:
        made = function(call, *arguments)
    except (RuntimeError, IndexError, ValueError, TypeError, KeyError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise call.reject(f"torch rejects it: {lines[0][:300]}") from error
    return tuple(made) if isinstance(made, tuple | list) else (made,)
