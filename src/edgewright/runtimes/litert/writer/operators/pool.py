"""Pooling over windows and over all spatial axes."""

import functools

import numpy as np

from edgewright.runtimes.litert.writer.build import Builder
from edgewright.runtimes.litert.writer.graph import Node, OperatorRejected
from edgewright.runtimes.litert.writer.operators.elementwise import copy_tensor
from edgewright.runtimes.litert.writer.operators.structure import slice_tensor
from edgewright.runtimes.litert.writer.operators.window import Windows, pad_windows, read_windows
from edgewright.runtimes.litert.writer.passes.layout import invert_layout, make_channels_last
from edgewright.runtimes.litert.writer.program import Tensor
from edgewright.schema.arrays import Array


def max_pool(b: Builder, node: Node) -> None:
    """Write MAX_POOL_2D; padding other than SAME becomes a PADV2 with the lowest number."""
    if not any(node.outputs[1:]) and _is_dilated(node):
        _pool_by_positions(b, node, float(np.finfo(np.float32).min))
        return
    if b.rank(node.inputs[0]) == 5 and not any(node.outputs[1:]):
        _pool_in_passes(b, node, float(np.finfo(np.float32).min))
        return
    if len(node.outputs) > 1 and node.outputs[1]:
        raise OperatorRejected("the indices of the maxima are used", "use only its values")
    windows = _read_2d(b, node)
    x = b.take(node.inputs[0], make_channels_last(4))
    padding = windows.padding
    if padding is None:
        least = float(np.iinfo(x.dtype).min) if x.scales is not None else float(np.finfo(np.float32).min)
        # For non-negative values zeros are equivalent, and XNNPACK supports that padding.
        least_of_all = None if x.scales is None and _is_positive(b, x) else least
        x, padding = pad_windows(b, x, windows, least_of_all), "VALID"
    result = b.make(node.outputs[0], make_channels_last(4))
    b.emit("MAX_POOL_2D", [x], [result], _options(windows, padding))


def _is_positive(b: Builder, x: Tensor) -> bool:
    producer = next((o for o in reversed(b.program.operators) if any(x is output for output in o.outputs)), None)
    if producer is None:
        return False
    if producer.code in {"MAX_POOL_2D", "AVERAGE_POOL_2D", "RESHAPE", "TRANSPOSE"} and producer.inputs[0] is not None:
        return _is_positive(b, producer.inputs[0])
    return producer.code in {"RELU", "RELU6", "LOGISTIC", "ABS"} or producer.options.get("fusedActivationFunction") in {
        "RELU", "RELU6"
    }  # fmt: skip


def average_pool(b: Builder, node: Node) -> None:
    """Write AVERAGE_POOL_2D, which does not count SAME padding; else the averages are corrected by a constant."""
    if _is_dilated(node):
        _pool_by_positions(b, node, None)
        return
    if b.rank(node.inputs[0]) == 5:
        _pool_in_passes(b, node, None)
        return
    windows = _read_2d(b, node)
    x = b.take(node.inputs[0], make_channels_last(4))
    counts = _count(node, windows)
    padded = any(windows.begin) or any(windows.end)
    same = windows.padding == "SAME" and np.array_equal(counts, _count_inside(windows))
    if same or not padded:
        result = b.make(node.outputs[0], make_channels_last(4))
        b.emit("AVERAGE_POOL_2D", [x], [result], _options(windows, windows.padding or "VALID"))
        return
    if x.scales is not None:
        raise OperatorRejected("a quantized pool whose padding is not SAME")
    b.place(node.outputs[0], _correct_averages(b, pad_windows(b, x, windows), windows, counts), make_channels_last(4))


def _pool_in_passes(b: Builder, node: Node, least: float | None) -> None:
    """Write a pool over three axes: over the last two, then over the first. Averages are divided by all three
    counts."""
    layout = make_channels_last(5)
    if b.dtype(node.inputs[0]) != np.float32:
        raise OperatorRejected(f"a pool of {b.dtype(node.inputs[0])} over three axes", "cast to float32 first")
    whole = read_windows(b, node, node.attributes["kernel_shape"])
    x = b.take(node.inputs[0], layout)
    counts = None if least is not None else _count(node, whole)
    x = pad_windows(b, x, whole, least) if any((*whole.begin, *whole.end)) else x
    (batch, depth, height, width, channels), outputs = x.shape, whole.outputs
    code = "AVERAGE_POOL_2D" if least is None else "MAX_POOL_2D"
    x = b.reshape(x, (batch * depth, height, width, channels))
    x = b.run(code, [x], (batch * depth, *outputs[1:], channels), options=_make_pass_options(whole, 1))
    x = b.reshape(x, (batch, depth, outputs[1] * outputs[2], channels))
    x = b.run(code, [x], (batch, outputs[0], outputs[1] * outputs[2], channels), options=_make_pass_options(whole, 0))
    x = b.reshape(x, (batch, *outputs, channels))
    area = int(np.prod(whole.kernel))
    if counts is not None and np.any(counts != area):
        x = b.run("MUL", [x, b.add_constant((area / counts).astype(np.float32)[None, ..., None])], x.shape)
    b.place(node.outputs[0], x, layout)


def _is_dilated(node: Node) -> bool:
    return any(d != 1 for d in node.attributes.get("dilations") or [1])


def _pool_by_positions(b: Builder, node: Node, least: float | None) -> None:
    """Write a pool over dilated windows: the maximum, or the sum divided by the count, over the window's positions."""
    layout = make_channels_last(b.rank(node.inputs[0]))
    windows = read_windows(b, node, node.attributes["kernel_shape"])
    if b.dtype(node.inputs[0]) != np.float32:
        raise OperatorRejected(f"a dilated pool of {b.dtype(node.inputs[0])}", "cast to float32 first")
    x = b.take(node.inputs[0], layout)
    padded = pad_windows(b, x, windows, least) if any((*windows.begin, *windows.end)) else x
    total = _combine(b, padded, windows, "ADD" if least is None else "MAXIMUM")
    if least is None:
        share = (1 / _count(node, windows)).astype(np.float32)[None, ..., None]
        total = b.run("MUL", [total, b.add_constant(share)], total.shape)
    b.place(node.outputs[0], copy_tensor(b, total) if total is x else total, layout)


def _combine(b: Builder, x: Tensor, windows: Windows, code: str) -> Tensor:
    """Write sums or maxima over windows, axis by axis."""
    for axis, count in enumerate(windows.kernel):
        reach = (windows.outputs[axis] - 1) * windows.strides[axis] + 1
        step = [windows.strides[axis] if at == axis + 1 else 1 for at in range(len(x.shape))]
        total = None
        for place in range(count):
            begin, stop = [0] * len(x.shape), list(x.shape)
            begin[axis + 1] = place * windows.dilations[axis]
            stop[axis + 1] = begin[axis + 1] + reach
            part = slice_tensor(b, x, begin, stop, step)
            total = part if total is None else b.run(code, [total, part], part.shape)
        x = total or x
    return x


def _make_pass_options(whole: Windows, first: int) -> dict[str, object]:
    """Return the options of one pass: over the first axis, or over the two after it."""
    kernel, strides = ((*part[first : first + 2],) if first else (part[0], 1) for part in (whole.kernel, whole.strides))
    names = ("filterHeight", "filterWidth", "strideH", "strideW")
    return dict(zip(names, (*kernel, *strides), strict=True)) | {"padding": "VALID", "fusedActivationFunction": "NONE"}


def _correct_averages(b: Builder, x: Tensor, windows: Windows, counts: Array) -> Tensor:
    """Write averages over whole windows, corrected by the number of counted elements."""
    area = int(np.prod(windows.kernel))
    shape = (x.shape[0], *windows.outputs, x.shape[3])
    averages = b.run("AVERAGE_POOL_2D", [x], shape, options=_options(windows, "VALID"))
    if np.all(counts == area):
        return averages
    mask = b.add_constant((area / counts).astype(np.float32)[None, :, :, None])
    return b.run("MUL", [averages, mask], shape)


def _count(node: Node, windows: Windows) -> Array:
    """Return the number of counted elements of each window, one per output position."""
    if not node.attributes.get("count_include_pad", 0):
        return _count_inside(windows)
    pads = node.attributes.get("pads") or [0] * (2 * len(windows.sizes))
    limits = [size + pads[len(windows.sizes) + axis] for axis, size in enumerate(windows.sizes)]
    if node.attributes.get("auto_pad", "NOTSET") == "VALID":
        limits = list(windows.sizes)
    elif node.attributes.get("auto_pad", "NOTSET") not in ("NOTSET", ""):
        limits = [size + windows.end[axis] for axis, size in enumerate(windows.sizes)]
    return _count_until(windows, [-low for low in windows.begin], limits)


def _count_inside(windows: Windows) -> Array:
    return _count_until(windows, [0] * len(windows.sizes), list(windows.sizes))


def _count_until(windows: Windows, low: list[int], high: list[int]) -> Array:
    per_axis = []
    for axis in range(len(windows.sizes)):
        starts = np.arange(windows.outputs[axis]) * windows.strides[axis] - windows.begin[axis]
        places = starts[:, None] + np.arange(windows.kernel[axis]) * windows.dilations[axis]
        per_axis.append(np.sum((places >= low[axis]) & (places < high[axis]), axis=1))
    counts: Array = functools.reduce(np.multiply.outer, per_axis)
    if np.any(counts == 0):
        raise OperatorRejected("some of its windows are entirely in the padding")
    return counts


def _read_2d(b: Builder, node: Node) -> Windows:
    if b.rank(node.inputs[0]) != 4:
        raise OperatorRejected(f"a pool over {b.rank(node.inputs[0]) - 2} axes", "LiteRT supports one and two axes")
    if b.dtype(node.inputs[0]) != np.float32 and b.scales(node.inputs[0]) is None:
        raise OperatorRejected(f"a pool of {b.dtype(node.inputs[0])}", "cast to float32 first")
    windows = read_windows(b, node, node.attributes["kernel_shape"])
    same = str(node.attributes.get("auto_pad", "NOTSET")).startswith("SAME")
    sides = zip(windows.kernel, windows.strides, windows.sizes, strict=True)
    if node.op != "MaxPool" and same and any((size - 1) % stride >= k for k, stride, size in sides):
        raise OperatorRejected(
            "auto_pad with windows that skip elements, which ONNX implementations interpret differently"
        )
    return windows


def _options(windows: Windows, padding: str) -> dict[str, object]:
    return {
        "padding": padding,
        "strideH": windows.strides[0],
        "strideW": windows.strides[1],
        "filterHeight": windows.kernel[0],
        "filterWidth": windows.kernel[1],
        "fusedActivationFunction": "NONE",
    }


def lp_pool(b: Builder, node: Node) -> None:
    """Write (Σ |x|^p)^(1/p), with the sum as AVERAGE_POOL_2D times the window's size, or position by position."""
    in_2d = b.rank(node.inputs[0]) == 4 and not _is_dilated(node)
    windows = _read_2d(b, node) if in_2d else read_windows(b, node, node.attributes["kernel_shape"])
    layout, p = make_channels_last(b.rank(node.inputs[0])), float(node.attributes.get("p", 2))
    if b.dtype(node.inputs[0]) != np.float32:
        raise OperatorRejected(f"a pool of {b.dtype(node.inputs[0])}", "cast to float32 first")
    x = b.take(node.inputs[0], layout)
    x = b.run("ABS", [x], x.shape)
    powers = x if p == 1 else b.run("POW", [x, b.number(p, x)], x.shape)
    source = pad_windows(b, powers, windows) if any((*windows.begin, *windows.end)) else powers
    total = _sum_windows(b, source, windows) if in_2d else _combine(b, source, windows, "ADD")
    b.place(node.outputs[0], total if p == 1 else b.run("POW", [total, b.number(1 / p, total)], total.shape), layout)


def _sum_windows(b: Builder, x: Tensor, windows: Windows) -> Tensor:
    shape = (x.shape[0], *windows.outputs, x.shape[3])
    means = b.run("AVERAGE_POOL_2D", [x], shape, options=_options(windows, "VALID"))
    return b.run("MUL", [means, b.number(int(np.prod(windows.kernel)), means)], shape)


def global_pool(b: Builder, node: Node) -> None:
    """Write MEAN or REDUCE_MAX over all spatial axes, which are kept with size 1."""
    code = {"GlobalAveragePool": "MEAN", "GlobalMaxPool": "REDUCE_MAX"}[node.op]
    rank = b.rank(node.inputs[0])
    if rank < 3:
        raise OperatorRejected("there is no axis to pool over")
    layout = make_channels_last(rank)
    x = b.take(node.inputs[0], layout)
    axes = sorted(invert_layout(layout)[axis] for axis in range(2, rank))
    result = b.make(node.outputs[0], layout)
    b.emit(code, [x, b.ints(axes)], [result], {"keepDims": True})
