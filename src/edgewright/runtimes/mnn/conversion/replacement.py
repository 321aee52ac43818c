"""What a rewrite of MNN's conversion knows and returns."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from edgewright.formats.onnx.constants import make_tensor


class ModelFacts(NamedTuple):
    """Properties of a model: its constant tensors, the sizes of all tensors, the operators that read each, and its
    opset."""

    constants: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    readers: Mapping[str, frozenset[str]]
    opset: int


class ReplacementNodes(NamedTuple):
    """The replacement of a node: other nodes and their new constants."""

    nodes: Sequence[Any]
    constants: Sequence[Any] = ()


def make_replacement(node: Any, op: str, inputs: list[str], output: str) -> Any:
    from onnx.helper import make_node

    return make_node(op, inputs, [output], name=f"{node.name}/{op}#{output}")


def make_scalar(name: str, value: float) -> Any:
    return make_tensor(name, np.asarray(value, np.float32))
