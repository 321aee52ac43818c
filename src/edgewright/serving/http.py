"""What the endpoints have in common: problems with a status, replies, and the body of a request."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import msgspec
from starlette.types import Receive

from edgewright.errors import EdgewrightError

JSON = b"application/json"
BODY_TIMEOUT_S = 30.0  # between two pieces of a body
Respond = tuple[int, bytes, bytes | AsyncGenerator[bytes, None], dict[bytes, bytes]]


class HttpProblem(Exception):
    """A request that is not answered; the text is for the client."""

    def __init__(self, status: int, text: str, headers: Mapping[bytes, bytes] | None = None) -> None:
        super().__init__(text)
        self.status, self.text, self.headers = status, text, dict(headers or {})


async def read_body(headers: Mapping[bytes, bytes], receive: Receive, most: int) -> bytes:
    """Return the body; raise before it is read if it says that it has more than `most` bytes."""
    said = headers.get(b"content-length", b"0")
    if not said.isdigit() or int(said[:20]) > most:
        raise _make_length_problem(most)
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise HttpProblem(415, "a compressed body is not supported")
    pieces: list[bytes] = []
    size, more = 0, True
    while more:
        try:
            message = await asyncio.wait_for(receive(), BODY_TIMEOUT_S)
        except TimeoutError:
            why = f"no more data came for {BODY_TIMEOUT_S:g} s"
            raise HttpProblem(408, why, {b"connection": b"close"}) from None
        if message["type"] == "http.disconnect":
            raise ConnectionResetError
        pieces.append(message.get("body", b""))
        size, more = size + len(pieces[-1]), message.get("more_body", False)
        if size > most:
            raise _make_length_problem(most)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _make_length_problem(most: int) -> HttpProblem:
    return HttpProblem(413, f"the body is longer than {most} bytes", {b"connection": b"close"})


def reply(value: Any, status: int = 200) -> Respond:
    """Return a response with this value as JSON."""
    return status, JSON, msgspec.json.encode(value), {}


def check_method(method: str, allowed: str) -> None:
    """Raise HttpProblem for another method."""
    if method != allowed and not (allowed == "GET" and method == "HEAD"):
        raise HttpProblem(405, f"this endpoint needs {allowed}", {b"allow": allowed.encode()})


def explain(error: EdgewrightError) -> str:
    """Return an error as one line for the client."""
    return f"{error.what}: {error.why}. {error.try_this}" if error.why else error.what
