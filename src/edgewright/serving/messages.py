"""Requests and responses of the Open Inference Protocol, version 2, in JSON and with the binary tensor extension.

A request is a JSON object with `inputs`. With the extension, the bytes of tensors follow the JSON text, whose length is
in the header `Inference-Header-Content-Length`; each tensor's length is in its parameter `binary_data_size`.
"""

import struct
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from edgewright.errors import InputError
from edgewright.schema.arrays import Array

HEADER_LENGTH = "inference-header-content-length"
BYTES = "BYTES"
DTYPES = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
}
DATATYPES = {dtype: name for name, dtype in DTYPES.items()} | {"str": BYTES, "object": BYTES}
MAX_DIMENSIONS = 32
_FORM = "docs/serve.md shows a request"


class _Parameters(Struct):
    binary_data_size: int | None = None
    binary_data: bool | None = None
    classification: int | None = None


class _RequestInput(Struct):
    name: str
    datatype: str
    shape: list[int]
    parameters: _Parameters | None = None
    data: Any = None


class _RequestOutput(Struct):
    name: str
    parameters: _Parameters | None = None


class _RequestParameters(Struct):
    binary_data_output: bool = False
    timeout: int | None = None


class _RequestBody(Struct):
    inputs: list[_RequestInput]
    id: str | None = None
    outputs: list[_RequestOutput] | None = None
    parameters: _RequestParameters | None = None


class InferenceRequest(Struct, kw_only=True):
    """What a client asks for.

    Attributes:
        outputs: names that are wanted, with whether each is to be sent as bytes; empty for all.
        binary: whether outputs that are not named are sent as bytes.
        timeout_us: the client's limit for the answer; None for the server's.
    """

    inputs: dict[str, Array]
    outputs: dict[str, bool]
    binary: bool
    id: str | None
    timeout_us: int | None


def read_request(body: bytes, header_length: str | None) -> InferenceRequest:
    """Return the request of an HTTP body. Raises InputError that names what is wrong with it."""
    length = _read_length(body, header_length)
    try:
        head = msgspec.json.decode(memoryview(body)[:length], type=_RequestBody)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError("the request is not a JSON object of the protocol", str(error), _FORM) from None
    inputs: dict[str, Array] = {}
    offset = length
    for one in head.inputs:
        if one.name in inputs:
            raise InputError(f"the input '{one.name}' is given twice", "each input is one tensor", _FORM)
        size = one.parameters.binary_data_size if one.parameters else None
        if size is None:
            inputs[one.name] = _read_values(one)
            continue
        if size < 0 or offset + size > len(body):
            why = f"it has {size} bytes by its binary_data_size, and {len(body) - offset} are left in the body"
            raise InputError(f"the input '{one.name}' is longer than the body", why, "send all bytes of all inputs")
        inputs[one.name] = read_bytes(one.name, one.datatype, one.shape, memoryview(body)[offset : offset + size])
        offset += size
    if offset != len(body):
        raise InputError("the body is longer than its inputs", f"{len(body) - offset} bytes are left", _FORM)
    parameters = head.parameters or _RequestParameters()
    return InferenceRequest(
        inputs=inputs,
        outputs={one.name: _wants_bytes(one, parameters) for one in head.outputs or ()},
        binary=parameters.binary_data_output,
        id=head.id,
        timeout_us=parameters.timeout,
    )


def _read_length(body: bytes, header_length: str | None) -> int:
    if header_length is None:
        return len(body)
    if not (header_length.isascii() and header_length.isdigit()) or int(header_length[:20]) > len(body):
        why = f"it is {header_length[:20]}, and the body has {len(body)} bytes"
        raise InputError("Inference-Header-Content-Length is wrong", why, "send the length of the JSON text in bytes")
    return int(header_length)


def _wants_bytes(one: _RequestOutput, parameters: _RequestParameters) -> bool:
    own = one.parameters or _Parameters()
    if own.classification:
        what = f"classification is not supported for the output '{one.name}'"
        raise InputError(what, "the server returns the model's outputs", "sort the scores in the client")
    return parameters.binary_data_output if own.binary_data is None else own.binary_data


def _check_form(name: str, datatype: str, shape: Sequence[int]) -> None:
    if datatype != BYTES and datatype not in DTYPES:
        raise InputError(
            f"the input '{name}' has the datatype {datatype[:20]}", f"known: {', '.join(DTYPES)}, BYTES", _FORM
        )
    if len(shape) > MAX_DIMENSIONS or any(one < 0 for one in shape):
        raise InputError(f"the input '{name}' has an impossible shape", f"{list(shape)[:40]}", _FORM)


def _read_values(one: _RequestInput) -> Array:
    """Return the tensor whose values are in the JSON text, flat or nested, in row-major order."""
    _check_form(one.name, one.datatype, one.shape)
    dtype = "object" if one.datatype == BYTES else DTYPES[one.datatype]
    if one.data is None:
        raise InputError(f"the input '{one.name}' has no data", "it has no binary_data_size either", _FORM)
    try:
        values = np.array(one.data, dtype=dtype)
    except (TypeError, ValueError, OverflowError) as error:
        what = f"the data of the input '{one.name}' are not {one.datatype}"
        raise InputError(what, str(error), "send a list of numbers, flat or nested") from None
    if values.dtype.kind == "f" and np.isnan(values).any():  # JSON has no NaN: it comes from a null
        raise InputError(f"the data of the input '{one.name}' have a null", "it is no number", "send NaN as bytes")
    return _reshape(one.name, values, one.shape)


def read_bytes(name: str, datatype: str, shape: Sequence[int], data: memoryview) -> Array:
    """Return the tensor of row-major little-endian bytes, without a copy; of BYTES, each text follows its length."""
    _check_form(name, datatype, shape)
    if datatype == BYTES:
        return _reshape(name, _read_texts(name, data), shape)
    dtype = np.dtype(DTYPES[datatype]).newbyteorder("<")
    if len(data) != prod(shape) * dtype.itemsize:
        why = f"{list(shape)} of {datatype} are {prod(shape) * dtype.itemsize} bytes, and {len(data)} were sent"
        raise InputError(f"the input '{name}' has the wrong number of bytes", why, _FORM)
    return np.frombuffer(data, dtype).reshape(tuple(shape))


def _read_texts(name: str, data: memoryview) -> Array:
    texts, offset = [], 0
    while offset < len(data):
        if offset + 4 > len(data) or offset + 4 + (size := struct.unpack_from("<I", data, offset)[0]) > len(data):
            raise InputError(f"the texts of the input '{name}' end too early", f"at byte {offset}", _FORM)
        texts.append(bytes(data[offset + 4 : offset + 4 + size]).decode("utf-8", "replace"))
        offset += 4 + size
    return np.array(texts, dtype=object)


def _reshape(name: str, values: Array, shape: Sequence[int]) -> Array:
    if values.size != prod(shape):
        why = f"the shape {list(shape)} has {prod(shape)} values, and {values.size} were sent"
        raise InputError(f"the input '{name}' has the wrong number of values", why, _FORM)
    return values.reshape(tuple(shape))


def write_bytes(array: Array) -> bytes:
    """Return row-major little-endian bytes; each text follows its length."""
    if array.dtype.kind in "OUS":
        texts = [one if isinstance(one, bytes) else str(one).encode() for one in array.ravel().tolist()]
        return b"".join(struct.pack("<I", len(one)) + one for one in texts)
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()


def find_datatype(dtype: str) -> str:
    """Return the protocol's name of a dtype."""
    return BYTES if dtype.startswith(("str", "<U", "object")) else DATATYPES[dtype]


def choose_outputs(outputs: Mapping[str, Array], request: InferenceRequest) -> dict[str, Array]:
    """Return the outputs that are wanted. Raises InputError for one that the model does not have."""
    unknown = [name for name in request.outputs if name not in outputs]
    if unknown:
        what = f"the model has no output '{unknown[0]}'"
        raise InputError(what, f"it has {', '.join(outputs)}", "ask for some of them, or for none")
    return {name: outputs[name] for name in request.outputs or outputs}


def write_response(
    model: str, version: str, outputs: Mapping[str, Array], request: InferenceRequest
) -> tuple[bytes, int | None]:
    """Return the body, and the length of its JSON text if bytes follow it. In JSON, NaN and infinities are null."""
    rows, blobs = [], []
    for name, array in outputs.items():
        row: dict[str, Any] = {
            "name": name,
            "datatype": find_datatype(array.dtype.name),
            "shape": list(array.shape),
        }
        if request.outputs.get(name, request.binary):
            blobs.append(write_bytes(array))
            row["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            row["data"] = array.ravel().tolist()
        rows.append(row)
    head = {"model_name": model, "model_version": version, "outputs": rows}
    if request.id is not None:
        head["id"] = request.id
    text = msgspec.json.encode(head)
    return b"".join((text, *blobs)), len(text) if blobs else None
