"""Convolution: plain, grouped, depthwise, transposed, in two and three dimensions."""

from typing import Any

import numpy as np

from edgewright.runtimes.litert.writer.build import Builder
from edgewright.runtimes.litert.writer.graph import Node, Refusal
from edgewright.runtimes.litert.writer.layout import channels_last
from edgewright.runtimes.litert.writer.operators.window import Windows, pad, read_windows
from edgewright.runtimes.litert.writer.program import Tensor


def conv(b: Builder, node: Node) -> None:
    """CONV_2D, DEPTHWISE_CONV_2D or CONV_3D; padding becomes SAME, VALID or a PAD before.

    Input [N, C, …], weights [O, C/group, …], as ONNX's Conv.
    """
    rank = b.rank(node.inputs[0])
    weights = b.shape(node.inputs[1])
    if rank not in (4, 5) or len(weights) != rank:
        raise Refusal(f"a convolution over {rank - 2} axes", "LiteRT has one to three")
    windows = read_windows(b, node, weights[2:])
    x = b.take(node.inputs[0], channels_last(rank))
    padding = windows.padding
    if padding is None:
        x, padding = pad(b, x, windows), "VALID"
    write = _write_3d if rank == 5 else _write_2d
    write(b, node, x, windows, padding)


def _write_2d(b: Builder, node: Node, x: Tensor, windows: Windows, padding: str) -> None:
    group, channels = int(node.attributes.get("group", 1)), b.shape(node.inputs[0])[1]
    outputs, per_group = b.shape(node.inputs[1])[:2]
    if group < 1 or per_group * group != channels or outputs % group:
        raise Refusal("its weights do not fit its groups")
    result = b.make(node.outputs[0], channels_last(4))
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
        weights = b.take(node.inputs[1], (1, 2, 3, 0))
        b.emit("DEPTHWISE_CONV_2D", [x, weights, take_bias(b, node, x, outputs)], [result], options)
        return
    weights = b.take(node.inputs[1], (0, 2, 3, 1))
    b.emit("CONV_2D", [x, weights, take_bias(b, node, x, outputs)], [result], options)


def _write_3d(b: Builder, node: Node, x: Tensor, windows: Windows, padding: str) -> None:
    if node.attributes.get("group", 1) != 1:
        raise Refusal("a grouped convolution over three axes")
    outputs = b.shape(node.inputs[1])[0]
    weights = b.take(node.inputs[1], (2, 3, 4, 1, 0))
    names = ("D", "H", "W")
    options: dict[str, Any] = {"padding": padding, "fusedActivationFunction": node.attributes.get("activation", "NONE")}
    options |= {f"stride{n}": s for n, s in zip(names, windows.strides, strict=True)}
    options |= {f"dilation{n}Factor": d for n, d in zip(names, windows.dilations, strict=True)}
    bias = take_bias(b, node, x, outputs)
    b.emit("CONV_3D", [x, weights, bias], [b.make(node.outputs[0], channels_last(5))], options)


def take_bias(b: Builder, node: Node, x: Tensor, outputs: int) -> Tensor:
    """The bias [O], zeros where there is none."""
    if node.has(2):
        return b.take(node.inputs[2])
    if x.scales is not None:
        raise Refusal("a quantised convolution without a bias should have got one")
    return b.add_constant(np.zeros(outputs, np.float32))


def conv_transpose(b: Builder, node: Node) -> None:
    """TRANSPOSE_CONV over the whole reach, then a slice that takes `pads` off; the bias is added last.

    Input [N, C, H, W], weights [C, O/group, kH, kW], as ONNX's ConvTranspose; groups are computed one by one.
    """
    if b.rank(node.inputs[0]) != 4:
        raise Refusal("a transposed convolution over three axes")
    x, weights = b.take(node.inputs[0], channels_last(4)), _take_spread(b, node)
    group = int(node.attributes.get("group", 1))
    whole = _spread_groups(b, node, x, weights, group) if group > 1 else _spread(b, node, x, weights)
    cut = _cut(b, whole, _find_begin(b, node, whole.shape[1:3]), b.shape(node.outputs[0])[2:])
    if node.has(2):
        cut = b.run("ADD", [cut, b.take(node.inputs[2])], cut.shape)
    b.place(node.outputs[0], cut, channels_last(4))


def _spread(b: Builder, node: Node, x: Tensor, weights: Tensor) -> Tensor:
    """[N, H, W, C] by weights [O, kH, kW, C], nothing cut off."""
    strides = tuple(node.attributes.get("strides") or [1, 1])
    full = tuple((size - 1) * s + k for size, s, k in zip(x.shape[1:3], strides, weights.shape[1:3], strict=True))
    shape = (x.shape[0], *full, weights.shape[0])
    options = {"padding": "VALID", "strideH": strides[0], "strideW": strides[1]}
    return b.run("TRANSPOSE_CONV", [b.ints(shape), weights, x], shape, dtype=x.dtype, options=options)


def _spread_groups(b: Builder, node: Node, x: Tensor, weights: Tensor, group: int) -> Tensor:
    if weights.data is None or weights.shape[3] % group:
        raise Refusal("a transposed convolution in groups with computed weights")
    width = weights.shape[3] // group
    shape = (*x.shape[:3], width)
    parts = []
    for at in range(group):
        columns = slice(at * width, (at + 1) * width)
        part = b.run("SLICE", [x, b.ints((0, 0, 0, columns.start)), b.ints(shape)], shape)
        parts.append(_spread(b, node, part, b.add_constant(np.ascontiguousarray(weights.data[..., columns]))))
    whole = (*parts[0].shape[:3], sum(part.shape[3] for part in parts))
    return b.run("CONCATENATION", parts, whole, options={"axis": 3, "fusedActivationFunction": "NONE"})


def _take_spread(b: Builder, node: Node) -> Tensor:
    """Weights [O, kH, kW, C], with zeros between them for dilations."""
    dilations = node.attributes.get("dilations") or [1, 1]
    if all(d == 1 for d in dilations):
        return b.take(node.inputs[1], (1, 2, 3, 0))
    data = np.transpose(b.need_constant(1, "weights"), (1, 2, 3, 0))
    sizes = [(k - 1) * d + 1 for k, d in zip(data.shape[1:3], dilations, strict=True)]
    spread = np.zeros((data.shape[0], *sizes, data.shape[3]), data.dtype)
    spread[:, :: dilations[0], :: dilations[1]] = data
    return b.add_constant(spread, node.inputs[1])


def _find_begin(b: Builder, node: Node, full: tuple[int, ...]) -> tuple[int, ...]:
    """How much is taken off before; with `output_shape` or auto_pad, ONNX shares the padding out."""
    outputs = b.shape(node.outputs[0])[2:]
    mode = node.attributes.get("auto_pad", "NOTSET") or "NOTSET"
    extra = node.attributes.get("output_padding") or [0, 0]
    if mode != "NOTSET" and any(extra):
        raise Refusal("auto_pad together with output_padding, where readers of ONNX disagree")
    if mode == "VALID":
        return (0, 0)
    if mode == "NOTSET" and "output_shape" not in node.attributes:
        pads = node.attributes.get("pads") or [0, 0, 0, 0]
        return tuple(pads[:2])
    total = [max(f + e - o, 0) for f, e, o in zip(full, extra, outputs, strict=True)]
    upper = mode == "SAME_UPPER"
    return tuple(t // 2 if upper else t - t // 2 for t in total)


def _cut(b: Builder, whole: Tensor, begin: tuple[int, ...], sizes: tuple[int, ...]) -> Tensor:
    """Rows and columns from `begin` on; zeros behind the end where the output reaches beyond."""
    missing = [max(low + size - full, 0) for low, size, full in zip(begin, sizes, whole.shape[1:3], strict=True)]
    if any(missing):
        shape = (whole.shape[0], *(f + m for f, m in zip(whole.shape[1:3], missing, strict=True)), whole.shape[3])
        amounts = np.asarray([(0, 0), (0, missing[0]), (0, missing[1]), (0, 0)], np.int32)
        whole = b.run("PAD", [whole, b.add_constant(amounts)], shape)
    if whole.shape[1:3] == tuple(sizes):
        return whole
    shape = (whole.shape[0], *sizes, whole.shape[3])
    start = b.ints((0, *begin, 0))
    return b.run("SLICE", [whole, start, b.ints(shape)], shape)
