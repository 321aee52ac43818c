"""Memory of ONNX Runtime with mapped against copied weights.

    python -m benchmarks.mapped_weights [--model FILE.onnx] [--json]

Without a model, one of six matrix products of 2048 × 2048 is made (101 MB). Each way is loaded in processes of its own:
anonymous memory, file-backed pages and PSS beside those before the load, after one inference; then a second session;
and the median latency of one thread, as a ratio over alternating rounds. Memory does not depend on the load of the
machine, latency does.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgewright.runtimes.onnxruntime.session import open_session, version
from edgewright.runtimes.wire import SessionRequest

SIZE, LAYERS, ROUNDS = 2048, 6, 7


def write_model(path: Path) -> None:
    """Write a chain of matrix products."""
    random, nodes, weights = np.random.default_rng(0), [], []
    for number in range(LAYERS):
        weight = random.standard_normal((SIZE, SIZE), dtype=np.float32) / 45
        weights.append(numpy_helper.from_array(weight, f"w{number}"))
        nodes.append(helper.make_node("MatMul", [f"x{number}", f"w{number}"], [f"x{number + 1}"]))
    first = helper.make_tensor_value_info("x0", TensorProto.FLOAT, [1, SIZE])
    last = helper.make_tensor_value_info(f"x{LAYERS}", TensorProto.FLOAT, [1, SIZE])
    graph = helper.make_graph(nodes, "chain", [first], [last], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def read_memory() -> dict[str, float]:
    """Return anonymous and file-backed memory and PSS of this process in MB."""
    rollup = Path("/proc/self/smaps_rollup").read_text()
    found = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in rollup.splitlines()[1:]}
    return {"anonymous": found["Anonymous"], "file": found["Rss"] - found["Anonymous"], "pss": found["Pss"]}


def measure(path: str, weights: str) -> dict[str, Any]:
    """Return the memory of one and two sessions, and the median latency in microseconds; runs in a child."""
    request = SessionRequest(model=path, threads=1, options={"weights": weights})
    version()  # imports the library
    before, peak = read_memory(), read_peak(reset=True)
    session = open_session(request)
    loaded = {name: value - before[name] for name, value in read_memory().items()}
    loaded["peak"] = read_peak() - peak
    (spec,) = session.signature.inputs
    feeds = {spec.name: np.ones([one if isinstance(one, int) else 1 for one in spec.shape], np.float32)}
    session.bind(feeds)
    session.run()
    ran = {name: value - before[name] for name, value in read_memory().items()}
    times = []
    for _ in range(40):
        start = time.perf_counter()
        session.run()
        times.append((time.perf_counter() - start) * 1e6)
    one = read_memory()
    second = open_session(request)
    second.bind(feeds)
    second.run()
    extra = {name: value - one[name] for name, value in read_memory().items()}
    return {"load": loaded, "run": ran, "second": extra, "p50_us": statistics.median(times)}


def read_peak(*, reset: bool = False) -> float:
    """Return the highest resident memory in MB since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measure", default="")
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.model, given.measure)))
        return
    with TemporaryDirectory() as folder:
        model = given.model or str(Path(folder) / "chain.onnx")
        if not given.model:
            write_model(Path(model))
        rounds: dict[str, list[dict[str, Any]]] = {"copied": [], "mapped": []}
        command = [sys.executable, "-m", "benchmarks.mapped_weights", "--model", model, "--measure"]
        subprocess.run([*command, "mapped"], check=True, capture_output=True)  # the first start copies
        for _ in range(ROUNDS):
            for weights, found in rounds.items():
                done = subprocess.run([*command, weights], check=True, capture_output=True)
                found.append(json.loads(done.stdout))
    print_report(rounds, as_json=given.json)


def print_report(rounds: dict[str, list[dict[str, Any]]], *, as_json: bool) -> None:
    """Print the medians of the memory and of the ratios."""
    report: dict[str, Any] = {}
    for weights, found in rounds.items():
        report[weights] = {
            part: {name: round(statistics.median(one[part][name] for one in found), 1) for name in found[0][part]}
            for part in ("load", "run", "second")
        }
    pairs = zip(rounds["copied"], rounds["mapped"], strict=True)
    ratios = sorted(after["p50_us"] / before["p50_us"] for before, after in pairs)
    report["latency_ratio"] = {"median": statistics.median(ratios), "lowest": ratios[0], "highest": ratios[-1]}
    print(json.dumps(report) if as_json else json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
