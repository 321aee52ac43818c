"""C++ projects of all runtimes here, and on 64-bit Arm under QEMU user mode (a stand-in: results, no times).

`make test-apps` sets up zig (the cross compiler), the runtimes' libraries for Arm, QEMU, and a library of ncnn.
"""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright import compile as compile_model
from edgewright.api.field.package import PackageRequest, check_project, make_package
from edgewright.tasks.metrics import detection
from edgewright.tasks.spec.file import read_task
from tests.paths import ROOT, SHARED

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("native-apps"),
    pytest.mark.skipif(not (shutil.which("cmake") and shutil.which("c++")), reason="needs cmake and a C++ compiler"),
]
DIGITS = ROOT / "src/edgewright/flows/digits"
CACHE = Path("~/.cache/edgewright-tests").expanduser()
QEMU, ARM = CACHE / "qemu/usr/bin/qemu-aarch64", CACHE / "apps/arm64"
NCNN = CACHE / "apps/ncnn/lib/libncnn.so"
ARM_LIBRARIES = {"onnxruntime": "onnxruntime/capi/libonnxruntime.so.1.32.0", "litert": "ai_edge_litert/libLiteRt.so"}
PROCESSORS = ("cortex-a53", "max")
TARGET = "aarch64-linux-gnu.2.28"


def run(*words: object, code: int = 0) -> str:
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=400)
    assert done.returncode == code, done.stderr[-3000:] + done.stdout[-3000:]
    return done.stdout


def write_task(folder: Path, **changes: str) -> Path:
    """Write the demo's task with a resize rule, so that pictures of all sizes fit."""
    text = (DIGITS / "task.toml").read_text().replace('resize = "none"', 'resize = "pad"\npad_value = 7')
    for old, new in changes.items():
        text = text.replace(f"{old} = ", f"{old} = {new}  # ")
    path = folder / "task.toml"
    path.write_text(text)
    return path


def make_app(folder: Path, artifact: Path, task: Path, *options: str) -> Path:
    request = PackageRequest(
        target="native", artifacts=(str(artifact),), task=str(task), output=str(folder), samples=12, options=options
    )
    make_package(request)
    return folder


def build(app: Path, name: str, *flags: str) -> Path:
    """Build a project in its folder `build-NAME`, with warnings as errors, and return the program `golden`."""
    folder = app / f"build-{name}"
    strict = ("-DCMAKE_CXX_FLAGS=-Werror", "-DCMAKE_C_FLAGS=-Werror")
    run("cmake", "-S", app, "-B", folder, *strict, *flags)
    run("cmake", "--build", folder, "-j", "2")
    return folder / "golden"


def read_golden(app: Path, *command: object, code: int = 0) -> dict[str, Any]:
    model = app / "model" / json.loads((app / "edgewright-app.json").read_text())["model"]["main"]
    found: dict[str, Any] = json.loads(run(*command, app / "golden", model, code=code))
    assert found["equal"] is (code == 0)
    return found


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the demo's model compiled for each runtime that is installed."""
    folder = tmp_path_factory.mktemp("artifacts")
    found = {}
    for runtime in ("onnxruntime", "litert", "ncnn"):
        if runtime == "ncnn":
            pytest.importorskip("ncnn", reason="ncnn is not installed")
            pytest.importorskip("pnnx", reason="pnnx is not installed")
        result = compile_model(DIGITS / "digits.onnx", runtime=runtime, output=folder)
        found[runtime] = Path(str(result.artifacts[0].path))
    return found


@pytest.fixture(scope="module")
def apps(artifacts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("apps")
    task = write_task(folder)
    return {runtime: make_app(folder / runtime, artifact, task) for runtime, artifact in artifacts.items()}


@pytest.mark.parametrize("runtime", ["onnxruntime", "litert", "ncnn"])
def test_golden_vectors_here(runtime: str, apps: dict[str, Path]) -> None:
    if runtime == "ncnn" and not NCNN.is_file():
        pytest.skip("scripts/set_up_ncnn.sh has not built ncnn")
    library = (f"-DRUNTIME_LIB={NCNN}",) if runtime == "ncnn" else ()
    result = read_golden(apps[runtime], build(apps[runtime], "here", *library))
    assert (result["inputs_bitwise"], result["pictures"]) == (True, 12)


@pytest.fixture(scope="module")
def toolchain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a CMake toolchain file for zig."""
    if not (QEMU.is_file() and (ARM / "ready-1").is_file()):
        pytest.skip("scripts/set_up_qemu.sh and scripts/set_up_apps.sh have not run")
    folder = tmp_path_factory.mktemp("zig")
    zig = ARM / "zig/ziglang/zig"
    for name, word in (
        ("cc", f"cc -target {TARGET}"),
        ("c++", f"c++ -target {TARGET}"),
        ("ar", "ar"),
        ("ranlib", "ranlib"),
    ):
        script = folder / name
        script.write_text(f'#!/bin/sh\nZIG_GLOBAL_CACHE_DIR="{ARM}/zig-cache" exec "{zig}" {word} "$@"\n')
        script.chmod(0o755)
    path = folder / "arm64.cmake"
    path.write_text(
        "set(CMAKE_SYSTEM_NAME Linux)\nset(CMAKE_SYSTEM_PROCESSOR aarch64)\n"
        "set(CMAKE_TRY_COMPILE_CONFIGURATION Release)\n"
        f'set(CMAKE_C_COMPILER "{folder}/cc")\nset(CMAKE_CXX_COMPILER "{folder}/c++")\n'
        f'set(CMAKE_AR "{folder}/ar")\nset(CMAKE_RANLIB "{folder}/ranlib")\n'
    )
    return path


@pytest.mark.timeout(900)
@pytest.mark.parametrize("runtime", list(ARM_LIBRARIES))
def test_golden_vectors_on_arm(runtime: str, apps: dict[str, Path], toolchain: Path) -> None:
    library = ARM / "wheels" / ARM_LIBRARIES[runtime]
    golden = build(apps[runtime], "arm64", f"-DCMAKE_TOOLCHAIN_FILE={toolchain}", f"-DRUNTIME_LIB={library}")
    libraries = f"LD_LIBRARY_PATH={golden.parent / 'runtime'}"
    for processor in PROCESSORS:
        command: Sequence[object] = (QEMU, "-L", ARM / "root", "-E", libraries, "-cpu", processor, golden)
        result = read_golden(apps[runtime], *command)
        assert (result["inputs_bitwise"], result["pictures"]) == (True, 12)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("{0.0, 0.0, 0.0} /* mean */", "{0.5, 0.0, 0.0} /* mean */"),
        ("2 /* resize */", "1 /* resize */"),
        ("1 /* antialias */", "0 /* antialias */"),
        ("7 /* pad_value */", "8 /* pad_value */"),
    ],
)
def test_a_wrong_rule_is_rejected(old: str, new: str, apps: dict[str, Path], tmp_path: Path) -> None:
    app = shutil.copytree(apps["onnxruntime"], tmp_path / "app", ignore=shutil.ignore_patterns("build-*"))
    parameters = app / "src/parameters.hpp"
    text = parameters.read_text()
    parameters.write_text(text.replace(old, new))
    assert text.count(old) == 1
    result = read_golden(app, build(app, "wrong", "-DCMAKE_BUILD_TYPE=Debug"), code=1)
    assert result["inputs_bitwise"] is False


def test_another_artifact_and_a_library_for_small_pages_are_rejected(apps: dict[str, Path], tmp_path: Path) -> None:
    app = shutil.copytree(apps["onnxruntime"], tmp_path / "app", ignore=shutil.ignore_patterns("build-*"))
    golden = build(app, "hash", "-DCMAKE_BUILD_TYPE=Debug")
    manifest = app / "golden/manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"sha256": "', '"sha256": "0'))
    read_golden(app, golden, code=1)
    assert check_states(app)["golden"] == "failed"
    manifest.write_text(text)
    libraries = app / "app/src/main/jniLibs/arm64-v8a"
    libraries.mkdir(parents=True)
    (tmp_path / "x.c").write_text("int x(void) { return 1; }\n")
    for page, state in ((4096, "failed"), (16384, "ok")):
        size = f"-Wl,-z,max-page-size={page}"
        run("cc", "-shared", "-fPIC", size, tmp_path / "x.c", "-o", libraries / "libx.so")
        assert check_states(app)["page-alignment"] == state


def check_states(app: Path) -> dict[str, str]:
    return {one.code: one.state for one in check_project(str(app))[0].checks}


def test_integer_inputs_and_outputs(tmp_path: Path) -> None:
    """int8 in and out: the project quantizes the inputs as the reference does."""
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    result = compile_model(
        DIGITS / "digits_int8.onnx", runtime="litert", output=tmp_path / "out", option=["io=integer"]
    )
    app = make_app(tmp_path / "app", Path(str(result.artifacts[0].path)), write_task(tmp_path))
    contract = json.loads((app / "edgewright-app.json").read_text())
    assert contract["inputs"][0]["tensor"]["dtype"] == "int8"
    assert read_golden(app, build(app, "here"))["inputs_bitwise"] is True


@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_mobilenet_on_photos(runtime: str, tmp_path: Path) -> None:
    data = SHARED / "imagenet/imagenet_dev500.zip"
    if not data.is_file():
        pytest.skip("the evaluation data is not here")
    model = SHARED / "models/mobilenet_v2.onnx"
    result = compile_model(model, runtime=runtime, output=tmp_path / "out", shape={"x": (1, 3, 224, 224)})
    task = tmp_path / "task.toml"
    task.write_text(
        'schema = "edgewright.task/1"\nmetric = "top1"\n[[inputs]]\nkind = "image"\nname = "x"\nsize = [224, 224]\n'
        'mean = 127.5\nstd = 127.5\n[output]\nkind = "classification"\ntop_k = 5\n'
    )
    request = PackageRequest(
        target="native",
        artifacts=(str(result.artifacts[0].path),),
        task=str(task),
        data=str(data),
        output=str(tmp_path / "app"),
        samples=50,
    )
    make_package(request)
    found = read_golden(tmp_path / "app", build(tmp_path / "app", "here"))
    assert (found["pictures"], found["inputs_bitwise"]) == (50, True)


def test_classes_are_those_of_the_task(apps: dict[str, Path], tmp_path: Path) -> None:
    """The example program's classes and scores, against softmax of the golden outputs."""
    app = apps["onnxruntime"]
    build(app, "here")
    for outputs, printed in list_answers(app, tmp_path):
        logits = outputs["logits"].astype(np.float64).ravel()
        scores = np.exp(logits - logits.max())
        assert printed[0]["index"] == int(logits.argmax())
        assert printed[0]["score"] == pytest.approx(scores.max() / scores.sum(), rel=1e-3)


def list_answers(app: Path, folder: Path) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Return the golden outputs of each upright picture without alpha, and what the example program prints for it."""
    manifest = json.loads((app / "golden/manifest.json").read_text())
    name = json.loads((app / "edgewright-app.json").read_text())["identifier"]
    found = []
    for number, one in enumerate(manifest["samples"]):
        if one["channels"] == 4 or one["orientation"] != 1:
            continue
        kind = "P5" if one["channels"] == 1 else "P6"
        picture = folder / f"{number}.ppm"
        pixels = (app / "golden" / one["picture"]).read_bytes()
        picture.write_bytes(f"{kind}\n# a comment\n{one['width']} {one['height']}\n255\n".encode() + pixels)
        printed = json.loads(run(app / f"build-here/{name}", app / "model" / manifest["artifact"], picture))
        shapes = {key: value["shape"] for key, value in manifest["outputs"].items()}
        files = {key: app / "golden" / file for key, file in one["outputs"].items()}
        outputs = {key: np.fromfile(file, "<f4").reshape(shapes[key]) for key, file in files.items()}
        found.append((outputs, printed["best"]))
    assert len(found) >= 3
    return found


DETECTOR_TASK = """\
schema = "edgewright.task/1"
metric = "map"
[[inputs]]
kind = "image"
name = "images"
size = [320, 320]
resize = "pad"
pad_align = "corner"
std = 255.0
[output]
kind = "boxes"
boxes = "output0"
columns = true
format = "cxcywh"
score_threshold = 0.002
nms_iou = 0.45
"""


def test_a_shipped_detector_finds_the_boxes_of_the_reference(tmp_path: Path) -> None:
    """A model of YOLOv8's form, from a package on PyPI: boxes after suppression as `edgewright evaluate` finds them."""
    model = next((CACHE / "field-models/nudenet").rglob("320n.onnx"), None)
    if model is None:
        pytest.skip("the model of nudenet is not in the cache")
    (tmp_path / "task.toml").write_text(DETECTOR_TASK)
    app = make_app(tmp_path / "app", model, tmp_path / "task.toml")
    assert read_golden(app, build(app, "here"))["inputs_bitwise"] is True
    output: Any = read_task(tmp_path / "task.toml").output
    for outputs, printed in list_answers(app, tmp_path):
        corners, scores, classes = detection._decode_boxes(
            output, {"output0": outputs["output0"][0]}, "output0", (320, 320)
        )
        kept = detection.apply_nms(corners, scores, classes, output)
        assert [one["index"] for one in printed] == list(classes[kept])
        assert np.allclose([one["box"] for one in printed], corners[kept], atol=1e-3)
