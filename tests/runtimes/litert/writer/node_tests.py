"""ONNX's own node tests, run through the writer and LiteRT.

A case is run as the onnx package gives it, and once more with all inputs but the first as constants of the model,
which is how models have their weights, axes and sizes. It has passed when it passed one way and was wrong in
none; it was rejected if both were.
"""

import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.errors import EdgewrightError
from edgewright.runtimes.litert.writer import convert_onnx

Array = NDArray[Any]
# The tests' own tolerances are 1e-3 and 1e-7; LiteRT's kernels sum in another order and approximate exp and tanh.
RELATIVE, ABSOLUTE = 1e-3, 1e-5


@dataclass(frozen=True)
class Case:
    """One node test: its model, its inputs and what must come out, by name."""

    name: str
    model: Any
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]

    @property
    def operators(self) -> frozenset[str]:
        return frozenset(node.op_type for node in self.model.graph.node)


@dataclass(frozen=True)
class Outcome:
    """`passed`, `refused` with the reason, or `wrong` with the difference."""

    state: str
    why: str = ""


def list_cases() -> Iterator[Case]:
    """All node tests whose inputs and outputs are tensors that numpy has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        found: Any = collect_testcases(None)
    for case in found:
        names_in = [value.name for value in case.model.graph.input]
        names_out = [value.name for value in case.model.graph.output]
        for inputs, outputs in case.data_sets[:1]:
            if all(isinstance(value, np.ndarray | np.generic) for value in (*inputs, *outputs)):
                yield Case(
                    case.name,
                    case.model,
                    dict(zip(names_in, map(np.asarray, inputs), strict=False)),
                    dict(zip(names_out, map(np.asarray, outputs), strict=False)),
                )


def run_case(case: Case) -> Outcome:
    outcomes = [_run(case.model, case.inputs, case.outputs)]
    if len(case.inputs) > 1:
        names = list(case.inputs)
        frozen = freeze(case.model, {name: case.inputs[name] for name in names[1:]})
        outcomes.append(_run(frozen, {names[0]: case.inputs[names[0]]}, case.outputs))
    for state in ("wrong", "passed"):
        for outcome in outcomes:
            if outcome.state == state:
                return outcome
    return outcomes[-1]


def freeze(model: Any, constants: Mapping[str, Array]) -> Any:
    """The model with some inputs as initializers."""
    from onnx import numpy_helper

    frozen = type(model)()
    frozen.CopyFrom(model)
    kept = [value for value in frozen.graph.input if value.name not in constants]
    del frozen.graph.input[:]
    frozen.graph.input.extend(kept)
    frozen.graph.initializer.extend(numpy_helper.from_array(data, name) for name, data in constants.items())
    return frozen


def _run(model: Any, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> Outcome:
    try:
        converted = convert_onnx(model.SerializeToString(), io="source", check="none")
    except EdgewrightError as error:
        return Outcome("refused", f"{error.what}: {error.why}")
    try:
        results = run_litert(converted.data, inputs)
    except (RuntimeError, ValueError) as error:
        return Outcome("wrong", f"it does not run: {str(error)[-200:]}")
    return compare(results, outputs)


def compare(results: Mapping[str, Array], outputs: Mapping[str, Array]) -> Outcome:
    for name, expected in outputs.items():
        result = results[name]
        if result.shape != expected.shape:
            return Outcome("wrong", f"{name} has shape {result.shape} for {expected.shape}")
        if expected.dtype == np.float16:
            expected = expected.astype(np.float32)
        if result.dtype != expected.dtype:
            return Outcome("wrong", f"{name} is of {result.dtype} for {expected.dtype}")
        if not np.allclose(result, expected, rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True):
            return Outcome("wrong", f"{name} differs by {_difference(result, expected):.3g}")
    return Outcome("passed")


def _difference(result: Array, expected: Array) -> float:
    with np.errstate(all="ignore"):
        gap = np.abs(result.astype(np.float64) - expected.astype(np.float64))
    return float(np.nanmax(gap)) if gap.size else 0.0


def run_litert(data: bytes, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """What LiteRT makes of the inputs, by the signature's names."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    (names,) = interpreter.get_signature_list().values()
    definition = next(iter(interpreter._get_full_signature_list().values()))
    for name in names["inputs"]:
        detail = interpreter._get_tensor_details(definition["inputs"][name], 0)
        array = np.ascontiguousarray(inputs[name].astype(detail["dtype"])).reshape(inputs[name].shape)
        interpreter.set_tensor(definition["inputs"][name], array)
    interpreter.invoke()
    return {name: interpreter.get_tensor(definition["outputs"][name]) for name in names["outputs"]}


# Reasons of cases that LiteRT does not support, or the writer by design: an element type without kernels, an opset
# that is too old, tensors without elements, training.
OUTSIDE = (
    "kernels do not support",
    "opsets 11 and newer",
    "without elements",
    "in training mode",
    "is not a tensor",
    "is not known in opset",
)
# Operators that are not in the writer's table since LiteRT has none for them. Any other that is missing there counts
# as rejected, even where LiteRT has a similar operator (RFFT2D for DFT, NON_MAX_SUPPRESSION_V4 with its padding).
ABSENT = {
    "Col2Im", "CumProd", "DeformConv", "Det", "GridSample", "ImageDecoder", "MaxUnpool", "MelWeightMatrix",
    "RegexFullMatch", "RoiAlign", "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer",
}  # fmt: skip


def is_outside(outcome: Outcome) -> bool:
    """Return whether a rejection says that LiteRT cannot express the case at all."""
    if outcome.state != "refused":
        return False
    missing = set(re.findall(r"operator (\w+)(?: of domain '[^']*')? is not in the writer's table", outcome.why))
    return bool(missing & ABSENT) or any(text in outcome.why for text in OUTSIDE)
