"""Content of a LiteRT file of any converter, and its outputs compared with those of its ONNX source.

Converters name and order inputs and outputs differently. They are matched by size, then by name if possible, otherwise
by order; an output in the order of axes that matches best.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.bench.feeds import make_feeds, resolve_shapes
from edgewright.formats.files import read_model
from edgewright.formats.tflite.reader import read_tflite

Array = NDArray[Any]
Detail = Mapping[str, Any]
SAMPLES = 8


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Operators of the main subgraph; partitions of XNNPACK; `sqnr_db` of the worst output."""

    bytes: int
    operators: int
    transposes: int
    partitions: int
    sqnr_db: float


def examine(file: Path, source: Path, shapes: Sequence[str]) -> Facts:
    """Raises what LiteRT raises for a file that it cannot load, and ValueError where inputs or outputs do not fit."""
    from ai_edge_litert.interpreter import Interpreter

    names = [operator.op for operator in read_tflite(file).operators]
    interpreter = Interpreter(str(file), num_threads=1)
    interpreter.allocate_tensors()
    ran = [detail["op_name"] for detail in interpreter._get_ops_details()]
    return Facts(
        bytes=file.stat().st_size,
        operators=len(names),
        transposes=names.count("TRANSPOSE"),
        partitions=ran.count("DELEGATE"),
        sqnr_db=compare(interpreter, source, shapes),
    )


def compare(interpreter: Any, source: Path, shapes: Sequence[str]) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(source), providers=["CPUExecutionProvider"])
    signature = read_model(source).signature
    given = {name: [int(size) for size in sizes.split(",")] for name, sizes in (s.split("=") for s in shapes)}
    wanted, got = [], []
    for seed in range(SAMPLES):
        feeds = make_feeds(signature, resolve_shapes(signature, given), seed)
        wanted.append(session.run(None, feeds))
        got.append(run_file(interpreter, feeds))
    return min(worst_output([run[place] for run in wanted], got) for place in range(len(wanted[0])))


def run_file(interpreter: Any, feeds: Mapping[str, Array]) -> list[Array]:
    for detail, value in match_inputs(interpreter.get_input_details(), feeds):
        interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def match_inputs(details: Sequence[Detail], feeds: Mapping[str, Array]) -> Iterator[tuple[Detail, Array]]:
    left = sorted(details, key=lambda detail: str(detail["name"]))
    for name, value in feeds.items():
        fitting = [one for one in left if sorted(one["shape"]) == sorted(value.shape)]
        if not fitting:
            raise ValueError(f"no input of the file fits '{name}' {list(value.shape)}")
        chosen = next((one for one in fitting if name in one["name"]), fitting[0])
        left.remove(chosen)
        axes = next(order_axes(value.shape, chosen["shape"]))
        yield chosen, np.ascontiguousarray(value.transpose(axes)).astype(chosen["dtype"])


def order_axes(shape: Sequence[int], wanted: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Return the orders of axes that turn `shape` into `wanted`, the most similar ones first."""
    for axes in permutations(range(len(shape))):
        if [shape[axis] for axis in axes] == list(wanted):
            yield axes


def worst_output(wanted: Sequence[Array], got: Sequence[Sequence[Array]]) -> float:
    """Return the SQNR (dB) of one source output over all samples, with the best matching output and order of axes."""
    found = [
        sqnr_db(np.stack(wanted), np.stack([run[place].transpose(axes) for run in got]))
        for place, output in enumerate(got[0])
        for axes in order_axes(output.shape, wanted[0].shape)
    ]
    if not found:
        raise ValueError(f"no output of the file fits {list(wanted[0].shape)}")
    return max(found)


def sqnr_db(wanted: Array, got: Array) -> float:
    noise = float(((wanted.astype(np.float64) - got) ** 2).sum())
    power = float((wanted.astype(np.float64) ** 2).sum())
    return 200.0 if noise == 0 else min(200.0, 10 * float(np.log10(power / noise)))
