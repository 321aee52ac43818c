"""Names of nodes, an exporter's metadata, and saving of a message."""

from pathlib import Path
from typing import Any

from edgewright.formats.onnx.external import needs_data_file


def save_model(model: Any, to: Path) -> None:
    import onnx

    large = needs_data_file(model)
    onnx.save(model, str(to), save_as_external_data=large, location=f"{to.name}.data" if large else None)


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
