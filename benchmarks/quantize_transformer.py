"""Quantized transformers of the suite: SQNR, size and speed compared with other tools in one run.

Every file runs in this process with one thread; the files alternate inference by inference. Times are CPU times of the
process, which depend little on other load. Calibration inputs and evaluation inputs have different seeds. The weights
are seeded, not trained.
"""

import argparse
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import exp, log
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

import numpy as np
import onnx

from benchmarks.measuring import describe_machine
from benchmarks.suite.export import export_onnx
from benchmarks.suite.settle import build_model, make_inputs
from benchmarks.suite.table import Entry, find_entry
from edgewright.bench.statistics import paired_interval
from edgewright.formats.onnx.prepare import name_nodes
from edgewright.quantization.matmul.graphs import prevent_skip_norm_fusion
from edgewright.quantization.matmul.stages import Precision, QuantizedTransformer, quantize_matmuls
from edgewright.runtimes import litert, onnxruntime, openvino
from edgewright.runtimes.contract import Session
from edgewright.runtimes.litert.writer import convert_onnx
from edgewright.runtimes.wire import SessionRequest
from edgewright.schema.arrays import Array

CALIBRATION, EVALUATION = 11, 7  # seeds
OPEN: dict[str, Callable[[SessionRequest], Any]] = {
    "onnxruntime": onnxruntime.open_session,
    "litert": litert.open_session,
    "openvino": openvino.open_session,
}
BASE = "fp32"


@dataclass(frozen=True)
class OpenFile:
    """One open file in one runtime."""

    name: str
    runtime: str
    bytes: int
    session: Session
    feeds: list[dict[str, Array]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", action="append", help="of the suite; bert_small unless given, may be repeated")
    parser.add_argument("--samples", type=int, default=64, help="inputs for calibration")
    parser.add_argument("--inputs", type=int, default=16, help="inputs for the figures")
    parser.add_argument("--times", type=int, default=40, help="timed inferences of each file")
    parser.add_argument("--block", type=int, default=32)
    arguments = parser.parse_args()
    print(describe_machine())
    for name in arguments.model or ["bert_small"]:
        with TemporaryDirectory() as folder:
            report_model(find_entry(name), Path(folder), arguments)


def report_model(entry: Entry, folder: Path, arguments: argparse.Namespace) -> None:
    source = folder / "fp32.onnx"
    export_onnx(entry, build_model(entry), source, torchscript=False)
    model = onnx.load(source)
    name_nodes(model.graph)
    samples, feeds = make_feeds(entry, arguments.samples, CALIBRATION), make_feeds(entry, arguments.inputs, EVALUATION)
    made = make_files(model, samples, arguments.block, folder) | make_peers(source, arguments.block, folder)
    files = [open_file(name, path, feeds) for name, path in ({f"onnxruntime {BASE}": source} | made).items()]
    exact = run_all(files[0])
    times = time_all(files, arguments.times)
    print(f"\n{entry.name}: {arguments.samples} samples for calibration, {len(feeds)} inputs, {arguments.times} times")
    for file in files:
        bases = times[f"{file.runtime} {BASE}"]
        ratio = paired_interval([log(a / b) for a, b in zip(bases, times[file.name], strict=True)])
        low, high = (exp(value) if value is not None else float("nan") for value in (ratio.low, ratio.high))
        noise = ", ".join(f"{one:.1f}" for one in ratios(exact, run_all(file)))
        print(
            f"{file.name:38} {median(times[file.name]) * 1e3:7.2f} ms  {exp(ratio.value):5.2f} × "
            f"({low:.2f}–{high:.2f})  {noise} dB  {file.bytes:,} bytes"
        )


def make_feeds(entry: Entry, count: int, seed: int) -> list[dict[str, Array]]:
    tensors = make_inputs(entry, count, seed)
    names = [port.name for port in entry.inputs]
    return [{name: part[i : i + 1].numpy() for name, part in zip(names, tensors, strict=True)} for i in range(count)]


# Files, by "RUNTIME NAME"


PRECISIONS: tuple[Precision, ...] = ("w8a8-dynamic", "w8", "w4", "w4a8")
EVERYWHERE: tuple[Precision, ...] = ("w8a8-dynamic", "w4")  # also in LiteRT and OpenVINO, and rounded to nearest


def make_files(model: Any, samples: list[dict[str, Array]], block: int, folder: Path) -> dict[str, Path]:
    made: dict[str, Path] = {}
    save_litert(model, "litert fp32", folder, made)
    save(model, "openvino fp32", folder, made)
    for precision in PRECISIONS:
        began = perf_counter()
        quantized = quantize_matmuls(model, samples, precision=precision, block=block)
        report_quantized(precision, quantized, perf_counter() - began)
        save(quantized.graphs["onnxruntime"], f"onnxruntime {precision}", folder, made)
        if precision in EVERYWHERE:
            save_litert(quantized.graphs["qdq"], f"litert {precision}", folder, made)
            save(quantized.graphs["qdq"], f"openvino {precision}", folder, made)
    for precision in EVERYWHERE:
        plain = quantize_matmuls(model, [], precision=precision, block=block, rounding="nearest")
        save(plain.graphs["onnxruntime"], f"onnxruntime {precision}, rounding to nearest", folder, made)
    return made


def report_quantized(precision: str, quantized: QuantizedTransformer, seconds: float) -> None:
    share = quantized.bytes / quantized.float_bytes
    high_precision = f", 16 bits for {', '.join(quantized.high_precision)}" if quantized.high_precision else ""
    print(
        f"{precision}: {seconds:.0f} s, {len(quantized.weight_nodes)} products, {share:.3f} of their bytes"
        f"{high_precision}"
    )


def make_peers(source: Path, block: int, folder: Path) -> dict[str, Path]:
    """Quantize with ONNX Runtime's own tools, with default settings except for the block size."""
    from onnxruntime.quantization import quantize_dynamic
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    for name in ("onnxruntime.quantization.matmul_nbits_quantizer", ""):
        logging.getLogger(name).setLevel(logging.ERROR)  # it logs every node
    made = {"onnxruntime quantize_dynamic": folder / "stock.onnx"}
    quantize_dynamic(source, made["onnxruntime quantize_dynamic"])
    for name, symmetric in (("asymmetric", False), ("symmetric", True)):
        quantizer = MatMulNBitsQuantizer(onnx.load(source), block_size=block, is_symmetric=symmetric)
        quantizer.process()
        save(quantizer.model.model, f"onnxruntime MatMulNBits, RTN {name}", folder, made)
    parted = onnx.load(source)
    prevent_skip_norm_fusion(parted)
    save(parted, "onnxruntime fp32, norms parted", folder, made)
    return made


def save(model: Any, name: str, folder: Path, made: dict[str, Path]) -> None:
    made[name] = folder / f"{len(made)}-{name.replace(' ', '-').replace(',', '')}.onnx"
    onnx.save(model, made[name])


def save_litert(model: Any, name: str, folder: Path, made: dict[str, Path]) -> None:
    made[name] = folder / f"{name.replace(' ', '-')}.tflite"
    made[name].write_bytes(convert_onnx(model.SerializeToString(), check="none", io="source").data)


# Runs


def open_file(name: str, path: Path, feeds: list[dict[str, Array]]) -> OpenFile:
    runtime = name.partition(" ")[0]
    session = OPEN[runtime](SessionRequest(model=str(path)))
    return OpenFile(name, runtime, path.stat().st_size, session, feeds)


def time_all(files: list[OpenFile], times: int) -> Mapping[str, list[float]]:
    """Return CPU seconds of single inferences, with the candidates taking turns."""
    found: dict[str, list[float]] = {file.name: [] for file in files}
    for turn in range(-3, times):
        for file in files:
            file.session.bind(file.feeds[turn % len(file.feeds)])
            began = process_time()
            file.session.run()
            if turn >= 0:
                found[file.name].append(process_time() - began)
    return found


def run_all(file: OpenFile) -> list[list[Array]]:
    """Return the results for every input, by output in the order of names."""
    results = []
    for feed in file.feeds:
        file.session.bind(feed)
        file.session.run()
        fetched = file.session.fetch()
        results.append([np.array(fetched[name], np.float64) for name in sorted(fetched)])
    return [list(column) for column in zip(*results, strict=True)]


def ratios(exact: list[list[Array]], given: list[list[Array]]) -> list[float]:
    pairs = zip(exact, given, strict=True)
    return [ratio_db(np.stack(a), np.stack(b)) for a, b in pairs]


def ratio_db(exact: Array, given: Array) -> float:
    noise = float(((exact - given) ** 2).sum())
    return float(10 * np.log10((exact**2).sum() / noise)) if noise else float("inf")


if __name__ == "__main__":
    main()
