"""Evaluation on text: what the gate finds that perplexity does not."""

import numpy as np
import pytest

from edgewright.llm.model import DecoderModel
from edgewright.llm.quality.evaluation import Expected, cut_windows, evaluate_model, list_starts
from edgewright.llm.quality.session import ReferenceSession
from tests.llm.untied import TEXT, change_head, exchange_absent_tokens, make_untied


def make_expected(model: DecoderModel) -> Expected:
    windows = cut_windows(model.tokenizer.encode(TEXT, begin=False), 40, model.tokenizer.bos)
    session = ReferenceSession(model)
    greedy = tuple(tuple(session.complete(start, 32)) for start in list_starts(windows))
    return Expected(windows=windows, read_logits=lambda n: session.logits(windows[n][:-1]), greedy=greedy)


def test_the_model_itself() -> None:
    model = make_untied()
    expected = make_expected(model)
    found = evaluate_model(ReferenceSession(model), expected, len)
    assert found.kld == pytest.approx(0, abs=1e-9)
    assert found.top1_agreement == 1
    assert found.prefix == found.prefix_of
    assert found.fault == ""
    assert found.tokens == sum(len(one) - 1 for one in expected.windows)
    assert found.nll_low is not None
    assert found.nll_high is not None
    assert found.nll_low < found.nll < found.nll_high


def test_damage_that_perplexity_passes_and_divergence_catches() -> None:
    model = make_untied()
    expected = make_expected(model)
    clean = evaluate_model(ReferenceSession(model), expected, len)
    found = evaluate_model(ReferenceSession(exchange_absent_tokens(model)), expected, len)
    assert found.nll == pytest.approx(clean.nll, abs=1e-6)
    assert found.kld > 0.05


def test_logits_that_are_not_finite() -> None:
    model = make_untied()
    expected = make_expected(model)
    head = model.weights["head"].copy()
    head[7] = np.nan
    found = evaluate_model(ReferenceSession(change_head(model, head)), expected, len)
    assert found.kld == float("inf")
    assert "not finite" in found.fault


def test_an_engine_that_emits_only_padding() -> None:
    class Padding(ReferenceSession):
        def complete(self, tokens, count):  # type: ignore[no-untyped-def]
            return [0] * count

    model = make_untied()
    assert evaluate_model(Padding(model), make_expected(model), len).fault == "it generates only the token 0"


def test_windows() -> None:
    assert cut_windows(range(10, 17), 4, 1) == ((1, 10, 11, 12), (1, 13, 14, 15))
    assert cut_windows(range(10, 18), 4, 1) == ((1, 10, 11, 12), (1, 13, 14, 15), (1, 16, 17))
    assert cut_windows(range(10, 15), 4, None) == ((10, 11, 12, 13),)
    assert cut_windows([7], 4, 1) == ((1, 7),)
