"""Run an ONNX model in ONNX Runtime and its converted file in LiteRT on the same seeded inputs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.runtimes.litert.writer import Converted, convert_onnx
from edgewright.runtimes.litert.writer.convert import Io
from tests.runtimes.litert.writer.node_tests import run_litert

Array = NDArray[Any]


@dataclass(frozen=True)
class Compared:
    """A converted model, the outputs of both runtimes in ONNX's layout, and how often each operator was written."""

    converted: Converted
    litert: Mapping[str, Array]
    onnxruntime: Mapping[str, Array]

    @property
    def codes(self) -> Counter[str]:
        return Counter(self.converted.operators)

    @property
    def sqnr_db(self) -> float:
        """The worst output's signal to noise ratio; 300 where they are equal."""
        return min(find_sqnr_db(self.onnxruntime[name], self.litert[name]) for name in self.onnxruntime)


def find_sqnr_db(expected: Array, result: Array) -> float:
    assert result.shape == expected.shape
    assert result.dtype == expected.dtype
    signal = float(np.mean(expected.astype(np.float64) ** 2))
    noise = float(np.mean((expected.astype(np.float64) - result.astype(np.float64)) ** 2))
    return 300.0 if noise == 0 else 10 * float(np.log10(max(signal, 1e-30) / noise))


def compare(
    model: Path, *, shapes: Mapping[str, Sequence[int]] | None = None, io: Io = "channels_last", seed: int = 0
) -> Compared:
    import onnxruntime

    converted = convert_onnx(model, shapes=shapes, io=io, check="none")  # what follows is the check
    feeds = make_feeds(converted, seed)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    expected = dict(zip(names, session.run(names, feeds), strict=True))
    stored = {entry.name: np.transpose(feeds[entry.name], entry.axes) for entry in converted.inputs}
    raw = run_litert(converted.data, stored)
    results = {entry.name: np.transpose(raw[entry.name], np.argsort(entry.axes)) for entry in converted.outputs}
    return Compared(converted, results, expected)


def make_feeds(converted: Converted, seed: int) -> dict[str, Array]:
    """Seeded inputs in ONNX's layout: floats of −1 to 1, whole numbers of 0 to 9."""
    random = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for entry in converted.inputs:
        shape = [entry.shape[entry.axes.index(axis)] for axis in range(len(entry.axes))]
        if np.dtype(entry.dtype).kind == "f":
            feeds[entry.name] = random.uniform(-1, 1, shape).astype(entry.dtype)
        else:
            feeds[entry.name] = random.integers(0, 10, shape).astype(entry.dtype)
    return feeds


def count_partitions(data: bytes) -> int:
    """How many pieces XNNPACK runs, and that it leaves nothing to the built-in kernels when it is one."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    return [detail["op_name"] for detail in interpreter._get_ops_details()].count("DELEGATE")
