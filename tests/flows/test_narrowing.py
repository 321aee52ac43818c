"""Amounts as people write them, and which networks are timed."""

import pytest

from edgewright.compress.pruning.groups import Group, Groups
from edgewright.compress.pruning.widths import widths_of
from edgewright.errors import UsageError
from edgewright.flows.narrowing import parse_amount, timed_widths


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("800kB", 800e3),
        ("800 kb", 800e3),
        ("1.5MB", 1.5e6),
        ("15M", 15e6),
        ("4000", 4000.0),
        ("2x", 500.0),
        ("4×", 250.0),
    ],
)
def test_amounts(text: str, amount: float) -> None:
    assert parse_amount(text, 1000.0, "--target-bytes") == amount


@pytest.mark.parametrize("text", ["", "x", "-3", "0x", "3 apples", "nan?"])
def test_what_is_no_amount_is_told(text: str) -> None:
    with pytest.raises(UsageError, match="is no amount"):
        parse_amount(text, 1000.0, "--target-bytes")


def groups_of(**sizes: int) -> Groups:
    made = tuple(Group(name, "channels", size, (), (), True) for name, size in sizes.items())
    return Groups(made, {}, {}, {})


def test_many_groups_are_timed_at_few_widths() -> None:
    (group,) = groups_of(wide=96).groups
    assert list(timed_widths(group, 8, 1)) == list(widths_of(group, 8))
    few = timed_widths(group, 8, 40)
    assert len(few) == 1
    assert few[0] == 16
