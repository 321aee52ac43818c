"""Content of an .mlpackage: operators, names and weights, read from its protobuf and its weight file.

Formats: coremltools `mlmodel/format/MIL.proto` and `mlmodel/src/MILBlob/Blob/StorageFormat.hpp`.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgewright.runtimes.contract import Rejected

MODEL, WEIGHTS = "model.mlmodel", "weights/weight.bin"
BLOB = "<IIQQ"  # sentinel, type, bytes, offset of the data
SENTINEL = 0xDEADBEEF
FLOAT16, FLOAT32, INT32, BOOL = 10, 11, 23, 1  # MIL.proto DataType
TYPES = {FLOAT16: np.float16, FLOAT32: np.float32, INT32: np.int32, BOOL: np.bool_, 21: np.int8, 31: np.uint8}


class CoremlOperator(NamedTuple):
    """One operator of the main function; `inputs` has names of values."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class MlProgram(NamedTuple):
    """An ML program; `weights` has the constants in the weight file by the names of their values."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    operators: tuple[CoremlOperator, ...]
    weights: dict[str, NDArray[Any]]


def read_program(package: Path) -> MlProgram:
    """Return the ML program of a package. Raises Rejected if it has none."""
    data = package / "Data" / "com.apple.CoreML"
    spec = read_spec(data / MODEL)
    function = spec.mlProgram.functions["main"]
    block = function.block_specializations[function.opset]
    store = (data / WEIGHTS).read_bytes() if (data / WEIGHTS).is_file() else b""
    return MlProgram(
        inputs=tuple(value.name for value in spec.description.input),
        outputs=tuple(value.name for value in spec.description.output),
        operators=tuple(_read_operators(block)),
        weights=dict(_read_weights(block, store)),
    )


def read_spec(path: Path) -> Any:
    from edgewright.runtimes.coreml.library import load_library

    load_library()
    from coremltools.proto import Model_pb2
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # ships no types

    spec = Model_pb2.Model()
    try:
        spec.ParseFromString(path.read_bytes())
    except (OSError, DecodeError) as error:
        raise Rejected(f"the package cannot be read: {error}") from error
    if not spec.mlProgram.functions:
        raise Rejected("the package has no ML program")
    return spec


def _read_operators(block: Any) -> Iterator[CoremlOperator]:
    """Yield all operators except constants, including those of inner blocks."""
    for operation in block.operations:
        for inner in operation.blocks:
            yield from _read_operators(inner)
        if operation.type != "const":
            arguments = [one.name for given in operation.inputs.values() for one in given.arguments if one.name]
            yield CoremlOperator(operation.type, tuple(arguments), tuple(value.name for value in operation.outputs))


def _read_weights(block: Any, store: bytes) -> Iterator[tuple[str, NDArray[Any]]]:
    for operation in block.operations:
        for inner in operation.blocks:
            yield from _read_weights(inner, store)
        value = operation.attributes["val"] if operation.type == "const" else None
        if value is not None and value.WhichOneof("value") == "blobFileValue":
            yield operation.outputs[0].name, _read_blob(store, value)


def _read_blob(store: bytes, value: Any) -> NDArray[Any]:
    sentinel, _, size, offset = struct.unpack_from(BLOB, store, value.blobFileValue.offset)
    if sentinel != SENTINEL:
        raise Rejected("the package's weight file is damaged")
    kind = value.type.tensorType
    shape = [dimension.constant.size for dimension in kind.dimensions]
    return np.frombuffer(
        store, TYPES[kind.dataType], offset=offset, count=size // np.dtype(TYPES[kind.dataType]).itemsize
    ).reshape(shape)
