"""Resize and Upsample: torch's own interpolation if it is equivalent, else ONNX's definition.

Resizing is separable, so each axis has its own indices (nearest) or its own matrix of weights (linear, cubic).
Definition: ONNX operator Resize, versions 10 to 19, and its reference implementation.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F

from edgewright.formats.onnx_to_torch.call import (
    Call,
    Tensor,
    TorchOperator,
    as_tensor,
    get_shape,
    normalize_axis,
    to_integers,
)
from edgewright.schema.arrays import Array

OUTSIDE = 1e-9
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def _resize(
    call: Call, tensor: Tensor, roi: Array | None = None, scales: Array | None = None, sizes: Array | None = None
) -> Tensor:
    if call.text("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        raise call.reject("tf_crop_and_resize is not supported")
    if call.text("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise call.reject("keep_aspect_ratio_policy is not supported")
    rank = tensor.dim()
    axes = [normalize_axis(axis, rank) for axis in call.integers("axes")] or list(range(rank))
    targets, factors = get_shape(tensor), [1.0] * rank
    for i, axis in enumerate(axes):
        if wanted := to_integers(sizes):
            targets[axis], factors[axis] = wanted[i], wanted[i] / get_shape(tensor)[axis]
        else:
            factors[axis] = float(np.asarray(scales).reshape(-1)[i])
            targets[axis] = int(np.floor(get_shape(tensor)[axis] * factors[axis]))
    return _resize_to(call, tensor, targets, factors)


def _upsample(call: Call, tensor: Tensor, scales: Array | None = None) -> Tensor:
    """Compute Upsample of opset 9: asymmetric, nearest by rounding down."""
    attributes = {**call.attributes, "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    given = scales if scales is not None else np.asarray(call.attributes.get("scales", ()), np.float32)
    return _resize(call._replace(attributes=attributes), tensor, None, given)


def _resize_to(call: Call, tensor: Tensor, targets: list[int], factors: list[float]) -> Tensor:
    mode = call.text("mode", "nearest")
    changed = [axis for axis, size in enumerate(get_shape(tensor)) if targets[axis] != size or factors[axis] != 1.0]
    if not changed:
        return tensor
    spatial = tensor.dim() >= 3 and changed[0] >= 2
    if mode == "nearest":
        places = {axis: _nearest(call, get_shape(tensor)[axis], targets[axis], factors[axis]) for axis in changed}
        if (
            spatial
            and tensor.dim() <= 5
            and all(
                np.array_equal(places[axis], _torch_nearest(get_shape(tensor)[axis], targets[axis])) for axis in changed
            )
        ):
            return F.interpolate(tensor, targets[2:], mode="nearest")
        for axis in changed:
            tensor = tensor.index_select(axis, torch.from_numpy(places[axis]))
        return tensor
    if spatial and (by_torch := _interpolate(call, tensor, targets, factors, mode)) is not None:
        return by_torch
    for axis in changed:
        tensor = _apply(_weights(call, get_shape(tensor)[axis], targets[axis], factors[axis], mode), tensor, axis)
    return tensor


def _interpolate(call: Call, tensor: Tensor, targets: list[int], factors: list[float], mode: str) -> Tensor | None:
    """Interpolate with torch; return None if torch's definition differs."""
    how = call.text("coordinate_transformation_mode", "half_pixel")
    name = LINEAR.get(tensor.dim() - 2) if mode == "linear" else "bicubic" if tensor.dim() == 4 else None
    exact = all(
        size * factor == target for size, factor, target in zip(get_shape(tensor), factors, targets, strict=True)
    )
    aligned = how == "align_corners"
    same = how == "half_pixel" or (how == "pytorch_half_pixel" and min(targets[2:]) > 1) or aligned
    cubic = mode != "cubic" or (call.number("cubic_coeff_a", -0.75) == -0.75 and not call.integer("exclude_outside", 0))
    if not (name and exact and same and cubic) or call.integer("antialias", 0):
        return None
    return F.interpolate(tensor, targets[2:], mode=name, align_corners=aligned)


def _torch_nearest(size: int, target: int) -> Array:
    """Return the indices of torch's nearest mode, which it computes in float32."""
    place: Array = np.floor(np.arange(target, dtype=np.float32) * np.float32(size / target))
    return np.minimum(place, size - 1).astype(np.int64)


def _coordinates(call: Call, size: int, target: int, factor: float) -> Array:
    """Return the position of each result on the source's axis."""
    place = np.arange(target, dtype=np.float64)
    match call.text("coordinate_transformation_mode", "half_pixel"):
        case "align_corners":
            return place * (size - 1) / (target - 1) if target > 1 else np.zeros(target)
        case "asymmetric":
            return place / factor
        case "pytorch_half_pixel":
            return (place + 0.5) / factor - 0.5 if target > 1 else np.zeros(target)
        case "half_pixel_symmetric":
            adjustment = target / (factor * size)
            return size / 2 * (1 - adjustment) + (place + 0.5) / factor - 0.5
        case "half_pixel":
            return (place + 0.5) / factor - 0.5
        case other:
            raise call.reject(f"coordinate transformation mode {other} is not supported")


def _nearest(call: Call, size: int, target: int, factor: float) -> Array:
    place = _coordinates(call, size, target, factor)
    rounding: dict[str, Callable[[Array], Array]] = {
        "round_prefer_floor": lambda values: np.ceil(values - 0.5),
        "round_prefer_ceil": lambda values: np.floor(values + 0.5),
        "floor": np.floor,
        "ceil": np.ceil,
    }
    found = rounding[call.text("nearest_mode", "round_prefer_floor")](place)
    return np.clip(found, 0, size - 1).astype(np.int64)


def _weights(call: Call, size: int, target: int, factor: float, mode: str) -> Array:
    """Return the share of each source value in each result, float32 [target, size]."""
    matrix = np.zeros((target, size))
    antialias = call.integer("antialias", 0) and factor < 1
    stretch = factor if antialias else 1.0
    kernel = _triangle if mode == "linear" else _cubic(call.number("cubic_coeff_a", -0.75))
    reach = (1 if mode == "linear" else 2) / stretch
    for row, center in enumerate(_coordinates(call, size, target, factor)):
        taps = np.arange(int(np.floor(center - reach)) + 1, int(np.ceil(center + reach)) + 1)
        shares = kernel(np.abs(taps - center) * stretch)
        if call.integer("exclude_outside", 0) or antialias:
            shares = np.where((taps >= 0) & (taps < size), shares, 0.0)
            shares = shares / shares.sum()
        np.add.at(matrix[row], np.clip(taps, 0, size - 1), shares)
    return matrix.astype(np.float32)


def _triangle(distance: Array) -> Array:
    return np.maximum(0.0, 1.0 - distance)


def _cubic(a: float) -> Callable[[Array], Array]:
    """Return Keys' kernel (1981)."""

    def kernel(x: Array) -> Array:
        inner = (a + 2) * x**3 - (a + 3) * x**2 + 1
        outer = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
        return np.where(x <= 1, inner, np.where(x < 2, outer, 0.0))

    return kernel


def _apply(matrix: Array, tensor: Tensor, axis: int) -> Tensor:
    return F.linear(tensor.movedim(axis, -1), as_tensor(matrix, tensor)).movedim(-1, axis)


def _sample_grid(call: Call, tensor: Tensor, grid: Tensor) -> Tensor:
    names = {"linear": "bilinear", "cubic": "bicubic"}
    mode = call.text("mode", "linear")
    aligned = bool(call.integer("align_corners", 0))
    return F.grid_sample(tensor, grid, names.get(mode, mode), call.text("padding_mode", "zeros"), aligned)


TABLE: dict[str, TorchOperator] = {
    "GridSample": TorchOperator(_sample_grid),
    "Resize": TorchOperator(_resize, static=(1, 2, 3)),
    "Upsample": TorchOperator(_upsample, static=(1,)),
}
