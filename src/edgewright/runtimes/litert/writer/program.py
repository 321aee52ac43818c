"""The program to be written: LiteRT tensors and operators in execution order."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgewright.runtimes.litert.writer.graph import Scales, Shape
from edgewright.schema.arrays import Array


@dataclass(slots=True, eq=False)
class Tensor:
    """A stored tensor; equal only to itself."""

    name: str
    shape: Shape
    dtype: np.dtype[Any]
    data: Array | None = None
    scales: Scales | None = None


@dataclass(slots=True)
class Operator:
    """One operator: LiteRT's name, its tensors (None for an absent optional one), its option fields by name."""

    code: str
    inputs: list[Tensor | None]
    outputs: list[Tensor]
    options: dict[str, Any] = field(default_factory=dict)
    sources: tuple[str, ...] = ()


@dataclass(slots=True)
class Program:
    """The content of a file. `inputs` and `outputs` have the source's names."""

    operators: list[Operator] = field(default_factory=list)
    inputs: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)

    def drop_unused(self) -> None:
        """Remove operators whose results are not read."""
        needed = {id(tensor) for tensor in self.outputs.values()}
        kept = []
        for operator in reversed(self.operators):
            if needed.intersection(id(tensor) for tensor in operator.outputs):
                kept.append(operator)
                needed.update(id(tensor) for tensor in operator.inputs if tensor is not None)
        self.operators = kept[::-1]
