"""Memory that a language model needs: weights, keys and values, and the engine."""

from math import prod

from edgewright.llm.kv.streaming import GROUP
from edgewright.llm.model import DecoderConfig

# Bits per value, with a float16 scale (and minimum) per 32 values.
WEIGHT_BITS = {"fp32": 32.0, "fp16": 16.0, "w8": 8.5, "w4": 5.0}
KV_BITS = {"fp32": 32.0, "fp16": 16.0, "kv8": 9.0, "kv4": 5.0}
CHUNK = 512  # tokens of a prompt that engines process at once
# Assumed for a process that has imported an engine, if no benchmark lies beside the artifacts.
ENGINE_BYTES = 120_000_000


def _count_parameters(config: DecoderConfig) -> int:
    """Return the number of weights in matrices; vectors are left out, they are below 0.1 %."""
    attention = config.width * config.head_size * (2 * config.heads + 2 * config.kv_heads)
    layer = attention + 3 * config.width * config.hidden
    heads = 1 if config.tied else 2
    return config.layers * layer + heads * config.vocabulary * config.width


def estimate_weights(config: DecoderConfig, precision: str) -> int:
    """Return the bytes of the weights; of `w4`, the embedding and the head have 8 bits."""
    edges = (1 if config.tied else 2) * config.vocabulary * config.width
    edge_bits = WEIGHT_BITS["w8" if precision == "w4" else precision]
    inner = _count_parameters(config) - edges
    return int((inner * WEIGHT_BITS[precision] + edges * edge_bits) / 8)


def estimate_cache(config: DecoderConfig, kv: str, context: int, batch: int) -> int:
    """Return the bytes of the keys and values of `batch` sequences of `context` tokens.

    Quantized formats keep one unfinished group of tokens in float32 in each layer.
    """
    per_token = 2 * config.layers * config.kv_heads * config.head_size
    rest = min(context, GROUP) * 4 * per_token if kv in ("kv8", "kv4") else 0
    return int(batch * (context * per_token * KV_BITS[kv] / 8 + rest))


def estimate_activations(config: DecoderConfig, context: int, batch: int) -> int:
    """Return the bytes of what a prompt's largest chunk needs beside the cache: hidden states, attention, logits."""
    tokens = min(context, CHUNK)
    row = 4 * config.width + 3 * config.hidden + config.vocabulary + config.heads * min(context, 4 * CHUNK)
    return prod((4, batch, tokens, row))


def find_longest_context(config: DecoderConfig, kv: str, batch: int, bytes_left: float) -> int:
    """Return the longest context whose cache and activations fit into `bytes_left`, at most the model's."""
    low, high = 0, config.context
    while low < high:
        middle = (low + high + 1) // 2
        needed = estimate_cache(config, kv, middle, batch) + estimate_activations(config, middle, batch)
        low, high = (middle, high) if needed <= bytes_left else (low, middle - 1)
    return low
