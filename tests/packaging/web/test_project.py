"""A generated web project: its files, and its preprocessing, which reproduces the golden vectors."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from edgewright.api.field.package import PackageRequest, make_package
from edgewright.flows.packages import PackageReport
from edgewright.runtimes.web import WEB_PACKAGES, find_folder
from tests.paths import ROOT

DIGITS = ROOT / "src/edgewright/flows/digits"
NODE = shutil.which("node")


def generate(folder: Path, samples: int = 2) -> PackageReport:
    artifact, task = str(DIGITS / "digits.onnx"), str(DIGITS / "task.toml")
    return make_package(
        PackageRequest(target="web", artifacts=(artifact,), task=task, output=str(folder), samples=samples)
    )


def set_up_runtimes(home: Path) -> None:
    """Put empty files where `runtimes setup web` puts those of the runtimes."""
    for package in WEB_PACKAGES:
        for name in package.files:
            path = find_folder(home) / package.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)


def check_in_node(folder: Path) -> dict[str, Any]:
    (folder / "package.json").write_text('{"type": "module"}')
    command = [str(NODE), str(Path(__file__).with_name("library.mjs")), str(folder), "golden"]
    found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found


def test_a_project_without_and_with_the_runtime(tmp_path: Path, own_home: Path) -> None:
    first = generate(tmp_path / "app")
    assert any("edgewright runtimes setup web" in note for note in first.notes)
    assert not (tmp_path / "app/runtime").exists()
    (tmp_path / "app/app.js").write_text("// mine")
    set_up_runtimes(own_home)
    second = generate(tmp_path / "app")
    assert second.kept == ("app.js",)
    assert not any("setup web" in note for note in second.notes)
    assert (tmp_path / "app/app.js").read_text() == "// mine"
    assert (tmp_path / "app/runtime/onnxruntime-web/dist/ort.wasm.min.mjs").is_file()
    assert not list((tmp_path / "app/runtime").glob("litert*"))
    assert (tmp_path / "app/edgewright/engine.js").read_text().startswith("// The model in onnxruntime-web")


def test_a_project_asks_no_other_address(tmp_path: Path) -> None:
    generate(tmp_path / "app")
    for path in (*tmp_path.glob("app/*.*"), *tmp_path.glob("app/edgewright/*")):
        for address in re.findall(r"https?://[^\s\"'`)]*", path.read_text()):
            assert path.name == "README.md" and urlsplit(address).netloc in ("", "localhost"), (path, address)
    assert "connect-src 'self'" in (tmp_path / "app/index.html").read_text()


@pytest.mark.skipif(NODE is None, reason="node is not installed: apt-get install nodejs")
def test_the_preprocessing_reproduces_the_golden_vectors(tmp_path: Path) -> None:
    folder = tmp_path / "app"
    generate(folder, 12)
    assert check_in_node(folder) == {"pictures": 12, "different": 0, "same": 0, "spoilt": 1}
    contract = json.loads((folder / "edgewright-app.json").read_text())
    contract["inputs"][0]["preprocessing"]["mean"] = 0.5
    (folder / "edgewright-app.json").write_text(json.dumps(contract))
    assert check_in_node(folder)["different"] == 12
