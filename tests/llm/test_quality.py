"""Scores of logits against the full-precision logits."""

import numpy as np
import pytest

from edgewright.llm.quality.scores import count_common_prefix, is_stuck, score_tokens


def make_logits(seed: int = 0, tokens: int = 6, vocabulary: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(tokens, vocabulary)).astype(np.float32)


def test_the_reference_against_itself() -> None:
    logits, following = make_logits(), np.array([0, 1, 2, 3, 4, 0])
    scores = score_tokens(logits + 7, logits, following)  # a constant changes no probability
    expected = [-np.log(np.exp(row[token]) / np.exp(row).sum()) for row, token in zip(logits, following, strict=True)]
    assert scores.nll == pytest.approx(expected, rel=1e-5)
    assert scores.kld == pytest.approx(np.zeros(6), abs=1e-6)
    assert scores.same_top1.all()


def test_known_divergence() -> None:
    reference, other = np.log([[0.5, 0.5]]), np.log([[0.25, 0.75]])
    scores = score_tokens(other, reference, np.array([0]))
    assert scores.kld[0] == pytest.approx(0.5 * np.log(2) + 0.5 * np.log(2 / 3))
    assert scores.nll[0] == pytest.approx(np.log(4))


def test_damage_that_perplexity_does_not_see() -> None:
    """The probabilities of tokens that do not follow are exchanged: same NLL, another distribution."""
    reference = np.log(np.tile([0.4, 0.35, 0.05, 0.1, 0.1], (6, 1)))
    damaged = reference[:, [0, 2, 1, 3, 4]]
    scores = score_tokens(damaged, reference, np.zeros(6, int))
    clean = score_tokens(reference, reference, np.zeros(6, int))
    assert scores.nll == pytest.approx(clean.nll)
    assert scores.kld.mean() > 0.5


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_numbers_are_infinitely_bad(bad: float) -> None:
    logits = make_logits()
    damaged = logits.copy()
    damaged[2, 1] = bad
    scores = score_tokens(damaged, logits, np.zeros(6, int))
    assert list(np.isinf(scores.kld)) == list(np.isinf(scores.nll)) == [False, False, True, False, False, False]
    assert not scores.same_top1[2]


def test_prefix_and_padding() -> None:
    assert count_common_prefix([1, 2, 3], [1, 2, 4, 5]) == 2
    assert count_common_prefix([1, 2], [1, 2, 3]) == 2
    assert count_common_prefix([], [1]) == 0
    assert is_stuck([0] * 8)
    assert not is_stuck([0] * 7)
    assert not is_stuck([0] * 8 + [1])
