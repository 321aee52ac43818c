"""The gRPC service with the messages of this package, over loopback."""

import socket
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import numpy as np
import pytest

from edgewright.serving.app import InferenceApp, ServerSettings
from edgewright.serving.grpc_messages import SERVICE, load_messages
from edgewright.serving.grpc_server import start_grpc
from tests.serving.test_app import make_model

grpc = pytest.importorskip("grpc", reason="grpcio serves gRPC")
TOKEN = [("authorization", "Bearer secret")]


@pytest.fixture(scope="module")
def channel() -> Iterator[Any]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    app = InferenceApp([make_model()], ServerSettings(token_hash=sha256(b"secret").digest()))
    stop = start_grpc(app, f"127.0.0.1:{port}")
    with grpc.insecure_channel(f"127.0.0.1:{port}") as opened:
        yield opened
    stop()


def call(channel: Any, method: str, token: Any = TOKEN, **fields: Any) -> Any:
    messages = load_messages()
    function = channel.unary_unary(
        f"/{SERVICE}/{method}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=messages[f"{method}Response"].FromString,
    )
    return function(messages[f"{method}Request"](**fields), metadata=token, timeout=20, wait_for_ready=True)


def infer(channel: Any, **changes: Any) -> Any:
    one = {"name": "x", "datatype": "FP32", "shape": [1, 2]}
    raw = np.array([1, 2], np.float32).tobytes()
    fields = {"model_name": "m", "id": "a", "inputs": [one], "raw_input_contents": [raw], **changes}
    return call(channel, "ModelInfer", **fields)


def test_methods(channel: Any) -> None:
    assert call(channel, "ServerLive", token=()).live
    assert call(channel, "ServerReady", token=()).ready
    assert call(channel, "ModelReady", token=(), name="m").ready
    assert call(channel, "ServerMetadata").name == "edgewright"
    model = call(channel, "ModelMetadata", name="m")
    assert (model.inputs[0].name, list(model.inputs[0].shape)) == ("x", [-1, 2])


def test_values_as_bytes_and_typed(channel: Any) -> None:
    response = infer(channel)
    assert (response.id, response.model_version) == ("a", "1")
    assert np.frombuffer(response.raw_output_contents[0], np.float32).tolist() == [2.0, 4.0]
    typed = {"name": "x", "datatype": "FP32", "shape": [1, 2], "contents": {"fp32_contents": [3, 4]}}
    response = infer(channel, inputs=[typed], raw_input_contents=[])
    assert np.frombuffer(response.raw_output_contents[0], np.float32).tolist() == [6.0, 8.0]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"model_name": "other"}, "NOT_FOUND"),
        ({"model_version": "7"}, "NOT_FOUND"),
        ({"raw_input_contents": [b"123"]}, "INVALID_ARGUMENT"),
        ({"raw_input_contents": [b"12345678"] * 2}, "INVALID_ARGUMENT"),
        (
            {"inputs": [{"name": "x", "datatype": "FP16", "shape": [1, 2]}], "raw_input_contents": []},
            "INVALID_ARGUMENT",
        ),
        ({"outputs": [{"name": "q"}]}, "INVALID_ARGUMENT"),
    ],
)
def test_problems_have_a_status(channel: Any, changes: dict[str, Any], code: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        infer(channel, **changes)
    assert caught.value.code() is getattr(grpc.StatusCode, code)


def test_a_token_is_required(channel: Any) -> None:
    for token in ((), [("authorization", "Bearer wrong")]):
        with pytest.raises(grpc.RpcError) as caught:
            call(channel, "ModelMetadata", token=token, name="m")
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
