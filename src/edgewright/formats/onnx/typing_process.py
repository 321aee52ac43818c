"""The child process of `typed`: `python -m edgewright.formats.onnx.typing_process MODEL`, shapes as JSON on stdin.

Shapes come from onnx's own inference with data propagation, repeated with new values folded into
constants: a Reshape whose sizes are computed from a Shape is then a Reshape with fixed sizes.
"""

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from edgewright.errors import ModelUnreadable
from edgewright.formats.isolated import answer_isolated
from edgewright.formats.neighbors import order_nodes
from edgewright.formats.onnx.attributes import (
    OWN_DOMAINS,
    iterate_subgraphs,
    keep_only,
    list_all_inputs,
    read_opset,
    read_value,
)
from edgewright.formats.onnx.external import check_external, iterate_graph_tensors
from edgewright.formats.onnx.fold import ConstantFolder, load_small
from edgewright.formats.onnx.functions import inline_functions
from edgewright.formats.onnx.normalize.inputs import check_sizes, clear_negative_sizes, override_sizes
from edgewright.formats.onnx.prepare import name_nodes
from edgewright.formats.onnx.reader import OnnxFile
from edgewright.formats.typed_graph import Size, TypedGraph, TypedNode, limit_count
from edgewright.limits import ResourceBudget, read_budget

TENSOR, GRAPH, TENSORS, GRAPHS = 4, 5, 9, 10  # AttributeProto's types of complex values
SPARSE = (11, 12, 13, 14)


def read_typed(path: Path, shapes: Mapping[str, Sequence[int]], budget: ResourceBudget | None = None) -> TypedGraph:
    """See `typed.read_onnx_graph`."""
    budget = budget or read_budget()
    file = OnnxFile(path)
    model, signature, precision = file.model, file.signature(), file.precision()
    notes = _write_out_functions(model, budget)
    graph = model.graph
    name_nodes(graph)
    notes += _order_nodes(path, graph)
    taken, assumed = fix_input_sizes(graph, {spec.name for spec in signature.inputs}, shapes)
    data_files = check_external(path, model)
    _check_weights(path, graph)
    load_small(graph, path.parent)
    folder = ConstantFolder(model, budget)
    tensors = folder.resolve()
    notes += _note_skipped(folder.skipped)
    nodes = tuple(_read_node(node, folder) for node in graph.node)
    return TypedGraph(
        format="onnx",
        opset=read_opset(model) or None,
        domains={entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        signature=signature,
        precision=precision,
        nodes=nodes,
        tensors=tensors,
        inputs=tuple(spec.name for spec in signature.inputs),
        outputs=tuple(spec.name for spec in signature.outputs),
        shapes=taken,
        assumed=assumed,
        data_files=data_files,
        notes=tuple(notes),
    )


def _write_out_functions(model: Any, budget: ResourceBudget) -> list[str]:
    """Inline the model's own functions; return a note about it."""
    count = len(model.functions)
    inlined = inline_functions(model, budget)
    if not count:
        return []
    model.CopyFrom(inlined)
    return [f"{count} function{'s' * (count > 1)} of the model {'are' if count > 1 else 'is'} inlined"]


def _note_skipped(skipped: Mapping[str, str]) -> list[str]:
    """Return a note on constants that were not computed, whose dependents stay unknown."""
    if not skipped:
        return []
    name, why = next(iter(skipped.items()))
    others = f" and {len(skipped) - 1} others" if len(skipped) > 1 else ""
    return [(f"the constant at '{name[:80]}'{others} was not computed: {why}; what depends on it is unknown")]


def _order_nodes(path: Path, graph: Any) -> list[str]:
    """Sort the nodes into an execution order. Raises ModelUnreadable if there is none."""
    given = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    given |= {sparse.values.name for sparse in graph.sparse_initializer}
    nodes = list(graph.node)
    ordered = order_nodes(nodes, given, [value.name for value in graph.output], list_all_inputs, model=path)
    if all(node is own for node, own in zip(ordered, nodes, strict=True)):
        return []
    keep_only(graph.node, ordered)
    return [("its operators are not in topological order: runtimes other than LiteRT reject such a file")]


def fix_input_sizes(
    graph: Any, names: set[str], shapes: Mapping[str, Sequence[int]]
) -> tuple[dict[str, tuple[Size, ...]], tuple[str, ...]]:
    """Write the sizes into the inputs; return them, and the inputs whose leading dynamic size became 1."""
    check_sizes([value for value in graph.input if value.name in names], shapes)
    clear_negative_sizes(graph)
    override_sizes(graph, shapes)
    taken: dict[str, tuple[Size, ...]] = {}
    assumed, bound = [], dict[str, int]()
    for value in (value for value in graph.input if value.name in names):
        dims = value.type.tensor_type.shape.dim
        wanted = shapes.get(value.name)
        if wanted is None and len(dims) and not dims[0].HasField("dim_value"):
            wanted = [1, *([-1] * (len(dims) - 1))]
            assumed.append(value.name)
        taken[value.name] = _write_sizes(dims, wanted or [-1] * len(dims), bound)
    _forget_shapes(graph, bound)
    return taken, tuple(assumed)


def _write_sizes(dims: Any, wanted: Sequence[int], bound: dict[str, int]) -> tuple[Size, ...]:
    """Write the sizes that are not -1 into dynamic dimensions, and add the names with a size to `bound`."""
    for dim, size in zip(dims, wanted, strict=True):
        if dim.HasField("dim_value"):
            continue
        name = dim.dim_param
        size = bound.get(name, size) if name and size < 0 else size
        if size >= 0:
            if name:
                bound[name] = size
            dim.dim_value = size
    return tuple(dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in dims)


def _forget_shapes(graph: Any, bound: Mapping[str, int]) -> None:
    """Remove the file's shapes of inner values, which inference computes, except for operators without inference."""
    foreign = {name for node in graph.node if node.domain not in OWN_DOMAINS for name in node.output}
    kept = [value for value in graph.value_info if value.name in foreign]
    keep_only(graph.value_info, kept)
    for value in (*graph.value_info, *graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in bound:
                dim.dim_value = bound[dim.dim_param]
            elif dim.HasField("dim_param") and value not in kept:
                dim.Clear()


def _check_weights(path: Path, graph: Any) -> None:
    """Raise ModelUnreadable for weights with impossible sizes."""
    for tensor in iterate_graph_tensors(graph):
        if min(tensor.dims, default=0) < 0 or limit_count(prod(tensor.dims)) is None:
            sizes = ", ".join(map(str, tensor.dims[:8]))
            raise ModelUnreadable(f"{path}: '{tensor.name[:200]}' has impossible sizes", f"[{sizes}]")


def _read_node(node: Any, folder: "ConstantFolder") -> TypedNode:
    plain = (one for one in node.attribute if one.type not in (TENSOR, GRAPH, TENSORS, GRAPHS, *SPARSE))
    return TypedNode(
        name=node.name,
        op=node.op_type,
        domain="" if node.domain in OWN_DOMAINS else node.domain,
        inputs=tuple(node.input),
        outputs=tuple(node.output),
        attributes=_read_defaults(node, folder.opset) | {one.name: read_value(one) for one in plain},
        folded=all(name in folder.constant for name in node.output if name) and any(node.output),
        bodies=len(list(iterate_subgraphs(node))),
        problem=folder.problems.get(node.name, ""),
    )


def _read_defaults(node: Any, opsets: Mapping[str, int]) -> dict[str, Any]:
    """Return the attributes that an operator of ONNX has unless its node sets them."""
    from onnx import defs

    if node.domain not in OWN_DOMAINS or not defs.has(node.op_type):
        return {}
    try:
        schema = defs.get_schema(node.op_type, opsets.get("", opsets.get("ai.onnx", 1)))
    except (defs.SchemaError, TypeError):  # the operator is newer than the opset, or the opset is no 32-bit number
        return {}
    defaults = {name: one.default_value for name, one in schema.attributes.items()}
    return {name: read_value(one) for name, one in defaults.items() if one.name and one.type != TENSOR}


if __name__ == "__main__":
    answer_isolated(dict[str, tuple[int, ...]], read_typed)
