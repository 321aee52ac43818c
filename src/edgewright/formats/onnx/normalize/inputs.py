"""Inputs of a graph with fixed sizes or a fixed value."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from edgewright.errors import InputError
from edgewright.formats.onnx.attributes import keep_only


def check_sizes(values: Collection[Any], shapes: Mapping[str, Sequence[int]]) -> None:
    """Raise InputError for a name that is no input, and for another number of axes."""
    inputs = {value.name: value for value in values}
    for name, sizes in shapes.items():
        if name not in inputs:
            listed = ", ".join(sorted(inputs)) or "none"
            raise InputError(
                f"--shape {name}: the model has no such input", f"inputs are {listed}", "use one of these names"
            )
        kind = inputs[name].type.tensor_type
        if len(kind.shape.dim) != len(sizes):
            own = ", ".join(str(dim.dim_value or dim.dim_param or "?") for dim in kind.shape.dim)
            raise InputError(
                f"--shape {name}={','.join(map(str, sizes))} does not fit",
                f"the model's shape is [{own}]",
                f"give {len(kind.shape.dim)} sizes",
            )


def fix_sizes(graph: Any, shapes: Mapping[str, Sequence[int]]) -> bool:
    """Write the sizes into the inputs, and remove the shapes that were computed from others; return whether any
    changed."""
    changed = clear_negative_sizes(graph) | override_sizes(graph, shapes)
    for value in graph.input:
        dims = value.type.tensor_type.shape.dim
        sizes = shapes.get(value.name)
        if sizes is None or [dim.dim_value for dim in dims] == list(sizes):
            continue
        changed = True
        for dim, size in zip(dims, sizes, strict=True):
            dim.dim_value = size
    if changed:
        del graph.value_info[:]  # shapes of the former sizes, which mislead converters
        for value in graph.output:
            _free_sizes(value, also_fixed=False)
    return changed


def clear_negative_sizes(graph: Any) -> bool:
    """Make the sizes dynamic that a file writes as negative numbers (Paddle); return whether there were any."""
    values = (*graph.input, *graph.value_info, *graph.output)
    negative = [dim for value in values for dim in value.type.tensor_type.shape.dim if dim.dim_value < 0]
    for dim in negative:
        dim.Clear()
    return bool(negative)


def override_sizes(graph: Any, shapes: Mapping[str, Sequence[int]]) -> bool:
    """Replace sizes that the file fixes, and remove all shapes that followed from them; return whether any changed.

    Raises the errors of `check_sizes`.
    """
    check_sizes([value for value in graph.input if value.name in shapes], shapes)
    changed = False
    for value in graph.input:
        dims = value.type.tensor_type.shape.dim
        for dim, size in zip(dims, shapes.get(value.name, ()), strict=False):
            if dim.dim_value > 0 and dim.dim_value != size:
                dim.dim_value, changed = size, True
    if changed:
        del graph.value_info[:]
        for value in graph.output:
            _free_sizes(value, also_fixed=True)
    return changed


def _free_sizes(value: Any, *, also_fixed: bool) -> None:
    """Remove an output's sizes that now follow from the inputs."""
    for dim in value.type.tensor_type.shape.dim:
        if also_fixed or dim.HasField("dim_param"):
            dim.Clear()


def fix_values(graph: Any, tensors: Sequence[Any]) -> None:
    """Replace inputs by constants of the same names."""
    names = {tensor.name for tensor in tensors}
    keep_only(graph.input, [value for value in graph.input if value.name not in names])
    graph.initializer.extend(tensors)
