"""Decoding and preprocessing of images. Golden vectors in tests/tasks check every rule."""

from functools import cache, lru_cache
from io import BytesIO
from time import monotonic

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from edgewright.limits import TIME_VARIABLE, read_budget
from edgewright.schema.arrays import Array
from edgewright.tasks.data.resize import Placement, compute_placement, sample_neighbors
from edgewright.tasks.spec.task import ImageInput

MAX_PIXELS = 89_478_485  # Pillow's limit before it warns of a decompression bomb
# Errors of Pillow's readers for damaged files, and their warnings if warnings are errors.
DECODE_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    LookupError,
    EOFError,
    TypeError,
    MemoryError,
    OverflowError,
    UserWarning,
)
FILLS = {"white": (255, 255, 255, 255), "black": (0, 0, 0, 255)}
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".avif")
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF")  # Pillow's names


class UnreadableSample(ValueError):
    """The error that a sample cannot be used; it is skipped and counted."""


class TimedFile(BytesIO):
    """The bytes of a sample as a file that raises UnreadableSample when it is read after the time limit.

    A file can make its reader work for each byte: a JPEG of 10 MB may have 100,000 passes over its pixels. Readers ask
    for pieces, so this ends them in any thread and on any system.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._seconds, self._began = read_budget().seconds, monotonic()

    def read(self, size: int | None = -1, /) -> bytes:
        if monotonic() - self._began > self._seconds:
            raise UnreadableSample(f"reading it takes over {self._seconds:.3g} s, the time limit ({TIME_VARIABLE})")
        return super().read(size)


def decode(data: bytes, spec: ImageInput) -> Image.Image:
    """Decode an image, rotated by its EXIF data, in mode RGB or L (for `gray`). Raises UnreadableSample.

    Of an animation the first frame is used. Color profiles are not applied, as in training loaders.
    """
    try:
        image = Image.open(TimedFile(data), formats=known_formats())
        _check_pixels(image.width, image.height)
        image.load()
        return to_mode(apply_exif_orientation(image), spec)
    except UnidentifiedImageError:
        raise UnreadableSample("its image format is not supported") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnreadableSample(f"it has more than {MAX_PIXELS:,} pixels") from None
    except UnreadableSample:
        raise
    except (
        OSError,
        ValueError,
        SyntaxError,
        IndexError,
        EOFError,
        TypeError,
        MemoryError,
        OverflowError,
        UserWarning,
    ) as error:
        raise UnreadableSample(
            str(error).partition("\n")[0] or type(error).__name__
        ) from None  # each format has its own errors


@cache
def known_formats() -> tuple[str, ...]:
    """Return the supported formats that this Pillow decodes.

    Pillow detects formats by content, whatever the file name, and would run an interpreter for some (EPS).
    """
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise UnreadableSample(f"it has {width} × {height} pixels, the limit is {MAX_PIXELS:,}")


def apply_exif_orientation(image: Image.Image) -> Image.Image:
    """Rotate an image by its EXIF data; a damaged EXIF block is ignored."""
    if not image.info.get("exif") and image.format in ("JPEG", "PNG", "WEBP"):
        return image
    try:
        return ImageOps.exif_transpose(image)
    except (ValueError, SyntaxError, TypeError, KeyError, OSError, ZeroDivisionError, UserWarning):
        return image


def to_mode(image: Image.Image, spec: ImageInput) -> Image.Image:
    """Convert to 8 bits per channel: scale 16-bit gray, look up palettes, apply `alpha` to transparency."""
    wanted = "L" if spec.color == "gray" else "RGB"
    if image.mode == wanted and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        image = _to_8_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")  # including a palette's transparent color
        if spec.alpha != "drop":
            ground = Image.new("RGBA", image.size, FILLS[spec.alpha])
            image = Image.alpha_composite(ground, image)
        image = image.convert("RGB")
    return image if image.mode == wanted else image.convert(wanted)


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Convert 16-bit gray as v × 255 / 65535, rounded; Pillow's convert would clip at 255."""
    values = np.asarray(image)
    if image.mode == "F" or values.min(initial=0) < 0 or values.max(initial=0) > 0xFFFF:
        raise UnreadableSample(f"the range of its values (mode {image.mode}) is unknown")
    return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))


def to_image(values: Array) -> Image.Image:
    """Return an image from uint8 [height, width] or [height, width, 1 or 3 or 4]. Raises UnreadableSample."""
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if values.dtype != np.uint8 or not (values.ndim == 2 or (values.ndim == 3 and values.shape[2] in (3, 4))):
        raise UnreadableSample(
            f"an image must be uint8 [h, w] or [h, w, 3]; the array is {values.dtype} {list(values.shape)}"
        )
    if 0 in values.shape:
        raise UnreadableSample("it has no pixels")
    return Image.fromarray(np.ascontiguousarray(values))


def resize_and_crop(image: Image.Image, spec: ImageInput) -> tuple[Array, Placement]:
    """Return uint8 [height, width, channels], resized, cropped and padded, in the order of `color`, and its placement.

    Raises UnreadableSample if the image has another size and must not be resized.
    """
    placement = compute_placement(image.width, image.height, spec)
    if placement is None:
        raise UnreadableSample(
            f"it is {image.width} × {image.height}, the model takes {spec.size[1]} × {spec.size[0]}, "
            f'and resize is "{spec.resize}"'
        )
    _check_pixels(*placement.resized)
    if image.size != placement.resized:
        image = _resize(image, placement.resized, spec)
    height, width = spec.size
    left, top = placement.left, placement.top
    if (left, top, *image.size) != (0, 0, width, height):
        inside = (max(0, left), max(0, top), min(image.width, left + width), min(image.height, top + height))
        image = image.crop(inside)
    values = np.asarray(image)
    values = values[:, :, np.newaxis] if values.ndim == 2 else values
    if values.shape[:2] != spec.size:
        canvas = np.full((*spec.size, values.shape[2]), placement.fill, np.uint8)
        y, x = max(0, -top), max(0, -left)
        canvas[y : y + values.shape[0], x : x + values.shape[1]] = values
        values = canvas
    return (values[:, :, ::-1] if spec.color == "BGR" else values), placement


def _resize(image: Image.Image, size: tuple[int, int], spec: ImageInput) -> Image.Image:
    """Resize to `size` (width, height)."""
    if spec.antialias or spec.interpolation == "nearest":
        return image.resize(size, FILTERS[spec.interpolation])
    return Image.fromarray(sample_neighbors(np.asarray(image), size[1], size[0], cubic=spec.interpolation == "bicubic"))


def prepare_image(image: Image.Image, spec: ImageInput) -> tuple[Array, Placement]:
    """Return the model input of an image in mode RGB or L (for `gray`), and its placement. Raises UnreadableSample."""
    values, placement = resize_and_crop(image, spec)
    return to_tensor(values, spec), placement


def to_tensor(values: Array, spec: ImageInput) -> Array:
    """Convert uint8 [height, width, channels] to the normalized model input: a batch of 1, its layout and dtype."""
    table = make_value_table(spec)
    out: Array = np.empty(spec.shape, spec.dtype)
    planes = out[0] if spec.layout == "NCHW" else out[0].transpose(2, 0, 1)
    if (table == table[0]).all():
        np.take(table[0], values.transpose(2, 0, 1) if spec.layout == "NCHW" else values, out=out[0], mode="clip")
        return out
    for channel in range(spec.channels):  # mode="clip" writes directly to `out`, "raise" would buffer
        np.take(table[channel], values[:, :, channel], out=planes[channel], mode="clip")
    return out


@lru_cache(maxsize=16)
def make_value_table(spec: ImageInput) -> Array:
    """Return the table of scaled values [channels, 256], computed in float64 and rounded once."""
    v = np.arange(256, dtype=np.float64)
    scale, mean, std = (
        np.broadcast_to(np.asarray(one, np.float64), spec.channels)[:, None]
        for one in (spec.scale, spec.mean, spec.std)
    )
    return store_values((v * scale - mean) / std, spec.dtype)


def store_values(values: Array, dtype: str) -> Array:
    """Convert real values to a dtype: integers are rounded half to even and clipped."""
    if np.dtype(dtype).kind in "iu":
        limits = np.iinfo(dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    stored: Array = values.astype(dtype)
    return stored
