"""The page of a device in Chromium: pairing at 360 px, and a model in both runtimes. Heavier ones: test_chromium.py."""

from pathlib import Path

from edgewright.devices.browser.device import BrowserDevice
from edgewright.runtimes import wire
from tests.paths import ROOT
from tests.web.browsers.chromium import (
    MODELS,
    compute_decibels,
    lend_runtimes,
    open_chromium,
    pair_page,
    require_chromium,
)
from tests.web.browsers.stand_in import serve_in_thread

require_chromium()

AXE = ROOT / "tests" / "fixtures" / "axe-4.14.1.min.js"


def test_a_browser_is_paired_and_runs_a_model(tmp_path: Path) -> None:
    home = lend_runtimes(tmp_path / "home")
    with serve_in_thread(home) as url, open_chromium("--disable-gpu") as chromium:
        context = chromium.new_context(viewport={"width": 360, "height": 740})
        addresses: list[str] = []
        context.on("request", lambda request: addresses.append(request.url))
        page, paired = pair_page(context, home)
        assert paired.facts["isolated"] is True
        assert page.url == f"{url}/device/#web"  # the code is gone, and a bookmark opens the device again
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        decibels, agreement, _ = compute_decibels(home, "onnxruntime", MODELS["onnxruntime", "fp32"])
        assert decibels > 60
        assert agreement == 1.0
        device = BrowserDevice("web", home)
        with device.start_worker("onnxruntime", (), 60, tmp_path / "log") as worker:
            assert worker.hello.version == "1.30.0"
            clock = worker.ask(wire.Calibrate(runs=100), wire.ClockCalibration)
            assert 4_000 < clock.resolution_ns < 6_000  # 5 µs with cross-origin isolation
        page.get_by_text("loads digits.onnx").first.wait_for()
        page.get_by_text("sent the outputs").first.wait_for()
        assert page.errors == []
        assert addresses and all(address.startswith(url) for address in addresses)
        page.evaluate(AXE.read_text(encoding="utf-8"))
        assert page.evaluate("async () => (await axe.run(document)).violations.map((one) => one.id)") == []
        page.reload()
        page.wait_for_selector("[data-state='good']")  # without a code
        device.close()


def test_the_protocol_number_of_the_page_is_ours() -> None:
    from edgewright.web.server.assets import read_static_files

    assert f"const PROTOCOL = {wire.PROTOCOL};" in read_static_files()["device-worker.js"].decode()
