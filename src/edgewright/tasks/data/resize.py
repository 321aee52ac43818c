"""Placement of an image in a model input: the published rules of resizing and cropping.

- `shorter`: torchvision.transforms.functional.resize with one number: the longer side is int(size × long / short).
- `center`: torchvision.transforms.functional.center_crop: int(round((h − size) / 2)), zero padding of a smaller image.
- `pad` (letterbox, as in the YOLO family): the image times min(H / h, W / w), each side rounded.
- neighbors: half-pixel centers and repeated edges, as torch.nn.functional.interpolate(align_corners=False), OpenCV's
  INTER_LINEAR and INTER_CUBIC (a = −0.75), and TensorFlow 2's bilinear.
"""

from typing import NamedTuple, assert_never

import numpy as np

from edgewright.schema.arrays import Array
from edgewright.tasks.spec.task import ImageInput

CUBIC_A = -0.75


class Placement(NamedTuple):
    """An image resized to `resized` (width, height); (left, top) of it is the upper left corner of the model input.

    Negative values are padding with `fill`. `scale_x` and `scale_y` convert original to resized coordinates.
    """

    resized: tuple[int, int]
    left: int
    top: int
    fill: int
    scale_x: float
    scale_y: float


def compute_placement(width: int, height: int, spec: ImageInput) -> Placement | None:
    """Return the placement of an image of this size; None if the size is wrong and must not be changed."""
    resized = _compute_resized_size(width, height, spec)
    corner: tuple[int, int] | None
    match spec.resize:
        case "pad":
            corner, fill = _compute_pad_corner(resized, spec), spec.pad_value
        case "none" | "exact" | "shorter":
            corner, fill = _compute_crop_corner(resized, spec), 0
        case rule:
            assert_never(rule)
    return corner and Placement(resized, *corner, fill, resized[0] / width, resized[1] / height)


def _compute_resized_size(width: int, height: int, spec: ImageInput) -> tuple[int, int]:
    """Return width and height after resizing, before cropping or padding."""
    high, wide = spec.size
    to = spec.resize_to
    match spec.resize:
        case "none":
            return width, height
        case "exact":
            if isinstance(to, int):
                return to, to
            return (to[1], to[0]) if to else (wide, high)
        case "pad":
            ratio = min(high / height, wide / width)
            return max(1, round(width * ratio)), max(1, round(height * ratio))
        case "shorter":
            short = to if isinstance(to, int) else min(high, wide)
            if width <= height:
                return short, int(short * height / width)
            return int(short * width / height), short


def _compute_crop_corner(resized: tuple[int, int], spec: ImageInput) -> tuple[int, int] | None:
    """Return the corner of the crop; None if the image must not be cropped."""
    high, wide = spec.size
    if resized == (wide, high):
        return 0, 0
    if spec.crop == "none" or (spec.resize == "none" and (resized[0] < wide or resized[1] < high)):
        return None
    return _compute_crop_start(resized[0], wide), _compute_crop_start(resized[1], high)


def _compute_crop_start(have: int, want: int) -> int:
    """Return the start of a crop; negative for padding."""
    return round((have - want) / 2.0) if have >= want else -((want - have) // 2)


def _compute_pad_corner(resized: tuple[int, int], spec: ImageInput) -> tuple[int, int]:
    if spec.pad_align == "corner":
        return 0, 0
    return -((spec.size[1] - resized[0]) // 2), -((spec.size[0] - resized[1]) // 2)


def sample_neighbors(values: Array, height: int, width: int, *, cubic: bool) -> Array:
    """Resize uint8 [h, w] or [h, w, c] by 2 (or 4) neighbors along each axis, rounded to uint8."""
    down = _sample_axis(values.astype(np.float32), height, 0, cubic=cubic)
    both = _sample_axis(down, width, 1, cubic=cubic)
    return np.clip(np.rint(both), 0, 255).astype(np.uint8)


def _sample_axis(values: Array, size: int, axis: int, *, cubic: bool) -> Array:
    have = values.shape[axis]
    at = (np.arange(size, dtype=np.float64) + 0.5) * (have / size) - 0.5
    if not cubic:
        at = np.maximum(at, 0.0)
    first = np.floor(at).astype(np.int64)
    offsets, weights = _compute_cubic_weights(at - first) if cubic else ((0, 1), [1 - (at - first), at - first])
    shape = [1] * values.ndim
    shape[axis] = size
    out: Array = np.zeros([size if i == axis else n for i, n in enumerate(values.shape)], np.float32)
    for offset, weight in zip(offsets, weights, strict=True):
        taken = values.take(np.clip(first + offset, 0, have - 1), axis=axis)
        out += taken * weight.astype(np.float32).reshape(shape)
    return out


def _compute_cubic_weights(t: Array) -> tuple[tuple[int, ...], list[Array]]:
    """Return the weights of Keys' cubic convolution (IEEE Trans. ASSP 29, 1981) for four neighbors."""
    a = CUBIC_A

    def near(x: Array) -> Array:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: Array) -> Array:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    return (-1, 0, 1, 2), [far(t + 1), near(t), near(1 - t), far(2 - t)]
