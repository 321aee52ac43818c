"""Headless Chromium as the browser of a device, and models run in it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.devices.browser.device import BrowserDevice
from edgewright.devices.browser.messages import Offer, OfferCode, Paired
from edgewright.devices.browser.service import ServiceCall
from edgewright.devices.local import LocalDevice
from edgewright.devices.protocol import Device
from edgewright.flows.demo.flow import get_digits_folder
from edgewright.flows.evaluate.inference import infer
from edgewright.formats.files import read_model
from edgewright.runtimes.web import FOLDER, list_web_runtimes
from edgewright.schema.arrays import Array
from tests.paths import ROOT

CHROMIUM = os.environ.get("TEST_CHROMIUM") or shutil.which("chromium")
CACHE = Path.home() / ".cache" / "edgewright-tests"  # `make test-devices` sets the runtimes up there
# SwiftShader is WebGPU on the processor: a stand-in for a GPU, whose times mean nothing.
WEBGPU = (
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
    "--enable-features=Vulkan",
    "--use-vulkan=swiftshader",
    "--ignore-gpu-blocklist",
)
ARGUMENTS = ("--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync")
DIGITS = get_digits_folder()
MODELS = {
    ("onnxruntime", "fp32"): DIGITS / "digits.onnx",
    ("onnxruntime", "w8a8"): DIGITS / "digits_int8.onnx",
    ("litert", "fp32"): ROOT / "tests/fixtures/digits/digits.tflite",
}
PATIENCE_MS = 60_000


def require_chromium() -> Any:
    """Return playwright, or skip the tests of a module with the reason."""
    for name in ("websockets", "playwright"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: apt-get install chromium", allow_module_level=True)
    if not list_web_runtimes(CACHE):
        pytest.skip("the runtimes for browsers are not set up: make test-devices", allow_module_level=True)
    import playwright.sync_api

    return playwright.sync_api


def lend_runtimes(home: Path) -> Path:
    """Make the runtimes for browsers of the cache those of a home folder."""
    home.mkdir(parents=True, exist_ok=True)
    (home / FOLDER).symlink_to(CACHE / FOLDER)
    return home


@contextmanager
def open_chromium(*arguments: str) -> Iterator[Any]:
    with require_chromium().sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS, *arguments], timeout=120_000)
        yield started
        started.close()


def pair_page(context: Any, home: Path, name: str = "web") -> tuple[Any, Paired]:
    """Return a page of Chromium that was paired under this name; its errors are in `page.errors`."""
    page = context.new_page()
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("console", lambda message: message.type == "error" and page.errors.append(message.text))
    with ServiceCall(home, OfferCode(name=name)) as call:
        page.goto(call.require(Offer).url)
        page.wait_for_selector("[data-state='good']", timeout=PATIENCE_MS)
        return page, call.require(Paired)


def predict(device: Device, runtime: str, path: Path, **options: str) -> tuple[Array, tuple[str, ...]]:
    """Return the outputs for eight digits, and the notes of the session."""
    model = read_model(path)
    with np.load(DIGITS / "heldout.npz") as data:
        images = data["images"][:8] / 16
    spec = model.signature.inputs[0]
    stack = (images * 100 if spec.dtype == "int8" else images).reshape(8, *spec.shape).astype(spec.dtype)
    threads = int(options.pop("threads", "1"))
    outputs, notes = infer(model, None, runtime, {spec.name: stack}, device, options=options, threads=threads)
    return next(iter(outputs.values())).astype(np.float64), notes


def compute_decibels(home: Path, runtime: str, path: Path, **options: str) -> tuple[float, float, tuple[str, ...]]:
    """Return the SQNR of a browser's outputs against this machine's, the share of equal classes, and the notes."""
    here, there = LocalDevice(), BrowserDevice("web", home)
    try:
        reference, _ = predict(here, runtime, path)
        given, notes = predict(there, runtime, path, **options)
    finally:
        there.close()
        here.close()
    error = np.square(reference - given).sum()
    decibels = float(10 * np.log10(np.square(reference).sum() / max(error, 1e-30)))
    return decibels, float(np.mean(reference.argmax(-1) == given.argmax(-1))), notes
