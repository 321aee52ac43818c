"""Results of other quantization tools for an ONNX model and the same calibration samples."""

import json
import logging
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
from msgspec import Struct

from edgewright.schema.arrays import Array

ENVIRONMENTS = Path(os.environ.get("EDGEWRIGHT_BENCH_ENVIRONMENTS", Path.home() / ".cache" / "edgewright-bench"))
NNCF_PACKAGES = "nncf==3.4.0 onnx onnxruntime openvino"
LIMIT_S = 3600


class Made(Struct, frozen=True, kw_only=True):
    """A peer's file with its cost after the imports; `reason` if there is none."""

    name: str
    path: str = ""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    reason: str = ""


class Samples:
    """The interface of ONNX Runtime's CalibrationDataReader."""

    def __init__(self, name: str, samples: Array) -> None:
        self._rest: Iterator[dict[str, Array]] = iter([{name: sample} for sample in samples])

    def get_next(self) -> dict[str, Array] | None:
        return next(self._rest, None)


def make_peers(source: Path, samples: Path, folder: Path) -> list[Made]:
    """Write every peer's file to `folder`. `samples` is an .npy, [samples, 1, …]."""
    folder.mkdir(exist_ok=True)
    for noisy in ("root", "onnxruntime.quantization"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    made = [make_here(name, make, source, samples, folder) for name, make in HERE.items()]
    return [*made, make_nncf(source, samples, folder)]


def make_here(name: str, make: Callable[[Path, Path, Path], None], source: Path, samples: Path, folder: Path) -> Made:
    import onnxruntime.quantization  # noqa: F401  (its import is not what is timed)

    path = folder / f"{name.replace(' ', '-').replace(',', '')}.onnx"
    began, cpu = perf_counter(), process_time()
    make(source, samples, path)
    return Made(name=name, path=str(path), seconds=perf_counter() - began, cpu_seconds=process_time() - cpu)


def make_dynamic(source: Path, samples: Path, target: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(source, target)


def make_static(source: Path, samples: Path, target: Path) -> None:
    """Quantize with the defaults: QDQ, min-max, one scale per tensor, int8."""
    run_static(source, samples, target, {})


def make_per_channel(source: Path, samples: Path, target: Path) -> None:
    from onnxruntime.quantization import QuantType

    run_static(source, samples, target, {"per_channel": True, "activation_type": QuantType.QUInt8})


def run_static(source: Path, samples: Path, target: Path, options: Mapping[str, Any]) -> None:
    import onnx
    from onnxruntime.quantization import quantize_static

    name = onnx.load(source).graph.input[0].name
    quantize_static(source, target, Samples(name, np.load(samples)), **options)


HERE: Mapping[str, Callable[[Path, Path, Path], None]] = {
    "ORT quantize_dynamic, defaults": make_dynamic,
    "ORT quantize_static, defaults": make_static,
    "ORT quantize_static, per channel U8S8": make_per_channel,
}
NNCF = "NNCF, mixed preset, full bias correction"


def make_nncf(source: Path, samples: Path, folder: Path) -> Made:
    """Quantize in its own environment; if that is missing, the reason has the command that creates it."""
    environment = ENVIRONMENTS / "nncf"
    python = environment / "bin" / "python"
    if not python.is_file():
        how = f"python -m venv {environment} && {python} -m pip install {NNCF_PACKAGES}"
        return Made(name=NNCF, reason=f"no environment {environment}: {how}")
    target, report = folder / "nncf.onnx", folder / "nncf.json"
    script = Path(__file__).with_name("nncf_once.py")
    command = [str(python), str(script), *map(str, (source, samples, target, report))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return Made(name=NNCF, reason=f"not done within {LIMIT_S} s")
    if not report.is_file():
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        return Made(name=NNCF, reason=last[0])
    return Made(name=NNCF, path=str(target), **json.loads(report.read_text()))
