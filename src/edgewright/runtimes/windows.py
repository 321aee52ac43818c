"""Windows of ONNX convolutions and pools with explicit numbers, for converters that misread what a node implies."""

from collections.abc import Mapping, Sequence
from math import ceil, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.formats.onnx.attributes import read_attribute, write_attribute
from edgewright.formats.onnx.editable import NodeReplacement

POOLS = ("AveragePool", "MaxPool", "LpPool")
PAD_VALUE = 2  # position of the value among the inputs of Pad
CONVOLUTIONS = ("Conv", "ConvTranspose")
Sizes = Sequence[int]


def complete_window(node: Any, shapes: Mapping[str, Sizes]) -> None:
    """Write kernel, strides and pads of a convolution or pool into its attributes, in place.

    Args:
        node: a node of any operator.
        shapes: sizes of the tensors by name; a node whose input's are missing keeps its automatic padding.
    """
    weights = shapes.get(node.input[1]) if node.op_type in CONVOLUTIONS else None
    kernel = read_attribute(node, "kernel_shape", None) or (list(weights[2:]) if weights else None)
    if node.domain or node.op_type not in (*POOLS, *CONVOLUTIONS) or not kernel:
        return
    strides = read_attribute(node, "strides", None) or [1] * len(kernel)
    write_attribute(node, "kernel_shape", list(kernel))
    write_attribute(node, "strides", list(strides))
    rule = read_attribute(node, "auto_pad", b"NOTSET") or b"NOTSET"
    wanted = read_attribute(node, "output_shape", None)
    source = shapes.get(node.input[0])
    if source is None or (rule == b"NOTSET" and not wanted):
        return
    dilations = read_attribute(node, "dilations", None) or [1] * len(kernel)
    reach = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    if rule == b"VALID":
        totals = [0] * len(kernel)
    elif node.op_type == "ConvTranspose":
        totals = _find_transposed_totals(node, source[2:], strides, reach)
    else:
        totals = [
            max((ceil(size / stride) - 1) * stride + extent - size, 0)
            for size, stride, extent in zip(source[2:], strides, reach, strict=True)
        ]
    small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
    write_attribute(node, "pads", [*small, *large] if rule == b"SAME_UPPER" else [*large, *small])
    _remove_attributes(node, "auto_pad", "output_shape")


def _find_transposed_totals(node: Any, sizes: Sizes, strides: Sizes, reach: Sizes) -> list[int]:
    """Return the padding of each axis for the wanted output; what is missing becomes `output_padding`."""
    extra = read_attribute(node, "output_padding", None) or [0] * len(sizes)
    wanted = read_attribute(node, "output_shape", None) or [s * t for s, t in zip(sizes, strides, strict=True)]
    full = [
        (size - 1) * stride + end + add for size, stride, end, add in zip(sizes, strides, reach, extra, strict=True)
    ]
    totals = [have - want for have, want in zip(full, wanted[-len(sizes) :], strict=True)]
    if any(total < 0 for total in totals):
        write_attribute(node, "output_padding", [a + max(-t, 0) for a, t in zip(extra, totals, strict=True)])
    return [max(total, 0) for total in totals]


def _remove_attributes(node: Any, *names: str) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name not in names]
    del node.attribute[:]
    node.attribute.extend(kept)


def has_uneven_pads(node: Any) -> bool:
    """Return whether an axis of a convolution or pool has other padding before it than after it, in explicit pads.

    False for a pool that rounds its size up, whose padding is not only in the pads.
    """
    pads = read_attribute(node, "pads", None) or []
    half = len(pads) // 2
    if node.op_type not in (*POOLS, *CONVOLUTIONS) or read_attribute(node, "ceil_mode", 0):
        return False
    return list(pads[:half]) != list(pads[half:])


def separate_padding(node: Any, shapes: Mapping[str, Sizes]) -> NodeReplacement:
    """Return a convolution or pool without padding, and a Pad before it or a Slice behind it.

    The node must have explicit pads, and its shapes must be known. An average that does not count the padding is scaled
    by the number of elements of each window.
    """
    pads, rank = list(read_attribute(node, "pads", None)), len(shapes[node.input[0]])
    half = rank - 2
    begin, end = pads[:half], pads[half:]
    result = node.output[0]
    write_attribute(node, "pads", [0] * len(pads))
    if node.op_type == "ConvTranspose":
        sizes = shapes[result][2:]
        node.output[0] = f"{result}/whole"
        bounds = {
            "starts": begin,
            "ends": [low + size for low, size in zip(begin, sizes, strict=True)],
            "axes": list(range(2, rank)),
        }
        return _slice(node, result, bounds)
    source, padded = node.input[0], f"{result}/padded"
    constants: dict[str, NDArray[Any]] = {f"{result}/pads": np.asarray([0, 0, *begin, 0, 0, *end], np.int64)}
    lowest = np.finfo(np.float32).min if node.op_type == "MaxPool" else 0
    constants[f"{result}/fill"] = np.asarray(lowest, np.float32)
    node.input[0] = padded
    nodes = [_make_pad(node, [source, *constants], padded), node]
    if node.op_type == "AveragePool" and not read_attribute(node, "count_include_pad", 0):
        node.output[0] = f"{result}/all"
        constants[f"{result}/share"] = _find_shares(node, shapes[source][2:], shapes[result][2:], begin)
        nodes.append(_make(node, "Mul", [node.output[0], f"{result}/share"], result))
    if node.op_type == "AveragePool":
        _remove_attributes(node, "count_include_pad")
    return NodeReplacement(nodes, constants)


def _slice(node: Any, result: str, bounds: Mapping[str, Sizes]) -> NodeReplacement:
    constants = {f"{result}/{name}": np.asarray(values, np.int64) for name, values in bounds.items()}
    return NodeReplacement([node, _make(node, "Slice", [node.output[0], *constants], result)], constants)


def _find_shares(node: Any, sizes: Sizes, results: Sizes, begin: Sizes) -> NDArray[Any]:
    """Return the size of the window divided by the elements of the input in it, [1, 1, …]."""
    kernel = read_attribute(node, "kernel_shape")
    strides = read_attribute(node, "strides", None) or [1] * len(kernel)
    counts = np.ones((1, 1), np.float32)
    for size, count, extent, stride, low in zip(sizes, results, kernel, strides, begin, strict=True):
        first = np.arange(count) * stride - low
        inside = np.minimum(first + extent, size) - np.maximum(first, 0)
        counts = counts[..., None] * inside.astype(np.float32)
    return np.asarray(prod(kernel) / counts, np.float32)


def crop_negative_pads(node: Any, pads: Sizes) -> NodeReplacement | None:
    """Return a Slice and a Pad for a Pad of all axes some of whose amounts are negative; None if none is."""
    if min(pads, default=0) >= 0:
        return None
    half, result = len(pads) // 2, node.output[0]
    cropped = f"{result}/cropped"
    far = np.iinfo(np.int32).max
    constants = {
        f"{result}/starts": np.asarray([max(-low, 0) for low in pads[:half]], np.int64),
        f"{result}/ends": np.asarray([min(high, 0) or far for high in pads[half:]], np.int64),
        f"{result}/axes": np.arange(half, dtype=np.int64),
        f"{result}/pads": np.asarray([max(amount, 0) for amount in pads], np.int64),
    }
    slice_inputs = [node.input[0], *list(constants)[:3]]
    if not any(amount > 0 for amount in pads):
        return NodeReplacement([_make(node, "Slice", slice_inputs, result)], constants)
    fill = node.input[PAD_VALUE] if len(node.input) > PAD_VALUE and node.input[PAD_VALUE] else f"{result}/fill"
    constants[f"{result}/fill"] = np.zeros((), np.float32)
    pad = _make_pad(node, [cropped, f"{result}/pads", fill], result)
    return NodeReplacement([_make(node, "Slice", slice_inputs, cropped), pad], constants)


def _make_pad(node: Any, inputs: Sequence[str], output: str) -> Any:
    """Return a Pad with all that pnnx requires: an explicit mode, and the value as an input."""
    made = _make(node, "Pad", inputs, output)
    write_attribute(made, "mode", "constant")
    return made


def _make(node: Any, op: str, inputs: Sequence[str], output: str) -> Any:
    from onnx.helper import make_node

    return make_node(op, list(inputs), [output], name=f"{node.name}/{op}#{output}")
