"""Normalizations and softmax."""

import torch
from torch.nn import functional as F

from edgewright.formats.onnx_to_torch.call import Call, Function, Tensor, TorchOperator, get_shape, normalize_axis

COERCED = 13  # before this opset a softmax reads its input as a matrix


def _batch_norm(call: Call, tensor: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    if call.integer("training_mode", 0):
        raise call.reject("it is in training mode")
    return F.batch_norm(tensor, mean, variance, scale, bias, False, 0.0, call.number("epsilon", 1e-5))


def _instance_norm(call: Call, tensor: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return F.instance_norm(tensor, weight=scale, bias=bias, eps=call.number("epsilon", 1e-5))


def _layer_norm(call: Call, tensor: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    if call.outputs > 1:
        raise call.reject("its outputs of mean and deviation are not supported")
    shape = list(get_shape(tensor)[normalize_axis(call.integer("axis", -1), tensor.dim()) :])
    epsilon = call.number("epsilon", 1e-5)
    if get_shape(scale) == shape and (bias is None or get_shape(bias) == shape):
        return F.layer_norm(tensor, shape, scale, bias, epsilon)
    scaled = F.layer_norm(tensor, shape, None, None, epsilon) * scale
    return scaled if bias is None else scaled + bias


def _rms_norm(call: Call, tensor: Tensor, scale: Tensor) -> Tensor:
    first = normalize_axis(call.integer("axis", -1), tensor.dim())
    mean = (tensor * tensor).mean(dim=list(range(first, tensor.dim())), keepdim=True)
    return tensor * torch.rsqrt(mean + call.number("epsilon", 1e-5)) * scale


def _group_norm(call: Call, tensor: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Compute GroupNormalization; scales are per group until opset 20, and per channel from 21 on."""
    groups = call.integer("num_groups", 1)
    if scale.numel() != get_shape(tensor)[1]:
        times = get_shape(tensor)[1] // groups
        scale, bias = scale.repeat_interleave(times), bias.repeat_interleave(times)
    return F.group_norm(tensor, groups, scale, bias, call.number("epsilon", 1e-5))


def _local_response_norm(call: Call, tensor: Tensor) -> Tensor:
    size, alpha = call.integer("size", 1), call.number("alpha", 1e-4)
    if size % 2 == 0:
        raise call.reject("its size is even, which torch and ONNX interpret differently")
    return F.local_response_norm(tensor, size, alpha, call.number("beta", 0.75), call.number("bias", 1.0))


def _lp_norm(call: Call, tensor: Tensor) -> Tensor:
    axis = call.integer("axis", -1)
    if call.integer("p", 2) == 1:
        return tensor / torch.sum(torch.abs(tensor), dim=axis, keepdim=True)
    return tensor / torch.sqrt(torch.sum(tensor * tensor, dim=axis, keepdim=True))


def _mean_variance_norm(call: Call, tensor: Tensor) -> Tensor:
    axes = call.integers("axes") or [0, 2, 3]
    centered = tensor - tensor.mean(dim=axes, keepdim=True)
    return centered / (torch.sqrt((centered * centered).mean(dim=axes, keepdim=True)) + 1e-9)


def _softmax(call: Call, tensor: Tensor) -> Tensor:
    return _coerced(call, tensor, torch.softmax)


def _log_softmax(call: Call, tensor: Tensor) -> Tensor:
    return _coerced(call, tensor, torch.log_softmax)


def _coerced(call: Call, tensor: Tensor, function: Function) -> Tensor:
    if call.opset >= COERCED:
        return function(tensor, call.integer("axis", -1))
    axis = normalize_axis(call.integer("axis", 1), tensor.dim())
    if axis == tensor.dim() - 1:
        return function(tensor, axis)
    return function(tensor.flatten(axis), axis).reshape(get_shape(tensor))


TABLE: dict[str, TorchOperator] = {
    "BatchNormalization": TorchOperator(_batch_norm),
    "GroupNormalization": TorchOperator(_group_norm),
    "InstanceNormalization": TorchOperator(_instance_norm),
    "LRN": TorchOperator(_local_response_norm),
    "LayerNormalization": TorchOperator(_layer_norm),
    "LogSoftmax": TorchOperator(_log_softmax),
    "LpNormalization": TorchOperator(_lp_norm),
    "MeanVarianceNormalization": TorchOperator(_mean_variance_norm),
    "RMSNormalization": TorchOperator(_rms_norm),
    "Softmax": TorchOperator(_softmax),
}
