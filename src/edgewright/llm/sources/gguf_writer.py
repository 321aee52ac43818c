"""Writing of GGUF files."""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from msgspec import structs

from edgewright.llm.model import DecoderConfig, DecoderModel
from edgewright.llm.sources.gguf_layout import (
    ALIGNMENT,
    ARRAY,
    BOOL,
    BYTE_TYPE,
    CONTROL_TYPE,
    F32,
    FLOAT32,
    INT32,
    MAGIC,
    NORMAL_TYPE,
    PAIRED_FAMILIES,
    Q4_1,
    Q8_0,
    SCALARS,
    TENSOR_TYPES,
    TEXT,
    UINT32,
    UNKNOWN_TYPE,
    VERSION,
    get_tensor_name,
    join_pairs,
)
from edgewright.llm.tokenizer import SPACE, ScoredTokenizer
from edgewright.llm.weights.packed import GROUP, Packed
from edgewright.schema.arrays import Array

CONTROL_NAMES = ("<unk>", "<s>", "</s>")


def write_gguf(path: Path, model: DecoderModel, packed: Mapping[str, Packed]) -> None:
    """Write a model as a GGUF file, one tensor after another.

    Args:
        packed: quantized weights by name; 8 bits become Q8_0 and 4 bits Q4_1, all others F32.
    """
    facts = _list_facts(model)
    kinds = {name: (Q8_0 if packed[name].bits == 8 else Q4_1) if name in packed else F32 for name in model.weights}
    sizes = {name: _find_shape(model, packed, name) for name in model.weights}
    with path.open("wb") as file:
        file.write(MAGIC + struct.pack("<IQQ", VERSION, len(kinds), len(facts)))
        for key, (kind, value) in facts.items():
            _write_text(file, key)
            file.write(struct.pack("<I", kind))
            _write_value(file, kind, value)
        offset = 0
        for name, kind in kinds.items():
            shape = sizes[name]
            _write_text(file, get_tensor_name(name))
            file.write(struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape[::-1], kind, offset))
            form = TENSOR_TYPES[kind]
            offset += _align(int(np.prod(shape)) // form.elements * form.bytes)
        for name in kinds:
            file.write(b"\0" * (_align(file.tell()) - file.tell()))
            _write_tensor(file, model, packed, name)


def _find_shape(model: DecoderModel, packed: Mapping[str, Packed], name: str) -> tuple[int, ...]:
    return packed[name].codes.shape if name in packed else model.weights[name].shape


def _align(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _write_text(file: IO[bytes], text: str) -> None:
    raw = text.encode()
    file.write(struct.pack("<Q", len(raw)) + raw)


def _write_value(file: IO[bytes], kind: int, value: Any) -> None:
    if kind == TEXT:
        _write_text(file, value)
    elif kind == ARRAY:
        inner, values = value
        file.write(struct.pack("<IQ", inner, len(values)))
        for one in values:
            _write_value(file, inner, one)
    else:
        file.write(struct.pack("<" + SCALARS[kind], value))


def _write_tensor(file: IO[bytes], model: DecoderModel, packed: Mapping[str, Packed], name: str) -> None:
    config = model.config
    turned = name.rpartition(".")[2] in ("q", "k", "q_bias", "k_bias") and config.family in PAIRED_FAMILIES

    def order(array: Array) -> Array:
        return join_pairs(array, config.head_size, config.rope_size) if turned else array

    if name not in packed:
        file.write(np.ascontiguousarray(order(model.weights[name]), "<f4").tobytes())
        return
    matrix = packed[name]
    ordered = Packed(
        order(matrix.codes),
        order(matrix.scales),
        None if matrix.minima is None else order(matrix.minima),
        matrix.bits,
    )
    file.write(pack_blocks(ordered).tobytes())


def pack_blocks(matrix: Packed) -> Array:
    """Return a matrix as the bytes of Q8_0 or Q4_1 blocks, uint8 [blocks, bytes]."""
    codes = matrix.codes.reshape(-1, GROUP)
    scales = matrix.scales.reshape(-1, 1).astype("<f2").view(np.uint8)
    if matrix.bits == 8:
        return np.concatenate([scales, codes.astype(np.int8).view(np.uint8)], 1)
    minima = np.zeros_like(matrix.scales) if matrix.minima is None else matrix.minima
    low, high = codes[:, : GROUP // 2].astype(np.uint8), codes[:, GROUP // 2 :].astype(np.uint8)
    return np.concatenate([scales, minima.reshape(-1, 1).astype("<f2").view(np.uint8), low | high << 4], 1)


def _list_facts(model: DecoderModel) -> dict[str, tuple[int, Any]]:
    """Return the entries of the header: type and value by key."""
    config, family = model.config, model.config.family
    facts: dict[str, tuple[int, Any]] = {
        "general.architecture": (TEXT, family),
        "general.name": (TEXT, model.name),
        f"{family}.context_length": (UINT32, config.context),
        f"{family}.embedding_length": (UINT32, config.width),
        f"{family}.block_count": (UINT32, config.layers),
        f"{family}.feed_forward_length": (UINT32, config.hidden),
        f"{family}.attention.head_count": (UINT32, config.heads),
        f"{family}.attention.head_count_kv": (UINT32, config.kv_heads),
        f"{family}.attention.key_length": (UINT32, config.head_size),
        f"{family}.attention.value_length": (UINT32, config.head_size),
        f"{family}.attention.layer_norm_rms_epsilon": (FLOAT32, config.norm_epsilon),
        f"{family}.rope.dimension_count": (UINT32, config.rope_size),
        f"{family}.rope.freq_base": (FLOAT32, config.rope_base),
        f"{family}.vocab_size": (UINT32, config.vocabulary),
    }
    if config.padding is not None:
        facts["edgewright.padding"] = (ARRAY, (UINT32, structs.astuple(config.padding)))
    if model.chat_template:
        facts["tokenizer.chat_template"] = (TEXT, model.chat_template)
    return facts | _list_tokenizer_facts(model, config)


def _list_tokenizer_facts(model: DecoderModel, config: DecoderConfig) -> dict[str, tuple[int, Any]]:
    """Return the entries of the tokenizer; only those that merge by score are in the file."""
    tokenizer = model.tokenizer
    if not isinstance(tokenizer, ScoredTokenizer):
        return {"tokenizer.ggml.model": (TEXT, "none")}
    texts = [piece.decode(errors="replace").replace(" ", SPACE) for piece in tokenizer.pieces]
    texts[:3] = CONTROL_NAMES
    types = [UNKNOWN_TYPE, CONTROL_TYPE, CONTROL_TYPE] + [NORMAL_TYPE] * (config.vocabulary - 3)
    for byte, token in enumerate(tokenizer.byte_tokens):
        types[token] = BYTE_TYPE
        texts[token] = f"<0x{byte:02X}>"
    return {
        "tokenizer.ggml.model": (TEXT, "llama"),
        "tokenizer.ggml.tokens": (ARRAY, (TEXT, texts)),
        "tokenizer.ggml.scores": (ARRAY, (FLOAT32, tokenizer.scores)),
        "tokenizer.ggml.token_type": (ARRAY, (INT32, types)),
        "tokenizer.ggml.bos_token_id": (UINT32, 1),
        "tokenizer.ggml.eos_token_id": (UINT32, 2),
        "tokenizer.ggml.unknown_token_id": (UINT32, 0),
        "tokenizer.ggml.add_bos_token": (BOOL, True),
        "tokenizer.ggml.add_eos_token": (BOOL, False),
        "tokenizer.ggml.add_space_prefix": (BOOL, True),
    }
