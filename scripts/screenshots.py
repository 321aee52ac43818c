"""Screenshots of every page: light and dark, desktop and phone; empty, one, many, huge, failed.

    python -m scripts.screenshots [--only NAME] [folder, by default build/screenshots]

Needs Chromium and the Python package playwright. The stores are seeded, so that two versions can be compared.
"""

import argparse
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import replace
from playwright.sync_api import sync_playwright

from edgewright.flows.demo.flow import get_digits_folder
from edgewright.schema.run import Run
from edgewright.store.store import Store, open_store
from edgewright.web.server.access import AccessRules
from tests.paths import ROOT
from tests.web.conftest import served
from tests.web.records import SCRIPT, fill, make_model, make_run

ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking")
SIZES = {"desktop": (1440, 900), "phone": (390, 844)}
SCHEMES = ("light", "dark")
LONG = "_with_a_name_that_goes_on" * 6


class State(NamedTuple):
    """A store and the addresses of its pages by name."""

    name: str
    runs: list[Run]

    def addresses(self) -> Iterator[tuple[str, str]]:
        yield from (("models", "/models"), ("activity", "/activity"), ("runs", "/runs"), ("devices", "/devices"))
        yield from (("new", "/work"), ("quantize", "/work?kind=quantize"), ("find", "/find?text=net"))
        if self.runs and self.runs[0].model:
            first = self.runs[0]
            yield "run", f"/runs/{first.id}"
            yield "model", f"/models/{first.model.sha256 if first.model else ''}"
        if len(self.runs) > 1:
            yield "compare", "/compare?" + "&".join(f"run={run.id}" for run in self.runs[:8])


def fill_state(name: str, store: Store) -> State:
    if name == "many":
        record = fill(store)
        more = [make_run(seed=seed, runtime=f"runtime{seed % 3}") for seed in range(60)]
        store.record(more)
        return State(name, [record.first, record.second, record.third])
    count = {"empty": 0, "one": 1, "huge": 400, "failed": 3}[name]
    layers = 500 if name == "huge" else 12
    runs = [make_run(seed=seed, layers=layers if seed < 8 else 0, samples=200) for seed in range(count)]
    if name == "huge":
        model = make_model(f"net{LONG}.onnx")
        runs = [replace(run, model=model, note=SCRIPT, tags={f"branch{LONG}": "main"}) for run in runs]
    if name == "failed":
        lost = {"state": "failed", "metrics": (), "series": (), "layers": ()}
        errors = ("the worker was killed by SIGKILL", "the model needs 12 GB of memory", "it does not load")
        runs = [replace(run, **lost, error=error) for run, error in zip(runs, errors, strict=True)]
    if runs:
        store.record(runs)
    return State(name, runs)


def take(state: State, address: str, browser: Any, folder: Path) -> int:
    count = 0
    for scheme in SCHEMES:
        for size, (width, height) in SIZES.items():
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
            page = context.new_page()
            for name, path in state.addresses():
                page.goto(address + path)
                page.wait_for_timeout(250)
                page.screenshot(path=folder / f"{name}-{state.name}-{scheme}-{size}.png", full_page=True)
                count += 1
            context.close()
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "build" / "screenshots")
    parser.add_argument("--only", choices=("empty", "one", "many", "huge", "failed"))
    given = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("Chromium is not installed: apt-get install chromium")
    given.folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS), timeout=120_000)
        for name in (given.only,) if given.only else ("empty", "one", "many", "huge", "failed"):
            with tempfile.TemporaryDirectory() as root, open_store(Path(root) / "home") as store:
                state = fill_state(name, store)
                with served(store, Path(root) / "uploads", AccessRules(), work_folders=(get_digits_folder(),)) as pages:
                    print(f"{name}: {take(state, pages.address, browser, given.folder)} pictures")
        browser.close()


if __name__ == "__main__":
    main()
