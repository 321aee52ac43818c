"""A key and value cache that is quantized while it grows.

Keys have few channels with large values, the same for every token, so they are quantized per channel over groups of
`GROUP` tokens; values per token over groups of `GROUP` channels. A group of tokens is quantized once it is complete:
only the unfinished group is kept in full precision (after Liu et al., "KIVI: A Tuning-Free Asymmetric 2bit
Quantization for KV Cache", ICML 2024, without its window of recent tokens). Each group of values has a float16 scale
and a float16 minimum, so that 4 bits become 5 per value.
"""

from math import gcd

import numpy as np
from msgspec import Struct

from edgewright.llm.model import DecoderConfig
from edgewright.llm.reference import QuantizedKV
from edgewright.schema.arrays import Array

GROUP = 32
LARGEST = float(np.finfo(np.float16).max)
SMALLEST_SCALE = 1e-6  # float16 holds it


class QuantizedBlock(Struct, frozen=True, kw_only=True):
    """Integers of some values, with a scale and a minimum per group; value = code * scale + low.

    Attributes:
        codes: uint8, of the values' shape with the groups' axis last; two codes in a byte for 4 bits.
        shape: of the grouped values.
    """

    codes: Array
    scale: Array
    low: Array
    shape: tuple[int, ...]
    bits: int

    @property
    def bytes(self) -> int:
        return int(self.codes.nbytes + self.scale.nbytes + self.low.nbytes)


def quantize_groups(values: Array, bits: int) -> QuantizedBlock:
    """Return the values with one scale and minimum for each vector along the last axis.

    Args:
        values: float32 of any shape; a group with a value that is not finite becomes NaN.
        bits: 4 or 8.
    """
    least, most, steps = values.min(-1, keepdims=True), values.max(-1, keepdims=True), 2**bits - 1
    finite = np.isfinite(least) & np.isfinite(most)
    low = np.where(finite, np.clip(least, -LARGEST, LARGEST), np.nan).astype(np.float16)
    span = np.where(finite, most, 0) - np.where(finite, least, 0)
    scale = np.clip(span / steps, SMALLEST_SCALE, LARGEST).astype(np.float16)
    with np.errstate(invalid="ignore"):
        codes = np.rint((values - low.astype(np.float32)) / scale.astype(np.float32))
    integers = np.clip(np.nan_to_num(codes), 0, steps).astype(np.uint8)
    return QuantizedBlock(codes=_pack(integers, bits), scale=scale, low=low, shape=values.shape, bits=bits)


def dequantize_groups(block: QuantizedBlock) -> Array:
    """Return the values as float32."""
    codes = _unpack(block.codes, block.shape[-1]) if block.bits == 4 else block.codes
    values: Array = codes * block.scale.astype(np.float32) + block.low.astype(np.float32)
    return values


def _pack(codes: Array, bits: int) -> Array:
    """Return two 4-bit codes in a byte, the first one in its low half."""
    if bits != 4:
        return codes
    if codes.shape[-1] % 2:
        codes = np.concatenate((codes, np.zeros_like(codes[..., :1])), -1)
    packed: Array = codes[..., ::2] | codes[..., 1::2] << 4
    return packed


def _unpack(packed: Array, count: int) -> Array:
    return np.stack((packed & 15, packed >> 4), -1).reshape(*packed.shape[:-1], -1)[..., :count]


class StreamingQuantizer:
    """The quantized cache of a sequence, for `Reference`.

    Args:
        bits: 4 or 8.
        config: of the model; zeros that pad its heads take no part.
    """

    def __init__(self, bits: int, config: DecoderConfig) -> None:
        self.bits = bits
        self._width = config.padding.head_size if config.padding else config.head_size

    def __call__(self, layer: int, keys: Array, values: Array, queries: int) -> QuantizedKV:
        """Return the cache after quantization: a query sees each group that was complete when its token came."""
        count = len(keys) // GROUP * GROUP
        read_keys, read_values = keys.copy(), values.copy()
        if count:
            own = slice(count), slice(None), slice(self._width)
            stored_keys, stored_values = quantize_keys(keys[own], self.bits), quantize_values(values[own], self.bits)
            read_keys[own] = np.moveaxis(dequantize_groups(stored_keys), -1, 1).reshape(keys[own].shape)
            read_values[own] = dequantize_groups(stored_values).reshape(values[own].shape)
        complete = (np.arange(len(keys)) // GROUP + 1) * GROUP
        asked = np.arange(len(keys) - queries, len(keys)) + 1
        return QuantizedKV(read_keys, read_values, complete <= asked[:, None])


def quantize_keys(keys: Array, bits: int) -> QuantizedBlock:
    """Return whole groups of keys [tokens, heads, width] with a scale per channel and group of tokens."""
    return quantize_groups(np.moveaxis(keys.reshape(-1, GROUP, *keys.shape[1:]), 1, -1), bits)


def quantize_values(values: Array, bits: int) -> QuantizedBlock:
    """Return values [tokens, heads, width] with a scale per token and group of channels."""
    width = int(np.prod(values.shape[1:]))
    return quantize_groups(values.reshape(len(values), -1, gcd(GROUP, width)), bits)
