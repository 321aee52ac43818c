"""The process that tries a new file: `python -P -m edgewright.runtimes.litert.writer.trial REQUEST`.

A kernel that aborts ends this process, not the caller's. The source runs in ONNX Runtime on seeded inputs, then the
file in LiteRT on the same ones. The printed lines show the progress, the last one how the outputs differ.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgewright.schema.arrays import Array
from edgewright.schema.metrics import compute_sqnr_db
from edgewright.system.memory_limit import limit_this_process
from edgewright.system.parent import die_with_parent

SEEDS = (0, 1, 2)
# Share of an integer output's entries that may differ: indices of the largest, if two are nearly equal.
MAX_DIFFERING_SHARE = 0.1
LARGEST_INTEGERS = (10, 2, 1)  # indices and masks: the first range that the source accepts


class TrialPort(msgspec.Struct, frozen=True):
    """An input or output: its name, and the source's axis of each of the file's axes.

    With a `scale` above zero the file has integers that represent the source's floats.
    """

    name: str
    axes: tuple[int, ...]
    scale: float = 0.0
    zero: int = 0


class TrialRequest(msgspec.Struct, frozen=True):
    """A file to be tried. `source` is empty for loading and one run only."""

    file: str
    source: str
    inputs: tuple[TrialPort, ...]
    outputs: tuple[TrialPort, ...]
    optimized: bool
    most_bytes: int


class OutputDifference(msgspec.Struct, frozen=True):
    """Comparison of one output with the source's on one seed."""

    name: str
    is_float: bool
    sqnr_db: float
    max_abs: float
    differing: float
    not_finite: int


class TrialReport(msgspec.Struct, frozen=True):
    """`refused` is LiteRT's reason; `unknown` says why the source cannot be compared."""

    refused: str = ""
    unknown: str = ""
    differences: tuple[tuple[OutputDifference, ...], ...] = ()


def main() -> None:
    channel = os.dup(1)
    os.dup2(2, 1)  # output of native code must not reach the answer
    die_with_parent()
    request = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=TrialRequest)
    _limit_memory(request.most_bytes)
    os.write(channel, b"source\n")
    expected, unknown = _run_source(request)
    os.write(channel, b"file\n")
    os.write(channel, msgspec.json.encode(_try_file(request, expected, unknown)) + b"\n")
    os._exit(0)  # skips the unloading of libraries, which may crash


def _limit_memory(most: int) -> None:
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit_this_process(most)


Run = tuple[Mapping[str, Array], Mapping[str, Array]]


def _run_source(request: TrialRequest) -> tuple[list[Run], str]:
    """Return inputs and outputs of the source for each seed, or why ONNX Runtime fails."""
    if not request.source:
        return [], ""
    try:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 4, 1
        levels = onnxruntime.GraphOptimizationLevel
        level = levels.ORT_ENABLE_BASIC if request.optimized else levels.ORT_DISABLE_ALL
        options.graph_optimization_level = level
        session = onnxruntime.InferenceSession(request.source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # it has no exception class of its own
        return [], _shorten_text(str(error))
    return _run_seeds(session, request)


def _run_seeds(session: Any, request: TrialRequest) -> tuple[list[Run], str]:
    names, reason = [entry.name for entry in request.outputs], ""
    for largest in LARGEST_INTEGERS:
        runs: list[Run] = []
        try:
            for seed in SEEDS if _has_integers(session) else SEEDS[:1]:
                feeds = _make_feeds(session, request, seed, largest)
                runs.append((feeds, dict(zip(names, session.run(names, feeds), strict=True))))
        except Exception as error:
            reason = _shorten_text(str(error))
        else:
            return runs, ""
    return [], reason


def _has_integers(session: Any) -> bool:
    return any("float" not in value.type for value in session.get_outputs())


KINDS = {"float": "float32", "double": "float64"}


def _make_feeds(session: Any, request: TrialRequest, seed: int, largest: int) -> dict[str, Array]:
    """Return seeded inputs of the source: floats of −1 to 1, bytes over their whole range, other integers from 0 on."""
    random = np.random.default_rng(seed)
    kinds = {value.name: value.type[len("tensor(") : -1] for value in session.get_inputs()}
    feeds: dict[str, Array] = {}
    shapes = _read_shapes(request)
    for entry in request.inputs:
        dtype = np.dtype(KINDS.get(kinds[entry.name], kinds[entry.name]).replace("float16", "f2"))
        feeds[entry.name] = _draw(random, dtype, shapes[entry.name], largest)
    return feeds


def _draw(random: np.random.Generator, dtype: np.dtype[Any], shape: tuple[int, ...], largest: int) -> Array:
    if dtype.kind == "f":
        return random.uniform(-1, 1, shape).astype(dtype)
    if dtype.itemsize == 1 and dtype.kind in "iu" and largest > 1:
        info = np.iinfo(dtype)
        return random.integers(info.min, info.max, shape, endpoint=True).astype(dtype)
    return random.integers(0, largest, shape).astype(dtype)


def _read_shapes(request: TrialRequest) -> dict[str, tuple[int, ...]]:
    """Return the source's shapes, from the file's."""
    from edgewright.formats.tflite.reader import read_signature

    stored = {spec.name: spec.shape for spec in read_signature(Path(request.file)).inputs}
    found = {}
    for entry in request.inputs:
        sizes = [int(stored[entry.name][entry.axes.index(axis)]) for axis in range(len(entry.axes))]
        found[entry.name] = tuple(sizes)
    return found


def _try_file(request: TrialRequest, expected: list[Run], unknown: str) -> TrialReport:
    try:
        runner = FileRunner(request)
        if not expected:
            runner.run(None)
            return TrialReport(unknown=unknown)
        differences = []
        for feeds, outputs in expected:
            made = runner.run(feeds)
            found = tuple(_compare(entry.name, outputs[entry.name], made[entry.name]) for entry in request.outputs)
            differences.append(found)
            if all(one.is_float or one.differing <= MAX_DIFFERING_SHARE for one in found):
                break
        return TrialReport(differences=tuple(differences))
    except (ValueError, RuntimeError, TypeError, MemoryError) as error:
        return TrialReport(refused=str(error).strip()[-300:] or type(error).__name__)


class FileRunner:
    """The file in LiteRT's interpreter, with inputs and outputs in the source's layout."""

    def __init__(self, request: TrialRequest) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.request = request
        self.interpreter = Interpreter(model_path=request.file, num_threads=1)
        self.shapes = {one["index"]: tuple(one["shape"]) for one in self.interpreter.get_output_details()}
        self.interpreter.allocate_tensors()
        (self.places,) = self.interpreter._get_full_signature_list().values()

    def run(self, feeds: Mapping[str, Array] | None) -> dict[str, Array]:
        """Return outputs by name; without inputs, on ones. Raises ValueError if a shape differs from what the file
        says.
        """
        details = {one["index"]: one for one in self.interpreter.get_input_details()}
        for entry in self.request.inputs:
            detail = details[self.places["inputs"][entry.name]]
            array = np.ones(detail["shape"]) if feeds is None else np.transpose(feeds[entry.name], entry.axes)
            array = _store(array, entry, detail["dtype"])
            self.interpreter.set_tensor(detail["index"], np.ascontiguousarray(array.astype(detail["dtype"])))
        self.interpreter.invoke()
        made = {}
        for entry in self.request.outputs:
            index = self.places["outputs"][entry.name]
            array = self.interpreter.get_tensor(index)
            if array.shape != self.shapes[index]:
                raise ValueError(f"output '{entry.name}' has shape {array.shape} instead of {self.shapes[index]}")
            made[entry.name] = np.transpose(_real(array, entry), np.argsort(entry.axes))
        return made


def _store(array: Array, entry: TrialPort, dtype: Any) -> Array:
    """Return floats as the file's integers; other types unchanged."""
    if not entry.scale:
        return array
    limits = np.iinfo(dtype)
    whole: Array = np.rint(array / np.float32(entry.scale)) + entry.zero
    return np.clip(whole, limits.min, limits.max)


def _real(array: Array, entry: TrialPort) -> Array:
    return (array.astype(np.float32) - np.float32(entry.zero)) * np.float32(entry.scale) if entry.scale else array


def _compare(name: str, expected: Array, made: Array) -> OutputDifference:
    if expected.shape != made.shape:
        raise ValueError(f"output '{name}' has shape {made.shape}, but the source's is {expected.shape}")
    a, b = np.asarray(expected, np.float64), np.asarray(made, np.float64)
    sound = np.isfinite(a) & np.isfinite(b)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    gap = np.where(sound, a, 0.0) - np.where(sound, b, 0.0)
    noise, power = float(np.sum(gap * gap)), float(np.sum(np.square(a[sound])))
    return OutputDifference(
        name=name,
        is_float=expected.dtype.kind == "f",
        sqnr_db=compute_sqnr_db(power, noise),
        max_abs=float(np.max(np.abs(gap), initial=0.0)),
        differing=float(np.mean(~same)) if same.size else 0.0,
        not_finite=int(np.count_nonzero(~sound & ~same)),
    )


def _shorten_text(text: str) -> str:
    return " ".join(text.split())[:300]


if __name__ == "__main__":
    main()
