"""Pooling over windows and over everything."""

import numpy as np

from edgewright.runtimes.litert.writer.build import Builder
from edgewright.runtimes.litert.writer.graph import Array, Node, Refusal
from edgewright.runtimes.litert.writer.layout import channels_last, invert
from edgewright.runtimes.litert.writer.operators.window import Windows, pad, read_windows
from edgewright.runtimes.litert.writer.program import Tensor


def max_pool(b: Builder, node: Node) -> None:
    """MAX_POOL_2D; padding that is not SAME becomes the least number before it."""
    if len(node.outputs) > 1 and node.outputs[1]:
        raise Refusal("the places of the largest are asked for", "use only the values that it gives")
    windows = _read_2d(b, node)
    if any(d != 1 for d in windows.dilations):
        raise Refusal("a dilated pool")
    x = b.take(node.inputs[0], channels_last(4))
    padding = windows.padding
    if padding is None:
        least = -128.0 if x.scales is not None else float(np.finfo(np.float32).min)
        x, padding = pad(b, x, windows, least), "VALID"
    result = b.make(node.outputs[0], channels_last(4))
    b.emit("MAX_POOL_2D", [x], [result], _options(windows, padding))


def average_pool(b: Builder, node: Node) -> None:
    """AVERAGE_POOL_2D, which leaves SAME padding out of the count; else the sum is shared out by a mask."""
    windows = _read_2d(b, node)
    if any(d != 1 for d in windows.dilations):
        raise Refusal("a dilated pool")
    x = b.take(node.inputs[0], channels_last(4))
    counts = _count(node, windows)
    padded = any(windows.begin) or any(windows.end)
    same = windows.padding == "SAME" and np.array_equal(counts, _count_inside(windows))
    if same or not padded:
        result = b.make(node.outputs[0], channels_last(4))
        b.emit("AVERAGE_POOL_2D", [x], [result], _options(windows, windows.padding or "VALID"))
        return
    if x.scales is not None:
        raise Refusal("a quantised pool whose padding is not SAME")
    b.place(node.outputs[0], _share(b, pad(b, x, windows), windows, counts), channels_last(4))


def _share(b: Builder, x: Tensor, windows: Windows, counts: Array) -> Tensor:
    """Averages over whole windows, corrected by how many of their elements count."""
    area = int(np.prod(windows.kernel))
    shape = (x.shape[0], *windows.outputs, x.shape[3])
    averages = b.run("AVERAGE_POOL_2D", [x], shape, options=_options(windows, "VALID"))
    if np.all(counts == area):
        return averages
    mask = b.add_constant((area / counts).astype(np.float32)[None, :, :, None])
    return b.run("MUL", [averages, mask], shape)


def _count(node: Node, windows: Windows) -> Array:
    """How many elements of each window count; [outputs H, outputs W]."""
    if not node.attributes.get("count_include_pad", 0):
        return _count_inside(windows)
    pads = node.attributes.get("pads") or [0] * 4
    limits = [size + pads[2 + axis] for axis, size in enumerate(windows.sizes)]
    if node.attributes.get("auto_pad", "NOTSET") == "VALID":
        limits = list(windows.sizes)
    elif node.attributes.get("auto_pad", "NOTSET") not in ("NOTSET", ""):
        limits = [size + windows.end[axis] for axis, size in enumerate(windows.sizes)]
    return _count_until(windows, [-low for low in windows.begin], limits)


def _count_inside(windows: Windows) -> Array:
    return _count_until(windows, [0, 0], list(windows.sizes))


def _count_until(windows: Windows, low: list[int], high: list[int]) -> Array:
    per_axis = []
    for axis in range(2):
        starts = np.arange(windows.outputs[axis]) * windows.strides[axis] - windows.begin[axis]
        ends = np.minimum(starts + windows.kernel[axis], high[axis])
        per_axis.append(np.maximum(ends - np.maximum(starts, low[axis]), 0))
    counts: Array = np.outer(per_axis[0], per_axis[1])
    if np.any(counts == 0):
        raise Refusal("some of its windows lie in the padding alone")
    return counts


def _read_2d(b: Builder, node: Node) -> Windows:
    if b.rank(node.inputs[0]) != 4:
        raise Refusal(f"a pool over {b.rank(node.inputs[0]) - 2} axes", "LiteRT has pools over one and two axes")
    if b.dtype(node.inputs[0]) != np.float32 and b.scales(node.inputs[0]) is None:
        raise Refusal(f"a pool of {b.dtype(node.inputs[0])}", "cast to float32 before")
    windows = read_windows(b, node, node.attributes["kernel_shape"])
    same = str(node.attributes.get("auto_pad", "NOTSET")).startswith("SAME")
    sides = zip(windows.kernel, windows.strides, windows.sizes, strict=True)
    if node.op != "MaxPool" and same and any((size - 1) % stride >= k for k, stride, size in sides):
        raise Refusal("auto_pad with windows that leave elements out, where readers of ONNX disagree")
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
    """(Σ |x|^p)^(1/p), the sum by AVERAGE_POOL_2D times the window's size."""
    windows = _read_2d(b, node)
    if any(d != 1 for d in windows.dilations):
        raise Refusal("a dilated pool")
    p = float(node.attributes.get("p", 2))
    x = b.take(node.inputs[0], channels_last(4))
    x = b.run("ABS", [x], x.shape)
    powers = x if p == 1 else b.run("POW", [x, b.number(p, x)], x.shape)
    shape = (x.shape[0], *windows.outputs, x.shape[3])
    source = pad(b, powers, windows) if any(windows.begin) or any(windows.end) else powers
    means = b.run("AVERAGE_POOL_2D", [source], shape, options=_options(windows, "VALID"))
    total = b.run("MUL", [means, b.number(int(np.prod(windows.kernel)), means)], shape)
    made = total if p == 1 else b.run("POW", [total, b.number(1 / p, total)], shape)
    b.place(node.outputs[0], made, channels_last(4))


def global_pool(b: Builder, node: Node) -> None:
    """MEAN or REDUCE_MAX over all spatial axes, which are kept as 1."""
    code = {"GlobalAveragePool": "MEAN", "GlobalMaxPool": "REDUCE_MAX"}[node.op]
    rank = b.rank(node.inputs[0])
    if rank < 3:
        raise Refusal("there is no axis to pool over")
    layout = channels_last(rank)
    x = b.take(node.inputs[0], layout)
    axes = sorted(invert(layout)[axis] for axis in range(2, rank))
    result = b.make(node.outputs[0], layout)
    b.emit(code, [x, b.ints(axes)], [result], {"keepDims": True})
