"""Numbers as people read them: any int and any float can be shown."""

import math
from collections.abc import Callable

import pytest

from edgewright.schema.units import format_digits, show_bytes, show_count, show_us

ODD = (0, 1, -1, 10**400, -(10**400), 2**63, 5e-324, 1.7e308, math.nan, math.inf, -math.inf)


@pytest.mark.parametrize("show", [format_digits, show_bytes, show_us, show_count], ids=lambda show: str(show.__name__))
@pytest.mark.parametrize("number", ODD, ids=lambda number: f"{type(number).__name__}{ODD.index(number)}")
def test_no_number_is_too_odd(show: Callable[[float], str], number: float) -> None:
    assert 0 < len(show(number)) < 700


def test_negative_numbers_have_their_unit() -> None:
    assert show_bytes(-2_500_000) == "-2.50 MB"
    assert show_count(-2_500) == "-2.50 k (-2,500)"
