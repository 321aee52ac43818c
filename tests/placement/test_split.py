"""The best cut of a network: against all cuts of small random graphs, and by hand."""

import random
from itertools import combinations

import pytest

from edgewright.errors import UsageError
from edgewright.placement.split import (
    INPUT,
    NetworkLink,
    SplitProblem,
    SplitTensor,
    find_split,
    find_switches,
    list_prefixes,
    parse_link,
)

pytest.importorskip("highspy", reason="the solver needs the extra `place`")

SLOW = NetworkLink(8e3, 0.0)  # a byte takes a millisecond


def make_chain(link: NetworkLink = SLOW) -> SplitProblem:
    """Three nodes: the device is slow, and the second tensor is small."""
    tensors = (
        SplitTensor("x", INPUT, ("a",), 50.0),
        SplitTensor("t", "a", ("b",), 40.0),
        SplitTensor("u", "b", ("c",), 2.0),
    )
    device, server = {"a": 3.0, "b": 3.0, "c": 30.0}, {"a": 1.0, "b": 1.0, "c": 1.0}
    return SplitProblem(("a", "b", "c"), device, server, tensors, {"c": 1.0}, link)


def make_random(seed: int) -> SplitProblem:
    own = random.Random(seed)
    names = tuple("abcdefg")
    tensors = [SplitTensor("x", INPUT, tuple(own.sample(names[:3], 2)), own.uniform(1, 9))]
    for number, name in enumerate(names[:-1]):
        later = names[number + 1 :]
        targets = tuple(own.sample(later, min(len(later), own.choice((1, 1, 2)))))
        tensors.append(SplitTensor(f"t{name}", name, targets, own.uniform(0, 9)))
    device, server = ({one: own.uniform(0, high) for one in names} for high in (9, 4))
    return SplitProblem(names, device, server, tuple(tensors), {"g": own.uniform(0, 3)}, SLOW)


def list_splits(problem: SplitProblem) -> list[frozenset[str]]:
    """All sets of nodes on the device from which nothing returns, with a node on each side."""
    found = []
    for count in range(1, len(problem.nodes)):
        for chosen in combinations(problem.nodes, count):
            held = {*chosen, INPUT}
            if all(one.source in held or held.isdisjoint(one.targets) for one in problem.tensors):
                found.append(frozenset(chosen))
    return found


def test_the_small_tensor_of_a_chain_is_cut() -> None:
    problem = make_chain()
    assert find_split(problem) == {"a", "b"}
    assert problem.price(frozenset("ab")) == pytest.approx(3 + 3 + 2 + 1 + 1)  # nodes, tensor, node, output


def test_the_delay_is_paid_both_ways_and_only_if_the_server_has_a_part() -> None:
    problem = make_chain(NetworkLink(8e3, 5.0))
    assert problem.price(frozenset("ab")) == pytest.approx(20.0)
    assert problem.price(frozenset("abc")) == pytest.approx(36.0)
    assert problem.price(frozenset()) == pytest.approx(3 + 50 + 1 + 10)


def test_a_tensor_with_two_readers_is_sent_once() -> None:
    tensors = (SplitTensor("x", INPUT, ("a",), 1.0), SplitTensor("t", "a", ("b", "c"), 4.0))
    times = {"a": 1.0, "b": 9.0, "c": 9.0}
    problem = SplitProblem(("a", "b", "c"), times, dict.fromkeys(times, 0.0), tensors, {}, SLOW)
    assert problem.price(frozenset("a")) == pytest.approx(5.0)
    assert find_split(problem) == {"a"}


@pytest.mark.parametrize("seed", range(12))
def test_no_split_of_a_random_network_is_faster(seed: int) -> None:
    problem = make_random(seed)
    splits = list_splits(problem)
    found = find_split(problem)
    assert found in splits
    assert problem.price(found) == pytest.approx(min(map(problem.price, splits)))


def test_prefixes_are_the_cuts_in_the_order_of_execution() -> None:
    assert list(list_prefixes(make_chain())) == [{"a"}, {"a", "b"}]


def test_a_faster_link_moves_the_network_to_the_server() -> None:
    found = find_switches(make_chain(), (1e2, 8e3, 1e9))
    assert [name for _, name, _ in found] == ["device", "split", "server"]


def test_one_operator_cannot_be_split() -> None:
    problem = SplitProblem(("a",), {"a": 1.0}, {"a": 1.0}, (SplitTensor("x", INPUT, ("a",), 1.0),), {}, SLOW)
    with pytest.raises(UsageError, match="one operator"):
        find_split(problem)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20Mbit,15ms", (20e6, 15.0)),
        ("1.5Gbit", (1.5e9, 0.0)),
        (" 300kbit/s , 2s ", (300e3, 2000.0)),
        ("8Mbit/s,500us", (8e6, 0.5)),
        ("20Mbit,15", (20e6, 15.0)),
    ],
)
def test_links_are_read(text: str, expected: tuple[float, float]) -> None:
    assert parse_link(text) == expected


@pytest.mark.parametrize("text", ["", "20", "20MB", "0Mbit,1ms", "-1Mbit", "20Mbit,-1ms", "nanMbit", "1e9bit"])
def test_other_links_are_errors(text: str) -> None:
    with pytest.raises(UsageError, match="--link"):
        parse_link(text)
