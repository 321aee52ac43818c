"""Weights in half precision, rounded to the nearest.

MNN's converter truncates float32 weights to half precision instead of rounding them, which costs about 10 dB. Weights
that already are halves are unchanged. So they are rounded before it. Because the converter folds batch normalizations
into convolutions, which makes new weights, they are folded before, too.
"""

from typing import Any

import numpy as np

from edgewright.formats.onnx.constants import read_array, write_array

LARGEST = 65504.0
CONVOLUTIONS = ("Conv", "ConvTranspose")
NORMS = ("BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization")
BIAS = 2  # position of the bias in Conv, ConvTranspose and Gemm, which MNN keeps in float32


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
