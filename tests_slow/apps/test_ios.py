"""Swift packages: the library built and run on Linux, and the code of Core ML checked against stubs of its signatures.

Core ML itself, the example app and the compute units are not run here.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgewright.api.field.package import PackageRequest, make_package
from edgewright.flows.packages import PackageReport
from edgewright.kernels.preprocessing import PILLOW_ORDERS_PASSES
from edgewright.tasks.metrics.detection import detect_objects
from tests.packaging.boxes import BOXES, make_box_outputs
from tests.packaging.pictures import InputCase, make_float_cases
from tests.paths import ROOT
from tests_slow.apps.swift_toolchain import SwiftFolder, require_swift

require_swift()
pytestmark = pytest.mark.slow
DIGITS = ROOT / "src/edgewright/flows/digits"
SOURCES = ROOT / "src/edgewright/packaging/ios/project/Sources"
HERE = Path(__file__).parent / "ios"


@pytest.fixture
def swift() -> Iterator[SwiftFolder]:
    folder = SwiftFolder("apps")
    yield folder
    folder.close()


def build(swift: SwiftFolder, main: str) -> None:
    """Compile the core with a main program."""
    for path in (SOURCES / "EdgewrightCore").glob("*.swift"):
        shutil.copy(path, swift.path)
    shutil.copy(HERE / f"{main}.swift", swift.path / "main.swift")
    names = sorted(path.name for path in swift.path.glob("*.swift"))
    done = swift.run("swiftc", "-O", "-warnings-as-errors", *names, "-o", main)
    assert done.returncode == 0, done.stderr


def write_case(case: InputCase) -> str:
    """Return the line of rules.swift for a case."""
    spec = case.spec
    height, width, channels = case.picture.pixels.shape
    to = spec.resize_to
    high, wide = (to, to) if isinstance(to, int) else to or (0, 0)
    numbers = [
        ",".join(repr(float(one)) for one in (value if isinstance(value, tuple) else (value,) * spec.channels))
        for value in (spec.scale, spec.mean, spec.std)
    ]
    size = 0 if case.wanted is None else case.wanted.nbytes
    words = [width, height, channels, case.picture.orientation, size, *spec.size, spec.resize, high, wide]
    words += [int(spec.crop == "center"), spec.interpolation, int(spec.antialias), spec.pad_value]
    words += [int(spec.pad_align == "center"), spec.alpha, spec.color.lower(), *numbers]
    return " ".join(map(str, [*words, int(spec.layout == "NCHW"), int(PILLOW_ORDERS_PASSES)]))


def test_inputs_are_equal_bit_for_bit(swift: SwiftFolder) -> None:
    """Pictures of odd sizes, gray and with alpha, in every orientation, and every rule of task.toml."""
    build(swift, "rules")
    cases = make_float_cases(seed=29, count=300)
    wanted = [one.wanted for one in cases if one.wanted is not None]
    assert len(wanted) > 200
    lines = [write_case(one) for one in cases]
    (swift.path / "pixels").write_bytes(b"".join(one.picture.pixels.tobytes() for one in cases))
    (swift.path / "inputs").write_bytes(b"".join(one.tobytes() for one in wanted))
    (swift.path / "cases").write_text("\n".join(lines))
    assert json.loads(swift.run("./rules", "cases", "pixels", "inputs").stdout) == []
    mean = next(i for i, one in enumerate(cases) if one.wanted is not None)
    rule = next(i for i, one in enumerate(cases) if i > mean and one.wanted is not None and is_stretched(one))
    lines[mean] = spoil(lines[mean], 18, ",".join(["7.0"] * cases[mean].spec.channels))
    lines[rule] = spoil(lines[rule], 7, "shorter")
    (swift.path / "cases").write_text("\n".join(lines))
    assert json.loads(swift.run("./rules", "cases", "pixels", "inputs").stdout) == sorted({mean, rule})


def is_stretched(case: InputCase) -> bool:
    """Return whether the picture loses its aspect ratio."""
    height, width = case.picture.pixels.shape[:2]
    return case.spec.resize == "exact" and min(case.spec.size) > 8 and max(height, width) > 2 * min(height, width)


def spoil(line: str, word: int, value: str) -> str:
    words = line.split(" ")
    return " ".join([*words[:word], value, *words[word + 1 :]])


def test_boxes_are_those_of_the_metric(swift: SwiftFolder) -> None:
    build(swift, "answers")
    lines = []
    for answer in BOXES:
        outputs = [
            f"{name}:{','.join(map(str, array.shape))}:{','.join(map(repr, array.ravel().tolist()))}"
            for name, array in make_box_outputs(answer).items()
        ]
        words = [answer.boxes, answer.scores or "-", answer.classes_out or "-", answer.format]
        flags = [str(int(one)) for one in (answer.normalized, answer.columns, answer.objectness)]
        limits = [repr(float(answer.score_threshold)), repr(float(answer.nms_iou)), str(answer.most)]
        lines.append(" ".join([*words, *flags, *limits, *outputs]))
    (swift.path / "cases").write_text("\n".join(lines))
    printed = swift.run("./answers", "cases").stdout.splitlines()
    for line, answer in zip(printed, BOXES, strict=True):
        found = np.array([[float(one) for one in row.split(" ")] for row in line.split(";")])
        corners, scores, classes = detect_objects(answer, make_box_outputs(answer), (64, 96))
        np.testing.assert_allclose(found, np.column_stack([classes, scores, corners]), rtol=1e-12)


def package_digits(folder: Path) -> PackageReport:
    """Compile the digits for Core ML, and generate a project from the artifact."""
    pytest.importorskip("coremltools", reason="coremltools is not installed: make all-runtimes")
    import edgewright

    edgewright.compile(str(DIGITS / "digits.onnx"), runtime="coreml", output=str(folder / "out"))
    artifact, task = str(folder / "out/digits-coreml-fp32.mlpackage"), str(DIGITS / "task.toml")
    return make_package(PackageRequest(target="ios", artifacts=(artifact,), task=task, output=str(folder / "app")))


def test_a_project_reproduces_the_golden_inputs(swift: SwiftFolder, tmp_path: Path) -> None:
    package_digits(tmp_path)
    assert json.loads((tmp_path / "app/golden/manifest.json").read_text())["runtime"] == "onnxruntime"
    shutil.copytree(tmp_path / "app", swift.path / "app")
    command = ("swift", "build", "-c", "release", "--disable-sandbox", "--product", "golden", "--package-path", "app")
    assert (built := swift.run(*command)).returncode == 0, built.stderr
    done = swift.run("app/.build/release/golden", "app/golden")
    assert (done.returncode, json.loads(done.stdout)) == (
        0,
        {"equal": True, "inputs_bitwise": True, "pictures": 8, "units": None},
    )
    path = swift.path / "app/golden/003-in0.bin"
    path.write_bytes(b"\1" + path.read_bytes()[1:])
    done = swift.run("app/.build/release/golden", "app/golden")
    assert (done.returncode, json.loads(done.stdout)["inputs_bitwise"]) == (1, False)
    check_core_ml(swift)


def check_core_ml(swift: SwiftFolder) -> None:
    """Check the types of the generated project's Core ML code; a misspelled call is found."""
    shutil.copytree(HERE / "stubs", swift.path / "stubs")
    (swift.path / "app/Sources").rename(swift.path / "sources")
    module = ("-emit-module", "-parse-as-library", "-module-name")
    core = sorted(f"sources/EdgewrightCore/{path.name}" for path in (swift.path / "sources/EdgewrightCore").iterdir())
    own = sorted(f"sources/EdgewrightModel/{path.name}" for path in (swift.path / "sources/EdgewrightModel").iterdir())
    for command in (
        (*module, "EdgewrightCore", *core),
        (*module, "CoreML", "-enable-library-evolution", "stubs/CoreML.swift"),
        (*module, "EdgewrightModel", "-warnings-as-errors", "-I", ".", *own, "stubs/Apple.swift"),
        ("-typecheck", "-warnings-as-errors", "-I", ".", "sources/golden/main.swift"),
    ):
        assert (done := swift.run("swiftc", *command)).returncode == 0, done.stderr
    engine = swift.path / "sources/EdgewrightModel/Engine.swift"
    engine.write_text(engine.read_text().replace("configuration.computeUnits", "configuration.computeUnit", 1))
    done = swift.run("swiftc", "-typecheck", "-parse-as-library", "-I", ".", *own, "stubs/Apple.swift")
    assert done.returncode != 0
    assert "computeUnit" in done.stderr
