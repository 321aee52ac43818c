"""The direct ONNX to LiteRT writer on the real MobileNetV2: seconds, memory, numbers, and the speed of what it wrote.

The speed's peer is ONNX Runtime on the source, interleaved. The other converters (onnx2tf, litert-torch) need gigabytes
of their own and are not measured here yet.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np

from benchmarks.measuring import describe_machine, find_model
from edgewright.devices.local import LocalDevice
from edgewright.facts.plan import BenchmarkPlan, Candidate
from edgewright.flows.benchmark import benchmark
from edgewright.runtimes import litert, onnxruntime
from edgewright.runtimes.contract import Array, Session
from edgewright.runtimes.litert.writer import convert_onnx
from edgewright.runtimes.wire import SessionRequest
from edgewright.store.store import open_store

MEMORY = (
    "import sys, onnx, numpy, ai_edge_litert.schema_py_generated, ai_edge_litert.interpreter\n"
    "from edgewright.runtimes.memory import memory_now\n"
    "from edgewright.runtimes.litert.writer import convert_onnx\n"
    "before = memory_now().rss\n"
    "convert_onnx(sys.argv[1], check=False)\n"
    "print(memory_now().peak - before)"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=15)
    arguments = parser.parse_args()
    model = find_model()
    print(describe_machine())
    print(f"conversion: {median(time_conversions(model, arguments.times)):.3f} s, median of {arguments.times}")
    print(f"memory over the imports: {grown_bytes(model) / model.stat().st_size:.2f} × the model's size")
    with TemporaryDirectory() as name:
        written = Path(name) / "written.tflite"
        tell_file(model, written)
        tell_speed(model, written, Path(name) / "home")


def time_conversions(model: Path, times: int) -> list[float]:
    seconds = []
    for _ in range(times):
        began = perf_counter()
        convert_onnx(model)
        seconds.append(perf_counter() - began)
    return seconds


def grown_bytes(model: Path) -> int:
    """Peak memory of a fresh process over what it had after the imports."""
    done = subprocess.run([sys.executable, "-c", MEMORY, str(model)], capture_output=True, text=True, check=True)
    return int(done.stdout)


def tell_file(model: Path, written: Path) -> None:
    converted = convert_onnx(model)
    written.write_bytes(converted.data)
    transposes = converted.operators.count("TRANSPOSE")
    print(f"file: {len(converted.data):,} bytes, {len(converted.operators)} operators, {transposes} TRANSPOSE")
    images = np.random.default_rng(0).standard_normal((20, 1, 3, 224, 224)).astype(np.float32)
    source = run_all(onnxruntime.open_session(SessionRequest(model=str(model))), images)
    own = run_all(litert.open_session(SessionRequest(model=str(written))), images.transpose(0, 1, 3, 4, 2))
    noise = float(((source - own) ** 2).sum())
    same = float((source.argmax(-1) == own.argmax(-1)).mean())
    print(
        f"against ONNX Runtime, 20 random inputs: {10 * np.log10((source**2).sum() / noise):.1f} dB, argmax {same:.0%}"
    )


def run_all(session: Session, images: Array) -> Array:
    name = session.signature.inputs[0].name
    outputs = []
    for image in images:
        session.bind({name: np.ascontiguousarray(image)})
        session.run()
        outputs.append(next(iter(session.fetch().values())).astype(np.float64))
    return np.stack(outputs)


def tell_speed(model: Path, written: Path, home: Path) -> None:
    candidates = (
        Candidate(model=str(model), runtime="onnxruntime"),
        Candidate(model=str(written), runtime="litert"),
    )
    device = LocalDevice()
    with open_store(home) as store:
        outcome = benchmark(BenchmarkPlan(candidates=candidates), device, store, lambda text: None, {})
    device.close()
    for run in outcome.runs:
        found = {metric.name: metric.value or 0.0 for metric in run.metrics}
        partitions = found.get("layers.partitions", 0.0)
        print(f"{run.runtime}: p50 {found['latency.p50'] / 1e3:.2f} ms, {partitions:.0f} partition(s)")
    comparison = outcome.comparisons[0]
    print(f"time ratio {comparison.ratio:.3f} ({comparison.low:.3f}–{comparison.high:.3f}): {comparison.verdict}")


if __name__ == "__main__":
    main()
