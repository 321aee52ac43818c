"""An ONNX model as converters like it: fixed input shapes, and a unique name on every node.

What it computes is not changed, and operators are left as they are: what one converter requires rewritten, another does
not.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgewright.formats.onnx.external import load_external, needs_data_file
from edgewright.formats.onnx.reader import parse_model


def prepare_onnx(path: Path, shapes: Mapping[str, Sequence[int]], to: Path) -> Path:
    """Write the model with these input shapes to `to`, weights included, and return the path that is to be used.

    That is `path` itself where nothing had to be changed. Weights of over 2 GB in all go into one file beside `to`.
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
    """Write the shapes into the inputs, and forget what the file says of free sizes elsewhere; whether any changed."""
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
        del graph.value_info[:]  # shapes of the free model: a converter that believes them is led astray
        for value in graph.output:
            _free_sizes(value)
    return changed


def _free_sizes(value: Any) -> None:
    """Leave an output's named sizes open: they follow from the inputs now."""
    for dim in value.type.tensor_type.shape.dim:
        if dim.HasField("dim_param"):
            dim.Clear()


def name_nodes(graph: Any) -> bool:
    """Name the nodes as `formats.onnx` calls them, a number behind a name that is taken; whether any changed."""
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
    """Take from the nodes what an exporter noted of their origin: half of a small file, and paths of the machine that
    wrote it."""
    for one in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del one.metadata_props[:]


def remove_file_exporter_metadata(path: Path) -> None:
    """`remove_exporter_metadata` of a file, which may have its weights beside it."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    remove_exporter_metadata(model)
    onnx.save(model, str(path))
