"""Convolution: plain, grouped, depthwise and transposed, in two and three dimensions."""

from typing import Any

import numpy as np

from edgewright.runtimes.litert.writer.build import Builder
from edgewright.runtimes.litert.writer.graph import Graph, Node, OperatorRejected
from edgewright.runtimes.litert.writer.operators.window import Windows, pad_windows, read_windows
from edgewright.runtimes.litert.writer.passes.layout import Layout, make_channels_last
from edgewright.runtimes.litert.writer.program import Tensor


def conv(b: Builder, node: Node) -> None:
    """Write CONV_2D, DEPTHWISE_CONV_2D or CONV_3D with SAME or VALID padding, or with a PAD before it.

    Input [N, C, …], weights [O, C/group, …], as ONNX's Conv.
    """
    rank = b.rank(node.inputs[0])
    weights = b.shape(node.inputs[1])
    if rank not in (4, 5) or len(weights) != rank:
        raise OperatorRejected(f"a convolution over {rank - 2} axes", "LiteRT supports one to three")
    windows = read_windows(b, node, weights[2:])
    x = b.take(node.inputs[0], make_channels_last(rank))
    padding = windows.padding
    if padding is None:
        x, padding = pad_windows(b, x, windows), "VALID"
    write = _write_3d if rank == 5 else _write_2d
    write(b, node, x, windows, padding)


def _write_2d(b: Builder, node: Node, x: Tensor, windows: Windows, padding: str) -> None:
    group, channels = int(node.attributes.get("group", 1)), b.shape(node.inputs[0])[1]
    outputs, per_group = b.shape(node.inputs[1])[:2]
    if group < 1 or per_group * group != channels or outputs % group:
        raise OperatorRejected("its weights do not fit its groups")
    options: dict[str, Any] = {
        "padding": padding,
        "strideH": windows.strides[0],
        "strideW": windows.strides[1],
        "dilationHFactor": windows.dilations[0],
        "dilationWFactor": windows.dilations[1],
        "fusedActivationFunction": node.attributes.get("activation", "NONE"),
    }
    if group == channels and (group > 1 or outputs == 1):
        options["depthMultiplier"] = outputs // group
        if _is_wide(b, node, windows, x):
            _write_bands(b, node, x, windows, options)
            return
        weights = _take_weights(b, node, (1, 2, 3, 0), x)
        operands = [x, weights, _take_bias(b, node, x, outputs)]
        b.emit("DEPTHWISE_CONV_2D", operands, [b.make(node.outputs[0], make_channels_last(4))], options)
        return
    weights = _take_weights(b, node, (0, 2, 3, 1), x)
    operands = [x, weights, _take_bias(b, node, x, outputs)]
    b.emit("CONV_2D", operands, [b.make(node.outputs[0], make_channels_last(4))], options)


# XNNPACK has depthwise kernels of up to this number of weights per channel; it runs larger ones several times slower,
# as a
# general convolution with a group for each channel.
MOST_TAPS = 25


def _is_wide(b: Builder, node: Node, windows: Windows, x: Tensor) -> bool:
    rows, columns = windows.kernel
    constant = b.constant(node.inputs[1]) is not None
    return rows * columns > MOST_TAPS >= columns and rows > 1 and constant and x.scales is None


def _write_bands(b: Builder, node: Node, x: Tensor, windows: Windows, options: dict[str, Any]) -> None:
    """Write a depthwise convolution as the sum of convolutions over a few rows of the kernel each.

    `x` is padded if no kernel supports its padding.
    """
    if options["padding"] == "SAME":
        x = pad_windows(b, x, windows)
    outputs, (rows, columns) = b.shape(node.inputs[1])[0], windows.kernel
    weights = np.transpose(b.need_constant(1, "weights"), (1, 2, 3, 0))
    height, stride, spread = windows.outputs[0], windows.strides[0], windows.dilations[0]
    count = -(-rows // (MOST_TAPS // columns))
    shape, total = (x.shape[0], *windows.outputs, outputs), None
    for first, last in zip(_split_evenly(rows, count)[:-1], _split_evenly(rows, count)[1:], strict=True):
        reach = (height - 1) * stride + (last - first - 1) * spread + 1
        size = (x.shape[0], reach, *x.shape[2:])
        part = b.run("SLICE", [x, b.ints((0, first * spread, 0, 0)), b.ints(size)], size) if size != x.shape else x
        bias = _take_bias(b, node, x, outputs) if total is None else b.add_constant(np.zeros(outputs, np.float32))
        band = b.add_constant(np.ascontiguousarray(weights[:, first:last]), f"{node.inputs[1]}/rows{first}")
        own = options | {"padding": "VALID", "fusedActivationFunction": "NONE"}
        made = b.run("DEPTHWISE_CONV_2D", [part, band, bias], shape, options=own)
        kind = options["fusedActivationFunction"] if last == rows else "NONE"
        total = made if total is None else b.run("ADD", [total, made], shape, options={"fusedActivationFunction": kind})
    assert total is not None  # noqa: S101  # there are two bands and more
    b.place(node.outputs[0], total, make_channels_last(4))


def _split_evenly(size: int, count: int) -> list[int]:
    """Return the bounds of `count` parts whose sizes differ by one at most."""
    return [size * part // count for part in range(count + 1)]


def _write_3d(b: Builder, node: Node, x: Tensor, windows: Windows, padding: str) -> None:
    if node.attributes.get("group", 1) != 1:
        raise OperatorRejected("a grouped convolution over three axes")
    outputs = b.shape(node.inputs[1])[0]
    weights = _take_weights(b, node, (2, 3, 4, 1, 0), x)
    names = ("D", "H", "W")
    options: dict[str, Any] = {"padding": padding, "fusedActivationFunction": node.attributes.get("activation", "NONE")}
    options |= {f"stride{n}": s for n, s in zip(names, windows.strides, strict=True)}
    options |= {f"dilation{n}Factor": d for n, d in zip(names, windows.dilations, strict=True)}
    bias = _take_bias(b, node, x, outputs)
    b.emit("CONV_3D", [x, weights, bias], [b.make(node.outputs[0], make_channels_last(5))], options)


def _take_weights(b: Builder, node: Node, layout: Layout, x: Tensor) -> Tensor:
    """Return the weights in the kernel's order; floats for float activations, by a DEQUANTIZE that runs
    once.
    """
    weights = b.take(node.inputs[1], layout)
    if weights.scales is None or x.scales is not None:
        return weights
    return b.run("DEQUANTIZE", [weights], weights.shape, dtype=np.float32)


def _take_bias(b: Builder, node: Node, x: Tensor, outputs: int) -> Tensor:
    """Return the bias [O], zeros if there is none."""
    if node.has(2):
        return b.take(node.inputs[2])
    if x.scales is not None:
        raise OperatorRejected("a quantized convolution has no bias")
    return b.add_constant(np.zeros(outputs, np.float32))


def conv_transpose(b: Builder, node: Node) -> None:
    """Write TRANSPOSE_CONV with SAME padding if LiteRT's rule matches, else over the full output, which is then cut.

    Input [N, C, H, W], weights [C, O/group, kH, kW], as ONNX's ConvTranspose; groups are computed one by one.
    """
    if b.rank(node.inputs[0]) == 5:
        _write_transposed_3d(b, node)
        return
    if b.rank(node.inputs[0]) != 4:
        raise OperatorRejected(
            f"a transposed convolution over {b.rank(node.inputs[0]) - 2} axes", "LiteRT supports one to three"
        )
    x, sizes = b.take(node.inputs[0], make_channels_last(4)), b.shape(node.outputs[0])[2:]
    weights, group = _take_transposed_weights(b, node, x), int(node.attributes.get("group", 1))
    strides = tuple(node.attributes.get("strides") or [1, 1])
    kernel = weights.shape[1:3]
    full = tuple((size - 1) * s + k for size, s, k in zip(x.shape[1:3], strides, kernel, strict=True))
    begin = _find_begin(b, node, full)
    reaches = all(low + size <= f for low, size, f in zip(begin, sizes, full, strict=True))
    bias = b.take(node.inputs[2]) if node.has(2) else None
    if group == 1 and (reaches or bias is None):
        same = sizes == tuple(size * s for size, s in zip(x.shape[1:3], strides, strict=True))
        same = same and begin == tuple(max(k - s, 0) // 2 for k, s in zip(kernel, strides, strict=True))
        whole = _write_transposed(b, node, x, weights, bias, sizes if same else full)
        made = whole if same else _slice_output(b, whole, begin, sizes)
    else:
        whole = (
            _write_transposed_groups(b, node, x, weights, group)
            if group > 1
            else _write_transposed(b, node, x, weights, None, full)
        )
        made = _slice_output(b, whole, begin, sizes)
        made = made if bias is None else b.run("ADD", [made, bias], made.shape)
    b.place(node.outputs[0], made, make_channels_last(4))


def _write_transposed_3d(b: Builder, node: Node) -> None:
    """Write CONV_3D_TRANSPOSE over the full output, which is then cut; the kernel has neither groups nor dilations."""
    if node.attributes.get("group", 1) != 1 or any(d != 1 for d in node.attributes.get("dilations") or [1]):
        raise OperatorRejected("a transposed convolution over three axes with groups or dilations")
    x, sizes = b.take(node.inputs[0], make_channels_last(5)), b.shape(node.outputs[0])[2:]
    weights = _take_weights(b, node, (2, 3, 4, 1, 0), x)
    strides = tuple(node.attributes.get("strides") or [1, 1, 1])
    full = tuple((size - 1) * s + k for size, s, k in zip(x.shape[1:4], strides, weights.shape[:3], strict=True))
    shape = (x.shape[0], *full, weights.shape[3])
    options: dict[str, Any] = {"padding": "VALID", "fusedActivationFunction": "NONE"}
    options |= {f"stride{n}": s for n, s in zip("DHW", strides, strict=True)}
    options |= {f"dilation{n}Factor": 1 for n in "DHW"}
    whole = b.run("CONV_3D_TRANSPOSE", [b.ints(shape), weights, x], shape, dtype=x.dtype, options=options)
    made = _slice_output(b, whole, _find_begin(b, node, full), sizes)
    if node.has(2):
        made = b.run("ADD", [made, b.take(node.inputs[2])], made.shape)
    b.place(node.outputs[0], made, make_channels_last(5))


def is_single_kernel_transpose(graph: Graph, node: Node) -> bool:
    """Return whether a transposed convolution is one kernel including its bias: no groups, no output beyond its full
    reach.
    """
    plain = all(d == 1 for d in node.attributes.get("dilations") or [1]) and node.attributes.get("group", 1) == 1
    return plain and not any(node.attributes.get("output_padding") or [0]) and len(graph.shapes[node.inputs[0]]) == 4


def _write_transposed(
    b: Builder, node: Node, x: Tensor, weights: Tensor, bias: Tensor | None, sizes: tuple[int, ...]
) -> Tensor:
    """Write the convolution of [N, H, W, C] by weights [O, kH, kW, C]: the full output, or its SAME part."""
    strides = tuple(node.attributes.get("strides") or [1, 1])
    full = tuple((size - 1) * s + k for size, s, k in zip(x.shape[1:3], strides, weights.shape[1:3], strict=True))
    shape = (x.shape[0], *sizes, weights.shape[0])
    options = {"padding": "VALID" if sizes == full else "SAME", "strideH": strides[0], "strideW": strides[1]}
    operands = [b.ints(shape), weights, x, *([bias] if bias is not None else [])]
    scales = b.scales(node.outputs[0])
    return b.run("TRANSPOSE_CONV", operands, shape, dtype=x.dtype, scales=scales, options=options)


def _write_transposed_groups(b: Builder, node: Node, x: Tensor, weights: Tensor, group: int) -> Tensor:
    if weights.data is None or weights.shape[3] % group:
        raise OperatorRejected("a grouped transposed convolution with computed weights")
    width = weights.shape[3] // group
    shape = (*x.shape[:3], width)
    strides = node.attributes.get("strides") or [1, 1]
    full = tuple((size - 1) * s + k for size, s, k in zip(x.shape[1:3], strides, weights.shape[1:3], strict=True))
    parts = []
    for at in range(group):
        columns = slice(at * width, (at + 1) * width)
        part = b.run("SLICE", [x, b.ints((0, 0, 0, columns.start)), b.ints(shape)], shape)
        own = b.add_constant(np.ascontiguousarray(weights.data[..., columns]))
        parts.append(_write_transposed(b, node, part, own, None, full))
    whole = (*parts[0].shape[:3], sum(part.shape[3] for part in parts))
    return b.run("CONCATENATION", parts, whole, options={"axis": 3, "fusedActivationFunction": "NONE"})


def _take_transposed_weights(b: Builder, node: Node, x: Tensor) -> Tensor:
    """Return the weights [O, kH, kW, C], with zeros between them for dilations."""
    dilations = node.attributes.get("dilations") or [1, 1]
    if all(d == 1 for d in dilations):
        return _take_weights(b, node, (1, 2, 3, 0), x)
    data = np.transpose(b.need_constant(1, "weights"), (1, 2, 3, 0))
    sizes = [(k - 1) * d + 1 for k, d in zip(data.shape[1:3], dilations, strict=True)]
    spread = np.zeros((data.shape[0], *sizes, data.shape[3]), data.dtype)
    spread[:, :: dilations[0], :: dilations[1]] = data
    return b.add_constant(spread, node.inputs[1])


def _find_begin(b: Builder, node: Node, full: tuple[int, ...]) -> tuple[int, ...]:
    """Return the padding that is cut off at the start; with `output_shape` or auto_pad, ONNX distributes it."""
    outputs = b.shape(node.outputs[0])[2:]
    mode = node.attributes.get("auto_pad", "NOTSET") or "NOTSET"
    extra = node.attributes.get("output_padding") or [0] * len(full)
    if mode != "NOTSET" and any(extra):
        raise OperatorRejected(
            "auto_pad together with output_padding, which ONNX implementations interpret differently"
        )
    if mode == "VALID":
        return (0,) * len(full)
    if mode == "NOTSET" and "output_shape" not in node.attributes:
        pads = node.attributes.get("pads") or [0] * 2 * len(full)
        return tuple(pads[: len(full)])
    total = [max(f + e - o, 0) for f, e, o in zip(full, extra, outputs, strict=True)]
    upper = mode == "SAME_UPPER"
    return tuple(t // 2 if upper else t - t // 2 for t in total)


def _slice_output(b: Builder, whole: Tensor, begin: tuple[int, ...], sizes: tuple[int, ...]) -> Tensor:
    """Return the slice from `begin` on along the inner axes, padded with zeros where the output is longer."""
    missing = [max(low + size - full, 0) for low, size, full in zip(begin, sizes, whole.shape[1:-1], strict=True)]
    if any(missing):
        shape = (whole.shape[0], *(f + m for f, m in zip(whole.shape[1:-1], missing, strict=True)), whole.shape[-1])
        amounts = np.asarray([(0, 0), *((0, m) for m in missing), (0, 0)], np.int32)
        whole = b.run("PAD", [whole, b.add_constant(amounts)], shape, scales=whole.scales)
    if whole.shape[1:-1] == tuple(sizes):
        return whole
    shape = (whole.shape[0], *sizes, whole.shape[-1])
    start = b.ints((0, *begin, 0))
    return b.run("SLICE", [whole, start, b.ints(shape)], shape, scales=whole.scales)
