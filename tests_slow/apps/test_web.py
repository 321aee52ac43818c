"""Web projects in headless Chromium, with both runtimes, on WebAssembly and on WebGPU by SwiftShader.

SwiftShader is WebGPU on the processor: a stand-in for a GPU, whose times mean nothing.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgewright.api.field.package import PackageRequest, make_package
from tests.paths import ROOT
from tests.web.browsers.chromium import WEBGPU, lend_runtimes, open_chromium, require_chromium
from tests_slow.apps.page import PATIENCE_MS, open_page, read_self_test, serve

require_chromium()
pytestmark = pytest.mark.slow
DIGITS = ROOT / "src/edgewright/flows/digits"
MODELS = {"onnxruntime": DIGITS / "digits.onnx", "litert": ROOT / "tests/fixtures/digits/digits.tflite"}
LITERT_LINES = ("INFO: ", "WARNING: ")  # it prints all its lines as errors


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_chromium(*WEBGPU) as started:
        yield started


@pytest.fixture
def app(request: pytest.FixtureRequest, tmp_path: Path, own_home: Path) -> Path:
    """A project for the runtime that the test names, or ONNX Runtime."""
    lend_runtimes(own_home)
    source = MODELS[getattr(request, "param", "onnxruntime")]
    artifact = str(tmp_path / f"a model #1 é{source.suffix}")
    shutil.copyfile(source, artifact)
    task = (DIGITS / "task.toml").read_text().replace('resize = "none"', 'resize = "exact"')
    (tmp_path / "task.toml").write_text(task)
    make_package(
        PackageRequest(
            target="web",
            artifacts=(artifact,),
            task=str(tmp_path / "task.toml"),
            output=str(tmp_path / "app"),
            threads=2,
        )
    )
    return tmp_path / "app"


def wait_for_isolation(page: Any) -> None:
    """Wait until the service worker has kept all files, and the page has reloaded itself."""
    for _ in range(PATIENCE_MS // 200):
        with suppress(require_chromium().Error):  # it is being reloaded
            if page.evaluate("crossOriginIsolated"):
                return
        page.wait_for_timeout(200)
    raise AssertionError("the page was not isolated")


def list_errors(page: Any) -> list[str]:
    return [one for one in page.errors if not one.startswith(LITERT_LINES)]


@pytest.mark.parametrize("app", MODELS, indirect=True)
def test_the_self_test_and_a_picture(app: Path, browser: Any, tmp_path: Path) -> None:
    """The page reloads itself once, because the model uses two threads."""
    with serve(app) as url, browser.new_context() as context:
        page = open_page(context, url)
        wait_for_isolation(page)
        found = read_self_test(page, tmp_path)
        assert (found["schema"], found["inputs_bitwise"], found["pictures"]) == ("edgewright.selftest/1", True, 8)
        assert found["threads"] == 2
        assert [(one["unit"], one["equal"], one["error"]) for one in found["units"]] == [
            ("webgpu", True, ""),
            ("wasm", True, ""),
        ]
        for one in found["units"]:
            assert any(unit.startswith(one["unit"]) for unit in one["placement"])
        show_a_digit(page, tmp_path)
        assert (list_errors(page), page.strangers) == ([], [])


def show_a_digit(page: Any, folder: Path) -> None:
    """Give the page the picture of a digit as a file, and expect its class."""
    with np.load(DIGITS / "heldout.npz") as data:
        image, label = data["images"][0].reshape(8, 8), int(data["labels"][0])
    Image.fromarray(image.astype(np.uint8)).save(folder / "digit.png")
    page.click("[data-go]")
    page.wait_for_selector("[data-screen=use]:not([hidden])", timeout=PATIENCE_MS)
    page.set_input_files("[data-file]", folder / "digit.png")
    page.wait_for_selector("[data-answer] li", timeout=PATIENCE_MS)
    assert page.inner_text("[data-answer] li").startswith(f"{label}: ")
    assert "inference" in page.inner_text("[data-monitor]")


def test_it_works_without_a_network(app: Path, browser: Any, tmp_path: Path) -> None:
    with browser.new_context() as context:
        with serve(app) as url:
            page = open_page(context, url)
            wait_for_isolation(page)
            read_self_test(page, tmp_path)
        page.reload()  # the server is gone
        assert read_self_test(page, tmp_path)["chosen"] in ("wasm", "webgpu")
        show_a_digit(page, tmp_path)


@pytest.mark.parametrize("fault", ["outputs", "model", "inputs"])
def test_what_is_not_equal_is_not_used(app: Path, browser: Any, tmp_path: Path, fault: str) -> None:
    spoil(app, fault)
    with serve(app) as url, browser.new_context(service_workers="block") as context:
        page = open_page(context, url)
        page.wait_for_selector("[data-again]:not([disabled])", timeout=PATIENCE_MS)
        assert page.is_disabled("[data-go]")
        state = page.inner_text("[data-state]")
        if fault == "model":
            assert "was changed after the project was generated" in state
            return
        found = read_self_test(page, tmp_path)
        assert found["chosen"] is None
        assert found["inputs_bitwise"] is (fault != "inputs")
        assert all(one["equal"] is (fault == "inputs") for one in found["units"])


def spoil(app: Path, fault: str) -> None:
    """Change the model, an output of the golden vectors, or the mean that preprocessing subtracts."""
    match fault:
        case "outputs":
            path = app / "golden/003-out0.bin"
            values = np.fromfile(path, "<f4")
            values[2] += 1
            values.tofile(path)
        case "model":
            with (app / "model/a model #1 é.onnx").open("ab") as file:
                file.write(b"\0")
        case _:
            contract = json.loads((app / "edgewright-app.json").read_text())
            contract["inputs"][0]["preprocessing"]["mean"] = 1.0
            (app / "edgewright-app.json").write_text(json.dumps(contract))
