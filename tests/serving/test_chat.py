"""Chat completions: streams, stops, fairness, and clients that leave."""

import asyncio
import json
import threading
from collections.abc import Mapping
from typing import Any

import pytest

from edgewright.errors import InputError, WorkerCrashed
from edgewright.schema.chat import ChatOutcome
from edgewright.serving.app import InferenceApp, ServerSettings
from edgewright.serving.chat import ChatGeneration
from edgewright.serving.models import ServedModel

WORDS = ("Once", " upon", " a", " time", ' "é', "…\n")


def emit_words(generation: ChatGeneration) -> ChatOutcome:
    """Emit words until the generation is cancelled or has its tokens."""
    count = min(generation.options.max_tokens or len(WORDS), len(WORDS))
    for number in range(count):
        if generation.cancelled.is_set():
            break
        generation.emit(WORDS[number])
    return ChatOutcome(prompt_tokens=3, completion_tokens=count, finish="length" if count < len(WORDS) else "stop")


def make_app(infer: Any = emit_words, queue: int = 64, **settings: Any) -> InferenceApp:
    model = ServedModel("story", "1", "edgewright_test", (), (), infer, queue)
    return InferenceApp((), ServerSettings(**settings), [model])


def make_body(**more: Any) -> bytes:
    return json.dumps({"model": "story", "messages": [{"role": "user", "content": "Hello"}], **more}).encode()


async def post(app: InferenceApp, body: bytes, left: asyncio.Event | None = None, path: str = "") -> tuple[int, bytes]:
    """Return the status and the whole body; the client leaves when `left` is set."""
    got: list[Mapping[str, Any]] = []
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Any:
        for message in messages:
            return message
        await (left or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        got.append(message)

    method = "GET" if path else "POST"
    headers = [(b"host", b"localhost"), (b"content-length", str(len(body)).encode())]
    scope = {"type": "http", "method": method, "path": path or "/v1/chat/completions", "headers": headers}
    await app(scope, receive, send)
    return got[0]["status"], b"".join(one["body"] for one in got[1:])


def read_events(body: bytes) -> list[Any]:
    """Return the events of a stream; the last one is the text [DONE]."""
    lines = body.decode().removesuffix("\n\n").split("\n\n")
    assert all(line.startswith("data: ") for line in lines)
    return [one if one == "[DONE]" else json.loads(one) for one in (line.removeprefix("data: ") for line in lines)]


def test_a_completion_as_one_object() -> None:
    status, body = asyncio.run(post(make_app(), make_body(max_tokens=4)))
    answer = json.loads(body)
    assert status == 200
    assert answer["object"] == "chat.completion"
    message = {"role": "assistant", "content": "Once upon a time"}
    assert answer["choices"] == [{"index": 0, "message": message, "finish_reason": "length"}]
    assert answer["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


def test_a_stream_ends_with_done() -> None:
    status, body = asyncio.run(post(make_app(), make_body(stream=True, stream_options={"include_usage": True})))
    *events, usage, done = read_events(body)
    assert (status, done) == (200, "[DONE]")
    assert {one["object"] for one in events} == {"chat.completion.chunk"}
    assert len({one["id"] for one in events}) == 1
    assert events[0]["choices"][0]["delta"]["role"] == "assistant"
    assert "".join(one["choices"][0]["delta"].get("content", "") for one in events) == "".join(WORDS)
    assert events[-1]["choices"][0]["finish_reason"] == "stop"
    assert usage["usage"]["completion_tokens"] == len(WORDS)


def test_the_models_are_listed() -> None:
    _, body = asyncio.run(post(make_app(), b"", path="/v1/models"))
    assert [one["id"] for one in json.loads(body)["data"]] == ["story"]


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"{", 400, "not a request"),
        (b'{"messages":[{"role":"user","content":"\xff"}]}', 400, "not a request"),
        (make_body(model="other"), 404, "no model 'other'"),
        (make_body(n=2), 400, "n above 1"),
        (make_body(tools=[{}]), 400, "tools"),
        (make_body(max_tokens=0), 400, "max_tokens"),
        (make_body(temperature=-1), 400, "temperature"),
        (make_body(stop=["a"] * 5), 400, "stop"),
        (make_body(messages=[{"role": "user", "content": [{"type": "image_url"}]}]), 400, "image_url"),
        (b"x" * 2000, 413, "longer"),
    ],
)
def test_problems_have_the_form_that_clients_know(body: bytes, status: int, text: str) -> None:
    found, answer = asyncio.run(post(make_app(max_body_bytes=1000), body))
    assert found == status
    assert text in json.loads(answer)["error"]["message"]


def test_a_problem_before_the_first_piece_has_its_status() -> None:
    def fail(_: ChatGeneration) -> ChatOutcome:
        raise InputError("the prompt is too long", "600 tokens", "send less")

    status, body = asyncio.run(post(make_app(fail), make_body(stream=True)))
    assert (status, json.loads(body)["error"]["type"]) == (400, "invalid_request_error")


def test_a_problem_after_the_first_piece_is_an_event() -> None:
    def fail(generation: ChatGeneration) -> ChatOutcome:
        generation.emit("Once")
        raise WorkerCrashed("the worker ended", "signal", "again")

    _, body = asyncio.run(post(make_app(fail), make_body(stream=True)))
    *_, last = read_events(body)
    assert last["error"]["code"] == 500


def test_thirty_two_clients_all_get_their_text_in_the_order_of_their_arrival() -> None:
    order: list[str] = []

    def note(generation: ChatGeneration) -> ChatOutcome:
        order.append(generation.messages[0]["content"])
        return emit_words(generation)

    async def ask_all() -> list[tuple[int, bytes]]:
        app = make_app(note)
        bodies = [make_body(stream=True, messages=[{"role": "user", "content": str(i)}]) for i in range(32)]
        return await asyncio.gather(*(post(app, body) for body in bodies))

    for status, body in asyncio.run(ask_all()):
        events = read_events(body)
        assert (status, events[-1]) == (200, "[DONE]")
        assert "".join(one["choices"][0]["delta"].get("content", "") for one in events[:-1]) == "".join(WORDS)
    assert order == [str(i) for i in range(32)]


def test_a_client_that_leaves_ends_its_generation() -> None:
    ended = threading.Event()

    def generate(generation: ChatGeneration) -> ChatOutcome:
        generation.emit("Once")
        ended.wait_for = generation.cancelled.wait(60)  # type: ignore[attr-defined]
        ended.set()
        return ChatOutcome(prompt_tokens=1, completion_tokens=1, finish="stop")

    async def leave() -> None:
        left = asyncio.Event()
        answer = asyncio.ensure_future(post(make_app(generate), make_body(), left))
        await asyncio.sleep(0)
        left.set()
        await answer

    asyncio.run(leave())
    assert ended.is_set()
    assert ended.wait_for  # type: ignore[attr-defined]


def test_more_requests_than_the_queue_takes_get_429() -> None:
    go = threading.Event()

    def wait(generation: ChatGeneration) -> ChatOutcome:
        go.wait(60)
        return emit_words(generation)

    async def ask_three() -> list[int]:
        app = make_app(wait, queue=2)
        asked = [asyncio.ensure_future(post(app, make_body())) for _ in range(3)]
        status, body = await asked[2]
        assert "overloaded" in json.loads(body)["error"]["message"]
        go.set()
        return [status, *[(await one)[0] for one in asked[:2]]]

    assert asyncio.run(ask_three()) == [429, 200, 200]
