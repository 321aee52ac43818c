"""Updates of clients: compressed and back, limited, and rejected where they cannot be used; samples divided."""

from typing import Any

import numpy as np
import pytest

from edgewright.federated.job import Compression, RoundSettings
from edgewright.federated.updates import check_answer, clip_update, decode_update, divide_samples, encode_update

RANDOM = np.random.default_rng(0)
UPDATE = [RANDOM.normal(size=shape).astype(np.float32) for shape in ((4, 3), (5,), (1,))]
SHAPES = [one.shape for one in UPDATE]
PLAIN = RoundSettings()


def settings(compression: Compression) -> RoundSettings:
    return RoundSettings(compression=compression, top=0.25)


def test_without_compression_nothing_changes() -> None:
    for one, other in zip(
        decode_update(encode_update(UPDATE, settings("none")), SHAPES, settings("none")), UPDATE, strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_int8_is_within_half_a_step() -> None:
    made = decode_update(encode_update(UPDATE, settings("int8")), SHAPES, settings("int8"))
    for one, other in zip(made, UPDATE, strict=True):
        assert np.abs(one - other).max() <= np.abs(other).max() / 127 * 0.5001


def test_int8_of_zeros_is_zeros() -> None:
    zeros = [np.zeros((2, 2), np.float32)]
    assert not decode_update(encode_update(zeros, settings("int8")), [(2, 2)], settings("int8"))[0].any()


def test_topk_keeps_the_largest() -> None:
    made = decode_update(encode_update(UPDATE, settings("topk")), SHAPES, settings("topk"))
    assert [int((one != 0).sum()) for one in made] == [3, 1, 1]
    for one, other in zip(made, UPDATE, strict=True):
        kept = one != 0
        np.testing.assert_array_equal(one[kept], other[kept])
        assert np.abs(other[kept]).min() >= np.abs(other[~kept]).max(initial=0)


FALSE: dict[str, tuple[Compression, list[Any]]] = {
    "not a number": ("none", [np.full((4, 3), np.nan, np.float32), UPDATE[1], UPDATE[2]]),
    "infinite": ("none", [UPDATE[0], np.full(5, np.inf, np.float32), UPDATE[2]]),
    "another shape": ("none", [UPDATE[0].T.copy(), UPDATE[1], UPDATE[2]]),
    "another type": ("none", [UPDATE[0].astype(np.float64), UPDATE[1], UPDATE[2]]),
    "too few": ("none", UPDATE[:2]),
    "an int8 scale of two numbers": ("int8", [np.zeros((4, 3), np.int8), np.ones(2, np.float32)] * 3),
    "floats for int8": ("int8", [one for pair in ((x, np.ones(1, np.float32)) for x in UPDATE) for one in pair]),
    "an index out of range": ("topk", [np.array([99], np.int32), np.ones(1, np.float32)] * 3),
    "a negative index": ("topk", [np.array([-1], np.int32), np.ones(1, np.float32)] * 3),
    "fewer values than indices": ("topk", [np.array([0, 1], np.int32), np.ones(1, np.float32)] * 3),
}  # fmt: skip


@pytest.mark.parametrize("name", FALSE)
def test_a_false_update_is_rejected(name: str) -> None:
    compression, wire = FALSE[name]
    with pytest.raises(ValueError, match=r"it has|tensor|scale|indices"):
        decode_update(wire, SHAPES, settings(compression))


def test_a_norm_is_limited() -> None:
    def norm(update: Any) -> float:
        return float(np.sqrt(sum((one.astype(np.float64) ** 2).sum() for one in update)))

    assert norm(clip_update(UPDATE, 0.5)) == pytest.approx(0.5, rel=1e-6)
    assert clip_update(UPDATE, 1e6) is UPDATE
    assert clip_update(UPDATE, 0) is UPDATE


@pytest.mark.parametrize(("answered", "weight"), [(1, 10), (None, 10), ("2", 10), (2, 0), (2, -4), (2, 1 << 40)])
def test_an_answer_of_another_round_or_weight_is_rejected(answered: Any, weight: int) -> None:
    with pytest.raises(ValueError, match=r"round|samples"):
        check_answer(answered, 2, weight)


def test_an_answer_of_this_round_is_accepted() -> None:
    check_answer(2, 2, 10)


@pytest.mark.parametrize("alpha", [0.01, 0.3, 100.0])
def test_every_sample_belongs_to_one_client(alpha: float) -> None:
    labels = np.repeat(np.arange(4), 50)
    parts = divide_samples(labels, 30, alpha, np.random.default_rng(1))
    assert sorted(np.concatenate(parts).tolist()) == list(range(200))
    assert min(map(len, parts)) >= 1


def test_a_small_alpha_is_uneven() -> None:
    def main_share(alpha: float) -> float:
        labels = np.repeat(np.arange(4), 250)
        parts = divide_samples(labels, 20, alpha, np.random.default_rng(2))
        return float(np.mean([np.bincount(labels[part], minlength=4).max() / len(part) for part in parts]))

    assert main_share(0.05) > 0.8 > 0.5 > main_share(100.0)
