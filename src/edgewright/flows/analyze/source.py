"""The file and the graph of a model that is analyzed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from edgewright.bench.feeds import make_fixed
from edgewright.errors import ModelUnreadable, UsageError
from edgewright.flows.analyze.partitions import LinkedOperators
from edgewright.flows.analyze.report import AnalyzedModel, SupportFinding
from edgewright.formats.files import get_format_title, hash_files, read_model, sniff
from edgewright.formats.onnx.attributes import read_opset
from edgewright.formats.onnx.normalize.source import is_prepared, prepare_onnx
from edgewright.formats.onnx.reader import parse_model
from edgewright.formats.onnx.typed import read_onnx_graph
from edgewright.formats.tflite.typed import read_tflite_graph
from edgewright.formats.torch_files import make_torch_error
from edgewright.formats.typed_graph import TypedGraph
from edgewright.limits import ResourceBudget

FixedValues = Mapping[str, Sequence[int | float]]


class ModelForm(NamedTuple):
    """A file that converters read, its graph and its operators; without a graph, the operators that have no form in
    ONNX."""

    path: Path
    graph: TypedGraph | None
    source: LinkedOperators
    rejected: tuple[SupportFinding, ...] = ()


def prepare_analysis(path: Path, shapes: Mapping[str, Sequence[int]], fixed: FixedValues, folder: Path) -> Path:
    """Return the file that `compile` converts, written into `folder` if it differs from the given one.

    Names of nodes and dynamic sizes do not make a difference.
    """
    if sniff(path) != "onnx":
        if fixed:
            raise UsageError("--fix cannot be used with this model", "it is not an ONNX file", "remove it")
        return path
    if not fixed and is_prepared(path, shapes):
        return path
    arrays = make_fixed(read_model(path).signature, shapes, fixed)
    return prepare_onnx(path, shapes, folder / "source.onnx", arrays)


def read_graph(path: Path, shapes: Mapping[str, Sequence[int]], budget: ResourceBudget) -> TypedGraph:
    match kind := sniff(path):
        case "onnx":
            return read_onnx_graph(path, shapes, budget)
        case "tflite":
            return read_tflite_graph(path, shapes)
    if kind == "zip" and (error := make_torch_error(path)):
        raise error
    raise ModelUnreadable(
        f"{path} cannot be analyzed",
        f"it is {get_format_title(kind)}",
        "analyze the ONNX or TFLite file that it was converted from",
    )


def describe_model(path: Path, graph: TypedGraph) -> AnalyzedModel:
    files = [path, *(path.parent / name for name in graph.data_files)]
    return AnalyzedModel(
        path=str(path),
        name=path.name,
        format=graph.format,
        sha256=hash_files(files),
        bytes=sum(file.stat().st_size for file in files),
        precision=graph.precision,
        opset=read_opset(parse_model(path, weights=False)) or None if graph.format == "onnx" else graph.opset,
        domains=graph.domains,
        signature=graph.signature,
        shapes=graph.shapes,
        assumed=graph.assumed,
        operators=len(graph.nodes),
        folded=len(graph.nodes) - len(graph.computing()),
    )
