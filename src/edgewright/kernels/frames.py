"""Camera frames in YUV."""

from typing import Literal, NamedTuple

import numpy as np

from edgewright.errors import DataError
from edgewright.schema.arrays import Array

YuvFormat = Literal["nv21", "nv12", "i420"]


class YuvFrame(NamedTuple):
    """A camera frame: BT.601, limited range, one pair of chroma values for 2 × 2 pixels.

    Attributes:
        format: `nv21` (a plane of V, U pairs, Android's), `nv12` (U, V), `i420` (planes of U and V).
        planes: uint8 [height, width] of luma; of chroma [⌈height / 2⌉, 2 · ⌈width / 2⌉], or twice
            [⌈height / 2⌉, ⌈width / 2⌉]. Rows may have gaps between them.
    """

    format: YuvFormat
    planes: tuple[Array, ...]


def check_yuv(frame: YuvFrame) -> None:
    """Raise DataError if the planes do not fit the format."""
    luma = frame.planes[0] if frame.planes else None
    if luma is None or luma.ndim != 2 or 0 in luma.shape:
        raise DataError("the frame cannot be preprocessed", "it has no luma plane", "give planes of uint8 [h, w]")
    high, wide = ((side + 1) // 2 for side in luma.shape)
    chroma = ((high, wide),) * 2 if frame.format == "i420" else ((high, 2 * wide),)
    want, got = (luma.shape, *chroma), tuple(plane.shape for plane in frame.planes)
    if want != got or any(plane.dtype != np.uint8 for plane in frame.planes):
        raise DataError(
            f"the {frame.format} frame cannot be preprocessed",
            f"its planes are {got}, not uint8 {want}",
            "give the planes of one frame, without the bytes between rows",
        )


def convert_yuv(frame: YuvFrame) -> Array:
    """Return uint8 [height, width, 3], RGB; integer arithmetic in 20 bits, as the compiled core."""
    height, width = frame.planes[0].shape
    if frame.format == "i420":
        u, v = frame.planes[1:]
    else:
        pairs = frame.planes[1].reshape(frame.planes[1].shape[0], -1, 2)
        u, v = (pairs[..., 1], pairs[..., 0]) if frame.format == "nv21" else (pairs[..., 0], pairs[..., 1])
    u, v = (np.repeat(np.repeat(one, 2, 0), 2, 1)[:height, :width].astype(np.int32) - 128 for one in (u, v))
    light = np.maximum(frame.planes[0].astype(np.int32) - 16, 0) * 1220542 + (1 << 19)
    colors = (light + 1673527 * v, light - 852492 * v - 409993 * u, light + 2116026 * u)
    return np.stack([np.clip(one >> 20, 0, 255) for one in colors], axis=-1).astype(np.uint8)
