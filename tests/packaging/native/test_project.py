"""The C++ project on this machine: golden vectors, and each rule of the preprocessing bit for bit."""

import itertools
import json
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edgewright.api.field.package import PackageRequest, make_package
from edgewright.kernels.preprocessing import make_parameters
from edgewright.packaging.native.parameters import quote
from edgewright.packaging.pictures import GENERATED, make_pictures, prepare_picture
from edgewright.tasks.data.images import UnreadableSample
from edgewright.tasks.spec.task import ImageInput
from tests.paths import ROOT

DIGITS = ROOT / "src/edgewright/flows/digits"
RULES = Path(__file__).with_name("rules.cpp")
ALPHAS = ("drop", "white", "black")

needs_compiler = pytest.mark.skipif(
    not (shutil.which("cmake") and shutil.which("c++")), reason="needs cmake and a C++ compiler"
)


def run(*words: object, code: int = 0) -> str:
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stderr + done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the project of the demo's model, built in its folder `b`."""
    folder = tmp_path_factory.mktemp("native") / "app"
    model, task = str(DIGITS / "digits.onnx"), str(DIGITS / "task.toml")
    make_package(PackageRequest(target="native", artifacts=(model,), task=task, output=str(folder), samples=12))
    flags = ("-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_CXX_FLAGS=-Werror -O0", "-DCMAKE_C_FLAGS=-O1")
    run("cmake", "-S", folder, "-B", folder / "b", *flags)
    run("cmake", "--build", folder / "b", "--target", "golden", "-j", "2")
    return folder


@needs_compiler
def test_golden_vectors_are_equal_and_without_a_model_they_are_not(app: Path) -> None:
    golden = (app / "b/golden", app / "golden", app / "model/digits.onnx")
    result = json.loads(run(*golden))
    assert (result["equal"], result["inputs_bitwise"], result["samples"], result["pictures"]) == (True, True, 12, 12)
    assert result["max_abs"] < 1e-4
    assert json.loads(run(golden[0], golden[1], app / "none.onnx", code=1))["equal"] is False


def list_specs() -> list[ImageInput]:
    """Return a task's image input for each rule, and for combinations of them."""
    sizes: list[dict[str, Any]] = [
        {"resize": "shorter"}, {"resize": "shorter", "resize_to": 37}, {"resize": "exact"},
        {"resize": "exact", "resize_to": (31, 40)}, {"resize": "exact", "resize_to": (19, 9)},
        {"resize": "pad", "pad_value": 114}, {"resize": "pad", "pad_align": "corner"}, {"resize": "none"},
        {"resize": "none", "crop": "none"},
    ]  # fmt: skip
    filters = [*itertools.product(("nearest", "bilinear", "bicubic"), (True, False))]
    filters += [(name, True) for name in ("lanczos", "box", "hamming")]
    values: list[dict[str, Any]] = [
        {}, {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}, {"scale": 1 / 255, "color": "BGR"},
        {"color": "gray", "std": 16.0, "layout": "NHWC"}, {"dtype": "uint8", "layout": "NHWC"},
        {"dtype": "int8", "mean": 128.0}, {"dtype": "float16", "scale": 1 / 127.5, "mean": 1.0},
        {"dtype": "int32", "scale": (1.5, -1.0, 0.3)},
    ]  # fmt: skip
    found = []
    for number, size in enumerate(sizes):
        for place, (name, antialias) in enumerate(filters):
            alpha = ALPHAS[(number + place) % 3]
            given = size | values[(number + place) % len(values)] | {"interpolation": name, "antialias": antialias}
            found.append(
                msgspec.convert({"name": "x", "size": (24, 27), "alpha": alpha, "kind": "image", **given}, ImageInput)
            )
    return found


@needs_compiler
def test_every_rule_is_equal_bit_for_bit_in_cpp(app: Path, tmp_path: Path) -> None:
    """All rules on pictures with odd sizes, gray, alpha and each orientation: over 50 pictures, each with 9 rules."""
    compiler = ("c++", "-std=c++17", "-O0", f"-I{app}/include", f"-I{app}/src")
    run(*compiler, RULES, app / "b/libpipeline.a", "-o", tmp_path / "rules")
    cases, wanted = [], []
    for spec in list_specs():
        try:
            pictures = make_pictures(spec, len(GENERATED))
        except UnreadableSample:
            continue
        for picture in pictures:
            height, width, channels = picture.pixels.shape
            head = struct.pack("=5i", ALPHAS.index(spec.alpha), width, height, channels, picture.orientation)
            cases.append(bytes(make_parameters(spec)) + head + picture.pixels.tobytes())
            wanted.append(prepare_picture(picture, spec).tobytes())
    assert len(cases) > 900
    (tmp_path / "cases").write_bytes(b"".join(cases))
    done = subprocess.run([tmp_path / "rules", tmp_path / "cases"], capture_output=True, check=True, timeout=300)
    differing = np.flatnonzero([a != b for a, b in zip(split(done.stdout, wanted), wanted, strict=True)])
    assert list(differing) == []


def split(data: bytes, like: list[bytes]) -> list[bytes]:
    ends = list(itertools.accumulate(map(len, like)))
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@pytest.mark.parametrize(
    ("text", "literal"), [('a"b\\', '"a\\042b\\134"'), ("é?", '"\\303\\251\\077"'), ("\n1", '"\\0121"')]
)
def test_texts_in_cpp(text: str, literal: str) -> None:
    assert quote(text) == literal
