"""Writes small TFLite files for tests, with the schema that ai-edge-litert brings.

A model is given as tensors and operators by name, so that a test reads like the graph it makes.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

TYPES = {
    "float32": 0,
    "float16": 1,
    "int32": 2,
    "uint8": 3,
    "int64": 4,
    "str": 5,
    "bool": 6,
    "int16": 7,
    "int8": 9,
    "int4": 17,
}


class Tensor(NamedTuple):
    """A tensor; `data` makes it a constant, -1 in `shape` a free size. `scales` with one item is per tensor."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    data: NDArray[Any] | None = None
    scales: tuple[float, ...] = ()
    zero_point: int = 0
    axis: int = 0


class Node(NamedTuple):
    """An operator by its builtin name, or any other name for a custom one; `options` by field."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    kind: str = ""
    options: Mapping[str, Any] = {}


class Names(NamedTuple):
    """A signature def: tensor by signature name."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    key: str = "serving_default"


def write_tflite(
    path: Path,
    tensors: Sequence[Tensor],
    nodes: Sequence[Node],
    inputs: Sequence[str],
    outputs: Sequence[str],
    signatures: Sequence[Names] = (),
) -> Path:
    """Write the model and return its path."""
    schema = import_module("ai_edge_litert.schema_py_generated")
    place = {tensor.name: i for i, tensor in enumerate(tensors)}
    model = schema.ModelT()
    model.version, model.buffers = 3, [schema.BufferT()]
    graph = schema.SubGraphT()
    graph.tensors = [_tensor(schema, tensor, model.buffers) for tensor in tensors]
    graph.inputs, graph.outputs = [place[name] for name in inputs], [place[name] for name in outputs]
    codes = list(dict.fromkeys(node.op for node in nodes))
    model.operatorCodes = [_code(schema, op) for op in codes]
    graph.operators = [_operator(schema, node, codes.index(node.op), place) for node in nodes]
    model.subgraphs = [graph]
    model.signatureDefs = [_names(schema, names, place) for names in signatures] or None
    builder = import_module("flatbuffers").Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def alter_tflite(path: Path, change: Callable[[Any], None]) -> Path:
    """Change a model in its file, as an object of the schema, to what `write_tflite` does not write."""
    schema = import_module("ai_edge_litert.schema_py_generated")
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    change(model)
    builder = import_module("flatbuffers").Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def _tensor(schema: Any, tensor: Tensor, buffers: list[Any]) -> Any:
    made = schema.TensorT()
    made.name, made.type = tensor.name.encode(), TYPES[tensor.dtype]
    made.shape = [abs(size) for size in tensor.shape]
    if -1 in tensor.shape:
        made.shapeSignature = list(tensor.shape)
    if tensor.data is not None:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(tensor.data).tobytes(), np.uint8)
        made.buffer = len(buffers)
        buffers.append(buffer)
    if tensor.scales:
        made.quantization = schema.QuantizationParametersT()
        made.quantization.scale = list(tensor.scales)
        made.quantization.zeroPoint = [tensor.zero_point] * len(tensor.scales)
        made.quantization.quantizedDimension = tensor.axis
    return made


def _code(schema: Any, op: str) -> Any:
    code = schema.OperatorCodeT()
    number = getattr(schema.BuiltinOperator, op, schema.BuiltinOperator.CUSTOM)
    code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), 1
    if number == schema.BuiltinOperator.CUSTOM:
        code.customCode = op.encode()
    return code


def _operator(schema: Any, node: Node, code: int, place: Mapping[str, int]) -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex = code
    operator.inputs = [place[name] if name else -1 for name in node.inputs]
    operator.outputs = [place[name] for name in node.outputs]
    if node.kind:
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, node.kind)
        operator.builtinOptions = getattr(schema, f"{node.kind}T")()
        vars(operator.builtinOptions).update(node.options)
    return operator


def _names(schema: Any, names: Names, place: Mapping[str, int]) -> Any:
    definition = schema.SignatureDefT()
    definition.signatureKey, definition.subgraphIndex = names.key.encode(), 0
    definition.inputs = [_entry(schema, name, place[tensor]) for name, tensor in names.inputs.items()]
    definition.outputs = [_entry(schema, name, place[tensor]) for name, tensor in names.outputs.items()]
    return definition


def _entry(schema: Any, name: str, index: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name.encode(), index
    return entry


# Models

CONV = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
RELU = 1


def weights(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).standard_normal(shape) * 0.3).astype(np.float32)


def write_convnet(path: Path, *, batch: int = 1, signatures: Sequence[Names] = ()) -> Path:
    """float32: x[batch,8,8,3] → CONV_2D → ADD (itself, RELU) → AVERAGE_POOL_2D → RESHAPE → FULLY_CONNECTED → y."""
    tensors = [
        Tensor("x", (batch, 8, 8, 3)),
        Tensor("w", (4, 3, 3, 3), data=weights((4, 3, 3, 3))),
        Tensor("b", (4,), data=np.zeros(4, np.float32)),
        Tensor("conv", (batch, 8, 8, 4)),
        Tensor("sum", (batch, 8, 8, 4)),
        Tensor("pool", (batch, 1, 1, 4)),
        Tensor("shape", (2,), "int32", np.array([-1, 4], np.int32)),
        Tensor("flat", (batch, 4)),
        Tensor("w2", (5, 4), data=weights((5, 4), 1)),
        Tensor("b2", (5,), data=np.zeros(5, np.float32)),
        Tensor("y", (batch, 5)),
    ]
    return write_tflite(path, tensors, convnet_nodes(), ["x"], ["y"], signatures)


def convnet_nodes() -> list[Node]:
    return [
        Node("CONV_2D", ("x", "w", "b"), ("conv",), "Conv2DOptions", CONV),
        Node("ADD", ("conv", "conv"), ("sum",), "AddOptions", {"fusedActivationFunction": RELU}),
        Node(
            "AVERAGE_POOL_2D",
            ("sum",),
            ("pool",),
            "Pool2DOptions",
            {"filterHeight": 8, "filterWidth": 8, "strideH": 8, "strideW": 8, "padding": 1},
        ),
        Node("RESHAPE", ("pool", "shape"), ("flat",), "ReshapeOptions", {"newShape": [-1, 4]}),
        Node("FULLY_CONNECTED", ("flat", "w2", "b2"), ("y",), "FullyConnectedOptions"),
    ]


def write_int8_convnet(path: Path) -> Path:
    """The same graph in int8 with per-channel weights; XNNPACK leaves AVERAGE_POOL_2D to the built-in kernels."""
    made = np.random.default_rng(2)
    scale, many = (0.05,), (0.01,) * 4
    tensors = [
        Tensor("x", (1, 8, 8, 3), "int8", None, scale, -3),
        Tensor("w", (4, 3, 3, 3), "int8", made.integers(-127, 127, (4, 3, 3, 3), np.int8), many),
        Tensor("b", (4,), "int32", np.zeros(4, np.int32), (0.0005,) * 4),
        Tensor("conv", (1, 8, 8, 4), "int8", None, scale),
        Tensor("sum", (1, 8, 8, 4), "int8", None, (0.1,)),
        Tensor("pool", (1, 1, 1, 4), "int8", None, (0.1,)),
        Tensor("shape", (2,), "int32", np.array([-1, 4], np.int32)),
        Tensor("flat", (1, 4), "int8", None, (0.1,)),
        Tensor("w2", (5, 4), "int8", made.integers(-127, 127, (5, 4), np.int8), (0.01,)),
        Tensor("b2", (5,), "int32", np.zeros(5, np.int32), (0.001,)),
        Tensor("y", (1, 5), "int8", None, scale),
    ]
    return write_tflite(path, tensors, convnet_nodes(), ["x"], ["y"])


def write_dense(path: Path, kind: str) -> Path:
    """x[1,16] → FULLY_CONNECTED → y[1,8]; its weights lie there as `kind`: float32, float16, int8, dequantized."""
    values = weights((8, 16), 3)
    stored = {
        "float32": Tensor("w", (8, 16), data=values),
        "float16": Tensor("stored", (8, 16), "float16", values.astype(np.float16)),
        "int8": Tensor("w", (8, 16), "int8", np.round(values * 100).astype(np.int8), (0.01,)),
        "dequantized": Tensor("stored", (8, 16), "int8", np.round(values * 100).astype(np.int8), (0.01,)),
    }[kind]
    tensors = [Tensor("x", (1, 16)), stored, Tensor("y", (1, 8))]
    nodes = [Node("FULLY_CONNECTED", ("x", "w", ""), ("y",), "FullyConnectedOptions")]
    if stored.name == "stored":
        tensors.append(Tensor("w", (8, 16)))
        nodes.insert(0, Node("DEQUANTIZE", ("stored",), ("w",), "DequantizeOptions"))
    return write_tflite(path, tensors, nodes, ["x"], ["y"])


def write_sum(path: Path, signatures: Sequence[Names] = ()) -> Path:
    """a[-1,4] + b[-1,4] → c[-1,4], with a free first size."""
    tensors = [Tensor("a", (-1, 4)), Tensor("b", (-1, 4)), Tensor("c", (-1, 4))]
    return write_tflite(path, tensors, [Node("ADD", ("a", "b"), ("c",), "AddOptions")], ["a", "b"], ["c"], signatures)
