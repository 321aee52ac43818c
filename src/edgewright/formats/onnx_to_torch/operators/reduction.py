"""Reductions, and operators that search an index."""

import torch

from edgewright.formats.onnx_to_torch.call import (
    Call,
    Function,
    Tensor,
    TorchOperator,
    get_shape,
    normalize_axis,
    to_integers,
)
from edgewright.schema.arrays import Array


def _reduction(function: Function) -> TorchOperator:
    """Return a reduction; `function` is called with a tensor, a list of axes and whether they stay with size 1."""

    def reduce(call: Call, tensor: Tensor, axes: Array | None = None) -> Tensor:
        wanted = to_integers(axes) or call.integers("axes")
        if not wanted and call.integer("noop_with_empty_axes", 0):
            return tensor
        along = sorted(normalize_axis(axis, tensor.dim()) for axis in wanted) or list(range(tensor.dim()))
        return function(tensor, along, bool(call.integer("keepdims", 1)))

    return TorchOperator(reduce, static=(1,))


def _product(tensor: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in reversed(axes):
        tensor = torch.prod(tensor, axis, keepdim=keep)
    return tensor


def _mean(tensor: Tensor, axes: list[int], keep: bool) -> Tensor:
    """Compute the mean, and drop axes afterwards: XNNPACK only supports a mean that keeps them."""
    made = torch.mean(tensor, axes, keepdim=True)
    return made if keep else made.reshape([size for axis, size in enumerate(get_shape(made)) if axis not in axes])


def _total(tensor: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.sum(tensor, axes, keepdim=keep, dtype=tensor.dtype)


def _absolute_sum(tensor: Tensor, axes: list[int], keep: bool) -> Tensor:
    return _total(torch.abs(tensor), axes, keep)


def _euclidean(tensor: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.sqrt(_total(tensor * tensor, axes, keep))


def _square_sum(tensor: Tensor, axes: list[int], keep: bool) -> Tensor:
    return _total(tensor * tensor, axes, keep)


def _log_sum(tensor: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.log(_total(tensor, axes, keep))


def _log_sum_exp(tensor: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.logsumexp(tensor, axes, keepdim=keep)


def _find_largest(call: Call, tensor: Tensor) -> Tensor:
    return _find(call, tensor, torch.argmax)


def _find_smallest(call: Call, tensor: Tensor) -> Tensor:
    return _find(call, tensor, torch.argmin)


def _find(call: Call, tensor: Tensor, function: Function) -> Tensor:
    if call.integer("select_last_index", 0):
        raise call.reject("select_last_index is not supported")
    return function(tensor, call.integer("axis", 0), keepdim=bool(call.integer("keepdims", 1)))


def _top(call: Call, tensor: Tensor, count: Array) -> tuple[Tensor, Tensor]:
    largest, ordered = bool(call.integer("largest", 1)), bool(call.integer("sorted", 1))
    values, places = torch.topk(tensor, to_integers(count)[0], call.integer("axis", -1), largest, ordered)
    return values, places


def _running_sum(call: Call, tensor: Tensor, axis: Array) -> Tensor:
    along = normalize_axis(to_integers(axis)[0], tensor.dim())
    turned = bool(call.integer("reverse", 0))
    source = tensor.flip(along) if turned else tensor
    summed = torch.cumsum(source, along, dtype=tensor.dtype)
    summed = summed - source if call.integer("exclusive", 0) else summed
    return summed.flip(along) if turned else summed


TABLE: dict[str, TorchOperator] = {
    "ArgMax": TorchOperator(_find_largest),
    "ArgMin": TorchOperator(_find_smallest),
    "CumSum": TorchOperator(_running_sum, static=(1,)),
    "ReduceL1": _reduction(_absolute_sum),
    "ReduceL2": _reduction(_euclidean),
    "ReduceLogSum": _reduction(_log_sum),
    "ReduceLogSumExp": _reduction(_log_sum_exp),
    "ReduceMax": _reduction(torch.amax),
    "ReduceMean": _reduction(_mean),
    "ReduceMin": _reduction(torch.amin),
    "ReduceProd": _reduction(_product),
    "ReduceSum": _reduction(_total),
    "ReduceSumSquare": _reduction(_square_sum),
    "TopK": TorchOperator(_top, static=(1,)),
}
