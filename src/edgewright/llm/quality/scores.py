"""Scores of a model's logits against the full-precision logits of the same tokens."""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from edgewright.schema.arrays import Array


class TokenScores(Struct, frozen=True, kw_only=True):
    """Scores of each token.

    Attributes:
        nll: float64 [tokens], negative logarithm of the probability of the token that follows, in nats.
        kld: float64 [tokens], Kullback-Leibler divergence from the full-precision distribution, in nats.
        same_top1: bool [tokens], whether both have the same most likely token.
    """

    nll: Array
    kld: Array
    same_top1: Array


def score_tokens(logits: Array, reference: Array, following: Array) -> TokenScores:
    """Score logits against full-precision logits.

    Args:
        logits, reference: float [tokens, vocabulary]; the reference is finite.
        following: int [tokens], the token after each position.

    A row with a value that is not finite has the scores infinity and False: an impossible distribution.
    """
    found, expected = _log_softmax(logits), _log_softmax(reference)
    finite = np.isfinite(logits).all(-1)
    nll = -np.take_along_axis(found, following[:, None].astype(np.int64), -1)[:, 0]
    kld = (np.exp(expected) * (expected - found)).sum(-1)
    return TokenScores(
        nll=np.where(finite, nll, np.inf),
        kld=np.where(finite, np.maximum(kld, 0.0), np.inf),
        same_top1=finite & (np.argmax(found, -1) == np.argmax(expected, -1)),
    )


def _log_softmax(logits: Array) -> Array:
    with np.errstate(invalid="ignore"):
        shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
        result: Array = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result


def count_common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens two generations have in common from the start."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def is_stuck(tokens: Sequence[int], least: int = 8) -> bool:
    """Return whether a generation repeats one token from its start, as an engine that emits only padding does."""
    return len(tokens) >= least and len(set(tokens)) == 1
