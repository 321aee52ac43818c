"""The files of an artifact: what each engine loads, and the tokenizer."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from edgewright.errors import ModelNotConvertible
from edgewright.llm.engines.genai_writer import FAMILIES as GENAI_FAMILIES
from edgewright.llm.engines.genai_writer import write_genai
from edgewright.llm.engines.table import EngineInfo
from edgewright.llm.model import DecoderModel
from edgewright.llm.sources.gguf_layout import FAMILIES
from edgewright.llm.sources.gguf_writer import write_gguf
from edgewright.llm.sources.open import TOKENIZER_BIN
from edgewright.llm.tokenizer import ScoredTokenizer
from edgewright.llm.weights.quantize import QuantizedModel

GGUF_FILE = "model.gguf"


class Target(NamedTuple):
    """What an engine loads.

    Attributes:
        main: name of the file in the artifact's folder; "." for the folder.
        families: architectures that it can be written for.
        write: writes the files into a folder.
    """

    main: str
    families: tuple[str, ...]
    write: Callable[[Path, QuantizedModel], None]


def _write_gguf(folder: Path, quantized: QuantizedModel) -> None:
    write_gguf(folder / GGUF_FILE, quantized.model, quantized.packed)


TARGETS = {
    "reference": Target(GGUF_FILE, FAMILIES, _write_gguf),
    "onnxruntime-genai": Target(".", GENAI_FAMILIES, write_genai),
    "llamacpp": Target(GGUF_FILE, FAMILIES, _write_gguf),
}


def find_target(engine: EngineInfo, model: DecoderModel) -> Target:
    """Return what an engine loads. Raises ModelNotConvertible if it cannot take the model, before any work."""
    target = TARGETS.get(engine.name)
    if target is None:
        raise ModelNotConvertible(
            f"{engine.title} cannot take {model.name}",
            "Edgewright does not write this engine's files: its exporter needs an environment of 2.3 GB with torch",
            "use --runtime onnxruntime-genai or llamacpp",
        )
    config = model.config
    if config.family not in target.families:
        raise ModelNotConvertible(
            f"{engine.title} cannot take {model.name}",
            f"Edgewright does not write the architecture {config.family} for it",
            f"supported: {', '.join(target.families)}",
        )
    if "layers.0.q_norm" in model.weights and config.head_size % engine.head_multiple:
        raise ModelNotConvertible(
            f"{engine.title} cannot take {model.name}",
            f"its heads of {config.head_size} are normalized and are no multiple of {engine.head_multiple}",
            "use another engine",
        )
    return target


def write_tokenizer(folder: Path, model: DecoderModel) -> None:
    """Write the tokenizer into an artifact's folder, in llama2.c's format."""
    tokenizer = model.tokenizer
    if not isinstance(tokenizer, ScoredTokenizer):
        raise ModelNotConvertible(f"the tokenizer of {model.name} is not supported", type(tokenizer).__name__)
    entries = [
        struct.pack("<fi", score, len(piece)) + piece
        for piece, score in zip(tokenizer.pieces, tokenizer.scores, strict=True)
    ]
    longest = max(map(len, tokenizer.pieces))
    (folder / TOKENIZER_BIN).write_bytes(struct.pack("<i", longest) + b"".join(entries))
