"""Questions that a user has, in a real browser: each answered in the first line, at most three clicks from the start.

Needs what `test_browser.py` needs; skips with the reason.
"""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from edgewright.flows.evaluate.report import PairedRow
from edgewright.schema.run import PART_OF
from edgewright.store.store import open_store
from edgewright.web.server.access import AccessRules
from tests.web.conftest import Pages, served
from tests.web.pages.test_quantization import make_whole
from tests.web.records import Record, fill, make_run

sync_api = pytest.importorskip("playwright.sync_api", reason="the Python package playwright is not installed")
CHROMIUM = os.environ.get("TEST_CHROMIUM") or shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")
PATIENCE_MS = 30_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments, timeout=120_000)
        yield started
        started.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Pages, Record]]:
    folder = tmp_path_factory.mktemp("journeys")
    with open_store(folder / "home") as store:
        record = fill(store)
        quantized = msgspec.structs.replace(make_run(samples=0, layers=0), kind="quantize", series=(), metrics=())
        whole = make_whole(quantization=False)
        paired = PairedRow(difference=-0.0014, low=-0.005, high=0.0022, p=0.5, test="mcnemar")
        rows = tuple(msgspec.structs.replace(row, paired=paired) if row.path else row for row in whole.artifacts)
        report = msgspec.json.encode(msgspec.structs.replace(whole, artifacts=rows))
        output = store.put_bytes(quantized.id, report, role="quantize")
        step = msgspec.structs.replace(make_run(), tags={PART_OF: quantized.id})
        store.record([msgspec.structs.replace(quantized, outputs=(output,)), step])
        with served(store, folder / "uploads", AccessRules()) as running:
            yield running, record


class Visit:
    """A page that counts its clicks from the start page."""

    def __init__(self, page: Any, address: str) -> None:
        self.page, self.clicks = page, 0
        page.set_default_timeout(PATIENCE_MS)
        page.goto(f"{address}/")

    def click(self, selector: str) -> None:
        self.page.locator(selector).first.click()
        self.page.wait_for_load_state()
        self.clicks += 1

    def read_answer(self) -> str:
        """Return the first line under the title, after at most three clicks."""
        assert self.clicks <= 3
        answer = self.page.locator("main .answer").first
        assert answer.bounding_box()["y"] < 400  # above the fold, on a phone too
        return str(answer.inner_text())


@pytest.fixture(params=[False, True], ids=["script", "no script"])
def visit(browser: Any, shared: tuple[Pages, Record], request: pytest.FixtureRequest) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, java_script_enabled=not request.param)
    yield Visit(context.new_page(), shared[0].address)
    context.close()


def test_which_runtime_should_i_ship(visit: Visit) -> None:
    visit.click("#families a:has-text('net.onnx')")
    assert visit.read_answer().startswith("Ship LiteRT w8a8: 500 µs")


def test_what_did_quantization_cost(visit: Visit) -> None:
    visit.click("nav a:has-text('Activity')")
    visit.click("details.session:has-text('quantize') summary")
    visit.click("details.session:has-text('quantize') tr:has-text('quantize') a")
    answer = visit.read_answer()
    assert "−0.14 points top-1 accuracy (−0.50 to +0.22), no difference shown" in answer
    assert "2.38× smaller" in answer
    assert "2.14× faster in LiteRT" in answer


def test_which_layer_is_slow_and_where_did_it_run(visit: Visit) -> None:
    visit.click("#families a:has-text('net.onnx')")
    visit.click("#matrix a:has-text('500 µs')")
    time = visit.page.locator("#time")
    assert "the slowest layer is layer 6" in time.inner_text()
    assert "ran on" in time.inner_text()
    assert time.bounding_box()["y"] < 900  # above the fold
    assert visit.clicks <= 3


def test_can_i_trust_this(visit: Visit) -> None:
    visit.click("#families a:has-text('net.onnx')")
    mark = visit.page.locator("#matrix .trust").first
    assert mark.get_attribute("aria-label") == "trust: high"
    assert mark.get_attribute("title") == "known to 3 % or better"
    assert visit.clicks <= 3


def test_compare_and_send_to_a_colleague(visit: Visit) -> None:
    visit.click("#families a:has-text('net.onnx')")
    visit.click("#matrix a:has-text('Compare these')")
    assert "2.01× faster" in visit.read_answer() or "2.01× slower" in visit.read_answer()
    visit.page.locator("summary:has-text('Save as')").first.click()
    with visit.page.expect_download() as found:
        visit.page.locator("a:has-text('Report, one HTML file')").first.click()
    text = found.value.path().read_text()
    assert "<script" not in text
    assert "2.01×" in text
