"""Tokenizers of language models, from the model's own files."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

SPACE = "▁"  # what SentencePiece stores for a space
BYTE_TOKENS = 256


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
        joined = [self._join(left, right) for left, right in pairwise(tokens)]
        while joined:
            at = max(range(len(joined)), key=lambda i: joined[i][0])
            token = joined[at][1]
            if token < 0:
                return
            tokens[at : at + 2] = [token]
            del joined[at]
            if at > 0:
                joined[at - 1] = self._join(tokens[at - 1], token)
            if at < len(joined):
                joined[at] = self._join(token, tokens[at + 1])

    def _join(self, left: int, right: int) -> tuple[float, int]:
        """Return the score and the token of two neighbors; a token of -1 if there is none."""
        token = self._tokens.get(self.pieces[left] + self.pieces[right], -1)
        return (self.scores[token], token) if token >= 0 else (float("-inf"), -1)

    def decode(self, tokens: Sequence[int]) -> bytes:
        """Return the bytes of tokens. Special tokens have none, and the space before a text is left out."""
        bytes_of = {token: bytes([byte]) for byte, token in enumerate(self.byte_tokens)}
        text = b"".join(bytes_of.get(token, self.pieces[token]) for token in tokens if token > 2)
        first = bool(tokens) and tokens[0] == self.bos
        return text.removeprefix(b" ") if first else text
