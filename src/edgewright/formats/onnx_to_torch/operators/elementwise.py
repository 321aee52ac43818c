"""Operators that work on each element."""

from collections.abc import Callable
from functools import reduce

import numpy as np
import torch
from torch.nn import functional as F

from edgewright.formats.onnx_to_torch.call import (
    Arranged,
    Call,
    Constants,
    Tensor,
    TorchOperator,
    get_shape,
    make_operator,
)
from edgewright.schema.arrays import Array


def _divide(call: Call, left: Tensor, right: Tensor) -> Tensor:
    """Divide; integers are rounded towards zero, as in C."""
    if left.is_floating_point():
        return left / right
    return torch.div(left, right, rounding_mode="trunc")


def _modulo(call: Call, left: Tensor, right: Tensor) -> Tensor:
    return torch.fmod(left, right) if call.integer("fmod", 0) else torch.remainder(left, right)


def _power(call: Call, left: Tensor, right: Array | Tensor) -> Tensor:
    return torch.pow(left, right).to(left.dtype)


def _square_or_power(call: Call, constants: Constants) -> Arranged | None:
    exponent = constants.get(1)
    if exponent is None or exponent.numel() != 1 or 0 in constants:
        return None
    value = float(exponent)
    if value == 2.0:
        return Arranged(lambda call, tensor: tensor * tensor, {})
    if value == 3.0:
        return Arranged(lambda call, tensor: tensor * tensor * tensor, {})
    if value == 0.5:
        return Arranged(lambda call, tensor: torch.sqrt(tensor), {})
    return Arranged(lambda call, tensor: torch.pow(tensor, value), {})


def _fold(function: Callable[[Tensor, Tensor], Tensor]) -> TorchOperator:
    """Return an operator that folds a function over one or more inputs."""
    return TorchOperator(lambda call, *tensors: reduce(function, tensors))


def _mean(call: Call, *tensors: Tensor) -> Tensor:
    return reduce(torch.add, tensors) / len(tensors)


def _clip(call: Call, tensor: Tensor, low: Array | None = None, high: Array | None = None) -> Tensor:
    """Clip; bounds beyond the type's range are ignored."""
    least = _read_bound(call, low, "min", tensor)
    most = _read_bound(call, high, "max", tensor)
    if least is None and most is None:
        return tensor
    if least == 0 and most is None:
        return F.relu(tensor)
    if tensor.is_floating_point() and least is not None and most is not None:
        return F.hardtanh(tensor, least, most)
    return torch.clamp(tensor, least, most)


def _clip_between(call: Call, tensor: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """Clip to computed bounds."""
    least = tensor if low is None else torch.maximum(tensor, low)
    return least if high is None else torch.minimum(least, high)


def _read_bound(call: Call, array: Array | None, name: str, tensor: Tensor) -> float | int | None:
    given = call.attributes.get(name) if array is None or not np.size(array) else np.asarray(array).item()
    if given is None or not tensor.is_floating_point():
        return None if given is None else int(given)
    limits = torch.finfo(tensor.dtype)
    return float(given) if limits.min < given < limits.max else None


def _cast(call: Call, tensor: Tensor) -> Tensor:
    return tensor.to(call.type(call.integer("to", 1)))


def _hard_sigmoid(call: Call, tensor: Tensor) -> Tensor:
    """Compute HardSigmoid by its formula: torch's own is decomposed with casts that XNNPACK does not support."""
    return F.hardtanh(tensor * call.number("alpha", 0.2) + call.number("beta", 0.5), 0.0, 1.0)


def _leaky_relu(call: Call, tensor: Tensor) -> Tensor:
    return F.leaky_relu(tensor, call.number("alpha", 0.01))


def _elu(call: Call, tensor: Tensor) -> Tensor:
    return F.elu(tensor, call.number("alpha", 1.0))


def _celu(call: Call, tensor: Tensor) -> Tensor:
    return F.celu(tensor, call.number("alpha", 1.0))


def _selu(call: Call, tensor: Tensor) -> Tensor:
    alpha, gamma = call.number("alpha", 1.6732632423543772), call.number("gamma", 1.0507009873554805)
    return torch.where(tensor > 0, tensor, alpha * (torch.exp(tensor) - 1)) * gamma


def _thresholded_relu(call: Call, tensor: Tensor) -> Tensor:
    return F.threshold(tensor, call.number("alpha", 1.0), 0.0)


def _shrink(call: Call, tensor: Tensor) -> Tensor:
    bias, lambd = call.number("bias", 0.0), call.number("lambd", 0.5)
    inner = torch.where(tensor > lambd, tensor - bias, torch.zeros_like(tensor))
    return torch.where(tensor < -lambd, tensor + bias, inner)


def _gelu(call: Call, tensor: Tensor) -> Tensor:
    return F.gelu(tensor, approximate=call.text("approximate", "none"))


def _swish(call: Call, tensor: Tensor) -> Tensor:
    return tensor * torch.sigmoid(tensor * call.number("alpha", 1.0))


def _prelu(call: Call, tensor: Tensor, slope: Tensor) -> Tensor:
    """Compute PRelu per channel if the slope has one number for each, else with ONNX's broadcasting."""
    channels = get_shape(tensor)[1] if tensor.dim() > 1 else 1
    ones = [channels if axis == 1 else 1 for axis in range(tensor.dim())][1:]
    if slope.numel() == 1 or get_shape(slope) == ones:
        return F.prelu(tensor, slope.reshape(-1))
    return torch.where(tensor < 0, tensor * slope, tensor)


def _prelu_by_channel(call: Call, constants: Constants) -> Arranged | None:
    """Return a function for a known slope with one number, or one for each channel and other axes of size 1."""
    slope = constants.get(1)
    if slope is None or 0 in constants or (slope.numel() > 1 and (slope.dim() < 2 or get_shape(slope)[-1] != 1)):
        return None
    channels = slope.reshape(-1).contiguous()

    def run(call: Call, tensor: Tensor, channels: Tensor) -> Tensor:
        last = (
            tensor.dim()
            - 1
            - next((i for i, size in enumerate(reversed(get_shape(slope))) if size != 1), tensor.dim() - 2)
        )
        if channels.numel() == 1 or (last == 1 and channels.numel() == get_shape(tensor)[1]):
            return F.prelu(tensor, channels)
        return torch.where(tensor < 0, tensor * channels.reshape(get_shape(slope)), tensor)

    return Arranged(run, {1: channels})


def _is_infinite(call: Call, tensor: Tensor) -> Tensor:
    found = torch.isinf(tensor)
    if not call.integer("detect_negative", 1):
        found = found & (tensor > 0)
    return found if call.integer("detect_positive", 1) else found & (tensor < 0)


def _where(call: Call, condition: Tensor, left: Tensor, right: Tensor) -> Tensor:
    return torch.where(condition, left, right)


def _quantize(call: Call, tensor: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    """Compute ONNX's QuantizeLinear: round half to even, then saturate."""
    kind = torch.uint8 if zero is None else zero.dtype
    limits = torch.iinfo(kind)
    scaled = torch.round(tensor / _along(call, scale, tensor))
    shift = 0 if zero is None else _along(call, zero, tensor).to(tensor.dtype)
    return torch.clamp(scaled + shift, limits.min, limits.max).to(kind)


def _dequantize(call: Call, tensor: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    stored = tensor.to(scale.dtype)
    if zero is not None:
        stored = stored - _along(call, zero, tensor).to(scale.dtype)
    return stored * _along(call, scale, tensor)


def _along(call: Call, tensor: Tensor, like: Tensor) -> Tensor:
    """Return a scale of one axis, reshaped for broadcasting."""
    if tensor.dim() != 1 or tensor.numel() == 1:
        return tensor.reshape(()) if tensor.numel() == 1 else tensor
    shape = [1] * like.dim()
    shape[call.integer("axis", 1)] = -1
    return tensor.reshape(shape)


def _random_free(call: Call, tensor: Tensor, *rest: Tensor) -> Tensor:
    """Compute Dropout at inference."""
    return tensor if call.outputs == 1 else (tensor, torch.ones_like(tensor, dtype=torch.bool))


def _softplus(call: Call, tensor: Tensor) -> Tensor:
    return F.softplus(tensor)


TABLE: dict[str, TorchOperator] = {
    "Abs": make_operator(torch.abs),
    "Acos": make_operator(torch.acos),
    "Acosh": make_operator(torch.acosh),
    "Add": make_operator(torch.add),
    "And": make_operator(torch.logical_and),
    "Asin": make_operator(torch.asin),
    "Asinh": make_operator(torch.asinh),
    "Atan": make_operator(torch.atan),
    "Atanh": make_operator(torch.atanh),
    "BitwiseAnd": make_operator(torch.bitwise_and),
    "BitwiseNot": make_operator(torch.bitwise_not),
    "BitwiseOr": make_operator(torch.bitwise_or),
    "BitwiseXor": make_operator(torch.bitwise_xor),
    "Cast": TorchOperator(_cast),
    "Ceil": make_operator(torch.ceil),
    "Celu": TorchOperator(_celu),
    "Clip": TorchOperator(_clip, static=(1, 2), computed=_clip_between),
    "Cos": make_operator(torch.cos),
    "Cosh": make_operator(torch.cosh),
    "DequantizeLinear": TorchOperator(_dequantize),
    "Div": TorchOperator(_divide),
    "Dropout": TorchOperator(_random_free),
    "Elu": TorchOperator(_elu),
    "Equal": make_operator(torch.eq),
    "Erf": make_operator(torch.erf),
    "Exp": make_operator(torch.exp),
    "Floor": make_operator(torch.floor),
    "Gelu": TorchOperator(_gelu),
    "Greater": make_operator(torch.gt),
    "GreaterOrEqual": make_operator(torch.ge),
    "HardSigmoid": TorchOperator(_hard_sigmoid),
    "HardSwish": make_operator(F.hardswish),
    "Identity": make_operator(lambda tensor: tensor),
    "IsInf": TorchOperator(_is_infinite),
    "IsNaN": make_operator(torch.isnan),
    "LeakyRelu": TorchOperator(_leaky_relu),
    "Less": make_operator(torch.lt),
    "LessOrEqual": make_operator(torch.le),
    "Log": make_operator(torch.log),
    "Max": _fold(torch.maximum),
    "Mean": TorchOperator(_mean),
    "Min": _fold(torch.minimum),
    "Mish": make_operator(F.mish),
    "Mod": TorchOperator(_modulo),
    "Mul": make_operator(torch.mul),
    "Neg": make_operator(torch.neg),
    "Not": make_operator(torch.logical_not),
    "Or": make_operator(torch.logical_or),
    "PRelu": TorchOperator(_prelu, arrange=_prelu_by_channel),
    "Pow": TorchOperator(_power, arrange=_square_or_power),
    "QuantizeLinear": TorchOperator(_quantize),
    "Reciprocal": make_operator(torch.reciprocal),
    "Relu": make_operator(F.relu),
    "Round": make_operator(torch.round),
    "Selu": TorchOperator(_selu),
    "Shrink": TorchOperator(_shrink),
    "Sigmoid": make_operator(torch.sigmoid),
    "Sign": make_operator(torch.sign),
    "Sin": make_operator(torch.sin),
    "Sinh": make_operator(torch.sinh),
    "Softplus": TorchOperator(_softplus),
    "Softsign": make_operator(F.softsign),
    "Sqrt": make_operator(torch.sqrt),
    "Sub": make_operator(torch.sub),
    "Sum": _fold(torch.add),
    "Swish": TorchOperator(_swish),
    "Tan": make_operator(torch.tan),
    "Tanh": make_operator(torch.tanh),
    "ThresholdedRelu": TorchOperator(_thresholded_relu),
    "Where": TorchOperator(_where),
    "Xor": make_operator(torch.logical_xor),
}
