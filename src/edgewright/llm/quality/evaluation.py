"""Evaluation of a compressed model on held-out text, against the full-precision model."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from msgspec import Struct

from edgewright.llm.quality.prompts import ExpectedAnswer
from edgewright.llm.quality.scores import TokenScores, count_common_prefix, is_stuck, score_tokens
from edgewright.schema.arrays import Array
from edgewright.tasks.metrics.intervals import bootstrap

PREFIX_PROMPTS = 4
PREFIX_START = 16  # tokens of the text that each generation continues
PREFIX_TOKENS = 32
LEAST_WINDOWS = 5  # for an interval


class ScoredModel(Protocol):
    """What is evaluated: an engine's session, or the reference implementation."""

    def logits(self, tokens: Sequence[int]) -> Array:
        """Return the logits after each token, float32 [tokens, vocabulary]."""

    def complete(self, tokens: Sequence[int], count: int) -> list[int]:
        """Return the most likely tokens that follow."""


class Expected(Struct, frozen=True, kw_only=True):
    """The full-precision model's results.

    Attributes:
        windows: tokens of the text; each window begins with the token of a beginning.
        read_logits: returns the logits of a window, by its number.
        greedy: its most likely continuations of the windows' beginnings.
    """

    windows: tuple[tuple[int, ...], ...]
    read_logits: Callable[[int], Array]
    greedy: tuple[tuple[int, ...], ...]


class Quality(Struct, frozen=True, kw_only=True):
    """Means over all tokens of the text.

    Attributes:
        nll: in nats per token; infinite if a logit is not finite.
        nll_low, nll_high, kld_low, kld_high: 95 % bootstrap intervals over the windows; None below 5 windows.
        top1_agreement: share of the tokens with the same most likely next token.
        prefix: mean number of tokens that the greedy continuations have in common with the full-precision ones.
        prefix_of: number of tokens of a continuation.
        not_finite: number of positions whose logits are not all finite.
        fault: what makes the model unusable, if something does.
    """

    nll: float
    nll_low: float | None
    nll_high: float | None
    kld: float
    kld_low: float | None
    kld_high: float | None
    top1_agreement: float
    prefix: float
    prefix_of: int
    tokens: int
    not_finite: int
    fault: str


def cut_windows(tokens: Sequence[int], length: int, begin: int | None) -> tuple[tuple[int, ...], ...]:
    """Return the tokens in windows of `length`, each after the token of a beginning; a rest of one token is left out.

    Args:
        begin: None for a tokenizer without one.
    """
    head = () if begin is None else (begin,)
    size = length - len(head)
    windows = [(*head, *tokens[start : start + size]) for start in range(0, len(tokens), size)]
    return tuple(one for one in windows if len(one) > 1 + len(head) or one is windows[0])


def list_starts(windows: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    """Return the beginnings that greedy generations continue: of windows spread over the text."""
    step = max(1, len(windows) // PREFIX_PROMPTS)
    return tuple(tuple(one[:PREFIX_START]) for one in windows[::step][:PREFIX_PROMPTS])


def evaluate_model(model: ScoredModel, expected: Expected, progress: Callable[[str], object]) -> Quality:
    """Score a model on all windows."""
    scores: list[TokenScores] = []
    for number, window in enumerate(expected.windows):
        progress(f"window {number + 1} of {len(expected.windows)}")
        reference, following = expected.read_logits(number), np.array(window[1:])
        scores.append(score_tokens(model.logits(window[:-1]), reference, following))
    generated = [model.complete(start, PREFIX_TOKENS) for start in list_starts(expected.windows)]
    prefixes = [count_common_prefix(*pair) for pair in zip(generated, expected.greedy, strict=True)]
    counts = np.array([len(one.nll) for one in scores], np.float64)
    not_finite = int(sum(np.isinf(one.kld).sum() for one in scores))
    nll, kld = (np.array([getattr(one, name).sum() for one in scores]) for name in ("nll", "kld"))
    (nll_low, nll_high), (kld_low, kld_high) = _find_interval(nll, counts), _find_interval(kld, counts)
    return Quality(
        nll=float(nll.sum() / counts.sum()),
        nll_low=nll_low,
        nll_high=nll_high,
        kld=float(kld.sum() / counts.sum()),
        kld_low=kld_low,
        kld_high=kld_high,
        top1_agreement=float(sum(one.same_top1.sum() for one in scores) / counts.sum()),
        prefix=float(np.mean(prefixes)),
        prefix_of=PREFIX_TOKENS,
        tokens=int(counts.sum()),
        not_finite=not_finite,
        fault=_find_fault(not_finite, int(counts.sum()), generated, expected),
    )


def _find_interval(sums: Array, counts: Array) -> tuple[float | None, float | None]:
    if len(sums) < LEAST_WINDOWS or not np.isfinite(sums).all():
        return None, None
    found = bootstrap(len(sums), lambda chosen: float(sums[chosen].sum() / counts[chosen].sum()))
    return found.low, found.high


def _find_fault(not_finite: int, count: int, generated: Sequence[Sequence[int]], expected: Expected) -> str:
    if not_finite:
        return f"the logits of {not_finite} of {count} positions are not finite"
    if any(not one for one in generated) and all(expected.greedy):
        return "it generates nothing"
    if all(map(is_stuck, generated)) and not all(map(is_stuck, expected.greedy)):
        return f"it generates only the token {generated[0][0]}"
    return ""


def answer_prompts(
    prompts: Sequence[ExpectedAnswer], complete: Callable[[str, int], str]
) -> tuple[tuple[str, bool], ...]:
    """Return the answer to each prompt, and whether it is right.

    Args:
        complete: returns the greedy continuation of a text, of a number of tokens.
    """
    answers = [complete(one.text, one.max_tokens) for one in prompts]
    return tuple((answer, one.accepts(answer)) for one, answer in zip(prompts, answers, strict=True))
