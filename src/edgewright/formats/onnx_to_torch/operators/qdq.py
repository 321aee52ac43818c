"""Torch's operators of quantized programs; `qdq.py` of the parent package creates their nodes."""

import torch
import torch.ao.quantization.fx._decomposed  # defines them
from torch.nn import functional as F

from edgewright.formats.onnx_to_torch.call import Call, Tensor, TorchOperator
from edgewright.formats.onnx_to_torch.qdq import (
    CLAMP_NODE,
    DEQUANTIZE_NODE,
    DEQUANTIZE_WEIGHTS_NODE,
    LINEAR_NODE,
    QUANTIZE_NODE,
)

INT8_MIN, INT8_MAX = -128, 127
OPERATORS = torch.ops.quantized_decomposed


def _quantize_tensor(call: Call, tensor: Tensor) -> Tensor:
    scale, zero = call.number("scale", 1.0), call.integer("zero", 0)
    return OPERATORS.quantize_per_tensor.default(tensor, scale, zero, INT8_MIN, INT8_MAX, torch.int8)


def _clamp_tensor(call: Call, tensor: Tensor) -> Tensor:
    return torch.clamp(tensor, call.number("floor", 0.0), call.number("ceiling", 0.0))


def _dequantize_tensor(call: Call, tensor: Tensor) -> Tensor:
    scale, zero = call.number("scale", 1.0), call.integer("zero", 0)
    return OPERATORS.dequantize_per_tensor.default(tensor, scale, zero, INT8_MIN, INT8_MAX, torch.int8)


def _dequantize_weights(call: Call, integers: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
    axis = call.integer("axis", 0)
    return OPERATORS.dequantize_per_channel.default(integers, scales, zeros, axis, INT8_MIN, INT8_MAX, torch.int8)


def _apply_linear(call: Call, tensor: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.linear(tensor, weight, bias)


TABLE: dict[str, TorchOperator] = {
    CLAMP_NODE: TorchOperator(_clamp_tensor),
    QUANTIZE_NODE: TorchOperator(_quantize_tensor),
    DEQUANTIZE_NODE: TorchOperator(_dequantize_tensor),
    DEQUANTIZE_WEIGHTS_NODE: TorchOperator(_dequantize_weights),
    LINEAR_NODE: TorchOperator(_apply_linear),
}
