"""Preparation of an ONNX model for converters: static input shapes, and a unique name on every node.

Results and operators are not changed: converters need different
rewrites.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgewright.formats.onnx.external import load_external, needs_data_file
from edgewright.formats.onnx.reader import parse_model


def prepare_onnx(path: Path, shapes: Mapping[str, Sequence[int]], to: Path) -> Path:
    """Write the model with these input shapes and its weights to `to`, and return the path to be used.

    It is `path` itself if nothing had to be changed. Weights of over 2 GB in total go into one file beside `to`.
    """
    model = parse_model(path)
    changed = [_fix_inputs(model.graph, shapes), name_nodes(model.graph)]
    if not any(changed):
        return path
    load_external(path, model)
    save_model(model, to)
    return to


def save_model(model: Any, to: Path) -> None:
    import onnx

    large = needs_data_file(model)
    onnx.save(model, str(to), save_as_external_data=large, location=f"{to.name}.data" if large else None)


def _fix_inputs(graph: Any, shapes: Mapping[str, Sequence[int]]) -> bool:
    """Write the shapes into the inputs, and remove other shapes with dynamic sizes; return whether any changed."""
    changed = False
    for value in graph.input:
        dims = value.type.tensor_type.shape.dim
        sizes = shapes.get(value.name)
        if sizes is None or [dim.dim_value for dim in dims] == list(sizes):
            continue
        changed = True
        for dim, size in zip(dims, sizes, strict=True):
            dim.dim_value = size
    if changed:
        del graph.value_info[:]  # shapes of the dynamic model, which mislead converters
        for value in graph.output:
            _free_sizes(value)
    return changed


def _free_sizes(value: Any) -> None:
    """Remove an output's named sizes, which now follow from the inputs."""
    for dim in value.type.tensor_type.shape.dim:
        if dim.HasField("dim_param"):
            dim.Clear()


def name_nodes(graph: Any) -> bool:
    """Name the nodes like `formats.onnx`, with a number after a used name; return whether any changed."""
    changed = False
    taken: set[str] = set()
    for position, node in enumerate(graph.node):
        name = node.name or f"{node.op_type}#{position}"
        while name in taken:
            name = f"{name}#{position}"
        if name != node.name:
            node.name = name
            changed = True
        taken.add(name)
    return changed


def remove_exporter_metadata(model: Any) -> None:
    """Remove an exporter's metadata about the nodes' origin: half of a small file, and paths of the machine that
    wrote it."""
    for one in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del one.metadata_props[:]


def remove_file_exporter_metadata(path: Path) -> None:
    """Apply `remove_exporter_metadata` to a file, which may have external weights."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    remove_exporter_metadata(model)
    onnx.save(model, str(path))
