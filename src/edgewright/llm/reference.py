"""The full-precision computation of a decoder in numpy: what engines and quantized weights are compared with."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from edgewright.llm.model import DecoderConfig, DecoderModel
from edgewright.schema.arrays import Array


class QuantizedKV(NamedTuple):
    """Keys and values as a quantized cache returns them.

    Attributes:
        keys, values: [tokens, kv_heads, head_size], after quantization.
        used: bool [queries, tokens]; whether a query sees the quantized entry. It sees the full-precision one
            otherwise. The queries are those of the last tokens.
    """

    keys: Array
    values: Array
    used: Array


class KVQuantizer(Protocol):
    """A quantization of the KV cache."""

    def __call__(self, layer: int, keys: Array, values: Array, queries: int) -> QuantizedKV:
        """Return the cache of one layer after quantization.

        Args:
            keys: [tokens, kv_heads, head_size], rotated.
            values: [tokens, kv_heads, head_size].
            queries: number of last tokens that ask now.
        """


Watch = Callable[[str, Array], None]  # name of the weights that an input [rows, width] is multiplied with, the input


class Cache:
    """Keys and values of all layers for a batch: `tokens` of `capacity` are filled."""

    def __init__(self, config: DecoderConfig, batch: int, capacity: int) -> None:
        shape = (config.layers, batch, capacity, config.kv_heads, config.head_size)
        self.keys = np.zeros(shape, np.float32)
        self.values = np.zeros(shape, np.float32)
        self.tokens = 0
        self.capacity = capacity


class Reference:
    """A decoder in float32, with a cache of keys and values.

    Args:
        keep: whether the weights stay in memory; each is read from the source at each use otherwise.
        quantizer: of the cache; None for full precision. It takes batches of one sequence.
        watch: called with the input of each matrix product, named by the first of the weights that it is
            multiplied with.

    Attributes:
        begin: the token that begins a sequence; 0 if the model has none.
    """

    def __init__(
        self,
        model: DecoderModel,
        *,
        quantizer: KVQuantizer | None = None,
        watch: Watch | None = None,
        keep: bool = True,
    ) -> None:
        self.config = model.config
        self.begin = 0 if model.tokenizer.bos is None else model.tokenizer.bos
        self._kept = dict(model.weights) if keep else model.weights
        self._quantizer = quantizer
        self._watch = watch

    def logits(self, tokens: Sequence[int]) -> Array:
        """Return the logits after each token of one sequence, float32 [tokens, vocabulary]."""
        found: Array = self.forward(np.asarray([tokens]))[0]
        return found

    def open_cache(self, batch: int, capacity: int) -> Cache:
        """Return an empty cache."""
        return Cache(self.config, batch, capacity)

    def forward(self, tokens: Array, cache: Cache | None = None, *, last: bool = False) -> Array:
        """Return the logits after each token, float32 [batch, tokens, vocabulary].

        Args:
            tokens: int [batch, tokens]; they follow those in the cache.
            last: whether the logits of the last token are enough, [batch, 1, vocabulary].
        """
        cache = cache or Cache(self.config, *tokens.shape)
        hidden = self.embed(tokens)
        for layer in range(self.config.layers):
            hidden = self.run_layer(layer, hidden, cache)
        cache.tokens += tokens.shape[1]
        return self.project(hidden[:, -1:] if last else hidden)

    def embed(self, tokens: Array) -> Array:
        """Return the embeddings, [batch, tokens, width]."""
        found: Array = self._kept["embedding"][tokens]
        return found

    def project(self, hidden: Array) -> Array:
        """Return the logits of hidden states [batch, tokens, width]."""
        normed = self._norm(hidden, "norm")
        head = self._kept["embedding" if self.config.tied else "head"]
        found: Array = normed @ head.T
        return found

    def run_layer(self, layer: int, hidden: Array, cache: Cache) -> Array:
        """Return hidden states [batch, tokens, width] after a layer, and store its keys and values.

        The number of tokens in the cache does not change.
        """
        name = f"layers.{layer}"
        mixed = self._attend(layer, self._norm(hidden, f"{name}.attention_norm"), cache)
        hidden = hidden + mixed
        inner = self._norm(hidden, f"{name}.mlp_norm")
        gate = self._multiply(inner, f"{name}.gate")
        gated = _activate(gate) * self._multiply(inner, f"{name}.up", new=False)
        return hidden + self._multiply(gated, f"{name}.down")

    def _multiply(self, values: Array, name: str, *, new: bool = True) -> Array:
        if self._watch is not None and new:
            self._watch(name, values.reshape(-1, values.shape[-1]))
        product: Array = values @ self._kept[name].T
        bias = f"{name}_bias"
        return product + self._kept[bias] if bias in self._kept else product

    def _norm(self, values: Array, name: str) -> Array:
        return _normalize(values, self._kept[name], self.config.norm_epsilon)

    def _attend(self, layer: int, inner: Array, cache: Cache) -> Array:
        """Return the result of attention, [batch, tokens, width]."""
        config, name = self.config, f"layers.{layer}"
        batch, count = inner.shape[:2]
        begin = cache.tokens
        queries = self._split(self._multiply(inner, f"{name}.q"), f"{name}.q_norm")
        keys = self._split(self._multiply(inner, f"{name}.k", new=False), f"{name}.k_norm")
        values = self._split(self._multiply(inner, f"{name}.v", new=False), "")
        turn = make_rotation(config, np.arange(begin, begin + count))
        cache.keys[layer, :, begin : begin + count] = _rotate(keys, turn)
        cache.values[layer, :, begin : begin + count] = values
        mixed = self._mix(layer, _rotate(queries, turn), cache, begin + count)
        return self._multiply(mixed.reshape(batch, count, -1), f"{name}.o")

    def _split(self, values: Array, norm: str) -> Array:
        heads = values.reshape(*values.shape[:2], -1, self.config.head_size)
        return self._norm(heads, norm) if norm in self._kept else heads

    def _mix(self, layer: int, queries: Array, cache: Cache, end: int) -> Array:
        """Return the attention of queries [batch, tokens, heads, head_size] over the first `end` cached tokens."""
        config = self.config
        keys, values = cache.keys[layer, :, :end], cache.values[layer, :, :end]
        batch, count = queries.shape[:2]
        grouped = queries.reshape(batch, count, config.kv_heads, -1, config.head_size).transpose(0, 2, 3, 1, 4)
        scores = _score(grouped, keys)
        quantized = None
        if self._quantizer is not None:
            quantized = self._quantizer(layer, keys[0], values[0], count)
            scores = np.where(quantized.used, _score(grouped, quantized.keys[None]), scores)
        visible = np.arange(end) <= np.arange(end - count, end)[:, None]
        weights = _softmax(np.where(visible, scores * np.float32(config.scale), np.float32(-np.inf)))
        if quantized is None:
            mixed = _weigh(weights, values)
        else:
            mixed = _weigh(weights * quantized.used, quantized.values[None]) + _weigh(weights * ~quantized.used, values)
        return mixed.transpose(0, 3, 1, 2, 4)


def _score(grouped: Array, keys: Array) -> Array:
    """Return products of queries [batch, kv_heads, group, tokens, size] and keys [batch, all, kv_heads, size]."""
    found: Array = grouped @ keys.transpose(0, 2, 3, 1)[:, :, None]
    return found


def _weigh(weights: Array, values: Array) -> Array:
    """Return sums of values, [batch, kv_heads, group, tokens, size]."""
    found: Array = weights @ values.transpose(0, 2, 1, 3)[:, :, None]
    return found


def make_rotation(config: DecoderConfig, positions: Array) -> tuple[Array, Array]:
    """Return cosines and sines of the rotation at positions, float32 [tokens, rope_size / 2] each."""
    frequency = config.rope_base ** -(np.arange(0, config.rope_size, 2, dtype=np.float64) / config.rope_size)
    angles = positions[:, None].astype(np.float64) * frequency
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def _rotate(heads: Array, turn: tuple[Array, Array]) -> Array:
    """Return heads [batch, tokens, heads, size] with their first elements rotated, the rest as they are."""
    cosine, sine = turn[0][:, None], turn[1][:, None]
    half = cosine.shape[-1]
    one, two = heads[..., :half], heads[..., half : 2 * half]
    return np.concatenate([one * cosine - two * sine, two * cosine + one * sine, heads[..., 2 * half :]], -1)


def _normalize(values: Array, weight: Array, epsilon: float) -> Array:
    scale = 1 / np.sqrt(np.mean(values * values, -1, keepdims=True) + np.float32(epsilon))
    found: Array = values * scale * weight
    return found


def _activate(values: Array) -> Array:
    """Return SiLU."""
    with np.errstate(over="ignore"):
        found: Array = values / (1 + np.exp(-values))
    return found


def _softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    found: Array = powers / powers.sum(-1, keepdims=True)
    return found
