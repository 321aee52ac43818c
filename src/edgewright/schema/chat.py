"""A reply of a language model: how it is generated, and how it ended."""

from typing import Literal

from msgspec import Struct


class ChatOptions(Struct, frozen=True, kw_only=True):
    """How a reply is generated.

    Attributes:
        max_tokens: None for as many as the context has room for.
        temperature: 0 for the most likely token each time.
        stops: texts that end it.
    """

    max_tokens: int | None = None
    temperature: float = 0.0
    seed: int = 0
    stops: tuple[str, ...] = ()


class ChatOutcome(Struct, frozen=True, kw_only=True):
    """The end of a reply; `length` if it has as many tokens as were allowed."""

    prompt_tokens: int
    completion_tokens: int
    finish: Literal["stop", "length"]
