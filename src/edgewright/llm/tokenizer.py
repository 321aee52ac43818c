"""Tokenizers of language models, from the model's own files."""

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Protocol

SPACE = "▁"  # what SentencePiece stores for a space
BYTE_TOKENS = 256
JOINED = -1  # in place of a token that became a part of the one before it


class Tokenizer(Protocol):
    """Text to tokens and back.

    Attributes:
        bos: token that begins a sequence; None if the model has none.
        eos: tokens that end a sequence.
    """

    bos: int | None
    eos: tuple[int, ...]

    def encode(self, text: str, *, begin: bool = True) -> list[int]:
        """Return the tokens of a text, after the token that begins a sequence if `begin`."""

    def decode(self, tokens: Sequence[int]) -> bytes:
        """Return the UTF-8 bytes of tokens; the bytes of a part of a text may end within a character."""


class ScoredTokenizer:
    """A byte-pair tokenizer that merges the pair with the best score first, as SentencePiece and llama2.c do.

    Args:
        pieces: bytes of each token. Tokens 0 to 2 are unknown, begin and end.
        scores: of each token.
        byte_tokens: token of each of the 256 bytes.
    """

    def __init__(self, pieces: Sequence[bytes], scores: Sequence[float], byte_tokens: Sequence[int]) -> None:
        self.pieces = tuple(pieces)
        self.scores = tuple(scores)
        self.byte_tokens = tuple(byte_tokens)
        self.bos: int | None = 1
        self.eos: tuple[int, ...] = (2,)
        self._bytes = list(pieces)
        for byte, token in enumerate(byte_tokens):
            self._bytes[token] = bytes([byte])
        special = {0, 1, 2, *byte_tokens}
        self._tokens = {piece: token for token, piece in reversed(list(enumerate(pieces))) if token not in special}

    def encode(self, text: str, *, begin: bool = True) -> list[int]:
        """Return the tokens of a text. A space is put before it, and bytes stand for unknown characters."""
        tokens: list[int] = []
        for character in f" {text}" if text else "":
            raw = character.encode()
            known = self._tokens.get(raw)
            tokens += [known] if known is not None else [self.byte_tokens[byte] for byte in raw]
        self._merge(tokens)
        return [1, *tokens] if begin else tokens

    def _merge(self, tokens: list[int]) -> None:
        """Join the pair with the best score, the first one among equals, until there is none."""
        after, before = list(range(1, len(tokens) + 1)), list(range(-1, len(tokens) - 1))
        heap: list[tuple[float, int, int, int, int, int]] = []

        def add(at: int) -> None:
            """Add the pair that begins at a place, if its pieces make a token."""
            to = after[at] if at >= 0 else len(tokens)
            if to < len(tokens):
                score, token = self._join(tokens[at], tokens[to])
                if token >= 0:
                    heappush(heap, (-score, at, to, tokens[at], tokens[to], token))

        for at in range(len(tokens)):
            add(at)
        while heap:
            _, at, to, left, right, token = heappop(heap)
            if after[at] != to or (tokens[at], tokens[to]) != (left, right):
                continue  # one of the two was joined with another since
            tokens[at], tokens[to], after[at] = token, JOINED, after[to]
            if after[at] < len(tokens):
                before[after[at]] = at
            add(before[at])
            add(at)
        tokens[:] = [one for one in tokens if one != JOINED]

    def _join(self, left: int, right: int) -> tuple[float, int]:
        """Return the score and the token of two neighbors; a token of -1 if there is none."""
        token = self._tokens.get(self.pieces[left] + self.pieces[right], -1)
        return (self.scores[token], token) if token >= 0 else (float("-inf"), -1)

    def decode(self, tokens: Sequence[int]) -> bytes:
        """Return the bytes of tokens. Special tokens have none, and the space before a text is left out."""
        text = b"".join(self._bytes[token] for token in tokens if token > 2)
        first = bool(tokens) and tokens[0] == self.bos
        return text.removeprefix(b" ") if first else text
