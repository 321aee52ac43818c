"""The streaming cache of keys and values."""

import numpy as np
import pytest
from msgspec.structs import replace

from edgewright.llm.kv.streaming import (
    GROUP,
    StreamingQuantizer,
    dequantize_groups,
    quantize_groups,
    quantize_keys,
    quantize_values,
)
from edgewright.llm.model import Padding
from tests.llm.models import make_model

HEADS, WIDTH = 4, 8


def make_tokens(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    keys = random.normal(size=(count, HEADS, WIDTH)).astype(np.float32)
    keys[:, 0, 0] *= 50  # a channel with large values, as keys have
    return keys, random.normal(size=(count, HEADS, WIDTH)).astype(np.float32)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("width", [7, 32])
def test_an_error_of_a_value_is_at_most_half_a_step(bits: int, width: int) -> None:
    values = np.random.default_rng(1).normal(size=(5, width)).astype(np.float32)
    block = quantize_groups(values, bits)
    step = (values.max(-1) - values.min(-1)) / (2**bits - 1)
    error = np.abs(dequantize_groups(block) - values).max(-1)
    assert (error <= 0.5 * step + 0.002 * np.abs(values).max(-1)).all()  # and the rounding of float16
    assert block.codes.nbytes == 5 * (-(-width * bits // 8))


def test_only_the_unfinished_group_is_in_full_precision() -> None:
    keys, values = make_tokens(2 * GROUP + 5)
    quantized = StreamingQuantizer(4, make_model().config)(0, keys, values, 1)
    assert quantized.used.tolist() == [[True] * 2 * GROUP + [False] * 5]
    assert not np.isclose(quantized.keys[: 2 * GROUP], keys[: 2 * GROUP]).all()
    assert np.abs(quantized.keys[: 2 * GROUP, 1] - keys[: 2 * GROUP, 1]).max() < 0.5  # no part of the large channel


def test_a_query_sees_what_was_complete_when_its_token_came() -> None:
    keys, values = make_tokens(GROUP + 3)
    at_once = StreamingQuantizer(4, make_model().config)(0, keys, values, len(keys))
    for token in range(len(keys)):
        then = StreamingQuantizer(4, make_model().config)(0, keys[: token + 1], values[: token + 1], 1)
        assert at_once.used[token, : token + 1].tolist() == then.used[0].tolist()
        seen = then.used[0]
        assert np.array_equal(at_once.keys[: token + 1][seen], then.keys[seen])
        assert np.array_equal(at_once.values[: token + 1][seen], then.values[seen])
    assert at_once.used[GROUP - 2].sum() == 0
    assert at_once.used[GROUP - 1].sum() == GROUP


def test_zeros_that_pad_heads_change_nothing() -> None:
    config = make_model().config
    padding = Padding(head_size=WIDTH, padded_head_size=32, hidden=80, padded_hidden=96)
    padded = replace(config, head_size=32, padding=padding)
    keys, values = make_tokens(GROUP)
    plain = StreamingQuantizer(4, config)(0, keys, values, 1)
    wide_keys, wide_values = (np.pad(one, ((0, 0), (0, 0), (0, 24))) for one in (keys, values))
    wider = StreamingQuantizer(4, padded)(0, wide_keys, wide_values, 1)
    for one, other in zip(plain[:2], wider[:2], strict=True):
        assert np.array_equal(one, other[..., :WIDTH])
        assert not other[..., WIDTH:].any()


def test_the_memory_of_four_bits_is_five_bits_per_value() -> None:
    keys, values = make_tokens(4 * GROUP)
    assert quantize_keys(keys, 4).bytes * 8 == 5 * keys.size
    assert quantize_values(values, 4).bytes * 8 == 5 * values.size


def test_values_that_are_no_numbers_stay_visible() -> None:
    keys, values = make_tokens(GROUP)
    keys[3, 2, 1] = np.nan
    values[5] = np.inf
    quantized = StreamingQuantizer(4, make_model().config)(0, keys, values, 1)
    assert np.isnan(quantized.keys[3, 2, 1])
    assert not np.isfinite(quantized.values[5]).any()
