"""Matrix products."""

import torch
from torch.nn import functional as F

from edgewright.formats.onnx_to_torch.call import Arranged, Call, Constants, Tensor, TorchOperator, get_shape


def _multiply(call: Call, left: Tensor, right: Tensor) -> Tensor:
    """Multiply matrices, with equal batch sizes as one batch: torch would broadcast both first."""
    rank = left.dim()
    if rank > 3 and right.dim() == rank and get_shape(left)[:-2] == get_shape(right)[:-2]:
        product = torch.bmm(left.reshape(-1, *get_shape(left)[-2:]), right.reshape(-1, *get_shape(right)[-2:]))
        return product.reshape(*get_shape(left)[:-1], get_shape(right)[-1])
    return torch.matmul(left, right)


def _by_linear(call: Call, constants: Constants) -> Arranged | None:
    """Return a linear layer for a product with a constant matrix, which runtimes support better."""
    weight = constants.get(1)
    if weight is None or weight.dim() != 2 or 0 in constants:
        return None
    return Arranged(lambda call, tensor, weight: F.linear(tensor, weight), {1: weight.t().contiguous()})


def _gemm(call: Call, left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    left = left.t() if call.integer("transA", 0) else left
    right = right.t() if call.integer("transB", 0) else right
    product = torch.matmul(left, right) * call.number("alpha", 1.0)
    return product if bias is None else product + bias * call.number("beta", 1.0)


def _gemm_by_linear(call: Call, constants: Constants) -> Arranged | None:
    """Return a linear layer for known weights, and a known bias for each column if there is one."""
    weight, bias = constants.get(1), constants.get(2)
    if weight is None or call.integer("transA", 0) or 0 in constants:
        return None
    weight = weight if call.integer("transB", 0) else weight.t()
    scaled = {1: (weight * call.number("alpha", 1.0)).contiguous()}
    if bias is None:
        return Arranged(_linear_and_add, scaled)
    if bias.numel() not in (1, get_shape(weight)[0]) or (bias.dim() > 1 and get_shape(bias)[-1] != bias.numel()):
        return None
    row = (bias * call.number("beta", 1.0)).reshape(-1).expand(get_shape(weight)[0]).contiguous()
    return Arranged(lambda call, tensor, weight, row: F.linear(tensor, weight, row), {**scaled, 2: row})


def _linear_and_add(call: Call, tensor: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    product = F.linear(tensor, weight)
    return product if bias is None else product + bias * call.number("beta", 1.0)


def _einsum(call: Call, *tensors: Tensor) -> Tensor:
    return torch.einsum(call.text("equation", ""), *tensors)


TABLE: dict[str, TorchOperator] = {
    "Einsum": TorchOperator(_einsum),
    "Gemm": TorchOperator(_gemm, arrange=_gemm_by_linear),
    "MatMul": TorchOperator(_multiply, arrange=_by_linear),
}
