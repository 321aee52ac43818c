"""Convolutions and pools of one, two and three dimensions."""

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from edgewright.formats.onnx_to_torch.call import Call, Tensor, TorchOperator, as_tensor, get_shape
from edgewright.schema.arrays import Array

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
MAX_POOL = {2: F.max_pool2d, 3: F.max_pool3d}
AVERAGE_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _convolve(call: Call, tensor: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    rank = tensor.dim() - 2
    strides, dilations = call.integers("strides") or [1] * rank, call.integers("dilations") or [1] * rank
    begins, ends = _pads_of(call, tensor, get_shape(weight)[2:], strides, dilations)
    if begins != ends:
        tensor, begins = _pad(tensor, begins, ends, 0.0), [0] * rank
    return CONV[rank](tensor, weight, bias, strides, begins, dilations, call.integer("group", 1))


def _convolve_transposed(call: Call, tensor: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute ConvTranspose; padding that torch does not support is cut off the result."""
    rank = tensor.dim() - 2
    strides, dilations = call.integers("strides") or [1] * rank, call.integers("dilations") or [1] * rank
    extra = call.integers("output_padding") or [0] * rank
    kernel = get_shape(weight)[2:]
    whole = [
        stride * (size - 1) + dilation * (length - 1) + 1 + more
        for size, stride, dilation, length, more in zip(
            get_shape(tensor)[2:], strides, dilations, kernel, extra, strict=True
        )
    ]
    begins, ends = _transposed_pads(call, tensor, whole, strides)
    group, function = call.integer("group", 1), CONV_TRANSPOSE[rank]
    if begins == ends and all(more < stride for more, stride in zip(extra, strides, strict=True)):
        return function(tensor, weight, bias, strides, begins, extra, group, dilations)
    grown = function(tensor, weight, bias, strides, 0, 0, group, dilations)
    missing = [size - have for size, have in zip(whole, get_shape(grown)[2:], strict=True)]
    if any(missing):
        raise call.reject("its output_padding is not smaller than its stride, and its padding is not symmetric")
    for axis, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        grown = grown.narrow(axis + 2, begin, whole[axis] - begin - end)
    return grown


def _transposed_pads(
    call: Call, tensor: Tensor, whole: Sequence[int], strides: Sequence[int]
) -> tuple[list[int], list[int]]:
    wanted = call.integers("output_shape")[-len(whole) :]
    auto = call.text("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER") and not wanted:
        wanted = [size * stride for size, stride in zip(get_shape(tensor)[2:], strides, strict=True)]
    if not wanted:
        pads = call.integers("pads") or [0] * 2 * len(whole)
        return pads[: len(whole)], pads[len(whole) :]
    total = [max(0, size - want) for size, want in zip(whole, wanted, strict=True)]
    less, more = [size // 2 for size in total], [size - size // 2 for size in total]
    return (less, more) if auto == "SAME_UPPER" else (more, less)


def _pads_of(
    call: Call, tensor: Tensor, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Return the padding before and after each axis."""
    rank, auto = len(kernel), call.text("auto_pad", "NOTSET")
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        pads = (call.integers("pads") if auto == "NOTSET" else []) or [0] * 2 * rank
        return pads[:rank], pads[rank:]
    total = []
    for size, length, stride, dilation in zip(get_shape(tensor)[2:], kernel, strides, dilations, strict=True):
        steps = -(-size // stride)
        total.append(max(0, (steps - 1) * stride + dilation * (length - 1) + 1 - size))
    less, more = [size // 2 for size in total], [size - size // 2 for size in total]
    return (less, more) if auto == "SAME_UPPER" else (more, less)


def _pad(tensor: Tensor, begins: Sequence[int], ends: Sequence[int], value: float) -> Tensor:
    pairs = [size for begin, end in zip(reversed(begins), reversed(ends), strict=True) for size in (begin, end)]
    return F.pad(tensor, pairs, value=value)


def _pool_max(call: Call, tensor: Tensor) -> Tensor:
    if call.outputs > 1:
        raise call.reject("its second output, the indices of the maxima, is not supported")
    kernel = call.integers("kernel_shape")
    strides, dilations = call.integers("strides") or [1] * len(kernel), call.integers("dilations") or [1] * len(kernel)
    begins, ends = _pads_of(call, tensor, kernel, strides, dilations)
    if begins != ends or any(begin * 2 > length for begin, length in zip(begins, kernel, strict=True)):
        tensor, begins = _pad(tensor, begins, ends, torch.finfo(tensor.dtype).min), [0] * len(kernel)
    ceil = bool(call.integer("ceil_mode", 0))
    if len(kernel) > 1:
        return MAX_POOL[len(kernel)](tensor, kernel, strides, begins, dilations, ceil)
    image = tensor.reshape(*get_shape(tensor)[:2], 1, get_shape(tensor)[2])  # XNNPACK only pools images
    pooled = F.max_pool2d(image, [1, *kernel], [1, *strides], [0, *begins], [1, *dilations], ceil)
    return pooled.reshape(*get_shape(tensor)[:2], get_shape(pooled)[-1])


def _pool_average(call: Call, tensor: Tensor) -> Tensor:
    kernel = call.integers("kernel_shape")
    strides, dilations = call.integers("strides") or [1] * len(kernel), call.integers("dilations") or [1] * len(kernel)
    if any(dilation != 1 for dilation in dilations):
        raise call.reject("average pooling with dilations is not supported")
    begins, ends = _pads_of(call, tensor, kernel, strides, dilations)
    include, ceil = bool(call.integer("count_include_pad", 0)), bool(call.integer("ceil_mode", 0))
    function = AVERAGE_POOL[len(kernel)]
    fits = all(begin * 2 <= length for begin, length in zip(begins, kernel, strict=True))
    if begins == ends and fits:
        return function(tensor, kernel, strides, begins, ceil, include)
    if ceil:
        raise call.reject("average pooling with ceil_mode and uneven padding is not supported")
    padded = _pad(tensor, begins, ends, 0.0)
    pooled = function(padded, kernel, strides)
    return (
        pooled if include else pooled * as_tensor(_find_average_factors(tensor, begins, ends, kernel, strides), tensor)
    )


def _find_average_factors(
    tensor: Tensor, begins: Sequence[int], ends: Sequence[int], kernel: Sequence[int], strides: Sequence[int]
) -> Array:
    """Return the size of a window divided by the number of counted values in it."""
    import numpy as np

    result: Array = np.ones([1] * tensor.dim())
    for axis, (begin, end, length, stride) in enumerate(zip(begins, ends, kernel, strides, strict=True)):
        real = np.pad(np.ones(get_shape(tensor)[axis + 2]), (begin, end))
        counts = np.array([real[i : i + length].sum() for i in range(0, len(real) - length + 1, stride)])
        shape = [1] * tensor.dim()
        shape[axis + 2] = -1
        result = result * (length / counts).reshape(shape)
    return result.astype(np.float32)


def _pool_globally(call: Call, tensor: Tensor) -> Tensor:
    return tensor.mean(dim=list(range(2, tensor.dim())), keepdim=True)


def _pool_max_globally(call: Call, tensor: Tensor) -> Tensor:
    return torch.amax(tensor, dim=list(range(2, tensor.dim())), keepdim=True)


TABLE: dict[str, TorchOperator] = {
    "AveragePool": TorchOperator(_pool_average),
    "Conv": TorchOperator(_convolve),
    "ConvTranspose": TorchOperator(_convolve_transposed),
    "GlobalAveragePool": TorchOperator(_pool_globally),
    "GlobalMaxPool": TorchOperator(_pool_max_globally),
    "MaxPool": TorchOperator(_pool_max),
}
