"""The signature, the graph and the precision of a `.tflite` file, read without any other package.

The file is mapped, not read: weights are never touched.
"""

import mmap
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, NoReturn

from edgewright.errors import ModelNotFound, ModelUnreadable
from edgewright.formats.tflite.flatbuffer import FlatbufferReader, MalformedFlatbuffer
from edgewright.formats.tflite.schema import COMPUTE, CUSTOM, OPERATORS, PLACEHOLDER, TENSOR_TYPES, Slot
from edgewright.schema.model import GraphNode, Quantization, Signature, TensorSpec
from edgewright.schema.vocabulary import Precision

IDENTIFIER = b"TFL3"
SMALLEST_BYTES = 16
DIMENSIONS_LIMIT = 64


class TfliteTensor(NamedTuple):
    """A tensor of the main subgraph. `shape` has -1 for a dynamic size; `default_shape` has not."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    default_shape: tuple[int, ...]
    quantization: Quantization | None
    constant: bool


class TfliteOperator(NamedTuple):
    """An operator; `inputs` and `outputs` are tensor indices, -1 for an absent optional input."""

    op: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class TfliteGraph(NamedTuple):
    """The main subgraph. `names` has the signature's names by tensor index, empty without a signature."""

    tensors: tuple[TfliteTensor, ...]
    operators: tuple[TfliteOperator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    input_names: Mapping[int, str]
    output_names: Mapping[int, str]


def read_signature(path: Path) -> Signature:
    """Return the inputs and outputs of the main subgraph, in the file's order.

    Names are those of the signature def if the file has exactly one that names them all, else the tensors' own,
    made unique.

    Raises:
        ModelNotFound: there is no such file.
        ModelUnreadable: the file is not a whole TFLite model.
    """
    return make_signature(read_tflite(path))


def make_signature(graph: TfliteGraph) -> Signature:
    names_in, names_out = name_ports(graph)
    return Signature(
        inputs=tuple(_spec(graph.tensors[i], name) for i, name in zip(graph.inputs, names_in, strict=True)),
        outputs=tuple(_spec(graph.tensors[i], name) for i, name in zip(graph.outputs, names_out, strict=True)),
    )


def read_graph(path: Path) -> tuple[GraphNode, ...]:
    """Return the operators of the main subgraph in the file's order, which is an order of execution.

    A node is named `OP#position`; tensor names are unique, and those of inputs and outputs are the signature's. Raises
    as `read_signature`.
    """
    graph = read_tflite(path)
    labels = label_tensors(graph)
    return tuple(
        GraphNode(
            name=f"{operator.op}#{position}",
            op=operator.op,
            inputs=tuple(labels[i] for i in operator.inputs if i >= 0 and not graph.tensors[i].constant),
            outputs=tuple(labels[i] for i in operator.outputs if i >= 0),
        )
        for position, operator in enumerate(graph.operators)
    )


def read_precision(path: Path) -> Precision:
    """Return the model's precision by the types of its compute operators (convolutions, matrix products, recurrent
    cells).

    It is `mixed` if two precisions each have more than a tenth of these operators, except fp16 and fp32, which are
    `fp16`. Raises the same as `read_signature`.
    """
    return find_precision(read_tflite(path))


def name_tensors(indices: Sequence[int], own: Mapping[int, str], signature: Mapping[int, str]) -> tuple[str, ...]:
    """Return unique names for the tensors at `indices`: the signature's if it names them all, else their own."""
    known = signature if all(i in signature for i in indices) else own
    names: dict[str, None] = {}
    for i in indices:
        names[free_name(known.get(i) or f"tensor#{i}", i, names)] = None
    return tuple(names)


def name_ports(graph: TfliteGraph) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the inputs and of the outputs."""
    own = {i: graph.tensors[i].name for i in (*graph.inputs, *graph.outputs)}
    return (
        name_tensors(graph.inputs, own, graph.input_names),
        name_tensors(graph.outputs, own, graph.output_names),
    )


def free_name(name: str, index: int, taken: Container[str]) -> str:
    """Return the name of the tensor at `index`, with the index if the name is taken."""
    while name in taken:
        name = f"{name}#{index}"
    return name


def label_tensors(graph: TfliteGraph) -> dict[int, str]:
    """Return a unique name for each tensor: the signature's, else its own, with its index if that is used."""
    names_in, names_out = name_ports(graph)
    labels: dict[int, str] = {}
    taken: set[str] = set()
    wanted = [*zip(graph.inputs, names_in, strict=True), *zip(graph.outputs, names_out, strict=True)]
    wanted += [(i, tensor.name or f"tensor#{i}") for i, tensor in enumerate(graph.tensors)]
    for i, name in wanted:
        if i not in labels:
            labels[i] = free_name(name, i, taken)
            taken.add(labels[i])
    return labels


def _spec(tensor: TfliteTensor, name: str) -> TensorSpec:
    shape = tuple("" if size < 0 else size for size in tensor.shape)
    default = tensor.default_shape if "" in shape and min(tensor.default_shape, default=1) > 0 else None
    if any(free < 0 and size == 1 for free, size in zip(tensor.shape[1:], tensor.default_shape[1:], strict=False)):
        default = None  # 1 is TensorFlow's placeholder; a batch of 1 runs, an image of one pixel rarely does
    return TensorSpec(
        name=name, dtype=tensor.dtype, shape=shape, quantization=tensor.quantization, default_shape=default
    )


# Precision


def find_precision(graph: TfliteGraph) -> Precision:
    sources = {o: operator for operator in graph.operators if operator.op == "DEQUANTIZE" for o in operator.outputs}
    kinds = [k for o in graph.operators if o.op in COMPUTE and (k := _operator_precision(graph, o, sources))]
    if not kinds:
        return _activation_precision(graph)
    counts = {kind: kinds.count(kind) for kind in set(kinds)}
    big = {kind for kind, count in counts.items() if count * 10 > len(kinds)}
    if big == {"fp16", "fp32"}:  # converters keep small weights in fp32
        return "fp16"
    return big.pop() if len(big) == 1 else "mixed"


def _operator_precision(
    graph: TfliteGraph, operator: TfliteOperator, dequantized: Mapping[int, TfliteOperator]
) -> Precision | None:
    """Return the precision of one compute operator; None if it has no weights."""
    activation, weights, stored_smaller = "", "", False
    for i in operator.inputs:
        if i < 0 or graph.tensors[i].dtype in ("int32", "int64", "bool"):
            continue
        stored = _stored_type(graph, i, dequantized)
        if stored is None:
            activation = activation or graph.tensors[i].dtype
        elif not weights:
            weights, stored_smaller = stored, stored != graph.tensors[i].dtype
    return _name_precision(activation, weights, explicit=stored_smaller) if weights else None


def _stored_type(graph: TfliteGraph, index: int, dequantized: Mapping[int, TfliteOperator]) -> str | None:
    """Return the stored type of a constant; None for a computed tensor."""
    if graph.tensors[index].constant:
        return graph.tensors[index].dtype
    source = dequantized.get(index)
    if source is not None and source.inputs and source.inputs[0] >= 0 and graph.tensors[source.inputs[0]].constant:
        return graph.tensors[source.inputs[0]].dtype
    return None


def _name_precision(activation: str, weights: str, *, explicit: bool) -> Precision:
    """Return the name; `explicit` says that a DEQUANTIZE is between weights and operator, so that the arithmetic is
    float."""
    if weights in ("int4", "uint4", "int2"):
        return "w4a8" if activation in ("int8", "uint8") else "w4"
    if weights in ("int8", "uint8"):
        by_activation: dict[str, Precision] = {"int8": "w8a8", "uint8": "w8a8", "int16": "w8a16"}
        return by_activation.get(activation, "w8" if explicit else "w8a8-dynamic")
    by_weights: dict[str, Precision] = {"float16": "fp16", "bfloat16": "bf16"}
    return by_weights.get(weights, "fp32")


def _activation_precision(graph: TfliteGraph) -> Precision:
    """Return the precision of a model without compute operators, by the type of most of its computed tensors."""
    types = [graph.tensors[i].dtype for o in graph.operators for i in o.outputs if i >= 0]
    names: dict[str, Precision] = {"int8": "w8a8", "uint8": "w8a8", "float16": "fp16", "bfloat16": "bf16"}
    return names.get(max(set(types), key=types.count), "fp32") if types else "fp32"


# The file


def read_tflite(path: Path) -> TfliteGraph:
    """Return the main subgraph of the file. Raises as `read_signature`."""
    with map_file(path) as data:
        try:
            return _read_model(FlatbufferReader(data))
        except MalformedFlatbuffer as error:
            reject_file(path, str(error))


@contextmanager
def map_file(path: Path) -> Iterator[mmap.mmap]:
    """Map a file for reading. Raises as `read_signature`."""
    if not path.is_file():
        raise ModelNotFound(f"model not found: {path}", "there is no such file, or it is not a regular file")
    try:
        with path.open("rb") as file:
            if (size := path.stat().st_size) < SMALLEST_BYTES:
                reject_file(path, "it is empty" if size == 0 else (f"it has {size} bytes, fewer than any model"))
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                yield data
    except OSError as error:
        reject_file(path, error.strerror or str(error))


def reject_file(path: Path, why: str) -> NoReturn:
    """Raise ModelUnreadable."""
    raise ModelUnreadable(
        f"{path.name} is not a complete TFLite model",
        why,
        "copy the file again, or export it again with the tool that wrote it",
    )


def _read_model(flat: FlatbufferReader) -> TfliteGraph:
    if bytes(flat.data[4:8]) != IDENTIFIER:
        raise MalformedFlatbuffer("it does not have the TFLite file identifier TFL3")
    model = flat.follow(0)
    if (version := flat.value(model, Slot.MODEL_VERSION, "I")) != 3:
        raise MalformedFlatbuffer(f"its schema version is {version}, but only version 3 is supported")
    filled = [_is_filled(flat, buffer) for buffer in flat.tables(model, Slot.MODEL_BUFFERS)]
    codes = [_read_code(flat, code) for code in flat.tables(model, Slot.MODEL_CODES)]
    subgraph = next(flat.tables(model, Slot.MODEL_SUBGRAPHS), None)
    if subgraph is None:
        raise MalformedFlatbuffer("it has no subgraph")
    return _read_subgraph(flat, model, subgraph, codes, filled)


def _is_filled(flat: FlatbufferReader, buffer: int) -> bool:
    """Return whether a buffer holds data; its whole length must be within the file."""
    _, count = flat.vector(buffer, Slot.BUFFER_DATA, 1)
    offset = flat.value(buffer, Slot.BUFFER_OFFSET, "Q")
    size = flat.value(buffer, Slot.BUFFER_SIZE, "Q")
    # Offsets 0 and 1 are placeholders of the schema for "no data behind the flatbuffer".
    if offset > 1 and offset + size > flat.size:
        raise MalformedFlatbuffer(
            f"its weights are at bytes {offset} to {offset + size} of {flat.size}: it is truncated"
        )
    return count > 0 or (offset > 1 and size > 0)


def _read_code(flat: FlatbufferReader, code: int) -> str:
    # Codes beyond 127 do not fit the old byte, which then holds the placeholder: the larger one counts.
    number = max(flat.value(code, Slot.CODE_OLD, "b"), flat.value(code, Slot.CODE_BUILTIN, "i"))
    if number == CUSTOM:
        return flat.text(code, Slot.CODE_CUSTOM) or "CUSTOM"
    if number < 0 or number == PLACEHOLDER:
        raise MalformedFlatbuffer(f"operator code {number} is unknown")
    return OPERATORS[number] if number < len(OPERATORS) else f"BUILTIN_{number}"


def _read_subgraph(
    flat: FlatbufferReader, model: int, subgraph: int, codes: Sequence[str], filled: Sequence[bool]
) -> TfliteGraph:
    tensors = tuple(_read_tensor(flat, tensor, filled) for tensor in flat.tables(subgraph, Slot.GRAPH_TENSORS))
    inputs = flat.numbers(subgraph, Slot.GRAPH_INPUTS, "i")
    outputs = flat.numbers(subgraph, Slot.GRAPH_OUTPUTS, "i")
    operators = tuple(_read_operator(flat, o, codes) for o in flat.tables(subgraph, Slot.GRAPH_OPERATORS))
    _check_indices((*inputs, *outputs), len(tensors), least=0)
    for operator in operators:
        _check_indices((*operator.inputs, *operator.outputs), len(tensors), least=-1)
    names_in, names_out = _read_names(flat, model)
    return TfliteGraph(tensors, operators, inputs, outputs, names_in, names_out)


def _check_indices(indices: Sequence[int], count: int, *, least: int) -> None:
    for index in indices:
        if not least <= index < count:
            raise MalformedFlatbuffer(f"it refers to tensor {index}, but has {count} tensors")


def _read_operator(flat: FlatbufferReader, operator: int, codes: Sequence[str]) -> TfliteOperator:
    index = flat.value(operator, Slot.OPERATOR_CODE, "I")
    if index >= len(codes):
        raise MalformedFlatbuffer(f"it refers to operator code {index}, but has {len(codes)} codes")
    inputs = flat.numbers(operator, Slot.OPERATOR_INPUTS, "i")
    return TfliteOperator(codes[index], inputs, flat.numbers(operator, Slot.OPERATOR_OUTPUTS, "i"))


def _read_tensor(flat: FlatbufferReader, tensor: int, filled: Sequence[bool]) -> TfliteTensor:
    kind = flat.value(tensor, Slot.TENSOR_TYPE, "b")
    if not 0 <= kind < len(TENSOR_TYPES):
        raise MalformedFlatbuffer(f"tensor type {kind} is unknown")
    buffer = flat.value(tensor, Slot.TENSOR_BUFFER, "I")
    if buffer >= max(len(filled), 1):
        raise MalformedFlatbuffer(f"it refers to buffer {buffer}, but has {len(filled)} buffers")
    variable = bool(flat.value(tensor, Slot.TENSOR_VARIABLE, "B"))
    stored = bool(filled and filled[buffer]) or flat.value(tensor, Slot.TENSOR_EXTERNAL, "I") > 0
    return TfliteTensor(
        name=flat.text(tensor, Slot.TENSOR_NAME),
        dtype=TENSOR_TYPES[kind],
        shape=_read_shape(flat, tensor),
        default_shape=tuple(flat.numbers(tensor, Slot.TENSOR_SHAPE, "i")),
        quantization=_read_quantization(flat, tensor),
        constant=stored and not variable,
    )


def _read_shape(flat: FlatbufferReader, tensor: int) -> tuple[int, ...]:
    shape = flat.numbers(tensor, Slot.TENSOR_SHAPE, "i")
    free = flat.numbers(tensor, Slot.TENSOR_SHAPE_SIGNATURE, "i")
    shape = free if len(free) == len(shape) else shape
    if len(shape) > DIMENSIONS_LIMIT or any(size < -1 for size in shape):
        raise MalformedFlatbuffer("the shape of a tensor is impossible")
    return shape


def _read_quantization(flat: FlatbufferReader, tensor: int) -> Quantization | None:
    at = flat.field(tensor, Slot.TENSOR_QUANTIZATION)
    if not at:
        return None
    table = flat.follow(at)
    if flat.vector(table, Slot.QUANTIZATION_SCALE, 4)[1] != 1:
        return None
    (scale,) = flat.numbers(table, Slot.QUANTIZATION_SCALE, "f")
    zero_points = flat.numbers(table, Slot.QUANTIZATION_ZERO_POINT, "q")
    return Quantization(scale=float(scale), zero_point=zero_points[0] if zero_points else 0)


def _read_names(flat: FlatbufferReader, model: int) -> tuple[dict[int, str], dict[int, str]]:
    """Return names by tensor index from the signature def, if there is exactly one and it is the main subgraph's."""
    signatures = list(flat.tables(model, Slot.MODEL_SIGNATURES))
    if len(signatures) != 1 or flat.value(signatures[0], Slot.SIGNATURE_SUBGRAPH, "I") != 0:
        return {}, {}
    return (
        _read_map(flat, signatures[0], Slot.SIGNATURE_INPUTS),
        _read_map(flat, signatures[0], Slot.SIGNATURE_OUTPUTS),
    )


def _read_map(flat: FlatbufferReader, signature: int, slot: int) -> dict[int, str]:
    pairs = [
        (flat.text(entry, Slot.MAP_NAME), flat.value(entry, Slot.MAP_TENSOR, "I"))
        for entry in flat.tables(signature, slot)
    ]
    return invert_names(pairs)


def invert_names(pairs: Sequence[tuple[str, int]]) -> dict[int, str]:
    """Return the name by tensor index; of two names for one tensor the alphabetically first."""
    return {index: name for name, index in sorted(pairs, reverse=True) if name}
