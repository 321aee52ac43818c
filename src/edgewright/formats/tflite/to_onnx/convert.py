"""The conversion of a TFLite file: `python -m edgewright.formats.tflite.to_onnx.convert FILE`, in its own process."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onnx.shape_inference import InferenceError

from edgewright.formats.isolated import answer_isolated
from edgewright.formats.onnx.prepare import save_model
from edgewright.formats.tflite.flatbuffer import MalformedFlatbuffer
from edgewright.formats.tflite.reader import TfliteGraph, label_tensors, map_file, name_ports, read_tflite, reject_file
from edgewright.formats.tflite.schema import OPERATORS
from edgewright.formats.tflite.to_onnx.build import Builder
from edgewright.formats.tflite.to_onnx.contents import TfliteContents, UnsupportedContent
from edgewright.formats.tflite.to_onnx.operators import TABLE
from edgewright.formats.tflite.to_onnx.read import FOR_OTHERS, Conversion, ConversionRequest, RejectedOperator
from edgewright.limits import ResourceBudget
from edgewright.system.memory_limit import CONVERTER_COPIES

# What inconsistent numbers of a file raise in Python, numpy and onnx.
INCONSISTENT = (ArithmeticError, IndexError, InferenceError, KeyError, TypeError, ValueError, RuntimeError)


def convert(path: Path, request: ConversionRequest, budget: ResourceBudget) -> Conversion:
    """See `read.convert_tflite`."""
    del budget  # the system's limits apply
    rejected: list[RejectedOperator] = []
    graph = read_tflite(path)
    with map_file(path) as data:
        try:
            builder = Builder(TfliteContents(data, graph), graph_names(graph), _find_sizes(graph, request.shapes))
            for position in range(len(graph.operators)):
                rejected += _write_operator(builder, graph, position)
            model = None if rejected else builder.build()
        except MalformedFlatbuffer as error:
            reject_file(path, str(error))
        except UnsupportedContent as error:
            rejected.append(RejectedOperator(node="its inputs and outputs", op="", reason=error.reason, remedy=error.remedy))
            model = None
    if model is not None:
        save_model(model, Path(request.to))
    return Conversion(rejected=tuple(rejected), sizes=builder.list_sizes())


def graph_names(graph: TfliteGraph) -> list[str]:
    labels = label_tensors(graph)
    return [labels[index] for index in range(len(graph.tensors))]


def _find_sizes(graph: TfliteGraph, shapes: Mapping[str, Sequence[int]]) -> dict[int, Sequence[int | str]]:
    """Return the sizes of the inputs: the given ones, else the file's with a name for each free one."""
    found: dict[int, Sequence[int | str]] = {}
    for index, name in zip(graph.inputs, name_ports(graph)[0], strict=True):
        own = graph.tensors[index].shape
        found[index] = shapes.get(name) or [size if size >= 0 else f"{name}_{i}" for i, size in enumerate(own)]
    return found


def _write_operator(builder: Builder, graph: TfliteGraph, position: int) -> list[RejectedOperator]:
    """Write one operator; return why it cannot be written."""
    op = builder.start(position)
    reason, remedy = "", FOR_OTHERS
    if op not in OPERATORS:
        reason = "it is a custom operator, whose computation is not in the file"
    elif op not in TABLE:
        reason = "it has no counterpart in the table of the reader"
    elif not builder.is_blocked():
        try:
            TABLE[op](builder)
            return []
        except UnsupportedContent as error:
            reason, remedy = error.reason, error.remedy or FOR_OTHERS
        except INCONSISTENT as error:
            reason = f"its parameters do not fit each other: {str(error).splitlines()[0][:200] if str(error) else error!r}"
    builder.block()
    return [RejectedOperator(node=builder.origin, op=op, reason=reason, remedy=remedy)] if reason else []


if __name__ == "__main__":
    answer_isolated(ConversionRequest, convert, copies=CONVERTER_COPIES)
