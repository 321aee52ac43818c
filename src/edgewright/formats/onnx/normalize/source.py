"""Preparation of an ONNX file for converters: fixed inputs, the normal form, and a unique name on every node."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgewright.formats.isolated import ask_isolated
from edgewright.formats.onnx.constants import make_tensor
from edgewright.formats.onnx.external import load_external
from edgewright.formats.onnx.normalize.inputs import clear_negative_sizes, fix_sizes, override_sizes
from edgewright.formats.onnx.normalize.process import Normalized, NormalizeRequest, needs_normalizing
from edgewright.formats.onnx.prepare import name_nodes, save_model
from edgewright.formats.onnx.reader import open_model, parse_model
from edgewright.formats.onnx.typed import measure_file
from edgewright.formats.onnx.weightless import StrippedModel
from edgewright.limits import read_budget

Shapes = Mapping[str, Sequence[int]]


def prepare_onnx(path: Path, shapes: Shapes, to: Path, fixed: Mapping[str, NDArray[Any]] | None = None) -> Path:
    """Write the model for converters to `to`, and return the path to be used.

    It is `path` itself if nothing had to be changed; weights are then not read. Weights of over 2 GB in total go into
    one file beside `to`.

    Args:
        shapes: sizes of inputs, which may differ from fixed ones of the file.
        fixed: values of inputs that become constants, by name.

    Raises:
        InputError: `shapes` or `fixed` has a name that is no input, or another number of axes.
        ModelUnreadable, LimitReached: onnx cannot process the graph within the limits.
    """
    with open_model(path) as (model, stripped):
        if fixed or needs_normalizing(model):
            normalized = _normalize(path, shapes, fixed or {}, to)
            if normalized is None:
                return path
            model = normalized
        elif not any([fix_sizes(model.graph, shapes), name_nodes(model.graph)]):
            return path
        _save(path, model, stripped, to)
    return to


def is_prepared(path: Path, shapes: Shapes) -> bool:
    """Return whether a file is in the normal form, and the shapes agree with the sizes that it fixes."""
    with open_model(path) as (model, _):
        graph = model.graph
        return not (clear_negative_sizes(graph) or override_sizes(graph, shapes) or needs_normalizing(model))


def resize_inputs(path: Path, shapes: Shapes, to: Path) -> Path:
    """Write the model with other sizes of inputs and no other change to `to`, and return the path."""
    with open_model(path) as (model, stripped):
        fix_sizes(model.graph, shapes)
        _save(path, model, stripped, to)
    return to


def _normalize(path: Path, shapes: Shapes, fixed: Mapping[str, NDArray[Any]], to: Path) -> Any:
    """Return the normal form without its large weights; None if nothing changes."""
    request = NormalizeRequest(
        shapes={name: tuple(sizes) for name, sizes in shapes.items()},
        fixed={name: make_tensor(name, array).SerializeToString() for name, array in fixed.items()},
        to=str(to.absolute()),
    )
    budget = read_budget().for_files(measure_file(path))
    module = "edgewright.formats.onnx.normalize.process"
    answer = ask_isolated(module, path, request, Normalized, budget)
    return parse_model(to) if answer.changed else None


def _save(path: Path, model: Any, stripped: StrippedModel, to: Path) -> None:
    """Write the model with all its weights."""
    for tensor in model.graph.initializer:
        if tensor.name in stripped.places and not tensor.HasField("raw_data"):
            tensor.raw_data = stripped.read(tensor.name)
    load_external(path, model)
    save_model(model, to)
