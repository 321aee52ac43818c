"""Browsers as devices in headless Chromium: both runtimes, threads, WebGPU, twenty pages, a page that is closed.

WebGPU is SwiftShader, which runs on the processor: a stand-in that shows the path and the numbers, never the speed.
"""

import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.devices.browser.device import BrowserDevice
from edgewright.devices.browser.service import list_browsers
from edgewright.errors import DeviceUnreachable, EdgewrightError, ModelRejected, RuntimeMissing
from edgewright.flows.evaluate.inference import infer
from edgewright.formats.files import read_graph, read_model
from edgewright.runtimes import wire
from edgewright.runtimes.table import find_runtime, import_runtime
from tests.paths import ROOT
from tests.web.browsers.chromium import (
    MODELS,
    WEBGPU,
    compute_decibels,
    lend_runtimes,
    open_chromium,
    pair_page,
    predict,
    require_chromium,
)
from tests.web.browsers.stand_in import serve_in_thread

require_chromium()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lend_runtimes(tmp_path_factory.mktemp("browser") / "home")


@pytest.fixture(scope="module")
def chromium(home: Path) -> Iterator[Any]:
    with serve_in_thread(home), open_chromium(*WEBGPU) as chromium:
        yield chromium


@pytest.fixture
def page(chromium: Any, home: Path) -> Iterator[Any]:
    context = chromium.new_context()
    page, _ = pair_page(context, home)
    yield page
    context.close()
    wait_until_gone(home)


def wait_until_gone(home: Path) -> None:
    while list_browsers(home)["web"].state != "offline":
        threading.Event().wait(0.02)


@pytest.mark.parametrize(("runtime", "precision"), MODELS)
@pytest.mark.parametrize("threads", ["1", "2"])
def test_the_numbers_are_those_of_this_machine(
    runtime: str, precision: str, threads: str, page: Any, home: Path
) -> None:
    decibels, agreement, notes = compute_decibels(home, runtime, MODELS[runtime, precision], threads=threads)
    assert decibels > (60 if precision == "fp32" else 20)
    assert agreement >= 0.99
    assert notes == ()


@pytest.mark.parametrize(
    ("runtime", "options"), [("onnxruntime", {"provider": "WebGPU"}), ("litert", {"delegate": "webgpu"})]
)
def test_webgpu_is_read_back(runtime: str, options: dict[str, str], page: Any, home: Path) -> None:
    decibels, agreement, _ = compute_decibels(home, runtime, MODELS[runtime, "fp32"], **options)
    assert decibels > 60
    assert agreement == 1.0


@pytest.mark.parametrize(
    ("runtime", "options", "why"),
    [
        ("onnxruntime", {"provider": "WebNN"}, "WebNN was requested"),
        ("onnxruntime", {"provider": "CUDA"}, "no execution provider CUDA"),
        ("litert", {"delegate": "none"}, "no delegate none"),
    ],
)
def test_a_unit_that_is_not_granted_is_an_error(
    runtime: str, options: dict[str, str], why: str, page: Any, home: Path
) -> None:
    device = BrowserDevice("web", home)
    with pytest.raises(RuntimeMissing, match=why):
        predict(device, runtime, MODELS[runtime, "fp32"], **options)
    device.close()


def test_litert_js_takes_no_integer_inputs(page: Any, home: Path) -> None:
    device = BrowserDevice("web", home)
    with pytest.raises(ModelRejected, match="INT8 is not supported"):
        predict(device, "litert", ROOT / "tests/fixtures/digits/digits_int8.tflite")
    device.close()


@pytest.mark.parametrize("provider", ["CPU", "WebGPU"])
def test_layers_name_the_nodes_of_the_source(provider: str, page: Any, home: Path, tmp_path: Path) -> None:
    path, device = MODELS["onnxruntime", "fp32"], BrowserDevice("web", home)
    feeds = tmp_path / "feeds.npz"
    model = read_model(path)
    np.savez(feeds, image=np.zeros((1, 1, 8, 8), np.float32))
    request = wire.SessionRequest(model=device.push(path, model.sha256), options={"provider": provider})
    remote = f"{device.workspace()}/layers"
    with device.start_worker("onnxruntime", (), 60, tmp_path / "log") as worker:
        command = wire.ProfileRuns(session=request, feeds=device.push(feeds, "feeds"), runs=3, folder=remote)
        worker.ask(command, wire.CommandDone)
    device.pull(remote, tmp_path / "layers")
    report = import_runtime(find_runtime("onnxruntime")).layers(tmp_path / "layers", read_graph(path, "onnx"))
    convolutions = [layer for layer in report.layers if "Conv" in layer.op]
    assert convolutions and all(layer.source_nodes for layer in convolutions)
    assert {layer.backend for layer in convolutions} == {
        "CPUExecutionProvider" if provider == "CPU" else "WebGpuExecutionProvider"
    }
    device.close()


def test_a_page_that_is_closed_while_it_measures_is_named(page: Any, home: Path, tmp_path: Path) -> None:
    device = BrowserDevice("web", home)
    path, feeds = MODELS["onnxruntime", "fp32"], tmp_path / "feeds.npz"
    model = read_model(path)
    np.savez(feeds, image=np.zeros((1, 1, 8, 8), np.float32))
    request = wire.SessionRequest(model=device.push(path, model.sha256))
    found: list[EdgewrightError] = []

    def measure() -> None:
        with device.start_worker("onnxruntime", (), 60, tmp_path / "log") as worker:
            worker.ask(wire.Open(session=request, feeds=device.push(feeds, "feeds")), wire.Opened)
            began.set()
            try:
                worker.ask(wire.TimeRuns(runs=10**6, seconds=60), wire.Times)
            except EdgewrightError as error:
                found.append(error)

    began = threading.Event()
    thread = threading.Thread(target=measure)
    thread.start()
    while not began.wait(0.01):
        page.wait_for_timeout(20)  # Chromium runs only while playwright waits for it
    page.close()
    thread.join(30)
    assert isinstance(found[0], DeviceUnreachable)
    assert "page was closed" in found[0].why
    device.close()


def test_twenty_pages_are_not_mixed_up(chromium: Any, home: Path) -> None:
    """Each page gets other inputs, and all return the outputs of their own."""
    context = chromium.new_context()
    pages = [pair_page(context, home, f"page-{number}")[0] for number in range(20)]
    path = MODELS["onnxruntime", "fp32"]
    model = read_model(path)
    spec = model.signature.inputs[0]
    random = np.random.default_rng(0)
    inputs = [random.random((2, 1, 1, 8, 8), np.float32) for _ in pages]
    given: dict[int, Any] = {}

    def run(number: int) -> None:
        device = BrowserDevice(f"page-{number}", home)
        outputs, _ = infer(model, None, "onnxruntime", {spec.name: inputs[number]}, device, timeout_s=240.0)
        given[number] = next(iter(outputs.values()))
        device.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(pages))]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        pages[0].wait_for_timeout(100)
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    for number, stack in enumerate(inputs):
        expected = np.stack([session.run(None, {spec.name: one})[0] for one in stack])
        np.testing.assert_allclose(given[number], expected, atol=1e-4)
    assert sha256(given[0].tobytes()).digest() != sha256(given[1].tobytes()).digest()
    context.close()
