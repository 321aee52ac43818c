"""Small language models for tests, and the real one where the data is."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.llm.model import DecoderConfig, DecoderModel
from edgewright.llm.sources.llama2c import read_checkpoint, read_tokenizer
from edgewright.llm.tokenizer import ScoredTokenizer
from tests.paths import ROOT

DATA = ROOT.parent / "shared" / "data" / "llm"


def find_data() -> Path:
    """The folder of the real model; the test is skipped where it is absent."""
    for folder in (DATA, Path("/work/shared/data/llm")):
        if folder.is_dir():
            return folder
    pytest.skip("shared/data/llm is absent")


def open_stories() -> DecoderModel:
    folder = find_data()
    return read_checkpoint(folder / "stories260K.bin", read_tokenizer(folder / "tok512.bin", 512))


def make_tokenizer(vocabulary: int) -> ScoredTokenizer:
    """Bytes, letters, and the word ` the`, which two merges make."""
    pieces = [b"<unk>", b"<s>", b"</s>", *(b"<0x%02X>" % byte for byte in range(256))]
    pieces += [b" ", *(bytes([letter]) for letter in b"abcdefghijklmnopqrstuvwxyz"), b" t", b"he", b" the"]
    pieces += [f"word{number}".encode() for number in range(vocabulary - len(pieces))]
    return ScoredTokenizer(pieces, [-float(number) for number in range(vocabulary)], range(3, 259))


def make_model(**changes: Any) -> DecoderModel:
    """A random model of two layers with heads of 8."""
    config = DecoderConfig(
        **{
            "family": "llama", "width": 64, "hidden": 80, "layers": 2, "heads": 4, "kv_heads": 2, "head_size": 8,
            "rope_size": 8, "vocabulary": 320, "context": 64, "tied": True, **changes,
        }
    )  # fmt: skip
    random = np.random.default_rng(1)
    width, keys, queries = config.width, config.kv_heads * config.head_size, config.heads * config.head_size
    shapes = {"embedding": (config.vocabulary, width), "norm": (width,)}
    if not config.tied:
        shapes["head"] = (config.vocabulary, width)
    for layer in range(config.layers):
        kinds = {
            "attention_norm": (width,), "q": (queries, width), "k": (keys, width), "v": (keys, width),
            "o": (width, queries), "mlp_norm": (width,), "gate": (config.hidden, width), "up": (config.hidden, width),
            "down": (width, config.hidden),
        }  # fmt: skip
        if config.family == "qwen2":
            kinds |= {"q_bias": (queries,), "k_bias": (keys,), "v_bias": (keys,)}
        if config.family == "qwen3":
            kinds |= {"q_norm": (config.head_size,), "k_norm": (config.head_size,)}
        shapes |= {f"layers.{layer}.{kind}": shape for kind, shape in kinds.items()}
    weights = {
        name: (random.normal(size=shape) / (shape[-1] ** 0.5 if len(shape) > 1 else 4) + (len(shape) == 1)).astype(
            np.float32
        )
        for name, shape in shapes.items()
    }
    return DecoderModel("tiny", config, weights, make_tokenizer(config.vocabulary))
