"""`edgewright package`: projects from an artifact, and what cannot be one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.packaging.pictures import GoldenPicture, prepare_picture
from edgewright.tasks.spec.file import read_task
from tests.cli.calling import Call
from tests.models.artifact_records import put_artifact
from tests.models.onnx_files import node, value, write_onnx
from tests.paths import ROOT

DIGITS = ROOT / "src/edgewright/flows/digits"
MODEL, TASK = DIGITS / "digits.onnx", DIGITS / "task.toml"


def read_samples(folder: Path) -> list[dict[str, Any]]:
    manifest = json.loads((folder / "golden/manifest.json").read_text())
    assert manifest["schema"] == "edgewright.golden/1"
    found: list[dict[str, Any]] = manifest["samples"]
    return found


def test_golden_vectors_follow_from_the_pixels(call: Call, tmp_path: Path) -> None:
    folder = tmp_path / "app"
    report = call("package", "native", MODEL, "--task", TASK, "-o", folder, "--json").json()
    assert report["schema"] == "edgewright.package/1"
    assert (report["target"], report["folder"], report["artifact"]) == ("native", str(folder), str(MODEL))
    assert report["golden"] == str(folder / "golden/manifest.json")
    spec: Any = read_task(TASK).inputs[0]
    outputs = set()
    for one in read_samples(folder):
        pixels = np.fromfile(folder / "golden" / one["picture"], np.uint8)
        picture = GoldenPicture(pixels.reshape(one["height"], one["width"], one["channels"]), one["orientation"])
        stored = np.fromfile(folder / "golden" / one["inputs"]["image"], "<f4")
        assert np.array_equal(prepare_picture(picture, spec).ravel(), stored)
        outputs.add(np.fromfile(folder / "golden" / one["outputs"]["logits"], "<f4").tobytes())
    assert len(outputs) == 8


def test_samples_of_the_users_data(call: Call, tmp_path: Path) -> None:
    data = ("--data", DIGITS / "heldout.npz", "--samples", "3")
    report = call("package", "native", MODEL, "--task", TASK, *data, "-o", tmp_path / "app", "--json").json()
    assert report["samples"] == 3
    manifest = json.loads((tmp_path / "app/golden/manifest.json").read_text())
    assert manifest["source"] == "heldout.npz"
    assert all(one["picture"] for one in manifest["samples"])


def test_generating_again_changes_nothing_and_keeps_what_the_user_changed(call: Call, tmp_path: Path) -> None:
    command = ("package", "native", MODEL, "--task", TASK, "-o", tmp_path / "app", "--json")
    assert call(*command).json()["written"] > 20
    assert call(*command).json()["written"] == 0
    (tmp_path / "app/README.md").write_text("mine")
    assert call(*command).json()["kept"] == ["README.md"]
    assert (tmp_path / "app/README.md").read_text() == "mine"


@pytest.mark.parametrize(
    ("changes", "code", "word"),
    [
        ({"--task": None}, 2, "--task"),
        ({"-o": "theirs"}, 1, "not a generated project"),
        ({"model": "none.onnx"}, 2, "none.onnx"),
        ({"--samples": "0"}, 2, "--samples"),
        ({"--threads": "0"}, 2, "threads"),
        ({"--app-id": "com.package.x"}, 2, "reserved word"),
        ({"--data": "none.npz"}, 2, "does not exist"),
        ({"-p": "no=1"}, 2, "no"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(
    call: Call, folder: Path, changes: dict[str, str | None], code: int, word: str
) -> None:
    (folder / "theirs").mkdir()
    (folder / "theirs/file").write_text("theirs")
    given = {"model": str(MODEL), "--task": str(TASK), "-o": "app"} | changes
    options = [word for name, value in given.items() if name != "model" and value for word in (name, value)]
    result = call("package", "native", given["model"], *options, "--json")
    assert result.code == code
    assert word in result.err
    assert not (folder / "app").exists()
    assert [one.name for one in (folder / "theirs").iterdir()] == ["file"]


def test_a_changed_artifact_and_two_artifacts(call: Call, tmp_path: Path) -> None:
    artifact = put_artifact(tmp_path / "out")
    artifact.with_suffix(".bin").write_bytes(b"changed")
    command = ("package", "native", artifact, "--task", TASK, "-o", tmp_path / "app")
    result = call(*command)
    assert result.code == 6
    assert "compile the model again" in result.error()[2]
    assert "one model" in call(*command[:3], MODEL, *command[3:]).err
    assert not (tmp_path / "app").exists()


def test_a_picture_and_a_number_with_dynamic_sizes(call: Call, tmp_path: Path) -> None:
    """Two inputs and two outputs; names that are no identifiers; a free batch."""
    nodes = [node("ReduceMean", ["a picture!"], ["mean"], keepdims=0), node("Mul", ["mean", "class"], ["2nd"])]
    nodes.append(node("Add", ["class", "class"], ["for"]))
    inputs = [value("a picture!", ("n", 3, 5, 7)), value("class", ("n", 2))]
    outputs = [value("2nd", ("n", 2)), value("for", ("n", 2))]
    model = write_onnx(tmp_path / "8 bit.onnx", nodes, inputs, outputs, [])
    task = tmp_path / "task.toml"
    task.write_text(
        'schema = "edgewright.task/1"\nmetric = "mae"\n[[inputs]]\nkind = "image"\nname = "a picture!"\nsize = [5, 7]\n'
        '[[inputs]]\nkind = "tensor"\nname = "class"\nshape = [1, 2]\n[output]\nkind = "regression"\n'
    )
    folder = tmp_path / "app"
    assert call("package", "native", model, "--task", task, "-o", folder, "--json").code == 0
    contract = json.loads((folder / "edgewright-app.json").read_text())
    assert [one["tensor"]["shape"] for one in contract["inputs"]] == [[1, 3, 5, 7], [1, 2]]
    assert [one["shape"] for one in contract["outputs"]] == [[1, 2], [1, 2]]
    assert contract["identifier"] == "model_8_bit"
    first = read_samples(folder)[0]
    numbers = np.fromfile(folder / "golden" / first["inputs"]["class"], "<f4")
    assert np.array_equal(np.fromfile(folder / "golden" / first["outputs"]["for"], "<f4"), numbers * 2)
    assert call("package", "check", folder, "--json").code == 0


def test_what_the_target_does_not_run(call: Call, tmp_path: Path) -> None:
    model = tmp_path / "m.pretend"
    model.write_bytes(b"pretend")
    result = call("package", "native", model, "--task", TASK, "-o", tmp_path / "app")
    assert result.code == 6
    assert "--runtime onnxruntime" in result.error()[2]
    (tmp_path / "m.set.json").write_text("{}")
    assert call("package", "native", tmp_path / "m.set.json", "--task", TASK, "-o", tmp_path / "app").code == 6
    assert not (tmp_path / "app").exists()


def test_settings_of_the_newest_measured_run(call: Call, tmp_path: Path) -> None:
    quick = ("--processes", "1", "--seconds", "0.01", "--no-layers")
    given = ("--threads", "2", "-p", "optimization=basic", "-p", "execution=parallel")
    assert call("benchmark", MODEL, *quick, *given).code == 0
    command = ("package", "native", MODEL, "--task", TASK, "-o", tmp_path / "app")
    assert call(*command).code == 0
    engine = json.loads((tmp_path / "app/edgewright-app.json").read_text())["engine"]
    assert (engine["threads"], engine["options"]) == (2, {"optimization": "basic", "execution": "parallel"})
    assert engine["measured"]
    parameters = (tmp_path / "app/src/parameters.hpp").read_text()
    assert "kThreads = 2;" in parameters
    assert "kOptimizationLevel = 1;" in parameters
    assert call(*command, "--threads", "1", "-p", "provider=XNNPACK").code == 2
    assert call(*command, "--threads", "1").code == 0
    engine = json.loads((tmp_path / "app/edgewright-app.json").read_text())["engine"]
    assert (engine["threads"], engine["measured"]) == (1, "")


def test_check_exits_with_3_and_reasons(call: Call, tmp_path: Path) -> None:
    folder = tmp_path / "app"
    call("package", "native", MODEL, "--task", TASK, "-o", folder)
    result = call("package", "check", folder, "--json")
    assert result.code == 0
    assert result.json()["schema"] == "edgewright.package-check/1"
    (folder / "model/digits.onnx").write_bytes(b"another")
    result = call("package", "check", folder)
    assert result.code == 3
    assert "model-hash" in result.error()[1]
