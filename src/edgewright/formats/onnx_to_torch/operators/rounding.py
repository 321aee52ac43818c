"""Torch's operators of quantised programs; see `rounding.py` beside this folder for what becomes one."""

import torch
import torch.ao.quantization.fx._decomposed  # defines them
from torch.nn import functional as F

from edgewright.formats.onnx_to_torch.call import Call, Operator, Tensor
from edgewright.formats.onnx_to_torch.rounding import BOUND, LINEAR, ROUND, UNROUND, UNROUND_WEIGHTS

LEAST, LARGEST = -128, 127
OPERATORS = torch.ops.quantized_decomposed


def round_tensor(call: Call, tensor: Tensor) -> Tensor:
    scale, zero = call.number("scale", 1.0), call.integer("zero", 0)
    return OPERATORS.quantize_per_tensor.default(tensor, scale, zero, LEAST, LARGEST, torch.int8)


def bound_tensor(call: Call, tensor: Tensor) -> Tensor:
    return torch.clamp(tensor, call.number("floor", 0.0), call.number("ceiling", 0.0))


def unround_tensor(call: Call, tensor: Tensor) -> Tensor:
    scale, zero = call.number("scale", 1.0), call.integer("zero", 0)
    return OPERATORS.dequantize_per_tensor.default(tensor, scale, zero, LEAST, LARGEST, torch.int8)


def unround_weights(call: Call, integers: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
    axis = call.integer("axis", 0)
    return OPERATORS.dequantize_per_channel.default(integers, scales, zeros, axis, LEAST, LARGEST, torch.int8)


def linear(call: Call, tensor: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.linear(tensor, weight, bias)


TABLE: dict[str, Operator] = {
    BOUND: Operator(bound_tensor),
    ROUND: Operator(round_tensor),
    UNROUND: Operator(unround_tensor),
    UNROUND_WEIGHTS: Operator(unround_weights),
    LINEAR: Operator(linear),
}
