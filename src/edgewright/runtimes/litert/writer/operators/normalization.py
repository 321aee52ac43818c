"""Normalizations."""

from collections.abc import Sequence

import numpy as np

from edgewright.runtimes.litert.writer.build import Builder
from edgewright.runtimes.litert.writer.graph import Node, OperatorRejected
from edgewright.runtimes.litert.writer.passes.layout import make_channels_last
from edgewright.runtimes.litert.writer.program import Tensor


def batch_normalization(b: Builder, node: Node) -> None:
    """Write x × factor + shift, both along the channels and computed here; inference only."""
    if node.attributes.get("training_mode", 0) or len([name for name in node.outputs if name]) > 1:
        raise OperatorRejected("it is in training mode", "export the model for inference")
    scale, bias, mean, variance = (b.need_constant(at, "statistics").astype(np.float64) for at in range(1, 5))
    factor = scale / np.sqrt(variance + float(node.attributes.get("epsilon", 1e-5)))
    shift = bias - mean * factor
    layout = b.layout(node.inputs[0])
    x = b.take(node.inputs[0], layout)
    shape = tuple(size if layout[at] == 1 else 1 for at, size in enumerate(x.shape))
    factor_tensor, shift_tensor = (b.add_constant(v.astype(np.float32).reshape(shape)) for v in (factor, shift))
    made = b.run("MUL", [x, factor_tensor], x.shape)
    b.place(node.outputs[0], b.run("ADD", [made, shift_tensor], x.shape), layout)


def _normalize(b: Builder, x: Tensor, places: Sequence[int], epsilon: float, *, centered: bool = True) -> Tensor:
    """Write (x − mean) / √(variance + epsilon) along stored axes; without the mean if not `centered`."""
    return _measure_and_normalize(b, x, places, epsilon, centered=centered)[0]


def _measure_and_normalize(
    b: Builder, x: Tensor, places: Sequence[int], epsilon: float, *, centered: bool = True
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return the output of `normalize`, with the mean and the inverse deviation."""
    axes = b.ints(sorted(places))
    small = tuple(1 if at in places else size for at, size in enumerate(x.shape))
    mean = None
    if centered:
        mean = b.run("MEAN", [x, axes], small, options={"keepDims": True})
        x = b.run("SUB", [x, mean], x.shape)
    square = b.run("MUL", [x, x], x.shape)
    variance = b.run("MEAN", [square, axes], small, options={"keepDims": True})
    inverse = b.run("RSQRT", [b.run("ADD", [variance, b.number(epsilon, x)], small)], small)
    return b.run("MUL", [x, inverse], x.shape), mean, inverse


def layer_normalization(b: Builder, node: Node) -> None:
    """Write a normalization over all axes from `axis` on; scale and bias have the shape of the last axes."""
    _normalize_last_axes(b, node, centered=True)


def rms_normalization(b: Builder, node: Node) -> None:
    _normalize_last_axes(b, node, centered=False)


def _normalize_last_axes(b: Builder, node: Node, *, centered: bool) -> None:
    source = node.inputs[0]
    if b.dtype(source) != np.float32:
        raise OperatorRejected(f"it computes with {b.dtype(source)}")
    rank = b.rank(source)
    places = list(range(int(node.attributes.get("axis", -1)) % rank, rank))
    epsilon = float(node.attributes.get("epsilon", 1e-5))
    made, mean, inverse = _measure_and_normalize(b, b.take(source), places, epsilon, centered=centered)
    for name, tensor in zip(node.outputs[1:], (mean, inverse), strict=False):
        if name and tensor is not None:
            b.place(name, tensor)
    b.place(node.outputs[0], _scale(b, node, made))


def _scale(b: Builder, node: Node, x: Tensor) -> Tensor:
    """Write the product with the scale plus the bias, which are along the last axes."""
    for position, code in ((1, "MUL"), (2, "ADD")):
        if node.has(position):
            x = b.run(code, [x, b.take(node.inputs[position])], x.shape)
    return x


def instance_normalization(b: Builder, node: Node) -> None:
    """Write a normalization over the spatial axes of each channel; scale and bias are along the channels."""
    source, target = node.inputs[0], node.outputs[0]
    layout = make_channels_last(b.rank(source))
    x = b.take(source, layout)
    made = _normalize(b, x, list(range(1, len(x.shape) - 1)), float(node.attributes.get("epsilon", 1e-5)))
    b.place(target, _scale(b, node, made), layout)


def lp_normalization(b: Builder, node: Node) -> None:
    """Write x / (Σ |x|^p)^(1/p); zero stays zero."""
    source = node.inputs[0]
    axis, p = int(node.attributes.get("axis", -1)) % b.rank(source), int(node.attributes.get("p", 2))
    layout = b.layout(source)
    x = b.take(source, layout)
    place = layout.index(axis)
    shape = tuple(1 if at == place else size for at, size in enumerate(x.shape))
    powers = b.run("ABS", [x], x.shape) if p == 1 else b.run("MUL", [x, x], x.shape)
    norm = b.run("SUM", [powers, b.ints([place])], shape, options={"keepDims": True})
    norm = norm if p == 1 else b.run("SQRT", [norm], shape)
    norm = b.run("MAXIMUM", [norm, b.number(float(np.finfo(np.float32).tiny), x)], shape)
    b.place(node.outputs[0], b.run("DIV", [x, norm], x.shape), layout)


def local_response(b: Builder, node: Node) -> None:
    """Write LOCAL_RESPONSE_NORMALIZATION, whose window is symmetric."""
    size = int(node.attributes["size"])
    if size % 2 == 0 or b.rank(node.inputs[0]) != 4:
        raise OperatorRejected("its window is not symmetric")
    options = {
        "radius": size // 2,
        "bias": float(node.attributes.get("bias", 1.0)),
        "alpha": float(node.attributes.get("alpha", 1e-4)) / size,
        "beta": float(node.attributes.get("beta", 0.75)),
    }
    layout = make_channels_last(4)
    x = b.take(node.inputs[0], layout)
    b.emit("LOCAL_RESPONSE_NORMALIZATION", [x], [b.make(node.outputs[0], layout)], options)
