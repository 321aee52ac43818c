"""Amounts as people write them; widths; and the search that cuts until a measured budget is met."""

from collections.abc import Callable

import numpy as np
import pytest

from edgewright.compress.pruning.groups import Group, Groups
from edgewright.errors import GateFailed, UsageError
from edgewright.flows.narrowing import (
    Keep,
    Table,
    cheapest,
    lowest_first,
    narrow,
    parse_amount,
    tabulate_losses,
    timed_widths,
    widths_of,
)


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


@pytest.mark.parametrize(
    ("size", "widths"),
    [(24, (16, 8)), (96, (88, 80, 72, 64, 56, 48, 40, 32, 24, 16)), (10, (8, 4)), (3, (2, 1)), (2, (1,)), (1, ())],
)
def test_widths_are_multiples_that_leave_an_eighth(size: int, widths: tuple[int, ...]) -> None:
    assert widths_of(size, 8) == widths


def groups_of(**sizes: int) -> Groups:
    made = tuple(Group(name, "channels", size, (), (), True) for name, size in sizes.items())
    return Groups(made, {}, {}, {})


def test_many_groups_are_timed_at_few_widths() -> None:
    (group,) = groups_of(wide=96).groups
    assert list(timed_widths(group, 8, 1)) == list(widths_of(96, 8))
    few = timed_widths(group, 8, 40)
    assert len(few) == 1
    assert few[0] == 16


def test_losses_add_up_the_least_important_first_and_grow_as_a_group_empties() -> None:
    groups = groups_of(a=4)
    scores = {"a": np.array([3.0, 1.0, 2.0, 4.0])}
    order = lowest_first(groups, scores)
    assert order["a"].tolist() == [1, 2, 0, 3]
    losses = tabulate_losses(groups.groups, scores, order, 1)["a"]
    assert losses[3] == pytest.approx(1.0 * 10 / 9)
    assert losses[2] == pytest.approx(3.0 * 10 / 7)


def test_the_next_step_loses_least_for_what_it_saves() -> None:
    table = Table({"a": {1: 1.0}, "b": {1: 1.0}}, {"a": {1: 0.1}, "b": {1: 0.3}})
    assert cheapest({"a": 2, "b": 2}, table) == ("b", 1)
    assert cheapest({"a": 2, "b": 1}, table) == ("a", 1)
    assert cheapest({"a": 1, "b": 1}, table) is None


def test_what_saves_nothing_is_never_cut() -> None:
    assert cheapest({"a": 2}, Table({"a": {1: 0.0}}, {"a": {1: 0.0}})) is None


def product(groups: Groups) -> Callable[[Keep], float]:
    """The time of a network whose layers lie between two groups: savings do not add up."""
    sizes = {group.name: group.size for group in groups.groups}
    return lambda keep: float(np.prod([len(keep.get(name, range(size))) / size for name, size in sizes.items()]))


def table_for(groups: Groups, measure: Callable[[Keep], float], scores: dict[str, np.ndarray]) -> Table:
    order = lowest_first(groups, scores)
    saved = {
        group.name: {width: 1 - measure({group.name: np.arange(width)}) for width in widths_of(group.size, 8)}
        for group in groups.groups
    }
    return Table(tabulate_losses(groups.groups, scores, order, 8), saved)


def test_the_search_goes_on_until_the_measure_is_met_and_no_further_than_it_must() -> None:
    groups = groups_of(a=64, b=64)
    scores = {"a": np.full(64, 1.0), "b": np.full(64, 5.0)}
    measure, told = product(groups), list[str]()
    keep = narrow(
        groups, lowest_first(groups, scores), table_for(groups, measure, scores), 1.0, 0.4, measure, told.append
    )
    assert measure(keep) <= 0.4
    for name, units in keep.items():
        assert measure({**keep, name: np.arange(len(units) + 8)}) > 0.4
    assert len(keep["a"]) < len(keep.get("b", range(64)))
    assert told


def test_a_budget_that_cannot_be_met_says_the_best() -> None:
    groups = groups_of(a=64)
    scores = {"a": np.full(64, 1.0)}
    measure = product(groups)
    with pytest.raises(GateFailed, match=r"100\.00 × as fast cannot be met") as caught:
        narrow(
            groups, lowest_first(groups, scores), table_for(groups, measure, scores), 1.0, 0.01, measure, lambda _: None
        )
    assert "the best found is 8.00 ×" in caught.value.why
