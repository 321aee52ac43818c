"""Pictures: every rule of resizing against golden vectors, every kind of file against what it shows."""

import itertools
import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from edgewright.tasks.data import images
from edgewright.tasks.data.images import (
    FORMATS,
    SUFFIXES,
    UnreadableSample,
    decode,
    resize_and_crop,
    to_image,
    to_tensor,
)
from edgewright.tasks.spec.task import ImageInput
from tests.tasks.data.image_files import ROWS, encode, noise, smooth

# Pillow 13's own resize of ROWS to 3 × 2 in each filter.
PILLOW = {
    "nearest": [[70, 90, 110], [190, 210, 230]],
    "bilinear": [[50, 68, 86], [144, 162, 180]],
    "bicubic": [[40, 60, 80], [150, 170, 190]],
    "lanczos": [[37, 57, 77], [153, 173, 193]],
    "box": [[35, 55, 75], [155, 175, 195]],
    "hamming": [[40, 59, 78], [152, 171, 190]],
}
# torch 2.13's interpolate(align_corners=False, antialias=False) of ROWS to 4 × 3, before rounding.
TORCH = {
    "bilinear": [[12.5, 27.5, 42.5, 57.5], [92.5, 107.5, 122.5, 137.5], [172.5, 187.5, 202.5, 217.5]],
    "bicubic": [
        [9.483503, 24.600695, 40.538197, 55.655384],
        [91.914062, 107.03125, 122.96875, 138.085938],
        [174.344671, 189.461838, 205.399338, 220.516525],
    ],
}


def spec(size: tuple[int, int], **more: Any) -> ImageInput:
    return ImageInput(name="x", size=size, **more)


def prepare(picture: Image.Image, one: ImageInput) -> np.ndarray:
    return resize_and_crop(picture, one)[0]


@pytest.mark.parametrize("name", list(PILLOW))
def test_filters_are_pillows(name: Any) -> None:
    one = spec((2, 3), resize="exact", interpolation=name, color="gray")
    assert prepare(Image.fromarray(ROWS), one)[:, :, 0].tolist() == PILLOW[name]


@pytest.mark.parametrize("name", list(TORCH))
def test_neighbors_are_torchs(name: Any) -> None:
    one = spec((3, 4), resize="exact", interpolation=name, antialias=False, color="gray")
    got = prepare(Image.fromarray(ROWS), one)[:, :, 0].astype(float)
    assert np.abs(got - np.array(TORCH[name])).max() <= 0.5 + 1e-4


def test_neighbors_of_color_and_of_one_pixel() -> None:
    picture = noise(7, 5)
    one = spec((3, 4), resize="exact", antialias=False)
    planes = [prepare(plane, spec((3, 4), resize="exact", antialias=False, color="gray")) for plane in picture.split()]
    assert np.array_equal(prepare(picture, one), np.concatenate(planes, axis=2))
    dot = Image.fromarray(np.full((1, 1, 3), 77, np.uint8))
    assert (prepare(dot, spec((5, 4), resize="exact", antialias=False, interpolation="bicubic")) == 77).all()


# torchvision: Resize(int) makes the longer side int(size * long / short), CenterCrop begins at int(round((h - t) / 2)).
@pytest.mark.parametrize(
    ("size", "resized", "corner"),
    [
        ((640, 427), (383, 256), (80, 16)),  # (383 − 224) / 2 = 79.5 → 80
        ((427, 640), (256, 383), (16, 80)),
        ((500, 375), (341, 256), (58, 16)),  # 58.5 → 58: half goes to even
        ((256, 256), (256, 256), (16, 16)),
        ((100, 300), (256, 768), (16, 272)),
    ],
)
def test_shorter_and_center_are_torchvisions(
    size: tuple[int, int], resized: tuple[int, int], corner: tuple[int, int]
) -> None:
    picture = noise(*size)
    expected = picture.resize(resized, Image.Resampling.BILINEAR) if size != resized else picture
    left, top = corner
    got, placement = resize_and_crop(picture, spec((224, 224), resize_to=256))
    assert (placement.resized, placement.left, placement.top) == (resized, left, top)
    assert np.array_equal(got, np.asarray(expected)[top : top + 224, left : left + 224])


def test_a_crop_larger_than_the_picture_is_filled_with_zeros_as_torchvisions() -> None:
    got = prepare(Image.fromarray(np.full((10, 10, 3), 9, np.uint8)), spec((10, 15), resize="shorter"))
    assert (got[:, :2] == 0).all()  # (15 − 10) // 2 on the left, one more on the right
    assert (got[:, 2:12] == 9).all()
    assert (got[:, 12:] == 0).all()


def test_pad_keeps_the_ratio_and_fills_the_rest() -> None:
    picture = smooth(300, 200)
    got, placement = resize_and_crop(picture, spec((64, 64), resize="pad", pad_value=114))
    assert placement.resized == (64, 43)
    inner = np.asarray(picture.resize((64, 43), Image.Resampling.BILINEAR))
    assert np.array_equal(got[10:53], inner)
    assert (got[:10] == 114).all()
    assert (got[53:] == 114).all()
    corner = prepare(picture, spec((64, 64), resize="pad", pad_align="corner"))
    assert np.array_equal(corner[:43], inner)
    assert (corner[43:] == 0).all()


def test_exact_and_then_a_crop() -> None:
    picture = noise(50, 30)
    got = prepare(picture, spec((20, 16), resize="exact", resize_to=(24, 32), interpolation="bicubic"))
    assert np.array_equal(got, np.asarray(picture.resize((32, 24), Image.Resampling.BICUBIC))[2:22, 8:24])


@pytest.mark.parametrize("resize", ["none", "shorter"])
def test_what_does_not_fit_is_not_made_to(resize: Any) -> None:
    with pytest.raises(UnreadableSample, match="the model takes 8 × 8"):
        resize_and_crop(noise(9, 12), spec((8, 8), resize=resize, crop="none"))
    with pytest.raises(UnreadableSample):
        resize_and_crop(noise(7, 9), spec((8, 8), resize="none"))


def test_scaling_is_exact_for_every_value() -> None:
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    one = spec((16, 16), color="gray", mean=127.5, std=127.5, resize="none")
    got = to_tensor(prepare(ramp, one), one)
    assert got.shape == (1, 1, 16, 16)
    assert got.dtype == np.float32
    assert np.array_equal(got.ravel(), ((np.arange(256) - 127.5) / 127.5).astype(np.float32))
    other = spec((16, 16), color="gray", scale=1 / 255, mean=0.5, std=0.25, resize="none", layout="NHWC")
    assert np.array_equal(
        to_tensor(prepare(ramp, other), other).ravel(), ((np.arange(256) / 255 - 0.5) / 0.25).astype(np.float32)
    )


@pytest.mark.parametrize("mean", [10.0, (1.0, 2.0, 3.0)])
@pytest.mark.parametrize("color", ["RGB", "BGR"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_channels_and_layouts(layout: Any, color: Any, mean: Any) -> None:
    picture = noise(6, 5)
    one = spec((5, 6), layout=layout, color=color, mean=mean, resize="none")
    values = np.asarray(picture).astype(np.float32)
    values = (values[..., ::-1] if color == "BGR" else values) - np.array(mean, np.float32)
    expected = values.transpose(2, 0, 1) if layout == "NCHW" else values
    got = to_tensor(prepare(picture, one), one)
    assert np.array_equal(got[0], expected)
    assert got.flags["C_CONTIGUOUS"]


def test_integers_are_rounded_half_to_even_and_clipped() -> None:
    row = Image.fromarray(np.array([[0, 1, 2, 3, 255]], np.uint8))
    one = spec((1, 5), color="gray", mean=128, resize="none", dtype="int8")
    assert to_tensor(prepare(row, one), one).ravel().tolist() == [-128, -127, -126, -125, 127]
    half = spec((1, 5), color="gray", std=2, resize="none", dtype="uint8")
    assert to_tensor(prepare(row, half), half).ravel().tolist() == [0, 0, 1, 2, 128]


RGB = spec((4, 6), resize="none")


def values_of(data: bytes, one: ImageInput = RGB) -> np.ndarray:
    return np.asarray(decode(data, one))


def test_gray_becomes_three_equal_channels() -> None:
    got = values_of(encode(Image.fromarray(ROWS)))
    assert np.array_equal(got, np.stack([ROWS] * 3, axis=2))


def test_color_becomes_gray_by_pillows_weights() -> None:
    picture = noise(6, 4)
    got = values_of(encode(picture), spec((4, 6), color="gray"))
    assert np.array_equal(got, np.asarray(picture.convert("L")))


def test_cmyk() -> None:
    picture = smooth(32, 24).convert("CMYK")
    got = values_of(encode(picture, "JPEG", quality=95))
    assert got.shape == (24, 32, 3)
    assert np.abs(got.astype(int) - np.asarray(picture.convert("RGB"))).max() < 24


def test_16_bits_are_scaled_and_not_clipped() -> None:
    wide = np.array([[0, 256, 32768, 65535]], np.uint16)
    for one in (RGB, spec((1, 4), color="gray")):
        got = values_of(encode(Image.fromarray(wide)), one)
        assert got[0, :, 0].tolist() if got.ndim == 3 else got[0].tolist() == [0, 1, 128, 255]
    assert values_of(encode(Image.fromarray(wide)))[0, :, 1].tolist() == [0, 1, 128, 255]


def test_floats_have_no_known_range() -> None:
    picture = Image.fromarray(np.ones((4, 6), np.float32))
    with pytest.raises(UnreadableSample, match="is unknown"):
        decode(encode(picture, "TIFF"), RGB)


def test_transparency_goes_as_the_task_says() -> None:
    values = np.zeros((4, 6, 4), np.uint8)
    values[..., 0], values[..., 3] = 200, 0
    values[0, 0, 3] = 255
    data = encode(Image.fromarray(values))
    assert (values_of(data) == [200, 0, 0]).all()
    white = values_of(data, spec((4, 6), alpha="white"))
    assert white[0, 0].tolist() == [200, 0, 0]
    assert (white[1:] == 255).all()
    assert (values_of(data, spec((4, 6), alpha="black"))[1:] == 0).all()


def test_a_palette_with_a_transparent_color() -> None:
    picture = Image.fromarray(np.array([[0, 1, 1, 0]], np.uint8), "L").convert("P")
    picture.putpalette([10, 20, 30, 40, 50, 60])
    data = encode(picture, transparency=1)
    assert values_of(data)[0].tolist() == [[10, 20, 30], [40, 50, 60], [40, 50, 60], [10, 20, 30]]
    white = values_of(data, spec((1, 4), alpha="white"))[0].tolist()
    assert white == [[10, 20, 30], [255, 255, 255], [255, 255, 255], [10, 20, 30]]


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_turns_the_picture_upright(turn: int) -> None:
    picture = smooth(48, 32)
    undo: dict[int, Any] = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = picture.transpose(undo[turn]) if turn > 1 else picture
    exif = Image.Exif()
    exif[0x0112] = turn
    got = values_of(encode(stored, "JPEG", exif=exif, quality=95, subsampling=0))
    assert got.shape == (32, 48, 3)
    assert np.abs(got.astype(int) - np.asarray(picture)).max() < 16


def test_a_broken_exif_block_turns_nothing() -> None:
    got = values_of(encode(smooth(16, 8), "JPEG", exif=b"Exif\0\0broken block"))
    assert got.shape == (8, 16, 3)


def test_progressive_jpeg_and_other_formats() -> None:
    picture = smooth(40, 30)
    for format, options in (("JPEG", {"progressive": True}), ("WEBP", {"lossless": True}), ("BMP", {}), ("GIF", {})):
        got = values_of(encode(picture, format, **options))
        assert np.abs(got.astype(int) - np.asarray(picture)).mean() < 8, format


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
def test_truncated_files_are_unreadable(format: str) -> None:
    data = encode(noise(64, 64), format)
    for end in (0, 1, 10, len(data) // 2):
        with pytest.raises(UnreadableSample):
            decode(data[:end], RGB)


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, b"GIF89a" + b"\xff" * 20])
def test_rubbish_is_unreadable(data: bytes) -> None:
    with pytest.raises(UnreadableSample):
        decode(data, RGB)


def test_a_picture_that_is_a_program_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow has Ghostscript run an EPS file, whatever its name ends with."""
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(UnreadableSample, match="format is not supported"):
        decode(eps, RGB)
    assert not (tmp_path / "ran").exists()


def test_every_suffix_is_of_a_known_format() -> None:
    assert {Image.registered_extensions().get(suffix) for suffix in SUFFIXES} <= {*FORMATS, None}


def png_of(width: int, height: int) -> bytes:
    """Return a PNG of this size in one color: some bytes that would become gigabytes."""

    def block(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 10_000)
    return b"\x89PNG\r\n\x1a\n" + block(b"IHDR", head) + block(b"IDAT", body) + block(b"IEND", b"")


@pytest.mark.parametrize("size", [(10_000, 10_000), (60_000, 60_000)])
def test_a_picture_that_would_fill_the_memory_is_rejected(size: tuple[int, int]) -> None:
    with pytest.raises(UnreadableSample, match="pixels"):
        decode(png_of(*size), RGB)


def test_a_thread_of_a_picture_is_not_blown_up() -> None:
    with pytest.raises(UnreadableSample, match="pixels, the limit is"):
        resize_and_crop(Image.new("RGB", (40_000, 4)), spec((224, 224), resize_to=256))


def test_mutated_files_raise_nothing_else() -> None:
    random = np.random.default_rng(7)
    whole = [encode(smooth(24, 16), format) for format in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP")]
    for data in whole:
        for _ in range(60):
            bad = bytearray(data)
            for place in random.integers(0, len(bad), 4):
                bad[place] = random.integers(0, 256)
            try:
                decode(bytes(bad), RGB)
            except UnreadableSample:
                continue


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP"])
def test_reading_ends_at_the_time_limit(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In any thread: a file may cost its reader hours, as a JPEG of many passes over its pixels does."""
    data = encode(noise(256, 256), format)
    clock = itertools.count(0, 40)
    monkeypatch.setattr(images, "monotonic", lambda: next(clock))
    monkeypatch.setenv("EDGEWRIGHT_TIME_LIMIT", "30")
    with (
        ThreadPoolExecutor(1) as pool,
        pytest.raises(UnreadableSample, match=r"over 30 s, the time limit \(EDGEWRIGHT_TIME_LIMIT\)"),
    ):
        pool.submit(decode, data, RGB).result()
    monkeypatch.setenv("EDGEWRIGHT_TIME_LIMIT", "none")
    assert decode(data, RGB).size == (256, 256)


def test_arrays_as_pictures() -> None:
    assert to_image(ROWS).size == (6, 4)
    assert to_image(ROWS[:, :, None]).mode == "L"
    assert to_image(np.zeros((2, 3, 4), np.uint8)).mode == "RGBA"
    for bad in (np.zeros((2, 3)), np.zeros((2, 3, 5), np.uint8), np.zeros(4, np.uint8), np.zeros((0, 3), np.uint8)):
        with pytest.raises(UnreadableSample):
            to_image(bad)


def test_the_limit_is_where_pillow_warns() -> None:
    assert images.MAX_PIXELS == Image.MAX_IMAGE_PIXELS
    assert Image.open(BytesIO(encode(noise(3, 3)))).size == (3, 3)
