"""Whether two models compute the same: the figures, and what passes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.bench.numerics import EQUAL_DB, SYMMETRIC_THRESHOLD, compare_outputs, compute_sqnr_db, find_faults
from edgewright.schema.artifact import Numerics


def compare(reference: object, given: object) -> Numerics:
    return compare_outputs({"y": np.asarray(reference)}, {"y": np.asarray(given)}, seed=0)


def noisy(db: float) -> Numerics:
    signal = np.random.default_rng(0).standard_normal((4, 1000))
    noise = np.random.default_rng(1).standard_normal((4, 1000))
    noise *= np.linalg.norm(signal) / np.linalg.norm(noise) * 10 ** (-db / 20)
    return compare(signal, signal + noise)


@pytest.mark.parametrize("db", [5.0, 29.9, 59.0, 61.0, 100.0])
def test_sqnr_is_what_was_put_in(db: float) -> None:
    assert noisy(db).sqnr_db == pytest.approx(db, abs=0.01)


def test_cosine_by_hand() -> None:
    numerics = compare([[1.0, 0.0]], [[1.0, 1.0]])
    assert numerics.cosine == pytest.approx(1 / np.sqrt(2))
    assert numerics.max_abs == 1.0
    assert numerics.argmax_agreement == 1.0


def test_equal_bit_for_bit() -> None:
    numerics = compare([[1.0, np.nan, np.inf]], [[1.0, np.nan, np.inf]])
    assert (numerics.sqnr_db, numerics.cosine, numerics.max_abs, numerics.not_finite) == (EQUAL_DB, 1.0, 0.0, 0)
    assert not find_faults(numerics, "fp32")


def test_all_zeros_are_equal() -> None:
    assert not find_faults(compare(np.zeros((1, 3)), np.zeros((1, 3))), "fp32")
    assert find_faults(compare(np.zeros((1, 3)), np.full((1, 3), 1e-3)), "fp32")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_fail(bad: float) -> None:
    numerics = compare([[1.0, 2.0]], [[1.0, bad]])
    assert numerics.not_finite == 1
    assert "NaN or infinite" in find_faults(numerics, "fp16")[0]


def test_the_worst_output_counts() -> None:
    good, bad = np.ones((1, 4)), np.full((1, 4), 1.5)
    numerics = compare_outputs({"a": good, "b": good}, {"a": good, "b": bad}, seed=None)
    assert numerics.worst_output == "b"
    assert numerics.sqnr_db == pytest.approx(compute_sqnr_db(good, bad))
    assert [one.name for one in numerics.outputs] == ["a", "b"]


def test_agreement_counts_samples() -> None:
    numerics = compare([[1.0, 2.0], [2.0, 1.0]], [[1.0, 2.0], [1.0, 2.0]])
    assert numerics.argmax_agreement == 0.5


def test_what_has_no_classes_has_no_agreement() -> None:
    assert compare([[1], [2]], [[1], [2]]).argmax_agreement is None
    assert compare([[1.0], [2.0]], [[1.0], [2.0]]).argmax_agreement is None


def test_another_shape_or_a_missing_output_is_reported() -> None:
    with pytest.raises(ValueError, match=r"has shape \[2\], but \[3\] in the source"):
        compare(np.ones((1, 3)), np.ones((1, 2)))
    with pytest.raises(ValueError, match="'y' is missing"):
        compare_outputs({"y": np.ones((1, 3))}, {}, seed=0)


@pytest.mark.parametrize(
    ("db", "passing"), [(61.0, {"fp32", "fp16", "w8a8"}), (40.0, {"fp16", "w8a8"}), (22.0, {"w8a8"}), (10.0, set())]
)
def test_what_passes_at_which_precision(db: float, passing: set[str]) -> None:
    assert {p for p in ("fp32", "fp16", "w8a8") if not find_faults(noisy(db), p)} == passing


def test_squares_do_not_overflow() -> None:
    assert find_faults(compare([[1e200, 2e200]], [[-1e200, 5e200]]), "fp16")
    assert compare([[1e300, 1.0]], [[1e300, 1.0]]).sqnr_db == EQUAL_DB


def test_large_integers_are_distinguished() -> None:
    assert compare([[2**60]], [[2**60 + 1]]).sqnr_db < EQUAL_DB
    assert compare([[2**60]], [[2**60]]).sqnr_db == EQUAL_DB


@given(st.lists(st.floats(), min_size=1, max_size=20), st.lists(st.floats(), min_size=1, max_size=20))
def test_no_values_break_it(left: list[float], right: list[float]) -> None:
    size = min(len(left), len(right))
    with np.errstate(all="ignore"):
        numerics = compare([left[:size]], [right[:size]])
    assert 0 <= numerics.not_finite <= size
    assert -1.000001 <= numerics.cosine <= 1.0
    assert numerics.sqnr_db <= EQUAL_DB


def test_a_format_without_zero_points_has_a_threshold_of_six_decibels_less() -> None:
    assert not find_faults(noisy(15.0), "w8a8", SYMMETRIC_THRESHOLD)
    assert find_faults(noisy(15.0), "w8a8")
    assert "below 14 dB" in find_faults(noisy(13.0), "w8a8", SYMMETRIC_THRESHOLD)[-1]
