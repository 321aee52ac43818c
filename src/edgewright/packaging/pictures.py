"""Pictures of golden vectors: decoded pixels with their orientation, from files or generated."""

from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import numpy as np
from PIL import Image

from edgewright.schema.arrays import Array
from edgewright.tasks.data.images import (
    DECODE_ERRORS,
    TimedFile,
    UnreadableSample,
    decode,
    known_formats,
    prepare_image,
    to_image,
    to_mode,
)
from edgewright.tasks.data.resize import compute_placement
from edgewright.tasks.spec.task import ImageInput

ORIENTATION_TAG = 0x0112
# What turns the stored pixels upright, by the value of EXIF's orientation tag.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SWAPPING = (5, 6, 7, 8)  # height becomes width
# Width, height, channels and orientation of the generated pictures; 0 for those of the model's input.
GENERATED = (
    (0, 0, 3, 1), (97, 131, 3, 1), (160, 73, 1, 1), (120, 95, 4, 1), (64, 111, 3, 6), (31, 47, 3, 3), (211, 150, 4, 5),
    (333, 97, 3, 1), (0, 0, 1, 2), (0, 0, 4, 4), (55, 41, 1, 7), (101, 67, 3, 8),
)  # fmt: skip


class GoldenPicture(NamedTuple):
    """Decoded pixels as a decoder returns them, and EXIF's orientation tag, which is not applied.

    Attributes:
        pixels: uint8 [height, width, channels]; 1 is gray, 3 is RGB, 4 is RGB and alpha (not premultiplied).
        orientation: from 1, which changes nothing, to 8.
    """

    pixels: Array
    orientation: int = 1


def prepare_picture(picture: GoldenPicture, spec: ImageInput) -> Array:
    """Return the model input of a picture, as `edgewright evaluate` computes it. Raises UnreadableSample."""
    image = to_image(picture.pixels)
    if (turn := TURNS.get(picture.orientation)) is not None:  # one of them is 0
        image = image.transpose(turn)
    return prepare_image(to_mode(image, spec), spec)[0]


def decode_picture(data: bytes, spec: ImageInput) -> GoldenPicture:
    """Return the pixels of an image file, from which `prepare_picture` computes what `evaluate` does.

    Raises UnreadableSample.
    """
    upright = decode(data, spec)
    wanted = prepare_image(upright, spec)[0]
    for picture in _list_decoded(data, spec):
        if np.array_equal(prepare_picture(picture, spec), wanted):
            return picture
    return GoldenPicture(_get_pixels(upright))  # such as CMYK as gray


def _list_decoded(data: bytes, spec: ImageInput) -> Iterator[GoldenPicture]:
    try:
        with Image.open(TimedFile(data), formats=known_formats()) as image:
            orientation = image.getexif().get(ORIENTATION_TAG, 1)
            if image.has_transparency_data:
                plain = image.convert("RGBA")
            else:
                plain = image if image.mode == "L" else to_mode(image, msgspec.structs.replace(spec, color="RGB"))
            yield GoldenPicture(_get_pixels(plain), orientation if orientation in TURNS else 1)
    except DECODE_ERRORS:
        return


def _get_pixels(image: Image.Image) -> Array:
    values = np.asarray(image)
    return values[:, :, np.newaxis] if values.ndim == 2 else values


def make_pictures(spec: ImageInput, count: int) -> list[GoldenPicture]:
    """Return pictures that the task accepts: odd sizes, gray, alpha, all orientations. The same in every run.

    Raises UnreadableSample if there is none.
    """
    found: list[GoldenPicture] = []
    for number in range(max(count, len(GENERATED)) * 2):
        if len(found) == count:
            break
        picture = _make_picture(number, spec)
        height, width = picture.pixels.shape[:2]
        size = (height, width) if picture.orientation in SWAPPING else (width, height)
        if compute_placement(*size, spec) is not None:
            found.append(picture)
    if not found:
        raise UnreadableSample(f'no size of a picture fits: resize is "{spec.resize}" and crop "{spec.crop}"')
    return found


def _make_picture(number: int, spec: ImageInput) -> GoldenPicture:
    width, height, channels, orientation = GENERATED[number % len(GENERATED)]
    again = number // len(GENERATED)
    if not width or (again and spec.resize == "none"):
        height, width = spec.size
        if orientation in SWAPPING:
            height, width = width, height
    elif again:
        width, height = width + 13 * again, height + 7 * again
    return GoldenPicture(_draw(width, height, channels, number), orientation)


def _draw(width: int, height: int, channels: int, number: int) -> Array:
    """Return a pattern of smooth and sharp parts, computed in integers, so that every machine draws the same."""
    y, x, c = np.ogrid[:height, :width, :channels]
    smooth = (x * (211 + 7 * c) // width + y * (173 + 11 * c) // height) * (2 + number % 3) // 3
    blocks = ((x // 5 + 2 * (y // 7) + c + number) % 4) * 21
    noise = (x * 7919 + y * 104729 + c * 1299709 + number * 15485863) % 31
    values: Array = ((smooth + blocks + noise) % 256).astype(np.uint8)
    return values
