"""Quantized keys and values of a trained model, where its data is."""

import numpy as np

from benchmarks.llm import PerToken
from edgewright.llm.kv.streaming import StreamingQuantizer
from edgewright.llm.quality.scores import score_tokens
from edgewright.llm.quality.session import ReferenceSession
from edgewright.llm.reference import KVQuantizer, Reference
from tests.llm.models import open_stories

TEXT = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw "
    "a big, red ball. She wanted to play with it, but her mom said no. Lily was sad, but she said sorry to her mom. "
    "They went home and made a cake. Lily was very happy and she gave her mom a big hug. The end."
)


def test_streaming_keeps_what_quantization_per_token_loses() -> None:
    model = open_stories()
    tokens = model.tokenizer.encode(TEXT)
    full, following = Reference(model).logits(tokens[:-1]), np.array(tokens[1:])
    nll = score_tokens(full, full, following).nll.mean()

    def measure(quantizer: KVQuantizer) -> tuple[float, float]:
        scores = score_tokens(Reference(model, quantizer=quantizer).logits(tokens[:-1]), full, following)
        return float(scores.nll.mean() - nll), float(scores.kld.mean())

    change, divergence = measure(StreamingQuantizer(4, model.config))
    assert abs(change) < 0.03
    assert divergence < 0.01
    assert measure(StreamingQuantizer(8, model.config))[1] < 0.001
    assert measure(PerToken(4))[1] > 20 * divergence


def test_greedy_text_is_a_story() -> None:
    model = open_stories()
    found = ReferenceSession(model).complete(model.tokenizer.encode("Once upon a time"), 10)
    assert model.tokenizer.decode(found).startswith(b", there was a little girl named")
