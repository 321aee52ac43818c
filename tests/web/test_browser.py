"""Pages in a real browser: layout, clicks, accessibility check, with and without scripts.

Needs Debian's `chromium` (or TEST_CHROMIUM) and the Python package `playwright`; skips with the reason.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from edgewright.flows.demo.flow import get_digits_folder
from edgewright.store.store import Store, open_store
from edgewright.web.pages.training import TrainingReport, render_training
from edgewright.web.server.access import AccessRules
from tests.paths import ROOT
from tests.web.conftest import Pages, served
from tests.web.pages.test_training import make_distil, make_prune
from tests.web.records import Record, fill, make_free_batch, make_run, measured, measured_of, pretend_model

sync_api = pytest.importorskip("playwright.sync_api", reason="the Python package playwright is not installed")
CHROMIUM = os.environ.get("TEST_CHROMIUM") or shutil.which("chromium")
SHOTS = ROOT / "build" / "screenshots"
AXE = ROOT / "tests" / "fixtures" / "axe-4.14.1.min.js"
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")

# A browser without background requests.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--no-first-run",
]
PATIENCE_MS = 60_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS, timeout=120_000)
        yield started
        started.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Pages, Record]]:
    """Return one server for all tests that change nothing."""
    folder = tmp_path_factory.mktemp("shared")
    with open_store(folder / "home") as store:
        record = fill(store)
        store.record([make_run(seed=seed, runtime=f"runtime{seed % 3}") for seed in range(60)])
        with served(store, folder / "uploads", AccessRules(), work_folders=(get_digits_folder(),)) as running:
            yield running, record


class Watch:
    """Console errors and requests to other hosts of a page."""

    def __init__(self, page: Any, port: int) -> None:
        self.wrong: list[str] = []
        page.on("console", lambda message: self._hear(message))
        page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        page.on("request", lambda request: self._see(request.url, port))

    def _hear(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(f"console: {message.text}")

    def _see(self, url: str, port: int) -> None:
        if urlsplit(url).netloc != f"127.0.0.1:{port}" and not url.startswith(("data:", "blob:")):
            self.wrong.append(f"request: {url}")


Open = Callable[..., Any]


@pytest.fixture
def open_page(browser: Any) -> Iterator[Open]:
    """Return a function that opens a page; check at the end that the pages had no errors."""
    contexts, watches = [], []

    def opened(port: int, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        contexts.append(context)
        watches.append(Watch(page, port))
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [wrong for watch in watches for wrong in watch.wrong] == []


def paths(record: Record) -> dict[str, str]:
    compared = f"run={record.first.id}&run={record.second.id}&run={record.third.id}"
    return {
        "activity": "/activity",
        "find": "/find?text=net",
        "runs": "/runs",
        "run": f"/runs/{record.first.id}?group=op",
        "compare": f"/compare?{compared}",
        "models": "/models",
        "model": f"/models/{'b' * 64}",
        "devices": "/devices",
        "work": "/work",
        "compile": "/work?kind=compile",
        "quantize": "/work?kind=quantize",
        "login": "/login",
    }


NAMES = (
    "activity",
    "find",
    "runs",
    "run",
    "compare",
    "models",
    "model",
    "devices",
    "work",
    "compile",
    "quantize",
    "login",
)
RULES = "{ resultTypes: ['violations'], rules: { 'region': { enabled: true } } }"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_free_of_serious_findings(shared: tuple[Pages, Record], open_page: Open, scheme: str) -> None:
    pages, record = shared
    page = open_page(
        pages.port, color_scheme=scheme, bypass_csp=True
    )  # for the accessibility checker, which is injected into the page
    for name in NAMES:
        page.goto(pages.address + paths(record)[name])
        page.wait_for_load_state("load")
        if name == "run":
            page.wait_for_selector("canvas[data-ready]")
        page.screenshot(path=SHOTS / f"{name}-{scheme}.png", full_page=True)  # for visual inspection
        page.evaluate(AXE.read_text(encoding="utf-8"))
        found = page.evaluate(f"async () => (await axe.run(document, {RULES})).violations")
        serious = [
            (one["id"], [node["target"] for node in one["nodes"][:3]])
            for one in found
            if one["impact"] in ("serious", "critical")
        ]
        assert serious == [], name


def test_every_page_under_its_own_policy(shared: tuple[Pages, Record], open_page: Open) -> None:
    pages, record = shared
    page = open_page(pages.port)
    for name in NAMES:
        answer = page.goto(pages.address + paths(record)[name])
        assert answer.status == 200, name
    page.goto(pages.address + paths(record)["run"])
    page.wait_for_selector("canvas[data-ready]")
    page.wait_for_selector(".uplot")


def test_no_page_is_wider_than_a_phone(shared: tuple[Pages, Record], open_page: Open) -> None:
    pages, record = shared
    page = open_page(pages.port)
    page.set_viewport_size({"width": 390, "height": 844})
    for name in NAMES:
        page.goto(pages.address + paths(record)[name])
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, name


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_reports_of_trainings_fit_the_window(shared: tuple[Pages, Record], open_page: Open, scheme: str) -> None:
    page = open_page(shared[0].port, color_scheme=scheme)
    reports: dict[str, TrainingReport] = {
        "prune": make_prune(text="_with_a_long_name" * 4, epochs=2),
        "distil": make_distil(),
    }
    for name, report in reports.items():
        page.set_content(render_training(report))
        for width in (1100, 390):
            page.set_viewport_size({"width": width, "height": 844})
            page.screenshot(path=SHOTS / f"{name}-report-{width}-{scheme}.png", full_page=True)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (name, width)
            inside = "svg => svg.getBoundingClientRect().right <= svg.closest('.card').getBoundingClientRect().right"
            assert page.locator(".curves svg").count() == 2, name
            assert all(one.evaluate(inside) for one in page.locator(".curves svg").all()), (name, width)
        page.evaluate(AXE.read_text(encoding="utf-8"))
        found = page.evaluate(f"async () => (await axe.run(document, {RULES})).violations")
        assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == [], name


def test_paper_is_white_and_has_no_buttons(shared: tuple[Pages, Record], open_page: Open) -> None:
    pages, record = shared
    page = open_page(pages.port, color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    page.goto(pages.address + paths(record)["run"])
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator(".buttons").is_visible()
    assert page.locator("#timeline").is_visible()


def test_core_pages_without_script(shared: tuple[Pages, Record], open_page: Open) -> None:
    pages, record = shared
    page = open_page(pages.port, java_script_enabled=False)
    page.goto(f"{pages.address}/runs")
    page.fill("#main input[name=text]", "phone")
    page.click("noscript button")
    assert page.locator("tr[data-run]").count() == 1
    page.click("tr[data-run] th a")
    assert page.locator("#samples svg").count() >= 1
    assert page.locator("#timeline svg").count() == 1
    page.goto(f"{pages.address}/runs?kind=benchmark&runtime=litert")
    page.check(f'input[value="{record.second.id}"]')
    page.goto(f"{pages.address}/runs?sort=started&order=up")
    boxes = page.locator("tr[data-run] input[name=run]")
    boxes.nth(0).check()
    boxes.nth(1).check()
    page.click("text=Compare")
    assert "/compare?run=" in page.url
    for name in NAMES:
        assert page.goto(pages.address + paths(record)[name]).status == 200


def test_filter_changes_the_address_and_back_goes_back(shared: tuple[Pages, Record], open_page: Open) -> None:
    pages, _ = shared
    page = open_page(pages.port)
    page.goto(f"{pages.address}/runs")
    page.click("summary:has-text('+ Filter')")
    page.select_option("select[name=runtime]", "litert")
    page.wait_for_url("**/runs?runtime=litert")
    sync_api.expect(page.locator("tr[data-run]")).to_have_count(3)
    page.fill("#main input[name=text]", "nothing has this")
    page.wait_for_selector("text=No run matches")
    page.go_back()
    sync_api.expect(page.locator("tr[data-run]")).to_have_count(3)
    page.go_back()
    page.wait_for_selector("tr[data-run] >> nth=4")
    page.click("thead .c-p50 a")
    page.wait_for_url("**sort=p50**")


def test_a_filter_wins_over_a_refresh_that_is_slower(shared: tuple[Pages, Record], open_page: Open) -> None:
    pages, _ = shared
    page = open_page(pages.port)
    # The refresh gets no answer: the page's own, when it first hears of runs, or this test's, whichever comes first.
    page.route("**/runs", lambda route: route.continue_() if route.request.is_navigation_request() else None)
    with page.expect_request(lambda request: request.url.endswith("/runs") and not request.is_navigation_request()):
        page.goto(f"{pages.address}/runs")
        page.wait_for_selector("tr[data-run] >> nth=4")
        page.evaluate("document.body.dispatchEvent(new Event('runs-changed'))")
    with page.expect_event("requestfailed") as ended:
        page.click("summary:has-text('+ Filter')")
        page.select_option("select[name=runtime]", "litert")
    assert ended.value.url == f"{pages.address}/runs"
    sync_api.expect(page.locator("tr[data-run]")).to_have_count(3)


def test_keys_choose_and_compare(shared: tuple[Pages, Record], open_page: Open) -> None:
    pages, _ = shared
    page = open_page(pages.port)
    page.goto(f"{pages.address}/runs?kind=benchmark")
    for key in ("j", "x", "j", "x"):
        page.keyboard.press(key)
    sync_api.expect(page.locator("[data-chosen]")).to_have_text("2 runs")
    page.keyboard.press("c")
    page.wait_for_url("**/compare?run=**")
    page.keyboard.press("g")
    page.keyboard.press("m")
    page.wait_for_url("**/models")
    page.keyboard.press("?")
    sync_api.expect(page.locator("dialog[open]")).to_have_count(1)
    page.keyboard.press("Escape")
    sync_api.expect(page.locator("dialog[open]")).to_have_count(0)
    page.keyboard.press("t")
    sync_api.expect(page.locator("html")).to_have_css("background-color", "rgb(16, 18, 22)")
    page.goto(f"{pages.address}/devices")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_timeline_zooms_by_keys_and_moves_by_the_mouse(shared: tuple[Pages, Record], open_page: Open) -> None:
    pages, record = shared
    page = open_page(pages.port)
    page.goto(pages.address + paths(record)["run"])
    page.wait_for_selector("canvas[data-ready]")
    result = page.locator(".under-canvas")
    whole = result.inner_text()
    page.focus("canvas.timeline")
    page.keyboard.press("+")
    sync_api.expect(result).not_to_have_text(whole)
    zoomed = result.inner_text()
    page.keyboard.press("ArrowRight")
    sync_api.expect(result).not_to_have_text(zoomed)
    box = page.locator("canvas.timeline").bounding_box()
    page.mouse.move(box["x"] + 300, box["y"] + 10)
    page.mouse.down()
    page.mouse.move(box["x"] + 400, box["y"] + 10)
    page.mouse.up()
    page.keyboard.press("0")
    page.mouse.move(5, 5)
    sync_api.expect(result).to_have_text(whole)


def test_layers_are_filtered_in_place(shared: tuple[Pages, Record], open_page: Open) -> None:
    pages, record = shared
    page = open_page(pages.port)
    page.goto(f"{pages.address}/runs/{record.first.id}")
    page.select_option("#layers select[name=group]", "unit")
    page.wait_for_selector("#layers th:text('units')")
    page.fill("#layers input[name=layer]", "GPU")
    sync_api.expect(page.locator("#layers table.layers tbody tr")).to_have_count(3)


def test_tag_delete_and_undo_by_clicking(store: Store, record: Record, pages: Pages, open_page: Open) -> None:
    page = open_page(pages.port)
    page.goto(f"{pages.address}/runs")
    page.check(f'input[value="{record.third.id}"]')
    page.fill("#new-tag", "board=desk")
    page.click("button:text-is('Tag')")
    page.wait_for_selector("text=1 run tagged")
    assert store.load(record.third.id).tags["board"] == "desk"
    page.check(f'input[value="{record.third.id}"]')
    page.click("button:text-is('Delete')")
    page.wait_for_selector("text=1 run deleted")
    assert page.locator(f'tr[data-run="{record.third.id}"]').count() == 0
    page.click("button:text-is('Undo')")
    page.wait_for_selector(f'tr[data-run="{record.third.id}"]')


def test_start_watch_compare_and_export_by_clicking(pages: Pages, tmp_path: Path, open_page: Open) -> None:
    """A new user's session with the pretend runtime: the job's page fills with dots and becomes the comparison."""
    measured(pages.store, tmp_path)
    path = pretend_model(tmp_path, "other.pretend")
    path.write_bytes(b"pretend two")
    measured_of(pages.store, path)
    page = open_page(pages.port, accept_downloads=True)
    page.goto(pages.address)
    page.click("header >> text=+ New")
    for name in ("m.pretend", "other.pretend"):
        page.check(f"#drawer label:has-text('{name}') input")
        page.wait_for_selector(f"#drawer [data-command]:has-text('{name}')")
    page.click("#drawer summary:has-text('More settings')")
    page.fill("#drawer input[name=processes]", "none")
    page.wait_for_selector("#drawer .field-error:has-text('it is not a number')")
    page.fill("#drawer input[name=processes]", "15")
    page.fill("#drawer input[name=seconds]", "0.02")
    page.uncheck("#drawer input[name=layers]")
    page.wait_for_selector("#drawer [data-estimate]:has-text('2 candidates × 15 processes')")
    page.click("#drawer button:text-is('Start')")
    page.wait_for_selector("[data-job][data-state=running]")
    other = page.context.new_page()
    other.goto(f"{pages.address}/runs")
    other.wait_for_selector("tr.running [data-live-line]:has-text('of 15')")
    other.close()
    page.wait_for_selector("#strips circle >> nth=3")
    page.wait_for_selector("[data-job][data-state=done] >> text=Each run is compared with")
    page.click("summary:has-text('Save as')")
    with page.expect_download() as download:
        page.click("text=Report, one HTML file")
    report = tmp_path / "report.html"
    download.value.save_as(report)
    text = report.read_text(encoding="utf-8")
    assert "Each run is compared with" in text
    assert "<script" not in text
    page.goto(f"{pages.address}/runs")


def test_measure_my_upload(pages: Pages, tmp_path: Path, open_page: Open) -> None:
    """Three clicks from the start page to the figures of a model with a free batch."""
    path = tmp_path / "mine.onnx"
    path.write_bytes(make_free_batch().SerializeToString())
    page = open_page(pages.port)
    page.goto(pages.address)
    page.click("header >> text=+ New")
    page.set_input_files("#drawer input[type=file]", path)
    page.wait_for_selector("#drawer code:has-text('x: n × 4')")
    assert page.input_value("#drawer .size input") == "1"
    page.click("#drawer summary:has-text('More settings')")
    page.fill("#drawer input[name=processes]", "1")
    page.fill("#drawer input[name=seconds]", "0.01")
    page.uncheck("#drawer input[name=layers]")
    page.wait_for_selector("#drawer [data-command]:has-text('--shape x=1,4')")
    page.click("#drawer button:text-is('Start')")
    page.click("[data-job][data-state=done] >> text=Open the run")
    page.wait_for_selector("h1:has-text('mine.onnx')")
    page.wait_for_selector("text=Median latency")


def test_reports_stand_alone(shared: tuple[Pages, Record], open_page: Open, tmp_path: Path) -> None:
    pages, record = shared
    page = open_page(pages.port, java_script_enabled=False)
    for name, address in (
        ("run", f"/runs/{record.first.id}/report.html"),
        ("comparison", f"/compare/report.html?run={record.first.id}&run={record.second.id}"),
    ):
        text = pages.get(address).text
        assert "<link" not in text
        assert "<script" not in text
        assert 'href="/' not in text
        page.set_content(text)
        assert page.locator("svg.chart").count() >= 1, name


def test_the_list_follows_starts_and_ends(pages: Pages, tmp_path: Path, open_page: Open) -> None:
    page = open_page(pages.port)
    page.goto(f"{pages.address}/runs")
    page.wait_for_selector("text=No runs yet")
    begun = make_run(samples=0, layers=0)
    pages.store.begin(begun)
    page.wait_for_selector(f'tr[data-run="{begun.id}"].running')
    title = f"{begun.model.name} in {begun.runtime}:" if begun.model else ""
    pages.store.publish_progress(lambda text: None)(f"{title} process 3 of 7")
    row = page.locator(f'tr[data-run="{begun.id}"] [data-live-line]')
    sync_api.expect(row).to_have_text("process 3 of 7")
    pages.store.finish(begun)
    page.wait_for_selector(f'tr[data-run="{begun.id}"].done')
