"""Operators with windows: convolutions, pools, resizing."""

from collections.abc import Callable, Sequence
from typing import Any

from edgewright.formats.tflite.to_onnx.build import CHANNELS_FIRST, OnnxBuilder, make_channels_first
from edgewright.formats.tflite.to_onnx.contents import UnsupportedContent
from edgewright.formats.tflite.to_onnx.nodes import Sizes
from edgewright.formats.tflite.to_onnx.operators.activation import activate

SAME, VALID = 0, 1


def convolution(b: OnnxBuilder) -> None:
    """Write CONV_2D, or CONV_3D whose weights are DHWIO."""
    rank = b.rank(b.input(0))
    volume = rank == 5
    weights = b.take(b.input(1), (4, 3, 0, 1, 2) if volume else (0, 3, 1, 2))
    x = b.take(b.input(0), make_channels_first(rank))
    kernel, sizes = b.sizes(weights), b.sizes(x)
    groups = _divide(sizes[1], kernel[1])
    _write_convolution(b, x, weights, groups)


def depthwise(b: OnnxBuilder) -> None:
    x, weights = b.take(b.input(0), CHANNELS_FIRST), b.take(b.input(1), (3, 0, 1, 2))
    groups = b.sizes(x)[1]
    if groups is None:
        raise UnsupportedContent("its number of channels is unknown", "set all sizes of the inputs with --shape")
    _write_convolution(b, x, weights, groups)


def _divide(channels: int | None, each: int | None) -> int:
    if channels is None or not each or channels % each:
        raise UnsupportedContent("its channels do not fit its weights", "export the model again")
    return channels // each


def _write_convolution(b: OnnxBuilder, x: str, weights: str, groups: int) -> None:
    kernel = [size or 1 for size in b.sizes(weights)[2:]]
    strides, dilations = _read_axes(b, "stride", len(kernel)), _read_axes(b, "dilation", len(kernel))
    extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    result = b.emit(
        "Conv",
        [x, weights, b.take_bias(2)],
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        group=groups,
        **_pad(b, b.sizes(x), extent, strides),
    )
    b.place(activate(b, result), make_channels_first(len(kernel) + 2))


def _read_axes(b: OnnxBuilder, name: str, count: int) -> list[int]:
    axes = ("d", "h", "w")[-count:]
    found = [int(b.options[f"{name}_{axis}"]) for axis in axes]
    if min(found) < 1:
        raise UnsupportedContent(f"its {name} is {min(found)}", "export the model again")
    return found


def _pad(b: OnnxBuilder, sizes: Sizes, extent: Sequence[int], strides: Sequence[int]) -> dict[str, Any]:
    """Return the attributes of ONNX for the padding; explicit ones if the sizes are known."""
    if b.options["padding"] == VALID:
        return {}
    begins, ends = [], []
    for size, window, stride in zip(sizes[2:], extent, strides, strict=True):
        if size is None:
            return {"auto_pad": "SAME_UPPER"}
        total = max(0, (-(-size // stride) - 1) * stride + window - size)
        begins.append(total // 2)
        ends.append(total - total // 2)
    return {"pads": [*begins, *ends]}


def transposed(b: OnnxBuilder) -> None:
    """Write TRANSPOSE_CONV and CONV_3D_TRANSPOSE, whose first input is the shape of the result."""
    rank = b.rank(b.input(2))
    weights = b.take(b.input(1), (4, 3, 0, 1, 2) if rank == 5 else (3, 0, 1, 2))
    x = b.take(b.input(2), make_channels_first(rank))
    kernel = [size or 1 for size in b.sizes(weights)[2:]]
    strides = _read_axes(b, "stride", len(kernel))
    if rank == 5 and max(_read_axes(b, "dilation", 3)) > 1:
        raise UnsupportedContent("it has dilations", "export the model without dilations there")
    wanted = b.numbers(0, "output sizes")[1:-1]
    begins, ends, extra = [], [], []
    for size, out, window, stride in zip(b.sizes(x)[2:], wanted, kernel, strides, strict=True):
        if size is None:
            raise UnsupportedContent("the sizes of its input are unknown", "set all sizes of the inputs with --shape")
        total = (size - 1) * stride + window - out
        begin = max(0, total) // 2 if b.options["padding"] == SAME else 0
        begins.append(begin)
        ends.append(max(0, total - begin))
        extra.append(max(0, -total))
    result = b.emit(
        "ConvTranspose",
        [x, weights, b.take_bias(3)],
        kernel_shape=kernel,
        strides=strides,
        pads=[*begins, *ends],
        output_padding=extra,
    )
    b.place(activate(b, result), make_channels_first(rank))


def pool(op: str) -> Callable[[OnnxBuilder], None]:
    """Return the function that writes a pool; one over the whole image as a global one."""

    def write(b: OnnxBuilder) -> None:
        x = b.take(b.input(0), CHANNELS_FIRST)
        kernel, strides = [b.options["filter_h"], b.options["filter_w"]], _read_axes(b, "stride", 2)
        if min(kernel) < 1:
            raise UnsupportedContent(f"its window is {kernel}", "export the model again")
        if list(b.sizes(x)[2:]) == kernel and b.options["padding"] == VALID:
            result = b.emit(f"Global{op}", [x])
        else:
            pads = _pad(b, b.sizes(x), kernel, strides)
            result = b.emit(op, [x], kernel_shape=kernel, strides=strides, **pads)
        b.place(activate(b, result), CHANNELS_FIRST)

    return write


def resize(mode: str) -> Callable[[OnnxBuilder], None]:
    """Return the function that writes a resize; LiteRT rounds to the nearest downward, with half pixels upward."""

    def write(b: OnnxBuilder) -> None:
        x = b.take(b.input(0), CHANNELS_FIRST)
        sizes, wanted = b.sizes(x), b.numbers(1, "sizes")
        coordinates, nearest = "asymmetric", "floor"
        if b.options["align_corners"]:
            coordinates, nearest = "align_corners", "round_prefer_ceil"
        elif b.options["half_pixel"]:
            coordinates, nearest = "half_pixel", "round_prefer_ceil"
        how = {"mode": mode, "coordinate_transformation_mode": coordinates}
        if mode == "nearest":
            how["nearest_mode"] = nearest
        if None in sizes[:2]:
            result = b.emit("Resize", [x, "", "", b.ints(wanted)], axes=[2, 3], **how)
        else:
            whole = [size or 0 for size in sizes[:2]] + wanted
            result = b.emit("Resize", [x, "", "", b.ints(whole)], **how)
        b.place(result, CHANNELS_FIRST)

    return write


def depth_to_space(b: OnnxBuilder) -> None:
    x = b.take(b.input(0), CHANNELS_FIRST)
    b.place(b.emit("DepthToSpace", [x], blocksize=b.options["block"], mode="DCR"), CHANNELS_FIRST)


def space_to_depth(b: OnnxBuilder) -> None:
    """Write SPACE_TO_DEPTH, whose order of the new channels is ONNX's."""
    x = b.take(b.input(0), CHANNELS_FIRST)
    b.place(b.emit("SpaceToDepth", [x], blocksize=b.options["block"]), CHANNELS_FIRST)


def local_response(b: OnnxBuilder) -> None:
    """Write LOCAL_RESPONSE_NORMALIZATION, whose alpha is that of one element."""
    x, width = b.take(b.input(0), CHANNELS_FIRST), 2 * b.options["radius"] + 1
    how = {"alpha": b.options["alpha"] * width, "beta": b.options["beta"], "bias": b.options["bias"]}
    b.place(b.emit("LRN", [x], size=width, **how), CHANNELS_FIRST)
