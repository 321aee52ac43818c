"""The ONNX to LiteRT writer on the real MobileNetV2: seconds, memory, outputs, and speed of the file.

The speed is compared with ONNX Runtime on the source, interleaved; `benchmarks.converters` compares the other
converters. With --quantized: the QDQ graphs of ONNX Runtime's `quantize_static` (per channel, 100 images of the
evaluation data), the argmax of their files against ONNX Runtime's run of the same graphs on the other 400 images, and
their speed against the fp32 file. That part requires Pillow.
"""

import argparse
import io
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np

from benchmarks.measuring import describe_machine, find_model
from edgewright.devices.local import LocalDevice
from edgewright.flows.benchmark.flow import benchmark
from edgewright.flows.workspace import Workspace
from edgewright.runtimes import litert, onnxruntime
from edgewright.runtimes.contract import Session
from edgewright.runtimes.litert.writer import convert_onnx
from edgewright.runtimes.litert.writer.check import Check
from edgewright.runtimes.wire import SessionRequest
from edgewright.schema.arrays import Array
from edgewright.schema.plan import BenchmarkPlan, Candidate
from edgewright.store.store import open_store

IMAGES = Path(__file__).parents[2] / "shared" / "data" / "imagenet" / "imagenet_dev500.zip"
CALIBRATION_IMAGES = 100
MEMORY = (
    "import sys, onnx, numpy, ai_edge_litert.schema_py_generated, ai_edge_litert.interpreter\n"
    "from edgewright.runtimes.memory import read_resident_memory\n"
    "from edgewright.runtimes.litert.writer import convert_onnx\n"
    "before = memory_now().rss\n"
    "convert_onnx(sys.argv[1], check='none')\n"
    "print(memory_now().peak - before)"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=15)
    parser.add_argument("--quantized", action="store_true", help="the QDQ graphs too; needs Pillow and some minutes")
    parser.add_argument("--images", type=int, default=400, help="how many images the QDQ graphs are compared on")
    arguments = parser.parse_args()
    model = find_model()
    print(describe_machine())
    for how in ("none", "load", "numbers"):
        seconds = median(time_conversions(model, arguments.times, how))
        print(f"conversion, check {how}: {seconds:.3f} s, median of {arguments.times}")
    print(f"memory over the imports: {grown_bytes(model) / model.stat().st_size:.2f} × the model's size")
    with TemporaryDirectory() as name:
        written = Path(name) / "written.tflite"
        report_file(model, written)
        report_speed(model, written, Path(name) / "home")
        if arguments.quantized:
            report_quantized(model, written, Path(name), arguments.images)


def time_conversions(model: Path, times: int, how: Check) -> list[float]:
    seconds = []
    for _ in range(times):
        began = perf_counter()
        convert_onnx(model, check=how)
        seconds.append(perf_counter() - began)
    return seconds


def grown_bytes(model: Path) -> int:
    """Return the peak memory of a fresh process above its memory after the imports."""
    done = subprocess.run([sys.executable, "-c", MEMORY, str(model)], capture_output=True, text=True, check=True)
    return int(done.stdout)


def report_file(model: Path, written: Path) -> None:
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


def report_speed(model: Path, written: Path, home: Path) -> None:
    candidates = (
        Candidate(model=str(model), runtime="onnxruntime"),
        Candidate(model=str(written), runtime="litert"),
    )
    compare_speed(candidates, home)


def compare_speed(candidates: tuple[Candidate, Candidate], home: Path) -> None:
    device = LocalDevice()
    with open_store(home) as store:
        outcome = benchmark(BenchmarkPlan(candidates=candidates), Workspace(device, store, lambda text: None), {})
    device.close()
    for run in outcome.runs:
        found = {metric.name: metric.value or 0.0 for metric in run.metrics}
        partitions = found.get("layers.partitions", 0.0)
        print(f"{run.runtime}: p50 {found['latency.p50'] / 1e3:.2f} ms, {partitions:.0f} partition(s)")
    comparison = outcome.comparisons[0]
    print(f"time ratio {comparison.ratio:.3f} ({comparison.low:.3f}–{comparison.high:.3f}): {comparison.verdict}")


# The QDQ graphs


def report_quantized(model: Path, written: Path, folder: Path, count: int) -> None:
    images = np.stack(list(read_images(IMAGES)))
    for name in ("QUInt8", "QInt8"):
        graph = quantize(model, folder / f"{name}.onnx", images[:CALIBRATION_IMAGES], name)
        converted = convert_onnx(graph)
        file = folder / f"{name}.tflite"
        file.write_bytes(converted.data)
        print(f"{name} activations: {dict(Counter(converted.operators))}")
        rest = images[CALIBRATION_IMAGES : CALIBRATION_IMAGES + count][:, None]
        source = run_all(onnxruntime.open_session(SessionRequest(model=str(graph))), rest)
        own = run_all(litert.open_session(SessionRequest(model=str(file))), rest.transpose(0, 1, 3, 4, 2))
        same = float((source.argmax(-1) == own.argmax(-1)).mean())
        ratio = 10 * np.log10((source**2).sum() / ((source - own) ** 2).sum())
        print(f"{name}: argmax as ONNX Runtime's on {same:.2%} of {len(rest)} images, {ratio:.1f} dB")
        candidates = tuple(Candidate(model=str(one), runtime="litert") for one in (written, file))
        compare_speed((candidates[0], candidates[1]), folder / f"home-{name}")


def read_images(pack: Path) -> Iterator[Array]:
    """Return images [3, 224, 224] as the model requires: RGB, center crop, v / 127.5 − 1."""
    try:
        decode = import_module("PIL.Image").open
    except ImportError:
        raise SystemExit("--quantized decodes JPEG files: install Pillow") from None
    with zipfile.ZipFile(pack) as archive:
        for name in sorted(name for name in archive.namelist() if name.endswith(".jpg")):
            pixels = np.asarray(decode(io.BytesIO(archive.read(name))).convert("RGB"))
            yield pixels[16:240, 16:240].transpose(2, 0, 1).astype(np.float32) / 127.5 - 1


def quantize(source: Path, target: Path, images: Array, activations: str) -> Path:
    """Write ONNX Runtime's QDQ graph with int8 weights per channel, calibrated on the images."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    feeds = iter([{"x": image[None]} for image in images])

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime asks for a subclass and ships no types
        def get_next(self) -> object:
            return next(feeds, None)

    quantize_static(
        source,
        target,
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=getattr(QuantType, activations),
        weight_type=QuantType.QInt8,
    )
    return target


if __name__ == "__main__":
    main()
