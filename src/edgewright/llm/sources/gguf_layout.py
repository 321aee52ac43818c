"""GGUF: names, number types and blocks of the format's third version, for reading and writing."""

from typing import NamedTuple

import numpy as np

from edgewright.schema.arrays import Array

MAGIC = b"GGUF"
VERSION = 3
ALIGNMENT = 32
BLOCK = 32
# Types of values in the header: the struct format of each; 8 is text and 9 an array.
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
TEXT, ARRAY = 8, 9
UNKNOWN_TYPE, CONTROL_TYPE, NORMAL_TYPE, BYTE_TYPE = 2, 3, 1, 6  # of tokens
UINT32, INT32, FLOAT32, BOOL = 4, 5, 6, 7


class GgufType(NamedTuple):
    """A number type: its name, and the bytes of a block of elements."""

    name: str
    elements: int
    bytes: int


TENSOR_TYPES = {
    0: GgufType("F32", 1, 4),
    1: GgufType("F16", 1, 2),
    2: GgufType("Q4_0", BLOCK, 18),
    3: GgufType("Q4_1", BLOCK, 20),
    8: GgufType("Q8_0", BLOCK, 34),
    30: GgufType("BF16", 1, 2),
}
F32, Q4_1, Q8_0 = 0, 3, 8
# Our names of a layer's weights, and the format's.
LAYER_NAMES = {
    "attention_norm": "attn_norm.weight",
    "q": "attn_q.weight",
    "k": "attn_k.weight",
    "v": "attn_v.weight",
    "o": "attn_output.weight",
    "q_bias": "attn_q.bias",
    "k_bias": "attn_k.bias",
    "v_bias": "attn_v.bias",
    "q_norm": "attn_q_norm.weight",
    "k_norm": "attn_k_norm.weight",
    "mlp_norm": "ffn_norm.weight",
    "gate": "ffn_gate.weight",
    "up": "ffn_up.weight",
    "down": "ffn_down.weight",
}
MODEL_NAMES = {"embedding": "token_embd.weight", "norm": "output_norm.weight", "head": "output.weight"}
# Architectures in which neighbors of a head are rotated; in the others its halves are.
PAIRED_FAMILIES = ("llama",)
FAMILIES = ("llama", "qwen2", "qwen3")


def get_tensor_name(name: str) -> str:
    """Return the format's name of one of our weights."""
    if name in MODEL_NAMES:
        return MODEL_NAMES[name]
    _, layer, kind = name.split(".")
    return f"blk.{layer}.{LAYER_NAMES[kind]}"


def unpack_blocks(raw: Array, kind: str, shape: tuple[int, ...]) -> Array:
    """Return a tensor's bytes as float32 of this shape."""
    if kind == "F32":
        return raw.view("<f4").reshape(shape).astype(np.float32)
    if kind == "F16":
        return raw.view("<f2").reshape(shape).astype(np.float32)
    if kind == "BF16":
        return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32).reshape(shape)
    blocks = raw.reshape(-1, {"Q4_0": 18, "Q4_1": 20, "Q8_0": 34}[kind])
    scales = blocks[:, :2].copy().view("<f2").astype(np.float32)
    if kind == "Q8_0":
        return (blocks[:, 2:].view(np.int8) * scales).reshape(shape)
    begin = 4 if kind == "Q4_1" else 2
    codes = np.concatenate([blocks[:, begin:] & 15, blocks[:, begin:] >> 4], 1).astype(np.float32)
    if kind == "Q4_0":
        return ((codes - 8) * scales).reshape(shape)
    return (codes * scales + blocks[:, 2:4].copy().view("<f2").astype(np.float32)).reshape(shape)


def join_pairs(rows: Array, head_size: int, rope_size: int) -> Array:
    """Return rows of heads [heads x head_size, …] in the order where neighbors are rotated; ours rotates halves."""
    heads = rows.reshape(-1, head_size, *rows.shape[1:])
    order = [*np.arange(rope_size).reshape(2, -1).T.ravel(), *range(rope_size, head_size)]
    return np.ascontiguousarray(heads[:, order]).reshape(rows.shape)


def split_pairs(rows: Array, head_size: int, rope_size: int) -> Array:
    """Return rows of heads [heads x head_size, …], where neighbors are rotated, in the order of halves."""
    heads = rows.reshape(-1, head_size, *rows.shape[1:])
    order = [*range(0, rope_size, 2), *range(1, rope_size, 2), *range(rope_size, head_size)]
    return np.ascontiguousarray(heads[:, order]).reshape(rows.shape)
