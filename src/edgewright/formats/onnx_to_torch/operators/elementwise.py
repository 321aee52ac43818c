"""Operators that work on each element."""

from collections.abc import Callable
from functools import reduce

import numpy as np
import torch
from torch.nn import functional as F

from edgewright.formats.onnx_to_torch.call import Arranged, Array, Call, Constants, Operator, Tensor, plain, shape_of


def divide(call: Call, left: Tensor, right: Tensor) -> Tensor:
    """Integers are divided towards zero, as C does."""
    if left.is_floating_point():
        return left / right
    return torch.div(left, right, rounding_mode="trunc")


def modulo(call: Call, left: Tensor, right: Tensor) -> Tensor:
    return torch.fmod(left, right) if call.integer("fmod", 0) else torch.remainder(left, right)


def power(call: Call, left: Tensor, right: Array | Tensor) -> Tensor:
    return torch.pow(left, right).to(left.dtype)


def square_or_power(call: Call, constants: Constants) -> Arranged | None:
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


def fold(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    """Of two or more inputs, or of one."""
    return Operator(lambda call, *tensors: reduce(function, tensors))


def mean(call: Call, *tensors: Tensor) -> Tensor:
    return reduce(torch.add, tensors) / len(tensors)


def clip(call: Call, tensor: Tensor, low: Array | None = None, high: Array | None = None) -> Tensor:
    """Bounds that the type cannot hold are none."""
    least = bound(call, low, "min", tensor)
    most = bound(call, high, "max", tensor)
    if least is None and most is None:
        return tensor
    if least == 0 and most is None:
        return F.relu(tensor)
    if tensor.is_floating_point() and least is not None and most is not None:
        return F.hardtanh(tensor, least, most)
    return torch.clamp(tensor, least, most)


def bound(call: Call, array: Array | None, name: str, tensor: Tensor) -> float | int | None:
    given = call.attributes.get(name) if array is None or not np.size(array) else np.asarray(array).item()
    if given is None or not tensor.is_floating_point():
        return None if given is None else int(given)
    limits = torch.finfo(tensor.dtype)
    return float(given) if limits.min < given < limits.max else None


def cast(call: Call, tensor: Tensor) -> Tensor:
    return tensor.to(call.type(call.integer("to", 1)))


def hard_sigmoid(call: Call, tensor: Tensor) -> Tensor:
    """Spelled out: torch's own is taken apart with casts that XNNPACK does not take."""
    return F.hardtanh(tensor * call.number("alpha", 0.2) + call.number("beta", 0.5), 0.0, 1.0)


def leaky_relu(call: Call, tensor: Tensor) -> Tensor:
    return F.leaky_relu(tensor, call.number("alpha", 0.01))


def elu(call: Call, tensor: Tensor) -> Tensor:
    return F.elu(tensor, call.number("alpha", 1.0))


def celu(call: Call, tensor: Tensor) -> Tensor:
    return F.celu(tensor, call.number("alpha", 1.0))


def selu(call: Call, tensor: Tensor) -> Tensor:
    alpha, gamma = call.number("alpha", 1.6732632423543772), call.number("gamma", 1.0507009873554805)
    return torch.where(tensor > 0, tensor, alpha * (torch.exp(tensor) - 1)) * gamma


def thresholded_relu(call: Call, tensor: Tensor) -> Tensor:
    return F.threshold(tensor, call.number("alpha", 1.0), 0.0)


def shrink(call: Call, tensor: Tensor) -> Tensor:
    bias, lambd = call.number("bias", 0.0), call.number("lambd", 0.5)
    inner = torch.where(tensor > lambd, tensor - bias, torch.zeros_like(tensor))
    return torch.where(tensor < -lambd, tensor + bias, inner)


def gelu(call: Call, tensor: Tensor) -> Tensor:
    return F.gelu(tensor, approximate=call.text("approximate", "none"))


def swish(call: Call, tensor: Tensor) -> Tensor:
    return tensor * torch.sigmoid(tensor * call.number("alpha", 1.0))


def prelu(call: Call, tensor: Tensor, slope: Tensor) -> Tensor:
    """By channel where the slope has one number for each of them, else as ONNX spreads it."""
    channels = shape_of(tensor)[1] if tensor.dim() > 1 else 1
    ones = [channels if axis == 1 else 1 for axis in range(tensor.dim())][1:]
    if slope.numel() == 1 or shape_of(slope) == ones:
        return F.prelu(tensor, slope.reshape(-1))
    return torch.where(tensor < 0, tensor * slope, tensor)


def prelu_by_channel(call: Call, constants: Constants) -> Arranged | None:
    """A known slope that has one number, or one for each channel, the axes behind it being 1."""
    slope = constants.get(1)
    if slope is None or 0 in constants or (slope.numel() > 1 and (slope.dim() < 2 or shape_of(slope)[-1] != 1)):
        return None
    channels = slope.reshape(-1).contiguous()

    def run(call: Call, tensor: Tensor, channels: Tensor) -> Tensor:
        last = (
            tensor.dim()
            - 1
            - next((i for i, size in enumerate(reversed(shape_of(slope))) if size != 1), tensor.dim() - 2)
        )
        if channels.numel() == 1 or (last == 1 and channels.numel() == shape_of(tensor)[1]):
            return F.prelu(tensor, channels)
        return torch.where(tensor < 0, tensor * channels.reshape(shape_of(slope)), tensor)

    return Arranged(run, {1: channels})


def is_infinite(call: Call, tensor: Tensor) -> Tensor:
    found = torch.isinf(tensor)
    if not call.integer("detect_negative", 1):
        found = found & (tensor > 0)
    return found if call.integer("detect_positive", 1) else found & (tensor < 0)


def where(call: Call, condition: Tensor, left: Tensor, right: Tensor) -> Tensor:
    return torch.where(condition, left, right)


def quantize(call: Call, tensor: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    """ONNX's QuantizeLinear: round half to even, then saturate."""
    kind = torch.uint8 if zero is None else zero.dtype
    limits = torch.iinfo(kind)
    scaled = torch.round(tensor / along(call, scale, tensor))
    shift = 0 if zero is None else along(call, zero, tensor).to(tensor.dtype)
    return torch.clamp(scaled + shift, limits.min, limits.max).to(kind)


def dequantize(call: Call, tensor: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    stored = tensor.to(scale.dtype)
    if zero is not None:
        stored = stored - along(call, zero, tensor).to(scale.dtype)
    return stored * along(call, scale, tensor)


def along(call: Call, tensor: Tensor, like: Tensor) -> Tensor:
    """A scale of one axis, laid along it."""
    if tensor.dim() != 1 or tensor.numel() == 1:
        return tensor.reshape(()) if tensor.numel() == 1 else tensor
    shape = [1] * like.dim()
    shape[call.integer("axis", 1)] = -1
    return tensor.reshape(shape)


def random_free(call: Call, tensor: Tensor, *rest: Tensor) -> Tensor:
    """Dropout as it is in inference."""
    return tensor if call.outputs == 1 else (tensor, torch.ones_like(tensor, dtype=torch.bool))


def softplus(call: Call, tensor: Tensor) -> Tensor:
    return F.softplus(tensor)


TABLE: dict[str, Operator] = {
    "Abs": plain(torch.abs),
    "Acos": plain(torch.acos),
    "Acosh": plain(torch.acosh),
    "Add": plain(torch.add),
    "And": plain(torch.logical_and),
    "Asin": plain(torch.asin),
    "Asinh": plain(torch.asinh),
    "Atan": plain(torch.atan),
    "Atanh": plain(torch.atanh),
    "BitwiseAnd": plain(torch.bitwise_and),
    "BitwiseNot": plain(torch.bitwise_not),
    "BitwiseOr": plain(torch.bitwise_or),
    "BitwiseXor": plain(torch.bitwise_xor),
    "Cast": Operator(cast),
    "Ceil": plain(torch.ceil),
    "Celu": Operator(celu),
    "Clip": Operator(clip, static=(1, 2)),
    "Cos": plain(torch.cos),
    "Cosh": plain(torch.cosh),
    "DequantizeLinear": Operator(dequantize),
    "Div": Operator(divide),
    "Dropout": Operator(random_free),
    "Elu": Operator(elu),
    "Equal": plain(torch.eq),
    "Erf": plain(torch.erf),
    "Exp": plain(torch.exp),
    "Floor": plain(torch.floor),
    "Gelu": Operator(gelu),
    "Greater": plain(torch.gt),
    "GreaterOrEqual": plain(torch.ge),
    "HardSigmoid": Operator(hard_sigmoid),
    "HardSwish": plain(F.hardswish),
    "Identity": plain(lambda tensor: tensor),
    "IsInf": Operator(is_infinite),
    "IsNaN": plain(torch.isnan),
    "LeakyRelu": Operator(leaky_relu),
    "Less": plain(torch.lt),
    "LessOrEqual": plain(torch.le),
    "Log": plain(torch.log),
    "Max": fold(torch.maximum),
    "Mean": Operator(mean),
    "Min": fold(torch.minimum),
    "Mish": plain(F.mish),
    "Mod": Operator(modulo),
    "Mul": plain(torch.mul),
    "Neg": plain(torch.neg),
    "Not": plain(torch.logical_not),
    "Or": plain(torch.logical_or),
    "PRelu": Operator(prelu, arrange=prelu_by_channel),
    "Pow": Operator(power, arrange=square_or_power),
    "QuantizeLinear": Operator(quantize),
    "Reciprocal": plain(torch.reciprocal),
    "Relu": plain(F.relu),
    "Round": plain(torch.round),
    "Selu": Operator(selu),
    "Shrink": Operator(shrink),
    "Sigmoid": plain(torch.sigmoid),
    "Sign": plain(torch.sign),
    "Sin": plain(torch.sin),
    "Sinh": plain(torch.sinh),
    "Softplus": Operator(softplus),
    "Softsign": plain(F.softsign),
    "Sqrt": plain(torch.sqrt),
    "Sub": plain(torch.sub),
    "Sum": fold(torch.add),
    "Swish": Operator(swish),
    "Tan": plain(torch.tan),
    "Tanh": plain(torch.tanh),
    "ThresholdedRelu": Operator(thresholded_relu),
    "Where": Operator(where),
    "Xor": plain(torch.logical_xor),
}
