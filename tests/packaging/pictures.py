"""Pictures and image inputs of every rule, and the model inputs that the reference computes of them."""

from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace
from PIL import Image, ImageOps

from edgewright.kernels.checks.buffers import Rng
from edgewright.kernels.checks.preprocessing import make_image_input
from edgewright.kernels.preprocessing import PILLOW_ORDERS_PASSES
from edgewright.schema.arrays import Array
from edgewright.tasks.data.images import UnreadableSample, prepare_image, to_image, to_mode
from edgewright.tasks.spec.task import ImageInput

MOST_PIXELS = 96
TALL = 100  # Pillow 12 may resize images above this ratio in another order


class Picture(NamedTuple):
    """Decoded pixels and the EXIF orientation that comes with them.

    Attributes:
        pixels: uint8 [height, width, 1, 3 or 4].
        orientation: 1 to 8.
    """

    pixels: Array
    orientation: int


def make_picture(rng: Rng) -> Picture:
    """Return a picture of odd size: gray, in color, or with transparency."""
    height, width = (int(one) for one in rng.integers(1, MOST_PIXELS, 2))
    channels = int(rng.choice([1, 3, 3, 4]))
    base = rng.integers(0, 256, (max(2, height // 7), max(2, width // 7), channels), np.uint8)
    smooth = np.stack(
        [np.asarray(Image.fromarray(base[:, :, k]).resize((width, height), 3)) for k in range(channels)], axis=-1
    )
    noisy = smooth.astype(np.int32) + rng.integers(-20, 21, smooth.shape)
    return Picture(noisy.clip(0, 255).astype(np.uint8), int(rng.integers(1, 9)))


def compute_reference(picture: Picture, spec: ImageInput) -> Array | None:
    """Return the model input that `edgewright evaluate` computes; None if it rejects the picture."""
    image = to_image(picture.pixels)
    image.getexif()[0x0112] = picture.orientation
    try:
        return prepare_image(to_mode(ImageOps.exif_transpose(image), spec), spec)[0]
    except UnreadableSample:
        return None


def make_cases(seed: int, count: int) -> list[tuple[Picture, ImageInput, Array | None]]:
    """Return `count` pictures with an image input each, and the reference's model input."""
    rng, cases = np.random.default_rng(seed), []
    while len(cases) < count:
        picture, alpha = make_picture(rng), rng.choice(["drop", "white", "black"])
        spec = replace(make_image_input(rng), alpha=str(alpha))
        if not PILLOW_ORDERS_PASSES and max(picture.pixels.shape[:2]) > TALL * min(picture.pixels.shape[:2]):
            continue
        cases.append((picture, spec, compute_reference(picture, spec)))
    return cases


def describe_input(spec: ImageInput) -> dict[str, Any]:
    """Return the parameters of generated projects."""
    import msgspec

    return {**msgspec.to_builtins(spec), "rows_first_if_tall": PILLOW_ORDERS_PASSES}
