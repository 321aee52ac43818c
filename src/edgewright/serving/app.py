"""The HTTP side: an ASGI application with the endpoints of the Open Inference Protocol.

    GET  /v2                                          name and version of the server
    GET  /v2/health/live, /v2/health/ready            without a token
    GET  /v2/models/NAME[/versions/V]                 inputs and outputs
    GET  /v2/models/NAME[/versions/V]/ready
    POST /v2/models/NAME[/versions/V]/infer           JSON, or with binary tensors
    GET  /metrics                                     Prometheus
    GET  /v1/models, POST /v1/chat/completions        language models (`chat.py`)
    POST /edgewright/profile                          layer times of a model in the body, if the server allows it

It is written without a framework: the body of a request is read once, into the array that the model gets.
"""

import asyncio
import hmac
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct
from starlette.types import Receive, Scope, Send

from edgewright import __version__
from edgewright.errors import EdgewrightError, InputError
from edgewright.serving.chat import ChatEndpoint
from edgewright.serving.counters import ServerCounters
from edgewright.serving.http import JSON, HttpProblem, Respond, check_method, explain, read_body, reply
from edgewright.serving.messages import HEADER_LENGTH, choose_outputs, read_request, write_response
from edgewright.serving.models import DeadlineMissed, Overloaded, ServedModel

BINARY, TEXT = b"application/octet-stream", b"text/plain; version=0.0.4; charset=utf-8"


class ServerSettings(Struct, frozen=True, kw_only=True):
    """What the server allows.

    Attributes:
        token_hash: sha256 of the token; empty if none is needed.
        accepts_host: whether a `Host` header names this server: another site can make its name mean this machine.
        limit_s: longest time in the queue, if the client does not set a shorter one.
        profile: measures a model (its bytes, the query) and returns JSON; None if clients may not bring models.
    """

    token_hash: bytes = b""
    accepts_host: Callable[[str], bool] = bool
    max_body_bytes: int = 64_000_000
    limit_s: float = 30.0
    profile: Callable[[bytes, Mapping[str, str]], bytes] | None = None


class InferenceApp:
    """The ASGI application.

    Args:
        models: may have several versions of a name, the newest last.
        chat_models: language models; their `infer` takes a `ChatGeneration`.
    """

    def __init__(
        self, models: Sequence[ServedModel], settings: ServerSettings, chat_models: Sequence[ServedModel] = ()
    ) -> None:
        self.settings, self.counters = settings, ServerCounters()
        self._chat = ChatEndpoint(chat_models, self.counters, settings.limit_s)
        self._models: dict[str, dict[str, ServedModel]] = {}
        for one in models:
            self._models.setdefault(one.name, {})[one.version] = one
        self.is_ready = True
        self._is_profiling = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            status, kind, body, headers = await self._answer(scope, receive)
        except HttpProblem as problem:
            status, kind, headers = problem.status, JSON, problem.headers
            body = msgspec.json.encode({"error": self._describe_problem(problem, scope["path"])})
        except ConnectionError:
            return  # the client left in the middle of its request
        if scope["method"] == "HEAD":
            body = b""
        length = [(b"content-length", str(len(body)).encode())] if isinstance(body, bytes) else []
        start = [(b"content-type", kind), *length, (b"x-content-type-options", b"nosniff"), *headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": start})
        if isinstance(body, bytes):
            await send({"type": "http.response.body", "body": body})
            return
        async with aclosing(body):
            async for piece in body:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    def _describe_problem(self, problem: HttpProblem, path: str) -> Any:
        """Return the problem's text, in the form of each protocol."""
        if not path.startswith("/v1/"):
            return problem.text
        kind = "invalid_request_error" if problem.status < 500 else "server_error"
        return {"message": problem.text, "type": kind, "param": None, "code": problem.status}

    async def _answer(self, scope: Scope, receive: Receive) -> Respond:
        path = [one for one in scope["path"].split("/") if one]
        headers = dict(scope["headers"])
        if path[:2] == ["v2", "health"]:
            return self._answer_health(path[2:], scope["method"])
        self._check_access(headers)
        match path:
            case ["v2"]:
                extensions = ["binary_tensor_data"]
                return reply({"name": "edgewright", "version": __version__, "extensions": extensions})
            case ["metrics"]:
                return 200, TEXT, self.counters.render(self._count_waiting()).encode(), {}
            case ["v1", *rest]:
                return await self._answer_chat(rest, scope, receive)
            case ["edgewright", "profile"]:
                check_method(scope["method"], "POST")
                return await self._profile(scope, headers, receive)
            case ["v2", "models", name, *rest] if rest[:1] != ["versions"]:
                return await self._answer_model(self._find(name, ""), rest, scope, receive)
            case ["v2", "models", name, "versions", version, *rest]:
                return await self._answer_model(self._find(name, version), rest, scope, receive)
        raise HttpProblem(404, f"there is no endpoint {scope['path'][:200]}")

    def _answer_health(self, path: Sequence[str], method: str) -> Respond:
        check_method(method, "GET")
        if path == ["live"]:
            return reply({"live": True})
        if path == ["ready"]:
            return reply({"ready": self.is_ready}, 200 if self.is_ready else 503)
        raise HttpProblem(404, "there is no such health endpoint: live and ready")

    def _check_access(self, headers: Mapping[bytes, bytes]) -> None:
        if not self.settings.accepts_host(headers.get(b"host", b"").decode("latin-1")):
            raise HttpProblem(421, "unknown host name; use localhost or an IP address")
        if b"origin" in headers:
            raise HttpProblem(403, "pages of other sites may not use this server")
        if not self.settings.token_hash:
            return
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        known = sha256(token.strip()).digest()
        if scheme.lower() != b"bearer" or not hmac.compare_digest(known, self.settings.token_hash):
            what = "the token is wrong" if scheme else "a token is required: Authorization: Bearer TOKEN"
            raise HttpProblem(401, what, {b"www-authenticate": b"Bearer"})

    def find_model(self, name: str, version: str = "") -> ServedModel:
        """Return a version of a model, by default the newest. Raises LookupError."""
        versions = self._models.get(name)
        if versions is None:
            raise LookupError(f"there is no model {name[:100]}; known: {', '.join(self._models)}")
        if version and version not in versions:
            raise LookupError(f"{name} has no version {version[:20]}; known: {', '.join(versions)}")
        return versions[version or list(versions)[-1]]

    def describe(self, model: ServedModel) -> dict[str, Any]:
        """Return a model's metadata with all its versions."""
        return model.describe(list(self._models[model.name]))

    def _find(self, name: str, version: str) -> ServedModel:
        try:
            return self.find_model(name, version)
        except LookupError as error:
            raise HttpProblem(404, str(error.args[0])) from None

    async def _answer_model(self, model: ServedModel, rest: Sequence[str], scope: Scope, receive: Receive) -> Respond:
        match rest:
            case []:
                check_method(scope["method"], "GET")
                return reply(self.describe(model))
            case ["ready"]:
                check_method(scope["method"], "GET")
                return reply({"name": model.name, "ready": self.is_ready}, 200 if self.is_ready else 503)
            case ["infer"]:
                check_method(scope["method"], "POST")
                if not self.is_ready:
                    raise HttpProblem(503, "the server stops", {b"connection": b"close"})
                return await self._infer(model, scope, receive)
        raise HttpProblem(404, f"there is no endpoint {scope['path'][:200]}")

    async def _profile(self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive) -> Respond:
        """Measure the model in the body; one at a time, since two would slow each other down."""
        measure = self.settings.profile
        if measure is None:
            raise HttpProblem(403, "this server measures no models of others: --allow-profile")
        if self._is_profiling:
            raise HttpProblem(429, "another model is being measured", {b"retry-after": b"10"})
        self._is_profiling = True
        try:
            body = await read_body(headers, receive, self.settings.max_body_bytes)
            query = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1")[:1000]))
            return 200, JSON, await asyncio.to_thread(measure, body, query), {}
        except EdgewrightError as error:
            raise HttpProblem(400, explain(error)) from None
        finally:
            self._is_profiling = False

    async def _infer(self, model: ServedModel, scope: Scope, receive: Receive) -> Respond:
        try:
            answer = await self._run(model, scope, receive)
        except HttpProblem as problem:
            self.counters.count(model.name, problem.status)
            raise
        self.counters.count(model.name, 200)
        return answer

    async def _run(self, model: ServedModel, scope: Scope, receive: Receive) -> Respond:
        headers = dict(scope["headers"])
        body = await read_body(headers, receive, self.settings.max_body_bytes)
        length = headers.get(HEADER_LENGTH.encode())
        try:
            request = read_request(body, length.decode("latin-1") if length is not None else None)
            limit_s = min(self.settings.limit_s, (request.timeout_us or 1e12) / 1e6)
            outputs, waited, took = await asyncio.wrap_future(model.submit(request.inputs, limit_s))
            chosen = choose_outputs(outputs, request)
        except Overloaded as error:
            after = str(error.retry_after_s).encode()
            raise HttpProblem(429, str(error), {b"retry-after": after}) from None
        except DeadlineMissed as error:
            raise HttpProblem(504, str(error)) from None
        except InputError as error:
            raise HttpProblem(400, explain(error)) from None
        except EdgewrightError as error:
            raise HttpProblem(500, explain(error)) from None
        self.counters.time(model.name, "queue", waited)
        self.counters.time(model.name, "inference", took)
        text, header = write_response(model.name, model.version, chosen, request)
        if header is None:
            return 200, JSON, text, {}
        return 200, BINARY, text, {HEADER_LENGTH.encode(): str(header).encode()}

    async def _answer_chat(self, rest: Sequence[str], scope: Scope, receive: Receive) -> Respond:
        match rest:
            case ["models"]:
                check_method(scope["method"], "GET")
                return reply(self._chat.list_models())
            case ["chat", "completions"]:
                check_method(scope["method"], "POST")
                if not self.is_ready:
                    raise HttpProblem(503, "the server stops", {b"connection": b"close"})
                body = await read_body(dict(scope["headers"]), receive, self.settings.max_body_bytes)
                return await self._chat.complete(body, receive)
        raise HttpProblem(404, f"there is no endpoint {scope['path'][:200]}")

    def _count_waiting(self) -> dict[str, int]:
        waiting = {name: sum(one.waiting for one in versions.values()) for name, versions in self._models.items()}
        return waiting | self._chat.count_waiting()

    def stop(self) -> None:
        """Take no more requests; those that wait are still answered."""
        self.is_ready = False

    def close(self) -> None:
        """End the threads of the models. Requests that still wait are dropped."""
        self.stop()
        self._chat.close()
        for versions in self._models.values():
            for one in versions.values():
                one.close()
