"""Q/DQ pairs at the activations of an ONNX graph."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np

from edgewright.schema.arrays import Array


class TensorQuantParams(NamedTuple):
    """Quantization parameters of a tensor: value = (stored − zero) × scale."""

    scale: Array
    zero: Array
    axis: int | None = None


def compute_quant_params(
    low: float, high: float, dtype: np.dtype[Any], *, symmetric: bool = False
) -> TensorQuantParams:
    """Return per-tensor parameters that cover [low, high] and represent zero exactly."""
    limits = np.iinfo(dtype)
    low, high = min(low, 0.0), max(high, 0.0)
    if symmetric:
        reach = max(-low, high) or 1.0
        return TensorQuantParams(np.asarray(reach / limits.max, np.float32), np.asarray(0, dtype))
    scale = np.float32(((high - low) or 1.0) / (int(limits.max) - int(limits.min)))
    zero = np.clip(np.rint(limits.min - low / scale), limits.min, limits.max)
    return TensorQuantParams(np.asarray(scale, np.float32), np.asarray(zero, dtype))


def insert_qdq_pairs(
    nodes: Iterable[Any], inputs: Iterable[str], tensor_params: Mapping[str, TensorQuantParams], outputs: Iterable[str]
) -> tuple[list[Any], dict[str, Array]]:
    """Return the nodes with a Q/DQ pair after each tensor of `tensor_params`, and the constants of the pairs.

    All readers of such a tensor then read `NAME/dq`. A graph output keeps its name after the pair: its producer
    then writes `NAME/raw`.
    """
    from onnx import helper

    outputs = set(outputs)
    constants: dict[str, Array] = {}
    made: list[Any] = []

    def add_pair(name: str) -> None:
        one = tensor_params[name]
        source, result = (f"{name}/raw", name) if name in outputs else (name, f"{name}/dq")
        constants[f"{name}/scale"], constants[f"{name}/zero"] = one.scale, one.zero
        parameters = [f"{name}/scale", f"{name}/zero"]
        made.append(helper.make_node("QuantizeLinear", [source, *parameters], [f"{name}/q"], name=f"{name}/quantize"))
        made.append(
            helper.make_node("DequantizeLinear", [f"{name}/q", *parameters], [result], name=f"{name}/dequantize")
        )

    for name in inputs:
        if name in tensor_params:
            add_pair(name)
    for node in nodes:
        copy = deepcopy(node)
        for at, name in enumerate(copy.input):
            if name in tensor_params and name not in outputs:
                copy.input[at] = f"{name}/dq"
        for at, name in enumerate(copy.output):
            if name in tensor_params and name in outputs:
                copy.output[at] = f"{name}/raw"
        made.append(copy)
        for name in node.output:
            if name in tensor_params:
                add_pair(name)
    return made, constants


def get_dequantized_name(name: str, tensor_params: Mapping[str, TensorQuantParams], outputs: Iterable[str]) -> str:
    """Return the name under which a tensor's readers read it after its Q/DQ pair."""
    return f"{name}/dq" if name in tensor_params and name not in set(outputs) else name
