"""The graph during conversion: ONNX operators with static shapes, mutable."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgewright.formats.neighbors import find_producers, find_readers, select_needed
from edgewright.schema.arrays import Array

Shape = tuple[int, ...]
CHECK = "check the model with onnx.checker; if it is valid, report this with the output of --debug"
# Exceptions caused by missing or invalid attributes and inputs of a node.
DAMAGE = (LookupError, ValueError, TypeError, AttributeError, ArithmeticError)


class OperatorRejected(Exception):
    """Raised for an operator that cannot be expressed; the text has the reason, `help` a remedy."""

    def __init__(self, why: str, help: str = "") -> None:
        super().__init__(why)
        self.help = help


def make_rejection(error: Exception) -> OperatorRejected:
    """Return the rejection of a node whose attributes or inputs caused one of `DAMAGE`; `error` is the cause."""
    rejection = OperatorRejected(
        f"its attributes or inputs do not fit: {type(error).__name__} {str(error)[:200]}", CHECK
    )
    rejection.__cause__ = error
    return rejection


@dataclass(frozen=True, slots=True)
class Scales:
    """Affine quantization of a tensor: real = scale × (stored − zero_point), per tensor or along `axis`.

    With `block` the scales of a matrix have its shape, with one scale for `block` numbers along `axis`.
    """

    scale: Array
    zero_point: Array
    axis: int = 0
    block: int = 0

    def is_same(self, other: "Scales") -> bool:
        """Return whether both are per tensor and equal."""
        return (
            self.scale.size == other.scale.size == 1
            and bool(np.float32(self.scale.item()) == np.float32(other.scale.item()))
            and int(self.zero_point.flat[0]) == int(other.zero_point.flat[0])
        )


@dataclass(slots=True, eq=False)
class Node:
    """One operator. An absent optional input or output is `""`.

    `sources` has the names of the ONNX file's nodes that it computes, its own first.
    """

    op: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    domain: str = ""
    location: str = ""

    @property
    def name(self) -> str:
        return self.sources[0] if self.sources else self.op

    def has(self, position: int) -> bool:
        return position < len(self.inputs) and bool(self.inputs[position])


@dataclass(slots=True)
class Graph:
    """Nodes in execution order, and the properties of each value by name; `notes` are for the artifact's record."""

    opset: int
    nodes: list[Node]
    inputs: list[str]
    outputs: list[str]
    shapes: dict[str, Shape] = field(default_factory=dict)
    dtypes: dict[str, np.dtype[Any]] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    scales: dict[str, Scales] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    fresh: int = 0

    def name_new(self, stem: str) -> str:
        """Return an unused value name."""
        self.fresh += 1
        name = f"{stem}/{self.fresh}"
        return name if name not in self.shapes and name not in self.constants else self.name_new(stem)

    def add_constant(self, stem: str, data: Array) -> str:
        name = self.name_new(stem)
        self.set_constant(name, data)
        return name

    def set_constant(self, name: str, data: Array) -> None:
        self.constants[name] = data
        self.shapes[name], self.dtypes[name] = data.shape, data.dtype

    def add_value(self, stem: str, shape: Shape, dtype: Any) -> str:
        name = self.name_new(stem)
        self.shapes[name], self.dtypes[name] = shape, np.dtype(dtype)
        return name

    def producers(self) -> dict[str, Node]:
        return find_producers(self.nodes)

    def consumers(self) -> dict[str, list[Node]]:
        """Return the readers of each value; a graph output has one more, in `outputs`."""
        return find_readers(self.nodes)

    def number(self, name: str) -> float | None:
        """Return the value of a constant with one element."""
        data = self.constants.get(name)
        return float(data.reshape(-1)[0]) if data is not None and data.size == 1 else None

    def drop_unused(self) -> None:
        """Remove nodes whose outputs are not read."""
        self.nodes = select_needed(self.nodes, self.outputs)
