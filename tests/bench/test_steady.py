"""When a process counts as warm."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.bench.steady_state import MAX_WINDOW_RUNS, TOLERANCE, WINDOW_RUNS, count_window_runs, is_steady


@pytest.mark.parametrize(
    ("inference_us", "runs"),
    [(0.0, MAX_WINDOW_RUNS), (0.001, MAX_WINDOW_RUNS), (10.0, 2000), (100.0, 200), (4000.0, 5), (1e6, 5), (1e9, 5)],
)
def test_windows_fill_twenty_milliseconds(inference_us: float, runs: int) -> None:
    assert count_window_runs(inference_us) == runs


@given(st.floats(0, 1e12))
def test_windows_have_bounds(inference_us: float) -> None:
    assert WINDOW_RUNS <= count_window_runs(inference_us) <= MAX_WINDOW_RUNS


def test_one_window_is_not_enough() -> None:
    assert not is_steady([], 5)
    assert not is_steady([100.0] * 9, 5)
    assert is_steady([100.0] * 10, 5)


def test_getting_faster_is_warming_up() -> None:
    assert not is_steady([110.0] * 5 + [100.0] * 5, 5)
    assert is_steady([300.0] * 5 + [100.0] * 5 + [100.0] * 5, 5)


def test_getting_slower_is_not_warming_up() -> None:
    assert is_steady([100.0] * 5 + [150.0] * 5, 5)


def test_the_tolerance_is_the_border() -> None:
    assert is_steady([100.0] * 5 + [100 * (1 - TOLERANCE) + 0.001] * 5, 5)
    assert not is_steady([100.0] * 5 + [100 * (1 - TOLERANCE) - 0.001] * 5, 5)


def test_a_single_disturbed_sample_does_not_decide() -> None:
    assert is_steady([100.0] * 4 + [9e6] + [100.0] * 4 + [1.0], 5)
