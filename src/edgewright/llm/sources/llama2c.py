"""llama2.c's checkpoints (`.bin`, the first format, without a version) and tokenizers (`tok*.bin`)."""

import struct
from functools import partial
from math import prod
from pathlib import Path

import numpy as np

from edgewright.errors import ModelUnreadable
from edgewright.llm.model import DecoderConfig, DecoderModel, LazyWeights
from edgewright.llm.sources.gguf_layout import split_pairs
from edgewright.llm.tokenizer import ScoredTokenizer, Tokenizer
from edgewright.schema.arrays import Array

HEADER_BYTES = 28
MOST_PIECE_BYTES = 4096
FIRST_BYTE_TOKEN = 3


def read_header(path: Path) -> DecoderConfig:
    """Return the configuration of a checkpoint. Raises ModelUnreadable if the file is none, or was truncated."""
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
    if len(head) < HEADER_BYTES:
        raise ModelUnreadable(f"{path} is not a llama2.c checkpoint", f"it has {len(head)} bytes", "check the path")
    width, hidden, layers, heads, kv_heads, vocabulary, context = struct.unpack("<7i", head)
    sizes = (width, hidden, layers, heads, kv_heads, abs(vocabulary), context)
    if min(sizes) < 1 or width % heads or heads % kv_heads or (width // heads) % 2:
        raise ModelUnreadable(
            f"{path} is not a llama2.c checkpoint", f"its header has the sizes {sizes}", "give a checkpoint of llama2.c"
        )
    config = DecoderConfig(
        family="llama",
        width=width,
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_size=width // heads,
        rope_size=width // heads,
        vocabulary=abs(vocabulary),
        context=context,
        tied=vocabulary > 0,
    )
    wanted = HEADER_BYTES + 4 * sum(prod(shape) for _, shape in _list_blocks(config))
    if (found := path.stat().st_size) != wanted:
        why = f"it has {found} bytes, and the sizes in its header need {wanted}"
        raise ModelUnreadable(f"{path} is not a complete llama2.c checkpoint", why, "download or export it again")
    return config


def read_checkpoint(path: Path, tokenizer: Tokenizer) -> DecoderModel:
    """Return the model of a checkpoint, with weights that are read from the file when they are used.

    Raises ModelUnreadable if the file is not a checkpoint, or was truncated.
    """
    config = read_header(path)
    data = np.memmap(path, np.dtype("<f4"), "r", HEADER_BYTES)
    readers = {}
    offset = 0
    for kind, shape in _list_blocks(config):
        block = data[offset : offset + prod(shape)].reshape(shape)
        offset += prod(shape)
        if kind in ("embedding", "norm", "head"):
            readers[kind] = partial(np.array, block)
        elif kind:
            readers |= {
                f"layers.{n}.{kind}": partial(_take_layer, block, n, kind, config) for n in range(config.layers)
            }
    return DecoderModel(path.stem, config, LazyWeights(readers), tokenizer)


def _take_layer(block: Array, layer: int, kind: str, config: DecoderConfig) -> Array:
    array = np.array(block[layer])
    return split_pairs(array, config.head_size, config.rope_size) if kind in ("q", "k") else array


def _list_blocks(config: DecoderConfig) -> list[tuple[str, tuple[int, ...]]]:
    """Return the kinds and shapes of the file's arrays in their order; the tables of the rotation have no kind."""
    width, hidden, layers = config.width, config.hidden, config.layers
    keys = config.kv_heads * config.head_size
    blocks: list[tuple[str, tuple[int, ...]]] = [
        ("embedding", (config.vocabulary, width)),
        ("attention_norm", (layers, width)),
        ("q", (layers, width, width)),
        ("k", (layers, keys, width)),
        ("v", (layers, keys, width)),
        ("o", (layers, width, width)),
        ("mlp_norm", (layers, width)),
        ("gate", (layers, hidden, width)),
        ("down", (layers, width, hidden)),
        ("up", (layers, hidden, width)),
        ("norm", (width,)),
        ("", (config.context, config.head_size)),
    ]
    return blocks if config.tied else [*blocks, ("head", (config.vocabulary, width))]


def read_tokenizer(path: Path, vocabulary: int) -> ScoredTokenizer:
    """Return the tokenizer in a file with a score and a piece per token. Raises ModelUnreadable if it does not fit."""
    data = path.read_bytes()
    offset, pieces, scores = 4, list[bytes](), list[float]()
    while offset + 8 <= len(data) and len(pieces) < vocabulary:
        score, size = struct.unpack_from("<fi", data, offset)
        if not 0 <= size <= MOST_PIECE_BYTES:
            break
        scores.append(score)
        pieces.append(data[offset + 8 : offset + 8 + size])
        offset += 8 + size
    if len(pieces) != vocabulary or offset != len(data) or vocabulary < FIRST_BYTE_TOKEN + 256:
        why = f"{len(pieces)} of its pieces can be read, and the model has {vocabulary} tokens"
        raise ModelUnreadable(f"{path} is not the tokenizer of this model", why, "give the model's tok*.bin")
    return ScoredTokenizer(pieces, scores, range(FIRST_BYTE_TOKEN, FIRST_BYTE_TOKEN + 256))
