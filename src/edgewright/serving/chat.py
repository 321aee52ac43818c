"""The endpoints of language models, as OpenAI's clients call them.

    GET  /v1/models
    POST /v1/chat/completions     one JSON object, or with `stream` server-sent events that end with `[DONE]`

A model generates for one request at a time, in the order of their arrival. A client that leaves ends its generation.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from secrets import token_hex
from threading import Event
from typing import Any

import msgspec
from msgspec import Struct
from starlette.types import Receive

from edgewright.errors import EdgewrightError, InputError
from edgewright.schema.chat import ChatOptions, ChatOutcome
from edgewright.serving.counters import ServerCounters
from edgewright.serving.http import HttpProblem, Respond, explain, reply
from edgewright.serving.models import DeadlineMissed, Overloaded, ServedModel

STREAM = b"text/event-stream; charset=utf-8"
MAX_STOPS = 4  # as OpenAI's
Pieces = asyncio.Queue[str | None]


class _TextPart(Struct):
    type: str
    text: str = ""


class _Message(Struct):
    role: str
    content: str | list[_TextPart] | None = None


class _StreamOptions(Struct):
    include_usage: bool = False


class _ChatRequest(Struct):
    messages: list[_Message]
    model: str = ""
    stream: bool = False
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    n: int | None = 1
    stream_options: _StreamOptions | None = None
    tools: list[Any] | None = None
    response_format: dict[str, Any] | None = None


class ChatGeneration:
    """One request on its way through the queue of a model.

    Attributes:
        messages: `role` and `content` of each.
        emit: takes a piece of the text; it is called by the model's thread.
        cancelled: set once nobody waits for the text.
    """

    def __init__(
        self, messages: Sequence[Mapping[str, str]], options: ChatOptions, emit: Callable[[str], object]
    ) -> None:
        self.messages, self.options, self.emit = messages, options, emit
        self.cancelled = Event()


class ChatEndpoint:
    """The language models of a server; `infer` of each takes a `ChatGeneration` and returns a `ChatOutcome`."""

    def __init__(self, models: Sequence[ServedModel], counters: ServerCounters, limit_s: float) -> None:
        self._models = {one.name: one for one in models}
        self._counters, self._limit_s = counters, limit_s
        self._created = int(time.time())
        self._running: set[ChatGeneration] = set()

    def list_models(self) -> dict[str, Any]:
        rows = [
            {"id": name, "object": "model", "created": self._created, "owned_by": one.platform}
            for name, one in self._models.items()
        ]
        return {"object": "list", "data": rows}

    def count_waiting(self) -> dict[str, int]:
        return {name: one.waiting for name, one in self._models.items()}

    def close(self) -> None:
        """End all generations."""
        for one in self._running:
            one.cancelled.set()
        for model in self._models.values():
            model.close()

    async def complete(self, body: bytes, receive: Receive) -> Respond:
        """Answer a request for a completion. Raises HttpProblem."""
        request = _read(body)
        model = self._find(request.model)
        try:
            answer = await self._start(model, request, receive)
        except HttpProblem as problem:
            self._counters.count(model.name, problem.status)
            raise
        self._counters.count(model.name, 200)
        return answer

    def _find(self, name: str) -> ServedModel:
        if not name and len(self._models) == 1:
            return next(iter(self._models.values()))
        if name not in self._models:
            known = ", ".join(self._models) or "no language model is served"
            raise HttpProblem(404, f"there is no model '{name[:100]}'; known: {known}")
        return self._models[name]

    async def _start(self, model: ServedModel, request: _ChatRequest, receive: Receive) -> Respond:
        """Begin to generate, and return the response once the first piece or a problem is there."""
        loop, pieces = asyncio.get_running_loop(), Pieces()
        generation = ChatGeneration(
            _read_messages(request),
            _read_options(request),
            lambda text: loop.call_soon_threadsafe(pieces.put_nowait, text),
        )
        try:
            done = asyncio.ensure_future(asyncio.wrap_future(model.submit(generation, self._limit_s)))
        except Overloaded as error:
            raise HttpProblem(429, str(error), {b"retry-after": str(error.retry_after_s).encode()}) from None
        self._running.add(generation)
        watcher = asyncio.ensure_future(_cancel_at_end(generation, receive))
        done.add_done_callback(lambda _: self._finish(generation, watcher, pieces))
        reply_id = f"chatcmpl-{token_hex(12)}"
        texts = _read_texts(model, generation, done, pieces)
        first = await anext(texts)
        if request.stream:
            usage = request.stream_options is not None and request.stream_options.include_usage
            events = self._list_events(model, reply_id, (first, texts), usage)
            return 200, STREAM, events, {b"cache-control": b"no-store"}
        return reply(await self._collect(model, reply_id, first, texts))

    def _finish(self, generation: ChatGeneration, watcher: asyncio.Future[None], pieces: Pieces) -> None:
        watcher.cancel()
        self._running.discard(generation)
        pieces.put_nowait(None)

    async def _collect(self, model: ServedModel, reply_id: str, first: Any, texts: Any) -> dict[str, Any]:
        parts: list[str] = []
        outcome = first
        while isinstance(outcome, str):
            parts.append(outcome)
            outcome = await anext(texts)
        choice = {"index": 0, "message": {"role": "assistant", "content": "".join(parts)}}
        return {
            **self._head(model, reply_id, "chat.completion"),
            "choices": [{**choice, "finish_reason": self._note(model, outcome)}],
            "usage": _describe_usage(outcome[0]),
        }

    async def _list_events(
        self, model: ServedModel, reply_id: str, source: tuple[Any, Any], usage: bool
    ) -> AsyncGenerator[bytes, None]:
        """Yield the events. A problem after the first piece is an event too, without `[DONE]`."""
        outcome, texts = source
        head = msgspec.json.encode(self._head(model, reply_id, "chat.completion.chunk"))[:-1]
        yield _write_event(head, {"role": "assistant", "content": ""})
        try:
            while isinstance(outcome, str):
                yield b"".join(
                    (b"data: ", head, b',"choices":[{"index":0,"delta":{"content":', msgspec.json.encode(outcome),
                     b'},"finish_reason":null}]}\n\n')
                )  # fmt: skip
                outcome = await anext(texts)
        except HttpProblem as problem:
            error = {"message": problem.text, "type": "server_error", "code": problem.status}
            yield b"data: " + msgspec.json.encode({"error": error}) + b"\n\n"
            return
        finally:
            await texts.aclose()
        yield _write_event(head, {}, self._note(model, outcome))
        if usage:
            counts = msgspec.json.encode(_describe_usage(outcome[0]))
            yield b"".join((b"data: ", head, b',"choices":[],"usage":', counts, b"}\n\n"))
        yield b"data: [DONE]\n\n"

    def _head(self, model: ServedModel, reply_id: str, kind: str) -> dict[str, Any]:
        return {"id": reply_id, "object": kind, "created": int(time.time()), "model": model.name}

    def _note(self, model: ServedModel, outcome: tuple[ChatOutcome, float, float]) -> str:
        """Count the times of a request, and return why it ended."""
        self._counters.time(model.name, "queue", outcome[1])
        self._counters.time(model.name, "inference", outcome[2])
        return outcome[0].finish


async def _read_texts(
    model: ServedModel, generation: ChatGeneration, done: asyncio.Future[Any], pieces: Pieces
) -> AsyncGenerator[Any, None]:
    """Yield pieces of text, those that are there at once as one, then the outcome. Raises HttpProblem."""
    try:
        while (text := await pieces.get()) is not None:
            parts, is_last = [text], False
            while not pieces.empty():
                if (more := pieces.get_nowait()) is None:
                    is_last = True
                else:
                    parts.append(more)
            yield "".join(parts)
            if is_last:
                break
        yield done.result()
    except DeadlineMissed as error:
        raise HttpProblem(504, str(error)) from None
    except InputError as error:
        raise HttpProblem(400, explain(error)) from None
    except EdgewrightError as error:
        raise HttpProblem(500, explain(error)) from None
    finally:
        generation.cancelled.set()  # nobody reads any further


async def _cancel_at_end(generation: ChatGeneration, receive: Receive) -> None:
    """End the generation of a client that leaves."""
    if (await receive())["type"] == "http.disconnect":
        generation.cancelled.set()


def _read(body: bytes) -> _ChatRequest:
    try:
        request = msgspec.json.decode(body, type=_ChatRequest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise HttpProblem(400, f"the body is not a request for a chat completion: {error}") from None
    for what, is_given in (
        ("n above 1 is", (request.n or 1) != 1),
        ("top_p below 1 is", (request.top_p or 1) != 1),
        ("tools are", bool(request.tools)),
        ("response_format is", (request.response_format or {}).get("type", "text") != "text"),
    ):
        if is_given:
            raise HttpProblem(400, f"{what} not supported")
    return request


def _read_messages(request: _ChatRequest) -> list[dict[str, str]]:
    messages = []
    for one in request.messages:
        parts = one.content if isinstance(one.content, list) else []
        if other := next((part.type for part in parts if part.type != "text"), ""):
            raise HttpProblem(400, f"contents of the type '{other[:50]}' are not supported")
        text = one.content if isinstance(one.content, str) else "".join(part.text for part in parts)
        messages.append({"role": one.role, "content": text})
    return messages


def _read_options(request: _ChatRequest) -> ChatOptions:
    stops = [request.stop] if isinstance(request.stop, str) else request.stop or []
    most = request.max_tokens if request.max_completion_tokens is None else request.max_completion_tokens
    for name, is_right in (
        ("max_tokens", most is None or most > 0),
        ("temperature", request.temperature is None or 0 <= request.temperature <= 2),
        ("stop", len(stops) <= MAX_STOPS),
    ):
        if not is_right:
            raise HttpProblem(400, f"{name} is out of its range")
    return ChatOptions(
        max_tokens=most,
        temperature=request.temperature or 0.0,
        seed=(request.seed or 0) % 2**31,
        stops=tuple(stops),
    )


def _describe_usage(outcome: ChatOutcome) -> dict[str, int]:
    prompt, completion = outcome.prompt_tokens, outcome.completion_tokens
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _write_event(head: bytes, delta: Mapping[str, str], finish: str | None = None) -> bytes:
    choice = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return b"".join((b"data: ", head, b',"choices":', msgspec.json.encode(choice), b"}\n\n"))
