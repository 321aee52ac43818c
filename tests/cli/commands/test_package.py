"""`edgewright package`: projects from an artifact, and what cannot be one."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.packaging.pictures import GoldenPicture, prepare_picture
from edgewright.tasks.spec.file import read_task
from tests.cli.calling import Call
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
    folder = tmp_path / "out"
    call("compile", MODEL, "--runtime", "onnxruntime", "-o", folder)
    artifact = folder / "digits-onnxruntime-fp32.onnx"
    command = ("package", "native", artifact, "--task", TASK, "-o", tmp_path / "app")
    assert "one model" in call(*command[:3], MODEL, *command[3:]).err
    assert call(*command).code == 0
    shutil.copyfile(MODEL, artifact)
    with artifact.open("ab") as file:
        file.write(b"\x00")
    assert call(*command).code == 6
