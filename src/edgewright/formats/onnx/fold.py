"""Shapes and types of every value of an ONNX graph, by onnx's inference and by folding what is constant."""

from collections.abc import Mapping
from copy import deepcopy
from math import prod
from pathlib import Path
from time import monotonic
from typing import Any

from edgewright.formats.onnx.attributes import OWN_DOMAINS, keep_only
from edgewright.formats.onnx.constants import add_initializers, make_tensor, read_array
from edgewright.formats.onnx.external import EXTERNAL, iterate_graph_tensors, read_range
from edgewright.formats.onnx.reader import get_dtype_name
from edgewright.formats.typed_graph import Size, TensorType
from edgewright.limits import MEMORY_VARIABLE, TIME_VARIABLE, ResourceBudget, TimeLimitExceeded, interrupt_after
from edgewright.schema.units import show_bytes

SMALL = 4096  # elements; larger constants are not computed
NODE_SHARE, FOLDING_SHARE = 0.1, 0.5  # of the budget's seconds: computing one constant, computing them all
MOST_ROUNDS = 12
MOST_ROWS = 4_000_000  # entries of one-dimensional values, up to which onnx may follow numbers
RANDOM = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
CONTROL = {"If", "Loop", "Scan"}


def load_small(graph: Any, folder: Path) -> None:
    """Read small external weights into the message, since sizes and axes are among them."""
    from onnx import helper

    for tensor in iterate_graph_tensors(graph):
        if tensor.data_location != EXTERNAL or prod(max(1, size) for size in tensor.dims) > SMALL:
            continue
        place = read_range(tensor)
        try:
            width = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
            with (folder / place.name).open("rb") as file:
                file.seek(place.offset)
                data = file.read(width * prod(tensor.dims))
        except (OSError, ValueError, KeyError, OverflowError):
            continue
        tensor.raw_data = data
        tensor.data_location = 0
        del tensor.external_data[:]


class ConstantFolder:
    """Constants and shapes of a model's values; `settle` computes them.

    Attributes:
        model: the message without the data of large weights.
        constant: names of values that depend on no input.
        values: arrays of the small ones among them that are known.
        problems: by node name, why the shape of its output is unknown.
        skipped: by node name, the limit because of which its constant value was not computed.
    """

    def __init__(self, model: Any, budget: ResourceBudget | None = None) -> None:
        self.model = model
        self.budget = budget or ResourceBudget()
        self.deadline = monotonic() + FOLDING_SHARE * self.budget.seconds
        self.skipped: dict[str, str] = {}
        self.opset = {entry.domain: entry.version for entry in model.opset_import}
        self.constant: set[str] = set()
        self.values: dict[str, Any] = {}
        self.problems: dict[str, str] = {}
        self.types: dict[str, TensorType] = {}

    def resolve(self) -> dict[str, TensorType]:
        """Return every value by name."""
        graph = self.model.graph
        stored = self.read_stored()
        for _ in range(MOST_ROUNDS):
            self.add_types(infer(self.model, self.values))
            if not self.fold():
                break
        for node in graph.node:
            self.note_problem(node)
        names = [name for node in graph.node for name in (*node.input, *node.output) if name]
        unknown = TensorType(dtype="", shape=None)
        return {
            name: TensorType(dtype=kind.dtype, shape=kind.shape, constant=name in self.constant, stored=name in stored)
            for name in dict.fromkeys([*self.types, *names])
            for kind in [self.types.get(name, unknown)]
        }

    def read_stored(self) -> set[str]:
        """Read the initializers and the Constant nodes."""
        graph = self.model.graph
        stored = set()
        for tensor in graph.initializer:
            self.add_tensor(tensor.name, tensor)
            stored.add(tensor.name)
        for sparse in graph.sparse_initializer:
            self.types[sparse.values.name] = TensorType(
                dtype=get_dtype_name(sparse.values.data_type), shape=tuple(sparse.dims)
            )
            self.constant.add(sparse.values.name)
            stored.add(sparse.values.name)
        for node in graph.node:
            if node.op_type == "Constant" and node.domain in OWN_DOMAINS and len(node.output) == 1:
                held = [one.t for one in node.attribute if one.HasField("t")]
                if held:
                    self.add_tensor(node.output[0], held[0])
                    stored.add(node.output[0])
        return stored

    def add_tensor(self, name: str, tensor: Any) -> None:
        shape = tuple(int(size) for size in tensor.dims)
        self.types[name] = TensorType(dtype=get_dtype_name(tensor.data_type), shape=shape)
        self.constant.add(name)
        array = _read_array(tensor) if prod(max(0, size) for size in shape) <= SMALL else None
        if array is not None:
            self.values[name] = array

    def add_types(self, inferred: Any) -> None:
        for value in (*inferred.input, *inferred.value_info, *inferred.output):
            kind, known = value.type.tensor_type, self.types.get(value.name)
            resolved = value.name in self.constant and known is not None and known.elements() is not None
            if value.type.WhichOneof("value") != "tensor_type" or resolved:
                continue
            shape = _read_shape(kind) if kind.HasField("shape") else None
            self.types[value.name] = TensorType(
                dtype=get_dtype_name(kind.elem_type) if kind.elem_type else "", shape=shape
            )

    def fold(self) -> bool:
        """Mark values that depend only on constants, and compute the small ones; return whether a value is new."""
        fresh = False
        for node in self.model.graph.node:
            if not self.is_constant(node):
                continue
            self.constant.update(name for name in node.output if name)
            if any(name and name not in self.values for name in node.output):
                fresh |= self.compute(node)
        return fresh

    def is_constant(self, node: Any) -> bool:
        if node.domain not in OWN_DOMAINS or node.op_type in RANDOM or node.op_type in CONTROL:
            return False
        if node.op_type in ("Shape", "Size") and node.input:
            kind = self.types.get(node.input[0])
            return node.input[0] in self.constant or (kind is not None and kind.elements() is not None)
        return all(name in self.constant for name in node.input if name)

    def compute(self, node: Any) -> bool:
        """Add the values of a node's outputs, if they are small; return whether it did."""
        made = self.measure(node) if node.op_type in ("Shape", "Size") else self.evaluate(node)
        for name, array in zip(node.output, made, strict=False):
            if name and array is not None and getattr(array, "size", SMALL + 1) <= SMALL:
                self.values[name] = array
                shape = tuple(int(size) for size in array.shape)
                self.types[name] = TensorType(dtype=array.dtype.name, shape=shape)
        return bool(made)

    def measure(self, node: Any) -> list[Any]:
        import numpy as np

        kind = self.types[node.input[0]]
        if kind.shape is None or kind.elements() is None:
            return []
        if node.op_type == "Size":
            return [np.asarray(kind.elements(), np.int64)]
        ends = {one.name: one.i for one in node.attribute}
        return [np.asarray(kind.shape[ends.get("start", 0) : ends.get("end")], np.int64)]

    def evaluate(self, node: Any) -> list[Any]:
        """Return outputs of onnx's reference implementation; empty if an input or an output is large, or it fails."""
        if node.name in self.skipped or any(name and name not in self.values for name in node.input):
            return []
        if any(size is not None and size > SMALL for size in self.predict_bytes(node)):
            return []
        left = min(NODE_SHARE * self.budget.seconds, self.deadline - monotonic())
        if left <= 0:
            self.skip(node, TIME_VARIABLE, f"computing constants took {FOLDING_SHARE * self.budget.seconds:.3g} s")
            return []
        try:
            with interrupt_after(left):
                return run_node(node, self.opset, self.values)
        except TimeLimitExceeded:
            self.skip(node, TIME_VARIABLE, f"it takes over {left:.3g} s")
            return []
        except MemoryError:
            self.skip(node, MEMORY_VARIABLE, f"it takes over {show_bytes(self.budget.memory_bytes)}")
            return []
        except Exception:  # it raises any class of NumPy; the value then stays unknown
            return []

    def predict_bytes(self, node: Any) -> list[int | None]:
        """Return the number of elements of each output, given the values of the inputs; None if it is not
        known.
        """
        import onnx
        from onnx import helper, shape_inference

        version = self.opset.get(node.domain, self.opset.get("ai.onnx", 1))
        try:
            values = {name: make_tensor("", self.values[name]) for name in node.input if name}
            types = {name: helper.make_tensor_type_proto(one.data_type, one.dims) for name, one in values.items()}
            schema = onnx.defs.get_schema(node.op_type, version, "")
            found = shape_inference.infer_node_outputs(
                schema, node, types, values, opset_imports=[helper.make_opsetid("", version)]
            )
        except Exception:  # onnx's own classes, and others caused by damaged attributes
            found = {}
        kinds = [found[name].tensor_type for name in node.output if name in found]
        known = [TensorType(dtype="", shape=_read_shape(kind)).elements() for kind in kinds if kind.HasField("shape")]
        return [*known, *(self.types[name].elements() for name in node.output if name in self.types)]

    def skip(self, node: Any, variable: str, why: str) -> None:
        self.skipped[node.name] = f"{why} ({variable})"

    def note_problem(self, node: Any) -> None:
        """Record why the outputs' shapes are unknown, for the first node that causes it."""
        known = [self.types.get(name) for name in node.output if name]
        if all(kind is not None and kind.elements() is not None for kind in known):
            return
        before = [self.types.get(name) for name in node.input if name]
        if any(kind is None or kind.elements() is None for kind in before):
            return
        self.problems[node.name] = _find_problem(self.model, node, self.opset, known)


def run_node(node: Any, opset: Mapping[str, int], values: Mapping[str, Any]) -> list[Any]:
    """Return the outputs of onnx's reference implementation, given the values of the inputs; None for an absent one."""
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    names = [name for name in dict.fromkeys(node.input) if name]
    inputs = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(values[n].dtype), None) for n in names]
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
    graph = helper.make_graph([node], "fold", inputs, outputs)
    opsets = [helper.make_opsetid(domain, version) for domain, version in opset.items()]
    evaluator = ReferenceEvaluator(helper.make_model(graph, opset_imports=opsets))
    made = iter(evaluator.run(None, {name: values[name] for name in names}))
    return [next(made) if name else None for name in node.output]


def _find_problem(model: Any, node: Any, opset: dict[str, int], known: list[TensorType | None]) -> str:
    import onnx

    version = opset.get(node.domain, opset.get("", opset.get("ai.onnx", 1)) if node.domain in OWN_DOMAINS else 1)
    newest = onnx.defs.onnx_opset_version()
    if node.domain in OWN_DOMAINS and version > newest:
        return f"opset {version} is newer than the installed onnx knows ({newest})"
    try:
        onnx.defs.get_schema(node.op_type, version, "" if node.domain in OWN_DOMAINS else node.domain)
    except (onnx.defs.SchemaError, TypeError):  # TypeError: the version is beyond a C++ int
        where = f" of domain '{node.domain}'" if node.domain not in OWN_DOMAINS else ""
        return f"operator {node.op_type}{where} is not known in opset {version}"
    if any(kind is None or kind.shape is None for kind in known):
        return "onnx infers no shape for its output: its attributes or inputs do not fit, or its sizes are computed"
    return "its output's size depends on its input's values"


def infer(model: Any, values: dict[str, Any]) -> Any:
    """Return the graph with the shapes that onnx infers, given the values that are known."""
    from onnx import helper

    shown = deepcopy(model)
    graph = shown.graph
    for node in graph.node:
        if node.op_type == "GroupNormalization" and node.domain in OWN_DOMAINS:  # onnx has no inference for it
            node.CopyFrom(helper.make_node("Identity", node.input[:1], node.output[:1], node.name))
    made = {name for node in graph.node for name in node.output}
    folded = [name for name in values if name in made]
    kept = [node for node in graph.node if not set(folded).issuperset(name for name in node.output if name)]
    if folded:
        keep_only(graph.node, kept)
        still = {name for node in kept for name in node.output}
        add_initializers(graph, {name: values[name] for name in folded if name not in still})
    try:
        return infer_shapes(shown).graph
    except Exception:  # a model that it rejects as a whole is reported node by node
        return graph


def copy_without_weights(model: Any) -> Any:
    """Return a copy whose large initializers have no data."""
    from onnx import ModelProto

    stripped = ModelProto(ir_version=model.ir_version)
    stripped.opset_import.extend(model.opset_import)
    stripped.functions.extend(model.functions)
    graph = stripped.graph
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    graph.value_info.extend(model.graph.value_info)
    graph.sparse_initializer.extend(model.graph.sparse_initializer)
    for tensor in model.graph.initializer:
        if prod(tensor.dims) <= SMALL:
            graph.initializer.append(tensor)
        else:
            graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    return stripped


def infer_shapes(model: Any) -> Any:
    """Return the model with the shapes that onnx infers, with data propagation if rows are short.

    Data propagation stores each entry of a one-dimensional value, even if it is unknown: 40 bytes
    for each entry of a row that an operator such as Cast reads.
    """
    from onnx import shape_inference

    plain = shape_inference.infer_shapes(model)
    graph = plain.graph
    rows = [tensor.dims[0] for tensor in graph.initializer if len(tensor.dims) == 1]
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        rows += [dims[0].dim_value] if len(dims) == 1 else []
    if sum(row for row in rows if row > SMALL) > MOST_ROWS:
        return plain
    try:
        return shape_inference.infer_shapes(model, data_prop=True)
    except MemoryError:
        return plain


def _read_shape(kind: Any) -> tuple[Size, ...]:
    return tuple(int(dim.dim_value) if dim.HasField("dim_value") else str(dim.dim_param) for dim in kind.shape.dim)


def _read_array(tensor: Any) -> Any:
    """Return NumPy's array; None if the data is absent or does not fit."""
    try:
        return read_array(tensor)
    except (ValueError, TypeError, KeyError, OSError, OverflowError):
        return None
