"""The conversion of a TFLite file: `python -m edgewright.formats.tflite.to_onnx.convert FILE`, in its own process."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from onnx.checker import ValidationError
from onnx.shape_inference import InferenceError

from edgewright.formats.isolated import answer_isolated
from edgewright.formats.onnx.prepare import save_model
from edgewright.formats.tflite.flatbuffer import MalformedFlatbuffer
from edgewright.formats.tflite.reader import TfliteGraph, label_tensors, map_file, name_ports, read_tflite, reject_file
from edgewright.formats.tflite.schema import INCLUDED_CUSTOM, is_custom
from edgewright.formats.tflite.to_onnx.build import OnnxBuilder
from edgewright.formats.tflite.to_onnx.contents import TfliteContents, UnsupportedContent
from edgewright.formats.tflite.to_onnx.operators import TABLE, Write
from edgewright.formats.tflite.to_onnx.read import (
    FOR_OTHERS,
    WITHOUT_IT,
    ConversionRequest,
    OnnxConversion,
    RejectedOperator,
)
from edgewright.limits import ResourceBudget
from edgewright.system.memory_limit import CONVERTER_COPIES

# What inconsistent numbers of a file raise in Python, numpy and onnx.
INCONSISTENT = (
    ArithmeticError,
    IndexError,
    InferenceError,
    KeyError,
    RuntimeError,
    TypeError,
    ValidationError,
    ValueError,
)


def convert(path: Path, request: ConversionRequest, budget: ResourceBudget) -> OnnxConversion:
    """See `read.convert_tflite`."""
    del budget  # the system's limits apply
    graph = read_tflite(path)
    with map_file(path) as data:
        try:
            return _convert_graph(graph, TfliteContents(data, graph), request)
        except UnsupportedContent as error:  # of an input or an output
            rejected = RejectedOperator(node="", op="", reason=error.reason, remedy=error.remedy or FOR_OTHERS)
            return OnnxConversion(rejected=(rejected,))
        except MalformedFlatbuffer as error:
            reject_file(path, str(error))
        except INCONSISTENT as error:
            reject_file(path, f"its numbers do not fit each other: {_shorten(error)}")


def _convert_graph(graph: TfliteGraph, contents: TfliteContents, request: ConversionRequest) -> OnnxConversion:
    builder = OnnxBuilder(contents, _list_names(graph), _find_sizes(graph, request.shapes))
    rejected: list[RejectedOperator] = []
    for position in range(len(graph.operators)):
        rejected += _write_operator(builder, position)
    if not rejected:
        save_model(builder.build(), Path(request.to))
    return OnnxConversion(rejected=tuple(rejected), sizes=builder.list_sizes())


def _shorten(error: Exception) -> str:
    return (str(error).splitlines() or [repr(error)])[0][:200]


def _list_names(graph: TfliteGraph) -> list[str]:
    labels = label_tensors(graph)
    return [labels[index] for index in range(len(graph.tensors))]


def _find_sizes(graph: TfliteGraph, shapes: Mapping[str, Sequence[int]]) -> dict[int, Sequence[int | str]]:
    """Return the sizes of the inputs: the given ones, else the file's with a name for each free one."""
    found: dict[int, Sequence[int | str]] = {}
    for index, name in zip(graph.inputs, name_ports(graph)[0], strict=True):
        own = graph.tensors[index].shape
        found[index] = shapes.get(name) or [size if size >= 0 else f"{name}_{i}" for i, size in enumerate(own)]
    return found


def _write_operator(builder: OnnxBuilder, position: int) -> list[RejectedOperator]:
    """Write one operator; return why it cannot be written. What reads its results is not tried then."""
    op = builder.start(position)
    found: list[RejectedOperator] = []
    try:
        if not builder.is_blocked():
            _find_writer(op)(builder)
            return []
        _find_writer(op)
    except UnsupportedContent as error:
        found = [_reject(builder, op, error.reason, error.remedy)]
    except INCONSISTENT as error:
        found = [_reject(builder, op, f"its parameters do not fit each other: {_shorten(error)}")]
    builder.block()
    return found


def _find_writer(op: str) -> Write:
    if is_custom(op):
        remedy = FOR_OTHERS if op in INCLUDED_CUSTOM else WITHOUT_IT
        raise UnsupportedContent("it is a custom operator, whose computation is not in the file", remedy)
    if op not in TABLE:
        raise UnsupportedContent("Edgewright does not convert this operator")
    return TABLE[op]


def _reject(builder: OnnxBuilder, op: str, reason: str, remedy: str = "") -> RejectedOperator:
    return RejectedOperator(node=builder.origin, op=op, reason=reason, remedy=remedy or FOR_OTHERS)


if __name__ == "__main__":
    answer_isolated(ConversionRequest, convert, copies=CONVERTER_COPIES)
