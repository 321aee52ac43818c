"""The torch module that an ONNX graph becomes."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from edgewright.formats.onnx_to_torch.call import Call, Function, Tensor
from edgewright.schema.arrays import Array


class Value(NamedTuple):
    """An argument from an earlier step or an input."""

    name: str


class Constant(NamedTuple):
    """An argument that is a constant of the step, with this name."""

    name: str


Argument = Value | Constant | Array | None


class NetworkStep(nn.Module):  # type: ignore[misc]  # torch's types are not read by mypy
    """One node. Its weights are its own parameters, so that an exported program names the step they belong to."""

    def __init__(
        self,
        call: Call,
        function: Function,
        arguments: Sequence[Argument],
        outputs: Sequence[str],
        sources: Sequence[str],
    ) -> None:
        super().__init__()
        self.call, self.function, self.arguments = call, function, tuple(arguments)
        self.outputs, self.sources = tuple(outputs), tuple(sources)
        self.reads = tuple(argument.name for argument in arguments if isinstance(argument, Value))

    def hold(self, name: str, tensor: Tensor) -> None:
        """Store a constant: a float as a parameter, others as a buffer."""
        if isinstance(tensor, nn.Parameter):
            self.register_parameter(name, tensor)
        else:
            self.register_buffer(name, tensor)

    def forward(self, *tensors: Tensor) -> Any:
        left = iter(tensors)
        given = [
            next(left)
            if isinstance(argument, Value)
            else getattr(self, argument.name)
            if isinstance(argument, Constant)
            else argument
            for argument in self.arguments
        ]
        return self.function(self.call, *given)


class OnnxNetwork(nn.Module):  # type: ignore[misc]  # torch's types are not read by mypy
    """A module from the graph's inputs to a tuple of its outputs, both in the graph's order.

    Inputs and outputs keep the source's types: with half precision inside, float32 is cast at both.

    Attributes:
        inputs, outputs: names in the source.
        examples: one tensor of zeros for each input.
        sizes: shape of each output.
        types: torch type of each output.
    """

    def __init__(self, inputs: Sequence[str], outputs: Sequence[str], examples: Sequence[Tensor]) -> None:
        super().__init__()
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self.examples = tuple(examples)
        self.steps = nn.ModuleList()
        self.float_type = torch.float32
        self.sizes: tuple[tuple[int, ...], ...] = ()
        self.types: tuple[Any, ...] = ()

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        values = dict(zip(self.inputs, map(self.enter, tensors), strict=True))
        for step in self.steps:
            made = step(*(values[name] for name in step.reads))
            results = made if isinstance(made, tuple | list) else (made,)
            values.update(zip(step.outputs, results, strict=False))
        return tuple(self.leave(values[name], kind) for name, kind in zip(self.outputs, self.types, strict=True))

    def enter(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.float_type) if tensor.dtype == torch.float32 else tensor

    def leave(self, tensor: Tensor, kind: Any) -> Tensor:
        return tensor if tensor.dtype == kind else tensor.to(kind)
