"""Speed of the pages, memory of the server, and the effect of watching on a measurement.

A store of 10,000 seeded runs (those of `benchmarks/store.py`), and six runs with 500 layers and 10,000 samples each.
Every page is requested over loopback from a server in its own process: the time of the response, and the CPU time of
the server, which depends less on other load. The first contentful paint is reported by headless Chromium; the server's
memory is its resident set at the end. Then a model is measured against itself, alternately without and with 20 clients
of the server's events, and the two are compared as any two runs are.

    python -m benchmarks.web [--json] [--runs 10000] [--rounds 20] [--no-watchers]
"""

import argparse
import http.client
import json
import os
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from msgspec.structs import replace

from benchmarks.measuring import describe_machine
from benchmarks.store import BATCH, make_runs
from edgewright.bench.verdict import compare_paired
from edgewright.flows.demo.flow import get_digits_folder
from edgewright.schema.run import Layer, Metric, Run, Series
from edgewright.store.runs.ids import new_run_id
from edgewright.store.store import open_store
from edgewright.web.server.assets import read_static_files

GOALS = {"activity": 0.2, "list": 0.2, "filter": 0.2, "run": 0.3, "compare": 0.6, "paint": 1.0, "memory_mb": 150.0}
LAYERS, SAMPLES, LARGE = 500, 10_000, 6
PROCESSES = 15
WATCHERS = 20
REPEATS = 15
CHROMIUM = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


def make_large(base: Run, seed: int) -> Run:
    """A run with many layers and samples, of fifteen processes."""
    chance = random.Random(seed)
    wall = tuple(6_500 + 50 * seed + chance.gammavariate(2, 60) for _ in range(SAMPLES))
    counts = tuple(float(len(range(place, SAMPLES, PROCESSES))) for place in range(PROCESSES))
    layers = tuple(
        Layer(
            position=place,
            name=f"/features/{place // 5}/conv/{place}",
            op=("Conv", "Relu", "Add")[place % 3],
            source_nodes=(f"/features/{place // 5}/conv/{place}",),
            unit="CPU",
            backend="MLAS",
            evidence="measured",
            start_us=place * 13.0,
            median_us=10.0 + chance.random() * 6,
            p90_us=17.0,
        )
        for place in range(LAYERS)
    )
    p50 = Metric(name="latency.p50", unit="us", value=6_600.0, low=6_590.0, high=6_610.0, n=SAMPLES)
    series = (
        Series(name="wall", unit="us", data=wall),
        Series(name="wall.samples", unit="1", data=counts),
        Series(name="chunk.samples", unit="1", data=counts),
    )
    return replace(base, id=new_run_id(), layers=layers, series=series, metrics=(p50, *base.metrics[1:]))


def fill(home: Path, count: int) -> list[str]:
    """The store; ids of the large runs."""
    with open_store(home) as store:
        batch: list[Run] = []
        for run in make_runs(count, 100):
            batch.append(run)
            if len(batch) == BATCH:
                store.record(batch)
                batch = []
        large = [make_large(next(make_runs(1, 100)), seed) for seed in range(LARGE)]
        store.record([*batch, *large])
    return [run.id for run in large]


@contextmanager
def server(home: Path) -> Iterator[tuple[str, int]]:
    """Start `edgewright ui`; yield its address and process."""
    command = [sys.executable, "-m", "edgewright", "ui", "--no-open", "--port", "0"]
    environ = {**os.environ, "EDGEWRIGHT_HOME": str(home)}
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process.pid
        finally:
            process.terminate()


def ask(address: str, path: str) -> bytes:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise SystemExit(f"{path}: {answer.status}")
    return body


def count_script_bytes(address: str, page: bytes) -> int:
    """Return the size of all scripts that a page loads."""
    return sum(len(ask(address, path)) for path in re.findall(r'<script src="([^"]+)"', page.decode()))


def print_progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def time_of(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def cpu_s(pid: int) -> float:
    """Return the CPU time of all threads of a process, as counted by Linux's scheduler."""
    spent = [path.read_text(encoding="ascii").split()[0] for path in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(map(int, spent)) / 1e9


def resident_mb(pid: int) -> float:
    """Return the resident set and its peak, as reported by Linux."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return max(int(line.split()[1]) for line in lines if line.startswith(("VmRSS", "VmHWM"))) / 1024


def first_paints(address: str, paths: dict[str, str]) -> dict[str, float]:
    """Seconds from the start of navigation to the first contentful paint, the median of five; nothing without
    Chromium."""
    chromium = shutil.which("chromium")
    if chromium is None:
        return {}
    from playwright.sync_api import sync_playwright

    script = "performance.getEntriesByName('first-contentful-paint')[0].startTime / 1000"
    found = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(CHROMIUM), timeout=120_000)
        for name, path in paths.items():
            times = []
            for _ in range(5):
                page = browser.new_page()
                page.goto(address + path)
                page.wait_for_timeout(300)
                times.append(page.evaluate(script))
                page.close()
            found[name] = statistics.median(times)
        browser.close()
    return found


@contextmanager
def watching(address: str, count: int) -> Iterator[None]:
    """Open that many clients of the server's events."""
    host, port = urlsplit(address).netloc.split(":")
    sockets = [socket.create_connection((host, int(port))) for _ in range(count)]
    threads = [threading.Thread(target=drain, args=[one]) for one in sockets]
    for one, thread in zip(sockets, threads, strict=True):
        one.sendall(f"GET /events HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        thread.start()
    try:
        yield
    finally:
        for one in sockets:
            one.shutdown(socket.SHUT_RDWR)
        for one, thread in zip(sockets, threads, strict=True):
            thread.join()
            one.close()


def drain(one: socket.socket) -> None:
    """Read events until the end."""
    while one.recv(65_536):
        pass


def one_median(home: Path) -> float:
    """Return p50 of one process of the demo's model in microseconds, by the command line."""
    words = [
        "benchmark",
        str(get_digits_folder() / "digits.onnx"),
        "--processes",
        "1",
        "--seconds",
        "0.5",
        "--no-layers",
    ]
    command = [sys.executable, "-m", "edgewright", *words, "--json"]
    environ = {**os.environ, "EDGEWRIGHT_HOME": str(home)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)["runs"][0]["latency_us"]["p50"])


def compare_watchers(address: str, home: Path, rounds: int) -> dict[str, Any]:
    """Measure the same model without and with clients, alternating; each round is a pair."""
    without, watched = [], []
    for place in range(rounds):
        for is_watched in ((False, True), (True, False))[place % 2]:
            if is_watched:
                with watching(address, WATCHERS):
                    watched.append(one_median(home))
            else:
                without.append(one_median(home))
    verdict = compare_paired("without", "with", [[one] for one in without], [[one] for one in watched], 0.02)
    return {
        "ratio": verdict.ratio,
        "low": verdict.low,
        "high": verdict.high,
        "verdict": verdict.verdict,
        "rounds": rounds,
        "without_us": statistics.median(without),
        "with_us": statistics.median(watched),
    }


def measure(count: int, rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as root:
        home = Path(root) / "home"
        large = fill(home, count)
        together = "&".join(f"run={run_id}" for run_id in large)
        paths = {
            "activity": "/activity",
            "list": "/runs",
            "list, second page by latency": "/runs?sort=p50&order=up&page=2",
            "filter": "/runs?model=net_3&tag=branch%3Ddev&text=board",
            "filter, no match": "/runs?text=nothing+has+this",
            "run": f"/runs/{large[0]}",
            "run, layers by operator": f"/runs/{large[0]}?group=op&sort=time",
            "compare": f"/compare?{together}",
            "models": "/models",
            "devices": "/devices",
            "search": "/find?text=net_3",
            "new": "/work",
        }
        with server(home) as (address, pid):
            print_progress(f"{count} runs written")
            began_mb = resident_mb(pid)
            times: dict[str, list[float]] = {name: [] for name in paths}
            spent: dict[str, list[float]] = {name: [] for name in paths}
            for _ in range(REPEATS + 1):
                for name, path in paths.items():
                    before = cpu_s(pid)
                    times[name].append(time_of(lambda: ask(address, path)))  # noqa: B023 - called at once
                    spent[name].append(cpu_s(pid) - before)
            bodies = {name: ask(address, path) for name, path in paths.items()}
            sizes = {name: len(body) for name, body in bodies.items()}
            scripts = {name: count_script_bytes(address, body) for name, body in bodies.items()}
            print_progress("pages measured")
            paints = first_paints(address, {name: paths[name] for name in ("list", "run", "compare")})
            memory = resident_mb(pid)
            print_progress("paints measured")
            verdict = compare_watchers(address, home, rounds) if rounds else None
        seconds = {name: statistics.median(found[1:]) for name, found in times.items()}
        cpu = {name: statistics.median(found[1:]) for name, found in spent.items()}
    return {
        "machine": describe_machine(),
        "load": os.getloadavg()[0],
        "runs": count,
        "seconds": seconds,
        "cpu_s": cpu,
        "bytes": sizes,
        "pages": [
            {"path": path, "bytes_js": scripts[name], "median_ms": seconds[name] * 1e3} for name, path in paths.items()
        ],
        "js_total_bytes": sum(len(content) for name, content in read_static_files().items() if name.endswith(".js")),
        "paint_s": paints,
        "memory_mb": {"started": began_mb, "peak": memory},
        "watchers": verdict,
        "reached": {
            **{name: seconds[name] < GOALS[name] for name in ("activity", "list", "filter", "run", "compare")},
            "paint": bool(paints) and max(paints.values()) < GOALS["paint"],
            "memory_mb": memory < GOALS["memory_mb"],
            "watchers": verdict is not None and verdict["verdict"] not in ("slower",),
        },
    }


def print_table(result: dict[str, Any]) -> None:
    print(f"{result['runs']} runs; {result['machine']}; load {result['load']:.1f}")
    for name, seconds in result["seconds"].items():
        cpu = result["cpu_s"][name]
        print(f"{name:32} {seconds * 1e3:7.1f} ms {cpu * 1e3:7.1f} ms CPU {result['bytes'][name] / 1e3:8.0f} kB")
    print(f"scripts of all pages: {result['js_total_bytes'] / 1e3:.0f} kB")
    for name, seconds in result["paint_s"].items():
        print(f"{'first paint: ' + name:32} {seconds * 1e3:7.0f} ms")
    memory = result["memory_mb"]
    print(f"memory of the server: {memory['started']:.0f} MB started, {memory['peak']:.0f} MB peak")
    print(f"{WATCHERS} watchers: {result['watchers']}")
    missed = [name for name, reached in result["reached"].items() if not reached]
    print(f"goals {GOALS}: {'all reached' if not missed else f'missed: {missed}'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=20, help="pairs with and without watchers")
    parser.add_argument("--no-watchers", action="store_true", help="leave the pairs out")
    given = parser.parse_args()
    result = measure(given.runs, 0 if given.no_watchers else given.rounds)
    print(json.dumps(result, indent=1)) if given.json else print_table(result)


if __name__ == "__main__":
    main()
