"""Stage 2: the shape and type of every value, and the values of constants."""

from typing import Any

import numpy as np

from edgewright.errors import ModelUnreadable
from edgewright.formats.onnx.constants import make_tensor
from edgewright.formats.onnx.fold import run_node
from edgewright.limits import TIME_VARIABLE, TimeLimitExceeded, interrupt_after, read_budget
from edgewright.runtimes.litert.writer.graph import DAMAGE, Graph, Node, OperatorRejected, Shape, make_rejection
from edgewright.runtimes.litert.writer.reading.read import MOST_DIMENSIONS, MOST_TENSOR_BYTES
from edgewright.runtimes.litert.writer.reading.unroll import CONTROL, unroll_node
from edgewright.schema.arrays import Array

# Shape inference looks into constants up to this size (axes, sizes, pads), never into weights.
SMALL = 4096
# Largest folded value, unless its inputs are at least half as large.
MOST_FOLDED_BYTES = 64 * 2**20
FOLDING_SHARE = 0.1  # of the budget's seconds: computing one value
# The result differs between runs, or the constant must stay as it is.
NEVER_FOLDED = {
    "DequantizeLinear",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Multinomial",
    "Bernoulli",
    "Loop",
    "Scan",
    "If",
}

# Operators that are never written, since known shapes make them constants.
FOLDED = {"Constant", "Shape", "Size", "ConstantOfShape", "Range", "EyeLike"}


def resolve_shapes(graph: Graph) -> dict[str, OperatorRejected]:
    """Set the static shape of every value, and replace constant values.

    Returns:
        The rejections by node name, of nodes whose outputs have no static shape, without the nodes after them.
    """
    rejections: dict[str, OperatorRejected] = {}
    kept = []
    waiting = graph.nodes[::-1]
    while waiting:
        node = waiting.pop()
        if any(name and name not in graph.shapes for name in node.inputs):
            kept.append(node)
            continue
        try:
            if node.op in CONTROL and not node.domain:
                waiting.extend(reversed(unroll_node(graph, node)))
                continue
            folded = _resolve_node(graph, node)
        except OperatorRejected as rejection:
            rejections[node.name] = rejection
            folded = False
        except DAMAGE as error:
            rejections[node.name] = make_rejection(error)
            folded = False
        if not folded:
            kept.append(node)
    graph.nodes = kept
    return rejections


def _resolve_node(graph: Graph, node: Node) -> bool:
    """Return whether the node was folded away."""
    if node.op == "Constant" and not node.domain:
        graph.set_constant(node.outputs[0], _read_constant(node))
        return True
    if node.op == "Range" and not node.domain and (row := _make_range(graph, node)) is not None:
        graph.set_constant(node.outputs[0], row)
        return True
    if node.op == "EyeLike" and not node.domain and len(graph.shapes[node.inputs[0]]) == 2:
        graph.set_constant(node.outputs[0], _make_eye(graph, node))
        return True
    if node.op in {"Shape", "Size"} and not node.domain:
        graph.set_constant(node.outputs[0], _measure(graph, node))
        return True
    _infer(graph, node)
    if not _is_foldable(graph, node):
        return False
    for name, data in zip(node.outputs, evaluate_node(graph, node), strict=False):
        if name:
            graph.set_constant(name, data)
    return True


def _read_constant(node: Node) -> Array:
    for name, dtype in (("value_float", np.float32), ("value_floats", np.float32)):
        if name in node.attributes:
            return np.asarray(node.attributes[name], dtype)
    for name in ("value_int", "value_ints"):
        if name in node.attributes:
            return np.asarray(node.attributes[name], np.int64)
    value = node.attributes.get("value")
    if not isinstance(value, np.ndarray):
        raise OperatorRejected("a constant of strings or of sparse values")
    return value


def _make_range(graph: Graph, node: Node) -> Array | None:
    parts = [graph.constants.get(name) for name in node.inputs]
    if len(parts) != 3 or any(part is None or part.size != 1 for part in parts):
        return None
    start, limit, delta = (graph.constants[name].reshape(-1)[0].item() for name in node.inputs)
    if not delta:
        raise OperatorRejected("its step is zero")
    count = max(int(np.ceil((limit - start) / delta)), 0)
    _check_shape(node.outputs[0], (count,))
    row: Array = start + np.arange(count) * delta
    return row.astype(graph.dtypes[node.inputs[0]])


def _make_eye(graph: Graph, node: Node) -> Array:
    from onnx import helper

    name = node.inputs[0]
    kind = node.attributes.get("dtype")
    dtype = graph.dtypes[name] if kind is None else np.dtype(helper.tensor_dtype_to_np_dtype(kind))
    rows, columns = graph.shapes[name]
    return np.eye(rows, columns, k=int(node.attributes.get("k", 0)), dtype=dtype)


def _measure(graph: Graph, node: Node) -> Array:
    shape = graph.shapes[node.inputs[0]]
    if node.op == "Size":
        return np.asarray(int(np.prod(shape, dtype=np.int64)), np.int64)
    start, end = node.attributes.get("start", 0), node.attributes.get("end")
    return np.asarray(shape[start:end], np.int64)


def _infer(graph: Graph, node: Node) -> None:
    """Set the shapes and types of the node's outputs by onnx's own inference."""
    import onnx
    import onnx.checker
    from onnx import shape_inference

    try:
        schema = onnx.defs.get_schema(node.op, graph.opset, node.domain)
    except onnx.defs.SchemaError:
        where = f"of domain '{node.domain}' " if node.domain else ""
        raise OperatorRejected(f"operator {node.op} {where}is not known in opset {graph.opset}") from None
    try:
        types = shape_inference.infer_node_outputs(
            schema,
            _make_proto(node),
            {name: _type(graph, name) for name in node.inputs if name},
            {name: make_tensor("", graph.constants[name]) for name in node.inputs if _is_small(graph, name)},
            opset_imports=[onnx.helper.make_opsetid(node.domain, graph.opset)],
        )
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError, *DAMAGE) as error:
        raise OperatorRejected(f"its sizes are impossible: {str(error).strip()[:200]}") from None
    for name in node.outputs:
        if name:
            _set_type(graph, node, name, types.get(name))


def _set_type(graph: Graph, node: Node, name: str, kind: Any) -> None:
    from onnx import helper

    tensor = kind.tensor_type if kind is not None and kind.WhichOneof("value") == "tensor_type" else None
    if tensor is None or not tensor.HasField("shape"):
        raise OperatorRejected("the shape of its output is not known before run time", "make its parameters constants")
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim)
    if -1 in shape:
        raise OperatorRejected("the shape of its output depends on its input's values", "make its parameters constants")
    _check_shape(name, shape)
    graph.shapes[name] = shape
    graph.dtypes[name] = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))


def _check_shape(name: str, shape: Shape) -> None:
    total = 4
    for size in shape:
        total *= max(size, 1)
        if size < 0 or total > MOST_TENSOR_BYTES:
            raise ModelUnreadable(f"'{name[:200]}' would have impossible sizes", f"{shape}")
    if len(shape) > MOST_DIMENSIONS:
        raise OperatorRejected(f"a value has {len(shape)} axes", f"LiteRT supports up to {MOST_DIMENSIONS} axes")


def _make_proto(node: Node) -> Any:
    from onnx import helper

    attributes = {
        key: make_tensor("", value) if isinstance(value, np.ndarray) else value
        for key, value in node.attributes.items()
    }
    lists = {key: value for key, value in attributes.items() if value == []}
    proto = helper.make_node(node.op, node.inputs, node.outputs, domain=node.domain)
    for key, value in attributes.items():
        kind = 7 if key in lists else None  # AttributeProto.INTS: an empty list has no type
        proto.attribute.append(helper.make_attribute(key, value, attr_type=kind))
    return proto


def _type(graph: Graph, name: str) -> Any:
    from onnx import helper

    return helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(graph.dtypes[name]), graph.shapes[name])


def _is_small(graph: Graph, name: str) -> bool:
    return name in graph.constants and graph.constants[name].size <= SMALL


def _is_foldable(graph: Graph, node: Node) -> bool:
    if node.op in NEVER_FOLDED or node.domain or not all(n in graph.constants for n in node.inputs if n):
        return False
    made = sum(_bytes(graph, name) for name in node.outputs if name)
    given = sum(_bytes(graph, name) for name in node.inputs if name)
    return made <= max(MOST_FOLDED_BYTES, 2 * given)


def _bytes(graph: Graph, name: str) -> int:
    return int(np.prod(graph.shapes[name], dtype=np.int64)) * graph.dtypes[name].itemsize


def evaluate_node(graph: Graph, node: Node) -> list[Array]:
    """Return the node's values from onnx's reference implementation."""
    try:
        with interrupt_after(FOLDING_SHARE * read_budget().seconds):
            made = run_node(_make_proto(node), {"": graph.opset}, graph.constants)
    except TimeLimitExceeded:
        raise OperatorRejected(f"its constant value takes too long to compute ({TIME_VARIABLE})") from None
    except Exception as error:
        raise OperatorRejected(f"its constant value cannot be computed: {str(error)[:200]}") from None
    return [np.zeros(0) if array is None else np.asarray(array) for array in made]
