"""What a rewrite of MNN's conversion knows and returns."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from edgewright.schema.arrays import Array


class ModelFacts(NamedTuple):
    """Properties of a model: its constant tensors, the sizes of all tensors, the operators that read each, and its
    opset."""

    constants: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    readers: Mapping[str, frozenset[str]]
    opset: int


def make_replacement(node: Any, op: str, inputs: list[str], output: str) -> Any:
    from onnx.helper import make_node

    return make_node(op, inputs, [output], name=f"{node.name}/{op}#{output}")


def make_scalar(value: float) -> Array:
    return np.asarray(value, np.float32)
