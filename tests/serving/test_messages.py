"""Requests and responses of the protocol, and those that are wrong."""

import contextlib
import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.errors import InputError
from edgewright.schema.arrays import Array
from edgewright.serving.messages import DTYPES, InferenceRequest, choose_outputs, read_request, write_response

ONE: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": [1, 2]}


def text(*inputs: dict[str, object], **more: object) -> bytes:
    return json.dumps({"inputs": list(inputs), **more}).encode()


def binary(one: dict[str, object], data: bytes, **more: object) -> tuple[bytes, str]:
    head = text({**one, "parameters": {"binary_data_size": len(data)}}, **more)
    return head + data, str(len(head))


@pytest.mark.parametrize("data", [[1, 2], [[1, 2]], [1.0, 2.0]])
def test_values_are_flat_or_nested(data: object) -> None:
    request = read_request(text({**ONE, "data": data}), None)
    assert request.inputs["x"].tolist() == [[1.0, 2.0]]
    assert request.inputs["x"].dtype == np.float32


@pytest.mark.parametrize("datatype", DTYPES)
def test_binary_values_of_every_datatype(datatype: str) -> None:
    array = np.array([[0, 1, 1]]).astype(DTYPES[datatype])
    body, length = binary({"name": "x", "datatype": datatype, "shape": [1, 3]}, array.tobytes())
    read = read_request(body, length).inputs["x"]
    assert read.dtype == array.dtype
    assert read.tolist() == array.tolist()


def test_texts() -> None:
    data = struct.pack("<I", 2) + b"ab" + struct.pack("<I", 0) + struct.pack("<I", 3) + "é1".encode()
    body, length = binary({"name": "x", "datatype": "BYTES", "shape": [3]}, data)
    assert read_request(body, length).inputs["x"].tolist() == ["ab", "", "é1"]
    body, length = binary({"name": "x", "datatype": "BYTES", "shape": [1]}, b"\xff\0\0\0a")
    with pytest.raises(InputError, match="too early"):
        read_request(body, length)


@pytest.mark.parametrize(
    ("body", "length"),
    [
        (b"", None),
        (b"{", None),
        (b"[1]", None),
        (b'{"inputs": 3}', None),
        (b'{"inputs":' + b"[" * 100_000, None),
        (text(ONE), None),
        (text({**ONE, "data": [1]}), None),
        (text({**ONE, "data": [1, "a"]}), None),
        (text({**ONE, "data": [1, None]}), None),
        (text({**ONE, "data": [[1], [2, 3]]}), None),
        (text({**ONE, "data": {"a": 1}}), None),
        (text({**ONE, "datatype": "FP8", "data": [1, 2]}), None),
        (text({**ONE, "shape": [1, -2], "data": [1, 2]}), None),
        (text({**ONE, "shape": [2**62, 2**62], "data": [1, 2]}), None),
        (text({**ONE, "shape": [1] * 40, "data": [1]}), None),
        (text({**ONE, "data": [1, 2]}, {**ONE, "data": [1, 2]}), None),
        (text({**ONE, "datatype": "INT8", "data": [1, 300]}), None),
        (text({**ONE, "data": [1, 2]}) + b"x", None),
        (text({**ONE, "data": [1, 2]}), "9999999999999999999999999"),
        (text({**ONE, "data": [1, 2]}), "-1"),
        (text({**ONE, "data": [1, 2]}), "abc"),
        (text({**ONE, "data": [1, 2]}), "0"),
        binary(ONE, b"1234567"),
        (binary(ONE, b"12345678")[0][:-1], binary(ONE, b"12345678")[1]),
        (text({**ONE, "parameters": {"binary_data_size": -8}}), None),
        (b"\xff" * 100, "50"),
    ],
)
def test_requests_that_are_wrong(body: bytes, length: str | None) -> None:
    with pytest.raises(InputError):
        read_request(body, length)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.one_of(st.none(), st.text(max_size=5)))
def test_any_bytes_are_a_request_or_an_error(body: bytes, length: str | None) -> None:
    with contextlib.suppress(InputError):
        read_request(body, length)


def answer(outputs: dict[str, Array], request: InferenceRequest) -> tuple[Any, bytes]:
    body, length = write_response("m", "1", choose_outputs(outputs, request), request)
    return json.loads(body[:length]), body[length or len(body) :]


def test_responses() -> None:
    y = np.array([[1.5, np.nan]], np.float32)
    outputs: dict[str, Array] = {"y": y, "z": np.array([3, 4], np.int64)}
    plain = read_request(text({**ONE, "data": [1, 2]}, id="a"), None)
    head, rest = answer(outputs, plain)
    assert (head["id"], head["model_name"], rest) == ("a", "m", b"")
    assert [one["data"] for one in head["outputs"]] == [[1.5, None], [3, 4]]
    wanted = [{"name": "z", "parameters": {"binary_data": True}}]
    head, rest = answer(outputs, read_request(text({**ONE, "data": [1, 2]}, outputs=wanted), None))
    assert rest == outputs["z"].tobytes()
    assert head["outputs"] == [{"name": "z", "datatype": "INT64", "shape": [2], "parameters": {"binary_data_size": 16}}]
    every = read_request(text({**ONE, "data": [1, 2]}, parameters={"binary_data_output": True}), None)
    assert answer(outputs, every)[1] == y.tobytes() + outputs["z"].tobytes()
    with pytest.raises(InputError, match="no output 'q'"):
        answer(outputs, read_request(text({**ONE, "data": [1, 2]}, outputs=[{"name": "q"}]), None))


def test_classification_is_rejected() -> None:
    outputs = [{"name": "y", "parameters": {"classification": 3}}]
    with pytest.raises(InputError, match="classification"):
        read_request(text({**ONE, "data": [1, 2]}, outputs=outputs), None)
