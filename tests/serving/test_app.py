"""The endpoints of the server, without a network: who may ask, limits, overload and deadlines."""

import asyncio
import json
import threading
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

import numpy as np
import pytest

from edgewright.errors import ModelRejected
from edgewright.schema.arrays import Array
from edgewright.schema.model import TensorSpec
from edgewright.serving.app import InferenceApp, ServerSettings
from edgewright.serving.models import ServedModel

INPUTS = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}
BODY = json.dumps(INPUTS).encode()


def double(inputs: Mapping[str, Array]) -> dict[str, Array]:
    return {"y": inputs["x"] * 2}


def make_model(infer: Any = double, version: str = "1", queue: int = 64) -> ServedModel:
    inputs = [TensorSpec(name="x", dtype="float32", shape=("n", 2))]
    outputs = [TensorSpec(name="y", dtype="float32", shape=("n", 2))]
    return ServedModel("m", version, "edgewright_test", inputs, outputs, infer, queue)


def make_app(*models: ServedModel, **settings: Any) -> InferenceApp:
    return InferenceApp(models or [make_model()], ServerSettings(**settings))


async def ask(
    app: InferenceApp,
    path: str,
    body: bytes | Iterable[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
    method: str = "",
) -> tuple[int, Any, dict[str, str]]:
    """Return status, content and headers of a response."""
    pieces = [body] if isinstance(body, bytes) else list(body or [b""])
    sent = iter([*({"type": "http.request", "body": one, "more_body": True} for one in pieces[:-1])])
    last = {"type": "http.request", "body": pieces[-1], "more_body": False}
    got: list[dict[str, Any]] = []
    own = {"host": "localhost", **(headers or {})}
    scope = {
        "type": "http",
        "method": method or ("GET" if body is None else "POST"),
        "path": path,
        "headers": [(name.encode(), value.encode()) for name, value in own.items()],
    }

    async def receive() -> Any:
        return next(sent, last)

    async def send(message: Any) -> None:
        got.append(message)

    await app(scope, receive, send)
    answer = {name.decode(): value.decode() for name, value in got[0]["headers"]}
    content = got[1]["body"]
    return got[0]["status"], json.loads(content) if answer["content-type"] == "application/json" else content, answer


def get(app: InferenceApp, path: str, body: Any = None, **more: Any) -> tuple[int, Any, dict[str, str]]:
    return asyncio.run(ask(app, path, body, **more))


def test_endpoints() -> None:
    app = make_app(make_model(), make_model(version="2"))
    assert get(app, "/v2/health/live")[:2] == (200, {"live": True})
    assert get(app, "/v2/health/ready")[0] == 200
    assert get(app, "/v2")[1]["extensions"] == ["binary_tensor_data"]
    assert get(app, "/v2/models/m")[1] == {
        "name": "m",
        "versions": ["1", "2"],
        "platform": "edgewright_test",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
    }
    status, content, _ = get(app, "/v2/models/m/infer", BODY)
    assert (status, content["model_version"], content["outputs"][0]["data"]) == (200, "2", [2.0, 4.0])
    assert get(app, "/v2/models/m/versions/1/infer", [BODY[:9], b"", BODY[9:]])[1]["model_version"] == "1"
    assert b'edgewright_requests_total{model="m",status="200"} 2' in get(app, "/metrics")[1]
    app.close()
    assert get(app, "/v2/health/ready")[0] == 503


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/", None, 404),
        ("/v2/models", None, 404),
        ("/v2/models/other", None, 404),
        ("/v2/models/m/versions/9", None, 404),
        ("/v2/models/m/versions", None, 404),
        ("/v2/models/m/infer", None, 405),
        ("/v2/health/other", None, 404),
        ("/v2/models/m/infer", b"{", 400),
        ("/v2/models/m/infer", b"x" * 2000, 413),
        ("/v2/models/m/infer", [b"x" * 600, b"x" * 600], 413),
    ],
)
def test_problems_are_named_in_json(path: str, body: Any, status: int) -> None:
    found, content, _ = get(make_app(max_body_bytes=1000), path, body)
    assert found == status
    assert list(content) == ["error"]


def test_headers_that_lie() -> None:
    app = make_app(max_body_bytes=1000)
    assert get(app, "/v2/models/m/infer", b"", headers={"content-length": "99999999999999999999999"})[0] == 413
    assert get(app, "/v2/models/m/infer", BODY, headers={"content-encoding": "gzip"})[0] == 415
    assert get(app, "/v2/models/m/infer", BODY, headers={"inference-header-content-length": "7"})[0] == 400


def test_tokens_hosts_and_other_sites() -> None:
    app = make_app(token_hash=sha256(b"secret").digest(), accepts_host=lambda host: host == "localhost")
    assert get(app, "/v2/health/ready")[0] == 200
    for given in ("", "Bearer", "Bearer wrong", "Basic secret", "secret"):
        status, _, headers = get(app, "/v2/models/m", headers={"authorization": given})
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
    assert get(app, "/v2/models/m", headers={"authorization": "Bearer secret"})[0] == 200
    assert get(app, "/v2/models/m", headers={"authorization": "Bearer secret", "origin": "https://a.b"})[0] == 403
    assert get(app, "/v2/models/m", headers={"authorization": "Bearer secret", "host": "evil.example"})[0] == 421


def test_an_error_of_the_model_is_one_of_the_server() -> None:
    def fail(inputs: Mapping[str, Array]) -> dict[str, Array]:
        raise ModelRejected("the runtime rejects the model", "no kernel")

    status, content, _ = get(make_app(make_model(fail)), "/v2/models/m/infer", BODY)
    assert (status, "no kernel" in content["error"]) == (500, True)


def test_too_many_requests_and_deadlines() -> None:
    go = threading.Event()

    def wait(inputs: Mapping[str, Array]) -> dict[str, Array]:
        go.wait(20)
        return {"y": np.zeros(1, np.float32)}

    model = make_model(wait, queue=2)
    short = json.dumps({**INPUTS, "parameters": {"timeout": 1}}).encode()

    async def run() -> list[tuple[int, Any, dict[str, str]]]:
        app = make_app(model)
        first = asyncio.create_task(ask(app, "/v2/models/m/infer", BODY))
        while model.waiting < 1:
            await asyncio.sleep(0.005)
        second = asyncio.create_task(ask(app, "/v2/models/m/infer", short))
        while model.waiting < 2:
            await asyncio.sleep(0.005)
        third = await ask(app, "/v2/models/m/infer", BODY)
        go.set()
        return [await first, await second, third]

    first, second, third = asyncio.run(run())
    assert (first[0], second[0], third[0]) == (200, 504, 429)
    assert second[1]["error"].startswith("a request to m was not run: it waited for ")
    assert int(third[2]["retry-after"]) >= 1
    assert model.waiting == 0


def test_the_server_goes_on_after_a_client_left() -> None:
    app = make_app()

    async def leave() -> None:
        async def receive() -> Any:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            raise AssertionError("nobody is there")

        scope = {"type": "http", "method": "POST", "path": "/v2/models/m/infer", "headers": [(b"host", b"localhost")]}
        await app(scope, receive, send)

    asyncio.run(leave())
    assert get(app, "/v2/models/m/infer", BODY)[0] == 200


def test_a_stopping_server_answers_what_waits_and_takes_nothing_new() -> None:
    go = threading.Event()

    def wait(inputs: Mapping[str, Array]) -> dict[str, Array]:
        go.wait(20)
        return {"y": inputs["x"]}

    model = make_model(wait)

    async def run() -> list[int]:
        app = make_app(model)
        asked = [asyncio.create_task(ask(app, "/v2/models/m/infer", BODY)) for _ in range(2)]
        while model.waiting < 2:
            await asyncio.sleep(0.005)
        app.stop()
        late = await ask(app, "/v2/models/m/infer", BODY)
        go.set()
        return [(await one)[0] for one in asked] + [late[0]]

    assert asyncio.run(run()) == [200, 200, 503]


def test_models_of_clients_are_measured_only_if_the_server_allows_it() -> None:
    assert get(make_app(), "/edgewright/profile", b"model")[0] == 403
    asked: list[tuple[bytes, Mapping[str, str]]] = []

    def measure(content: bytes, query: Mapping[str, str]) -> bytes:
        asked.append((content, dict(query)))
        return b'{"p50_us": 1}'

    app = make_app(profile=measure, token_hash=sha256(b"secret").digest(), accepts_host=lambda _: True)
    assert get(app, "/edgewright/profile", b"model")[0] == 401
    status, content, _ = get(app, "/edgewright/profile", b"model", headers={"authorization": "Bearer secret"})
    assert (status, content) == (200, {"p50_us": 1})
    assert asked == [(b"model", {})]


def test_a_model_that_cannot_be_measured_is_the_client_s_fault() -> None:
    def measure(content: bytes, query: Mapping[str, str]) -> bytes:
        raise ModelRejected("the runtime rejects it")

    app = make_app(profile=measure)
    for _ in range(2):  # the first failure does not keep the place
        status, content, _ = get(app, "/edgewright/profile", b"model")
        assert (status, list(content)) == (400, ["error"])
