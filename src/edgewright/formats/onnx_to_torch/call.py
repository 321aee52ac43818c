"""The call of an operator with its node's attributes, and entries of the operator table."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import numpy as np
import torch

from edgewright.errors import ModelNotConvertible
from edgewright.schema.arrays import Array

Tensor = Any  # torch's types come with the library, which may be absent during type checks

TYPES = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
    16: torch.bfloat16,
}


class Call(NamedTuple):
    """One node of the graph.

    Attributes:
        outputs: number of outputs that the node names.
        float_type: replacement of float32: itself, or float16.
        unroll: whether recurrent operators are unrolled.
    """

    name: str
    op: str
    opset: int
    attributes: Mapping[str, Any]
    outputs: int = 1
    float_type: Any = torch.float32
    unroll: bool = False

    def number(self, name: str, default: float) -> float:
        return float(self.attributes.get(name, default))

    def integer(self, name: str, default: int) -> int:
        return int(self.attributes.get(name, default))

    def integers(self, name: str) -> list[int]:
        """Return a list attribute; empty if the node does not have it."""
        return [int(value) for value in self.attributes.get(name, ())]

    def text(self, name: str, default: str) -> str:
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else str(value)

    def type(self, number: int) -> Any:
        """Return the torch type of a TensorProto type; float32 becomes this network's float."""
        kind = TYPES.get(number)
        if kind is None:
            raise self.reject(f"torch has no type for TensorProto type {number}")
        return self.float_type if kind == torch.float32 else kind

    def reject(self, why: str) -> ModelNotConvertible:
        return ModelNotConvertible("the model cannot be converted to torch", f"{self.op} ('{self.name}'): {why}")


Function = Callable[..., Any]
Constants = dict[int, Tensor]
Arrange = Callable[[Call, Constants], "Arranged | None"]


class Arranged(NamedTuple):
    """Another function for a node with known constants, and the constants in the order that it requires."""

    function: Function
    constants: Constants


class TorchOperator(NamedTuple):
    """Implementation of one ONNX operator.

    Attributes:
        function: called with the call and one tensor for each input (None for an absent one); returns a tensor, or a
            tuple of them.
        static: positions of inputs that must be constant; the function gets them as NumPy arrays.
        arrange: returns a better function for known weights, or None.
        computed: called instead, with tensors only, if an input of `static` is known only at run time.
    """

    function: Function
    static: tuple[int, ...] = ()
    arrange: Arrange | None = None
    computed: Function | None = None


def make_operator(function: Function) -> TorchOperator:
    """Return an operator that calls a torch function with only its tensors."""
    return TorchOperator(lambda call, *tensors: function(*tensors))


def to_integers(array: Array | None) -> list[int]:
    return [] if array is None else [int(value) for value in np.asarray(array).reshape(-1)]


def to_scalar(array: Array | None, default: float) -> float:
    return default if array is None or not np.size(array) else float(np.asarray(array).reshape(-1)[0])


def normalize_axis(axis: int, rank: int) -> int:
    return axis + rank if axis < 0 else axis


def get_shape(tensor: Tensor) -> list[int]:
    """Return a shape as integers, which torch does not use during tracing."""
    return [int(size) for size in tensor.shape]


def as_tensor(array: Any, like: Tensor) -> Tensor:
    """Return a constant made while the network runs, which an export keeps; float arrays take the type of
    `like`."""
    values = np.ascontiguousarray(array)
    made = torch.from_numpy(values)
    return cast(Tensor, made.to(like.dtype) if made.is_floating_point() else made)
