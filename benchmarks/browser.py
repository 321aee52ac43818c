"""Browsers as devices: the page's first load, and the cost of the harness against a bare loop in the same page.

    python benchmarks/browser.py [--rounds 8] [--runtime litert] [--json FILE]

Chromium is headless. The bare loop is a worker of a few lines that loads the same files and times the same calls
without Edgewright's worker. Each round has fresh workers of both, whose chunks alternate. MobileNetV2 takes tens of
milliseconds in one thread.
"""

import argparse
import json
import sys
import tempfile
import time
from base64 import b64encode
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import edgewright
from edgewright.bench.statistics import median_interval
from edgewright.devices.browser.device import BrowserDevice
from edgewright.formats.files import read_model
from edgewright.runtimes import wire
from tests.paths import SHARED
from tests.web.browsers.chromium import lend_runtimes, open_chromium, pair_page
from tests.web.browsers.stand_in import serve_in_thread

LOADS = 9
CHUNKS, CHUNK_SECONDS = 8, 0.4
OPEN = """
async ({runtime, base, model, shape}) => {
  const source = `
    let run;
    const open = async ({runtime, base, model, shape}) => {
      const values = new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(0.5);
      if (runtime === "onnxruntime") {
        const ort = await import(base + "/onnxruntime-web/dist/ort.wasm.min.mjs");
        ort.env.wasm.wasmPaths = base + "/onnxruntime-web/dist/"; ort.env.wasm.numThreads = 1;
        const session = await ort.InferenceSession.create(new Uint8Array(model), {executionProviders: ["wasm"]});
        const feeds = {[session.inputNames[0]]: new ort.Tensor("float32", values, shape)};
        run = () => session.run(feeds);
      } else {
        const lite = await import(base + "/litertjs-core/dist/index.js"), folder = base + "/litertjs-core/wasm/";
        self.Module = {locateFile: (name) => folder + name};
        await lite.loadLiteRt(folder, {});
        const options = {accelerator: "wasm", cpuOptions: {numThreads: 1}};
        const compiled = await lite.loadAndCompile(new Uint8Array(model), options);
        const input = new lite.Tensor(values, shape);
        let results = [];
        run = async () => { for (const one of results) one.delete(); results = await compiled.run([input]); };
      }
      for (let i = 0; i < 5; i++) await run();
      return [];
    };
    const time = async (seconds) => {
      const times = [], end = performance.now() + seconds * 1e3;
      while (performance.now() < end) {
        const began = performance.now();
        await run();
        times.push(performance.now() - began);
      }
      return times;
    };
    self.onmessage = async ({data}) => self.postMessage(await (data.model ? open(data) : time(data.seconds)));`;
  const bytes = Uint8Array.from(atob(model), (c) => c.charCodeAt(0)).buffer;
  const worker = new Worker(URL.createObjectURL(new Blob([source], {type: "text/javascript"})));
  globalThis.askBare = (message) => new Promise((resolve, reject) => {
    worker.onmessage = ({data}) => resolve(data);
    worker.onerror = (event) => reject(new Error(event.message));
    worker.postMessage(message);
  });
  globalThis.endBare = () => worker.terminate();
  await askBare({runtime, base, model: bytes, shape});
}
"""


def measure_loads(chromium: Any, url: str) -> list[float]:
    """Return the seconds from the request of the page until its script asks for a code, in fresh profiles."""
    seconds = []
    for _ in range(LOADS):
        context = chromium.new_context()
        page = context.new_page()
        began = time.perf_counter()
        page.goto(f"{url}/device/")
        page.get_by_text("Enter the code").wait_for()
        seconds.append(time.perf_counter() - began)
        context.close()
    return seconds


class Candidate(NamedTuple):
    """A model for one runtime, which both loops run."""

    runtime: str
    path: Path

    @property
    def input(self) -> tuple[str, tuple[int, ...]]:
        spec = read_model(self.path).signature.inputs[0]
        return spec.name, tuple(size if isinstance(size, int) and size > 0 else 1 for size in spec.shape)


def time_round(page: Any, url: str, home: Path, folder: Path, candidate: Candidate) -> tuple[float, float]:
    """Return the median milliseconds of the bare loop and of Edgewright's worker; their chunks alternate."""
    name, shape = candidate.input
    content = b64encode(candidate.path.read_bytes()).decode()
    page.evaluate(
        OPEN, {"runtime": candidate.runtime, "base": f"{url}/device/runtimes", "model": content, "shape": shape}
    )
    feeds = folder / "feeds.npz"
    np.savez(feeds, allow_pickle=False, **{name: np.full(shape, 0.5, np.float32)})
    device = BrowserDevice("web", home)
    model = device.push(candidate.path, read_model(candidate.path).sha256)
    request = wire.SessionRequest(model=model, shapes={name: shape})
    bare: list[float] = []
    ours: list[float] = []
    try:
        with device.start_worker(candidate.runtime, (), 120, folder / "log") as worker:
            worker.ask(wire.Open(session=request, feeds=device.push(feeds, candidate.runtime)), wire.Opened)
            worker.ask(wire.TimeRuns(runs=5, seconds=60), wire.Times)
            for chunk in range(2 * CHUNKS):
                if chunk % 4 in (0, 3):
                    bare += page.evaluate("(seconds) => askBare({seconds})", CHUNK_SECONDS)
                else:
                    times = worker.ask(wire.TimeRuns(runs=100_000, seconds=CHUNK_SECONDS), wire.Times)
                    ours += [nanoseconds / 1e6 for nanoseconds in times.wall_ns]
    finally:
        page.evaluate("endBare()")
        device.close()
    return median(bare), median(ours)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--model", type=Path, default=SHARED / "models" / "mobilenet_v2.onnx")
    parser.add_argument("--runtime", choices=("onnxruntime", "litert"), help="only this one")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        compiled = edgewright.compile(given.model, runtime=["litert"], output=folder / "out")
        home = lend_runtimes(folder / "home")
        url = stack.enter_context(serve_in_thread(home))
        chromium = stack.enter_context(open_chromium("--disable-gpu"))
        loads = measure_loads(chromium, url)
        found["load_s"] = {"median": median(loads), "max": max(loads), "n": len(loads)}
        print(f"first load of the page: median {median(loads):.2f} s, longest {max(loads):.2f} s of {len(loads)}")
        page, _ = pair_page(chromium.new_context(bypass_csp=True), home)
        artifact = Path(str(compiled.artifacts[0].path))
        for candidate in (Candidate("onnxruntime", given.model), Candidate("litert", artifact)):
            if given.runtime not in (None, candidate.runtime):
                continue
            pairs = [time_round(page, url, home, folder, candidate) for _ in range(given.rounds)]
            ratio = median_interval([ours / bare for bare, ours in pairs])
            bare, ours = (median(column) for column in zip(*pairs, strict=True))
            found[candidate.runtime] = {"bare_ms": bare, "ours_ms": ours, "ratio": [ratio.value, ratio.low, ratio.high]}
            print(
                f"{candidate.runtime}: bare {bare:.2f} ms, Edgewright {ours:.2f} ms, ratio {ratio.value:.3f} "
                f"({ratio.low:.3f} to {ratio.high:.3f}, {len(pairs)} rounds)"
            )
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
