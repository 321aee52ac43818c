"""ONNX in a form that pnnx converts correctly: constants folded, few and simple operators, opset 17 at most.

pnnx reports no failure by its exit code, and reads some forms of an operator incorrectly without an error. The
rewrites leave only forms that it reads correctly; the docstring of each names the fault.
"""

from collections.abc import Mapping
from typing import Any

from edgewright.errors import LimitReached, ModelNotConvertible
from edgewright.formats.neighbors import find_readers
from edgewright.formats.onnx.attributes import read_attributes, read_opset
from edgewright.formats.onnx.functions import inline_functions
from edgewright.formats.onnx.qdq import ExtractedFloatModel, extract_float_model
from edgewright.runtimes.contract import NotConvertible
from edgewright.runtimes.ncnn.conversion.booleans import convert_to_floats
from edgewright.runtimes.ncnn.conversion.gelu import normalize_gelus
from edgewright.runtimes.ncnn.conversion.graph import Node, ObservedGraph, make_node, write_graph
from edgewright.runtimes.ncnn.conversion.rewrites import REWRITES
from edgewright.schema.arrays import Array

OLDEST, NEWEST = 13, 17  # the last opset in which ReduceMean has its axes as an attribute
LARGEST_MODEL = 2**31 - 1
EXPORT_HINT = "export it again with opset 17 or 18"
SHAPE_OPS = ("Shape", "Size")
SAME = ("Identity", "Dropout")
INDEX_PRESERVING_OPS = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Identity", "Expand")
BROADCAST = ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Equal", "And", "Or",
             "Greater", "Less", "GreaterOrEqual", "LessOrEqual")  # fmt: skip
INNER_GRAPHS = ("If", "Loop", "Scan")


def read_model(path: str) -> Any:
    """Return the source with function calls replaced by their bodies."""
    import onnx

    try:
        model = onnx.load(path)
    except Exception as error:  # classes of protobuf and onnx, and missing weights
        raise _make_unreadable_error(error) from error
    return check_model(model)


def check_model(model: Any) -> Any:
    """Return the model with function calls replaced by their bodies. Raises NotConvertible if it is too old or too
    large."""
    try:
        model = inline_functions(model)
    except LimitReached:
        raise
    except Exception as error:  # classes of protobuf and onnx
        raise _make_unreadable_error(error) from error
    if read_opset(model, 1) < OLDEST:
        reason = f"the model uses opset {read_opset(model, 1)}, which cannot be raised to {OLDEST}"
        raise NotConvertible(reason, EXPORT_HINT)
    if model.ByteSize() > LARGEST_MODEL:
        raise NotConvertible("the model is over 2 GB, more than one ONNX file can hold")
    return model


def _make_unreadable_error(error: Exception) -> NotConvertible:
    return NotConvertible(f"the model cannot be read: {str(error).strip()[:300]}", EXPORT_HINT)


def extract_floats(model: Any) -> ExtractedFloatModel:
    """Return the parts of a QDQ model. Raises NotConvertible."""
    try:
        return extract_float_model(model)
    except ModelNotConvertible as error:
        raise NotConvertible(error.why, error.try_this) from error


def normalize_model(model: Any, values: Mapping[str, Array], retry: bool) -> Any:
    """Return the rewritten model. Raises NotConvertible with the unsupported nodes.

    Integer and bool tensors become float32, except indices of tables.

    Args:
        model: from `read_model`.
        values: from `probe.run_all_tensors`.
        retry: whether slices that split an axis become a Split, and Transposes that move only axes of one a Reshape;
            pnnx recognizes attention and recurrent layers in some models with them and in others without.
    """
    opset = read_opset(model, 1)
    graph = ObservedGraph(model, dict(values))
    _fold(graph)
    _reject_subgraphs(graph)
    _skip_copies(graph)
    if retry:
        _split_unit_slices(graph)
        _reshape_instead_of_moving_ones(graph)
    indices = _find_indices(graph)
    graph.nodes = [made for node in graph.nodes for made in _rewrite(node, graph, opset)]
    normalize_gelus(graph)
    convert_to_floats(graph, indices)
    _skip_copies(graph)
    graph.drop_unused()
    return write_graph(graph, min(opset, NEWEST))


def _rewrite(node: Node, graph: ObservedGraph, opset: int) -> list[Node]:
    change = REWRITES.get(node.op_type)
    node.doc_string = origin = f"{node.op_type} '{node.name}'"
    made = change(node, graph, opset) if change else None
    for one in made or ():
        one.doc_string = origin  # names the source's node in errors
    return [node] if made is None else made


def _fold(graph: ObservedGraph) -> None:
    """Fold values that do not depend on the inputs' values; shapes are static, so Shape does not."""
    depends = set(graph.inputs)
    kept = []
    for node in graph.nodes:
        if node.op_type not in SHAPE_OPS and (depends.intersection(node.input) or node.op_type in INNER_GRAPHS):
            depends.update(node.output)
            kept.append(node)
            continue
        graph.constants.update({name: graph.values[name] for name in node.output if name in graph.values})
    graph.nodes = kept
    graph.drop_unused()
    for name in graph.outputs:
        if name in graph.constants:
            raise NotConvertible(f"output '{name}' does not depend on any input", "remove it from the model")


def _reject_subgraphs(graph: ObservedGraph) -> None:
    found = [
        f"{node.op_type} '{node.name}': ncnn has no control flow"
        for node in graph.nodes
        if node.op_type in INNER_GRAPHS
    ]
    if found:
        raise NotConvertible("\n".join(found), "export the model without branches and loops")


def _skip_copies(graph: ObservedGraph) -> None:
    """Remove nodes that only copy a tensor: Identity, Dropout, a Slice of everything, an Expand to the same shape."""
    for node in [node for node in graph.nodes if _is_copy(node, graph)]:
        source, result = node.input[0], node.output[0]
        graph.nodes.remove(node)
        if result not in graph.outputs:
            graph.rename(result, source)
        elif source in graph.inputs or source in graph.outputs:
            reason = f"output '{result}' is a copy of '{source}', and ncnn has no layer that only copies"
            raise NotConvertible(reason, "remove the output from the model")
        else:
            graph.rename(source, result)


def _is_copy(node: Node, graph: ObservedGraph) -> bool:
    if node.op_type in SAME:
        return True
    if node.op_type == "Slice":
        steps = graph.constant(node, 4)
        forward = steps is None or bool((steps == 1).all())
        return forward and _same_shape(node, graph)
    return node.op_type == "Expand" and (_same_shape(node, graph) or _is_broadcast_anyway(node, graph))


def _is_broadcast_anyway(node: Node, graph: ObservedGraph) -> bool:
    """Return whether the operators that read an Expand give the same result without it.

    pnnx makes a layer that normalizes another axis of a norm, its bound, an Expand and a Div.
    """
    result = node.output[0]
    readers = [one for one in graph.nodes if result in one.input]
    if result in graph.outputs or result not in graph.values:
        return False
    return all(one.op_type in BROADCAST and _has_other_of(one, result, graph) for one in readers)


def _has_other_of(node: Node, tensor: str, graph: ObservedGraph) -> bool:
    """Return whether another input of the node already has the shape of its result."""
    others = [name for name in node.input if name and name != tensor]
    known = [name for name in others if name in graph.values or name in graph.constants]
    return node.output[0] in graph.values and any(graph.shape(name) == graph.shape(node.output[0]) for name in known)


def _same_shape(node: Node, graph: ObservedGraph) -> bool:
    pair = (node.input[0], node.output[0])
    return all(name in graph.values for name in pair) and graph.shape(pair[0]) == graph.shape(pair[1])


def _reshape_instead_of_moving_ones(graph: ObservedGraph) -> None:
    """Replace a Transpose that moves only axes of one by a Reshape.

    pnnx takes one of these axes for the batch, and then omits the Transpose.
    """
    for node in graph.nodes:
        if node.op_type == "Transpose" and {node.input[0], node.output[0]} <= graph.values.keys():
            sizes = graph.shape(node.input[0])
            order = [axis for axis in read_attributes(node).get("perm", range(len(sizes))[::-1]) if sizes[axis] != 1]
            if order == sorted(order):
                node.op_type = "Reshape"
                del node.attribute[:]
                node.input.append(graph.integers(graph.shape(node.output[0])))


def _split_unit_slices(graph: ObservedGraph) -> None:
    """Replace slices of one entry each that together cover an axis by a Split.

    Dynamo's exporter unbinds q, k and v with such slices; pnnx makes a torch.unbind of them, which ncnn does not
    support.
    """
    for tensor, nodes in find_readers(graph.nodes).items():
        units = [_unit_slice(node, graph) if node.input[0] == tensor else None for node in nodes]
        if len(nodes) < 2 or None in units or tensor not in graph.values:
            continue
        axes = {unit[0] for unit in units if unit}
        size = graph.shape(tensor)[min(axes)]
        if len(axes) == 1 and sorted(unit[1] for unit in units if unit) == list(range(size)):
            _join_units(
                graph, tensor, min(axes), {unit[1]: node for unit, node in zip(units, nodes, strict=True) if unit}
            )


def _unit_slice(node: Node, graph: ObservedGraph) -> tuple[int, int] | None:
    """Return axis and position of a Slice or Gather of one entry of its first input; else None."""
    rank = len(graph.shape(node.input[0])) if node.input[0] in graph.values else 0
    if node.op_type == "Gather":
        index = graph.constant(node, 1)
        if index is None or index.size != 1 or not rank:
            return None
        axis = read_attributes(node).get("axis", 0) % rank
        return axis, int(index.reshape(-1)[0]) % graph.shape(node.input[0])[axis]
    parts = [graph.constant(node, position) for position in (1, 2, 3)] if node.op_type == "Slice" else [None]
    if not rank or any(part is None or part.size != 1 for part in parts):
        return None
    start, _, axis = (int(part[0]) for part in parts if part is not None)
    size = graph.shape(node.input[0])[axis % rank]
    return (axis % rank, start % size) if graph.shape(node.output[0])[axis % rank] == 1 else None


def _join_units(graph: ObservedGraph, tensor: str, axis: int, nodes: Mapping[int, Node]) -> None:
    from onnx import helper

    pieces = [graph.fresh(tensor) for _ in nodes]
    sizes = graph.integers([1] * len(nodes))
    first = min(graph.nodes.index(node) for node in nodes.values())
    made = [helper.make_node("Split", [tensor, sizes], pieces, name=f"Split_{tensor}", axis=axis)]
    for position, node in sorted(nodes.items()):
        index = graph.constant(node, 1)
        squeezed = node.op_type == "Gather" and index is not None and index.ndim == 0
        made.append(
            make_node("Squeeze", [pieces[position], graph.integers([axis])], node.output[0])
            if squeezed
            else make_node("Identity", [pieces[position]], node.output[0])
        )
    gone = {id(node) for node in nodes.values()}
    graph.nodes = [
        one
        for place, node in enumerate(graph.nodes)
        for one in ([*made] if place == first else [] if id(node) in gone else [node])
    ]


def _find_indices(graph: ObservedGraph) -> set[str]:
    """Return the integer tensors from an input to a table lookup; they stay integers.

    Raises NotConvertible for an input that is both an index and a number: ncnn reads these in different types.
    """
    readers = find_readers(graph.nodes)
    indices: set[str] = set()
    for name in graph.inputs:
        if graph.values[name].dtype.kind == "f":
            continue
        carried, uses = _follow(name, readers)
        looks_up = [_reads_index(node, tensor, graph) for node, tensor in uses]
        if any(looks_up) and not all(looks_up):
            other = next(node for (node, _), index in zip(uses, looks_up, strict=True) if not index)
            reason = f"input '{name}' is used both as an index and as a number by {other.op_type} '{other.name}'"
            raise NotConvertible(
                f"{reason}; ncnn reads an input as one type", "give the model a separate input for each"
            )
        if any(looks_up):
            indices.update(carried)
    return indices


def _follow(tensor: str, readers: Mapping[str, list[Node]]) -> tuple[set[str], list[tuple[Node, str]]]:
    """Return the tensors with the same values, and their readers."""
    carried, uses, left = {tensor}, [], [tensor]
    while left:
        name = left.pop()
        for node in readers.get(name, ()):
            if (node.op_type in INDEX_PRESERVING_OPS or _is_integer_cast(node)) and node.input[0] == name:
                carried.add(node.output[0])
                left.append(node.output[0])
            else:
                uses.append((node, name))
    return carried, uses


def _is_integer_cast(node: Node) -> bool:
    from onnx import TensorProto

    return node.op_type == "Cast" and read_attributes(node)["to"] in (TensorProto.INT32, TensorProto.INT64)


def _reads_index(node: Node, tensor: str, graph: ObservedGraph) -> bool:
    return node.op_type == "Gather" and node.input[1] == tensor and node.input[0] in graph.constants
