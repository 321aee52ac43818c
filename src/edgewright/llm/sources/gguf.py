"""GGUF files as models, with weights that stay in the file until they are used."""

import struct
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgewright.errors import ModelNotConvertible, ModelUnreadable
from edgewright.llm.model import DecoderConfig, DecoderModel, LazyWeights, Padding
from edgewright.llm.sources.gguf_layout import (
    ALIGNMENT,
    ARRAY,
    BLOCK,
    BYTE_TYPE,
    FAMILIES,
    LAYER_NAMES,
    MAGIC,
    MODEL_NAMES,
    PAIRED_FAMILIES,
    SCALARS,
    TENSOR_TYPES,
    TEXT,
    get_tensor_name,
    split_pairs,
    unpack_blocks,
)
from edgewright.llm.tokenizer import BYTE_TOKENS, SPACE, ScoredTokenizer, Tokenizer
from edgewright.schema.arrays import Array

MOST_ENTRIES = 1 << 24
REQUIRED = ("attention_norm", "q", "k", "v", "o", "mlp_norm", "gate", "up", "down")
ENDS = {"bos": 1, "eos": 2}  # tokens that begin and end a text


class _GgufTensor(NamedTuple):
    shape: tuple[int, ...]
    kind: int
    offset: int


class _Header:
    """Reads the header of a file, and checks each size against what is left of it."""

    def __init__(self, data: Array) -> None:
        self.data, self.at = data, 0

    def take(self, form: str) -> Any:
        size = struct.calcsize("<" + form)
        raw = bytes(self.data[self.at : self.at + size])
        if len(raw) < size:
            raise ValueError("its header is truncated")
        self.at += size
        return struct.unpack("<" + form, raw)[0]

    def text(self) -> str:
        size = self.take("Q")
        if size > len(self.data) - self.at:
            raise ValueError("its header is truncated")
        self.at += size
        return bytes(self.data[self.at - size : self.at]).decode(errors="replace")

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind == TEXT:
            return self.text()
        if kind != ARRAY:
            if kind not in SCALARS:
                raise ValueError(f"its header has the unknown type {kind}")
            return self.take(SCALARS[kind])
        inner, count = self.take("I"), self.take("Q")
        if count > MOST_ENTRIES or depth > 1:
            raise ValueError(f"its header has a list of {count} entries")
        return [self.value(inner, depth + 1) for _ in range(count)]


def read_gguf(path: Path, open_own: Callable[[int], Tokenizer] | None = None) -> DecoderModel:
    """Return the model of a GGUF file.

    Args:
        open_own: opens another tokenizer than the file's own, for a number of tokens.

    Raises:
        ModelUnreadable: it is no GGUF file, or is damaged.
        ModelNotConvertible: its architecture, number types or tokenizer are not supported; names them.
    """
    data = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)
    try:
        facts, tensors, begin = _read_header(data)
        _check_tensors(tensors, len(data) - begin)
        config = _read_config(facts, tensors)
        _check_complete(config, tensors)
        tokenizer = open_own(config.vocabulary) if open_own else _read_tokenizer(facts, path)
    except (ValueError, LookupError, TypeError, ArithmeticError) as error:
        why = f"the entry {error} is missing" if isinstance(error, KeyError) else str(error)
        raise ModelUnreadable(f"{path} is not a usable GGUF file", why, "download or convert it again") from None
    weights = {
        name: partial(_read_tensor, data[begin:], tensors[get_tensor_name(name)], name, config)
        for name in _list_names(config)
        if get_tensor_name(name) in tensors
    }
    template = str(facts.get("tokenizer.chat_template", ""))
    return DecoderModel(path.stem, config, LazyWeights(weights), tokenizer, chat_template=template)


def _read_header(data: Array) -> tuple[dict[str, Any], dict[str, _GgufTensor], int]:
    """Return the entries, the tensors by name, and where their bytes begin."""
    if bytes(data[:4]) != MAGIC:
        raise ValueError("it does not begin with GGUF")
    header = _Header(data)
    header.at = 4
    if (version := header.take("I")) not in (2, 3):
        raise ValueError(f"its version is {version}, and 2 and 3 are supported")
    tensors, entries = header.take("Q"), header.take("Q")
    if max(tensors, entries) > MOST_ENTRIES:
        raise ValueError("its header has too many entries")
    facts = {header.text(): header.value(header.take("I")) for _ in range(entries)}
    found = {}
    for _ in range(tensors):
        name, axes = header.text(), header.take("I")
        if axes > 4:
            raise ValueError(f"{name} has {axes} axes")
        shape = tuple(header.take("Q") for _ in range(axes))[::-1]
        found[name] = _GgufTensor(shape, header.take("I"), header.take("Q"))
    alignment = int(facts.get("general.alignment", ALIGNMENT)) or ALIGNMENT
    return facts, found, -(-header.at // alignment) * alignment


def _check_tensors(tensors: Mapping[str, _GgufTensor], size: int) -> None:
    """Raise ModelNotConvertible for unknown number types, and ValueError for tensors beyond the file's end."""
    unknown = {tensor.kind for tensor in tensors.values()} - TENSOR_TYPES.keys()
    if unknown:
        name = next(name for name, tensor in tensors.items() if tensor.kind in unknown)
        known = ", ".join(one.name for one in TENSOR_TYPES.values())
        raise ModelNotConvertible(
            "a number type of the GGUF file is not supported",
            f"{name} has type {tensors[name].kind}; supported are {known}",
            "use a file in F16 or Q8_0",
        )
    for name, tensor in tensors.items():
        if tensor.shape and tensor.shape[-1] % TENSOR_TYPES[tensor.kind].elements:
            raise ValueError(f"{name} has rows that are not a multiple of {BLOCK}")
        if tensor.offset + _count_bytes(tensor) > size:
            raise ValueError(f"{name} is beyond the end of the file")


def _count_bytes(tensor: _GgufTensor) -> int:
    kind = TENSOR_TYPES[tensor.kind]
    return prod(tensor.shape) // kind.elements * kind.bytes


def _check_complete(config: DecoderConfig, tensors: Mapping[str, _GgufTensor]) -> None:
    """Raise ValueError if a tensor that every model has is missing."""
    needed = ["embedding", "norm", *(f"layers.{number}.{kind}" for number in range(config.layers) for kind in REQUIRED)]
    for name in map(get_tensor_name, needed):
        if name not in tensors:
            raise ValueError(f"the tensor {name} is missing")


def _list_names(config: DecoderConfig) -> list[str]:
    layers = [f"layers.{number}.{kind}" for number in range(config.layers) for kind in LAYER_NAMES]
    return [*(name for name in MODEL_NAMES if name != "head" or not config.tied), *layers]


def _read_tensor(data: Array, tensor: _GgufTensor, name: str, config: DecoderConfig) -> Array:
    raw = np.asarray(data[tensor.offset : tensor.offset + _count_bytes(tensor)])
    array = unpack_blocks(raw, TENSOR_TYPES[tensor.kind].name, tensor.shape)
    kind = name.rpartition(".")[2]
    if kind in ("q", "k", "q_bias", "k_bias") and config.family in PAIRED_FAMILIES:
        return split_pairs(array, config.head_size, config.rope_size)
    return array


def _read_config(facts: Mapping[str, Any], tensors: Mapping[str, _GgufTensor]) -> DecoderConfig:
    family = str(facts["general.architecture"])
    if family not in FAMILIES:
        raise ModelNotConvertible(
            f"the architecture {family} is not supported", f"supported in GGUF: {', '.join(FAMILIES)}",
            "give a model of one of these architectures",
        )  # fmt: skip

    def get(key: str, default: Any = None) -> Any:
        return facts[f"{family}.{key}"] if default is None else facts.get(f"{family}.{key}", default)

    if facts.get(f"{family}.rope.scaling.type", "none") != "none" or "rope_freqs.weight" in tensors:
        raise ModelNotConvertible(
            "the model scales its rotary positions", "the logits would be wrong without it, and it is not supported",
            "give a model without scaled positions",
        )  # fmt: skip
    width, heads = int(get("embedding_length")), int(get("attention.head_count"))
    head_size = int(get("attention.key_length", width // heads))
    padding = facts.get("edgewright.padding")
    return DecoderConfig(
        family=family,
        width=width,
        hidden=int(get("feed_forward_length")),
        layers=int(get("block_count")),
        heads=heads,
        kv_heads=int(get("attention.head_count_kv", heads)),
        head_size=head_size,
        vocabulary=tensors["token_embd.weight"].shape[0],
        context=int(get("context_length")),
        tied="output.weight" not in tensors,
        norm_epsilon=_shorten(get("attention.layer_norm_rms_epsilon")),
        rope_base=_shorten(get("rope.freq_base", 10000.0)),
        rope_size=int(get("rope.dimension_count", head_size)),
        padding=Padding(**dict(zip(Padding.__struct_fields__, map(int, padding), strict=True))) if padding else None,
    )


def _shorten(value: float) -> float:
    """Return the shortest number that is this float32: 1e-05 for the file's 9.99999974e-06."""
    return float(str(np.float32(value)))


def _read_tokenizer(facts: Mapping[str, Any], path: Path) -> Tokenizer:
    kind = facts.get("tokenizer.ggml.model", "none")
    if kind != "llama":
        raise ModelNotConvertible(
            f"the tokenizer of {path} is not supported", f"it has the kind '{kind}'; 'llama' is supported",
            "give a file whose tokenizer merges by score (SentencePiece)",
        )  # fmt: skip
    types: Sequence[int] = facts["tokenizer.ggml.token_type"]
    pieces = [piece.replace(SPACE, " ").encode() for piece in facts["tokenizer.ggml.tokens"]]
    byte_tokens = [token for token, type_ in enumerate(types) if type_ == BYTE_TYPE]
    other = [name for name, token in ENDS.items() if facts.get(f"tokenizer.ggml.{name}_token_id") != token]
    if len(byte_tokens) != BYTE_TOKENS or other:
        why = (
            f"its token {other[0]} is not {ENDS[other[0]]}" if other else f"it has {len(byte_tokens)} tokens for bytes"
        )
        raise ModelNotConvertible(
            f"the tokenizer of {path} is not supported", why,
            "give a file whose tokenizer merges by score (SentencePiece)",
        )  # fmt: skip
    return ScoredTokenizer(pieces, facts["tokenizer.ggml.scores"], byte_tokens)
