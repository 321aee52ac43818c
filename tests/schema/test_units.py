"""Numbers as people read them: any int and any float can be shown."""

import math
from collections.abc import Callable

import pytest

from edgewright.schema.units import (
    format_digits,
    show_bounds,
    show_bytes,
    show_count,
    show_number,
    show_range,
    show_ratio,
    show_us,
)

ODD = (0, 1, -1, 10**400, -(10**400), 2**63, 5e-324, 1.7e308, math.nan, math.inf, -math.inf)


@pytest.mark.parametrize("show", [format_digits, show_bytes, show_us, show_count], ids=lambda show: str(show.__name__))
@pytest.mark.parametrize("number", ODD, ids=lambda number: f"{type(number).__name__}{ODD.index(number)}")
def test_no_number_is_too_odd(show: Callable[[float], str], number: float) -> None:
    assert 0 < len(show(number)) < 700


def test_negative_numbers_have_their_unit() -> None:
    assert show_bytes(-2_500_000) == "-2.50 MB"
    assert show_count(-2_500) == "-2.50 k (-2,500)"


@pytest.mark.parametrize(
    ("show", "number", "expected"),
    [
        (format_digits, 9.994, "9.99"),
        (format_digits, 10, "10.0"),
        (format_digits, 99.94, "99.9"),
        (format_digits, 100, "100"),
        (show_us, 999, "999 µs"),
        (show_us, 1000, "1.00 ms"),
        (show_us, 999_000, "999 ms"),
        (show_us, 2_500_000, "2.50 s"),
        (show_us, -(10**400), "-inf s"),
        (show_us, None, "–"),
        (show_bytes, 999, "999 B"),
        (show_bytes, 1000, "1.00 kB"),
        (show_bytes, 1_000_000, "1.00 MB"),
        (show_bytes, 1_000_000_000, "1.00 GB"),
        (show_bytes, None, "–"),
        (show_count, 999, "999"),
        (show_count, 1000, "1.00 k (1,000)"),
        (show_count, 1_000_000, "1.00 M (1,000,000)"),
        (show_count, 1_000_000_000, "1.00 G (1,000,000,000)"),
        (show_count, 10**400, "inf"),
        (show_count, None, "–"),
    ],
)
def test_digits_and_units_at_their_limits(
    show: Callable[[float | None], str], number: float | None, expected: str
) -> None:
    assert show(number) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1.0, 999.0, "1.00–999 µs"),
        (900.0, 1000.0, "0.90–1.00 ms"),
        (3510.0, 3700.0, "3.51–3.70 ms"),
        (900_000.0, 1_000_000.0, "0.90–1.00 s"),
        (None, 1.0, "–"),
        (1.0, None, "–"),
    ],
)
def test_both_ends_of_a_range_have_the_unit_of_the_upper_one(
    low: float | None, high: float | None, expected: str
) -> None:
    assert show_range(low, high) == expected


def test_a_ratio_is_shown_with_its_bounds_if_both_are_known() -> None:
    assert show_ratio(1.5, 1.25, 1.75) == "1.50× (1.25–1.75)"
    assert show_ratio(math.nan, 1.25, 1.75) == "–"
    assert show_bounds(None, 1.75) == show_bounds(1.25, None) == ""


@pytest.mark.parametrize(
    ("value", "shown"), [(0.996, "0.9960"), (0.97812, "0.9781"), (1.0, "1.000"), (34.5678, "34.57"), (1234.0, "1234")]
)
def test_a_number_keeps_its_zeros(value: float, shown: str) -> None:
    assert show_number(value) == shown
