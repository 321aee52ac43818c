"""Choice of the next token from logits, and texts that a model writes itself."""

import numpy as np

from edgewright.llm.reference import Reference
from edgewright.schema.arrays import Array


def choose_token(logits: Array, temperature: float, random: np.random.Generator) -> int:
    """Return the most likely token, or a random one by its probability at this temperature.

    Args:
        logits: [vocabulary].
        temperature: 0 for the most likely token.
    """
    if temperature <= 0:
        return int(logits.argmax())
    return int(_draw(logits[None], temperature, random)[0])


def sample_texts(reference: Reference, count: int, tokens: int, seed: int, *, temperature: float = 0.8) -> Array:
    """Return texts that the model writes itself, int64 [count, 1 + tokens], each after the token that begins one."""
    random = np.random.default_rng(seed)
    cache = reference.open_cache(count, tokens)
    text = np.full((count, 1), reference.begin)
    for _ in range(tokens):
        logits = reference.forward(text[:, -1:], cache)[:, -1]
        text = np.concatenate([text, _draw(logits, temperature, random)[:, None]], 1)
    return text


def _draw(logits: Array, temperature: float, random: np.random.Generator) -> Array:
    """Return a token for each row of logits [batch, vocabulary]."""
    scaled = logits.astype(np.float64) / temperature
    chances = np.exp(scaled - scaled.max(-1, keepdims=True)).cumsum(-1)
    drawn = random.random((len(chances), 1)) * chances[:, -1:]
    found: Array = np.minimum((chances <= drawn).sum(-1), logits.shape[-1] - 1)
    return found
