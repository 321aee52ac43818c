"""Amounts as people write them, and which networks are timed."""

import pytest

from edgewright.errors import UsageError
from edgewright.flows.prune.budgets import choose_timed_widths, parse_amount
from edgewright.pruning.groups import PruningGroup, PruningGroups
from edgewright.pruning.widths import list_widths


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
def test_an_invalid_amount_is_reported(text: str) -> None:
    with pytest.raises(UsageError, match="is not valid"):
        parse_amount(text, 1000.0, "--target-bytes")


def groups_of(**sizes: int) -> PruningGroups:
    made = tuple(PruningGroup(name, "channels", size, (), (), True) for name, size in sizes.items())
    return PruningGroups(made, {}, {}, {})


def test_many_groups_are_timed_at_few_widths() -> None:
    (group,) = groups_of(wide=96).groups
    assert list(choose_timed_widths(group, 8, 1)) == list(list_widths(group, 8))
    few = choose_timed_widths(group, 8, 40)
    assert len(few) == 1
    assert few[0] == 16
