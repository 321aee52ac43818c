"""The reference implementation as a model that can be evaluated and that generates."""

from collections.abc import Callable, Sequence

import numpy as np

from edgewright.llm.model import DecoderModel
from edgewright.llm.reference import KVQuantizer, Reference
from edgewright.schema.arrays import Array


class ReferenceSession:
    """Edgewright's own numpy implementation of a decoder, in full precision or with quantized keys and values."""

    def __init__(self, model: DecoderModel, quantizer: KVQuantizer | None = None) -> None:
        self._reference = Reference(model, quantizer=quantizer)
        self._eos = model.tokenizer.eos

    def logits(self, tokens: Sequence[int]) -> Array:
        """Return the logits after each token, float32 [tokens, vocabulary]."""
        return self._reference.logits(tokens)

    def generate(
        self, tokens: Sequence[int], count: int, on_token: Callable[[int], object], stop: Callable[[], bool]
    ) -> None:
        """Call back with each most likely token that follows, up to `count`, until `stop` or the end of a sequence."""
        cache = self._reference.open_cache(1, len(tokens) + count)
        asked = np.array([tokens])
        for _ in range(count):
            token = int(self._reference.forward(asked, cache, last=True)[0, -1].argmax())
            on_token(token)
            if token in self._eos or stop():
                return
            asked = np.array([[token]])

    def complete(self, tokens: Sequence[int], count: int) -> list[int]:
        """Return the most likely tokens that follow."""
        found: list[int] = []
        self.generate(tokens, count, found.append, lambda: False)
        return found
