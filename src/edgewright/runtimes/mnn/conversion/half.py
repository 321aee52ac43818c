"""Weights in half precision, rounded to the nearest.

MNN's converter truncates float32 weights to half precision instead of rounding them, which costs about 10 dB. Weights
that already are halves are unchanged. So they are rounded before it. Because the converter folds batch normalizations
into convolutions, which makes new weights, that is done before, too.
"""

from collections import Counter
from typing import Any

import numpy as np

from edgewright.formats.neighbors import find_producers
from edgewright.formats.onnx.attributes import read_attribute
from edgewright.formats.onnx.constants import fold_batch_norm, make_tensor, read_array, write_array
from edgewright.schema.arrays import Array

LARGEST = 65504.0
CONVOLUTIONS = ("Conv", "ConvTranspose")
NORMS = ("BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization")
BIAS = 2  # position of the bias in Conv, ConvTranspose and Gemm, which MNN keeps in float32


def fold_batch_norms(graph: Any) -> None:
    """Fold each BatchNormalization with constants after a convolution into that convolution's weights."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(value.name for value in graph.output)
    producer = find_producers(graph.node)
    for norm in [node for node in graph.node if node.op_type == "BatchNormalization"]:
        conv = producer.get(norm.input[0])
        if conv is not None and _can_fold(conv, norm, uses, constants):
            _fold(graph, conv, norm, constants)


def _can_fold(conv: Any, norm: Any, uses: Counter[str], constants: dict[str, Any]) -> bool:
    groups = read_attribute(conv, "group", 1)
    return (
        conv.op_type in CONVOLUTIONS
        and (conv.op_type == "Conv" or groups == 1)
        and uses[norm.input[0]] == 1
        and len([name for name in norm.output if name]) == 1
        and all(name in constants for name in (*conv.input[1:], *norm.input[1:]) if name)
    )


def _fold(graph: Any, conv: Any, norm: Any, constants: dict[str, Any]) -> None:
    """Return `scale × (conv − mean) / √(variance + ε) + shift` as new weights and a new bias."""
    bias = read_array(constants[conv.input[BIAS]]) if len(conv.input) > BIAS and conv.input[BIAS] else None
    statistics = [read_array(constants[name]) for name in norm.input[1:5]]
    weights, epsilon = read_array(constants[conv.input[1]]), read_attribute(norm, "epsilon", 1e-5)
    weights, bias = fold_batch_norm(weights, bias, statistics, epsilon, int(conv.op_type != "Conv"))
    result = norm.output[0]
    names = [_add_constant(graph, f"{result}.weight", weights, constants)]
    names.append(_add_constant(graph, f"{result}.bias", bias, constants))
    conv.input[:] = [conv.input[0], *names]
    conv.output[:] = [result]
    graph.node.remove(norm)


def _add_constant(graph: Any, name: str, array: Array, constants: dict[str, Any]) -> str:
    """Add a constant under an unused name, and return the name."""
    while name in constants:
        name += "_"
    tensor = make_tensor(name, array)
    graph.initializer.append(tensor)
    constants[name] = tensor
    return name


def round_weights(graph: Any) -> None:
    """Round the constants that MNN stores in half precision: all of float32 except biases and those of
    normalizations."""
    from onnx import TensorProto

    kept = {name for node in graph.node for name in _find_unrounded_inputs(node)}
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in kept:
            array = np.clip(read_array(tensor), -LARGEST, LARGEST)
            write_array(tensor, array.astype(np.float16).astype(np.float32))


def _find_unrounded_inputs(node: Any) -> list[str]:
    if node.op_type in NORMS:
        return list(node.input[1:])
    return list(node.input[BIAS:]) if node.op_type in (*CONVOLUTIONS, "Gemm") else []
