"""Pictures of golden vectors: from files, and generated."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from edgewright.packaging.pictures import SWAPPING, decode_picture, make_pictures, prepare_picture
from edgewright.tasks.data.images import UnreadableSample, decode, prepare_image
from edgewright.tasks.spec.task import ImageInput

SPEC = ImageInput(name="x", size=(24, 20), alpha="white", mean=(1.0, 2.0, 3.0))


def encode(mode: str, kind: str, orientation: int = 1) -> bytes:
    values = np.random.default_rng(7).integers(0, 256, (33, 47, 4), np.uint8)
    image = Image.fromarray(values).convert("RGB" if mode == "CMYK" else mode).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = BytesIO()
    image.save(file, kind, exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("color", ["RGB", "gray", "BGR"])
@pytest.mark.parametrize(
    ("mode", "kind", "channels"),
    [("RGB", "JPEG", 3), ("L", "JPEG", 1), ("CMYK", "JPEG", 3), ("RGBA", "PNG", 4), ("LA", "PNG", 4), ("P", "PNG", 4)],
)
def test_decoded_pixels_lead_to_the_input_of_the_file(mode: str, kind: str, channels: int, color: str) -> None:
    spec = ImageInput(name="x", size=(24, 20), alpha="white", color=color)  # type: ignore[arg-type]
    data = encode(mode, kind, 6)
    picture = decode_picture(data, spec)
    assert picture.pixels.shape[2] in (channels, 1 if color == "gray" else channels)
    assert np.array_equal(prepare_picture(picture, spec), prepare_image(decode(data, spec), spec)[0])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_kept_beside_the_pixels(orientation: int) -> None:
    data = encode("RGB", "PNG", orientation)
    picture = decode_picture(data, SPEC)
    assert picture.orientation == orientation
    assert picture.pixels.shape == (33, 47, 3)
    assert np.array_equal(prepare_picture(picture, SPEC), prepare_image(decode(data, SPEC), SPEC)[0])


def test_generated_pictures_have_odd_sizes_gray_alpha_and_all_kinds_of_turns() -> None:
    pictures = make_pictures(SPEC, 12)
    assert {one.pixels.shape[2] for one in pictures} == {1, 3, 4}
    assert {one.orientation for one in pictures} == set(range(1, 9))
    assert any(size % 2 for one in pictures for size in one.pixels.shape[:2])
    again = make_pictures(SPEC, 12)
    assert all(np.array_equal(one.pixels, other.pixels) for one, other in zip(pictures, again, strict=True))


def test_generated_pictures_fit_a_task_that_does_not_resize() -> None:
    spec = ImageInput(name="x", size=(24, 20), resize="none", crop="none")
    pictures = make_pictures(spec, 8)
    assert len(pictures) == 8
    for one in pictures:
        shape = one.pixels.shape[:2]
        assert (shape[::-1] if one.orientation in SWAPPING else shape) == (24, 20)


def test_a_file_that_is_no_image() -> None:
    with pytest.raises(UnreadableSample):
        decode_picture(b"no image", SPEC)


def test_no_picture_fits() -> None:
    spec = ImageInput(name="x", size=(24, 20), resize="exact", resize_to=(30, 30), crop="none")
    with pytest.raises(UnreadableSample, match="no size"):
        make_pictures(spec, 2)
