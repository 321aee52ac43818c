"""A small model with a head of its own, so that a test can damage it."""

import numpy as np

from edgewright.llm.model import DecoderModel
from tests.llm.models import make_model

TEXT = "the rain in the east is that one note that her son heard at noon " * 3
SHARPNESS = 4.0  # of the distributions, as those of a trained model


def make_untied() -> DecoderModel:
    model = make_model(tied=False, context=128)
    return change_head(model, model.weights["head"] * np.float32(SHARPNESS))


def change_head(model: DecoderModel, head: np.ndarray) -> DecoderModel:
    return model._replace(weights={**model.weights, "head": head})


def exchange_absent_tokens(model: DecoderModel, text: str = TEXT) -> DecoderModel:
    """Exchange the rows of the head of tokens that are not in the text: no probability of the text changes."""
    used = set(model.tokenizer.encode(text))
    absent = [token for token in range(model.config.vocabulary) if token not in used]
    head = model.weights["head"].copy()
    head[absent] = head[absent[1:] + absent[:1]]
    return change_head(model, head)
