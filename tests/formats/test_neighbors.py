"""Producers, readers and order of nodes, for records and for onnx's messages."""

from typing import NamedTuple

import pytest
from onnx import helper

from edgewright.errors import ModelUnreadable
from edgewright.formats.neighbors import (
    find_producers,
    find_readers,
    find_upstream,
    list_distinct_inputs,
    order_nodes,
    select_needed,
)


class Record(NamedTuple):
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


A = Record("a", ("x",), ("p", ""))
B = Record("b", ("p", "p", ""), ("q",))
C = Record("c", ("x",), ("r",))


def test_producers_and_readers_leave_out_absent_values() -> None:
    assert find_producers([A, B]) == {"p": A, "q": B}
    assert find_readers([A, B, C]) == {"x": [A, C], "p": [B, B]}
    assert find_readers([A, B], list_distinct_inputs)["p"] == [B]


def test_messages_of_onnx_have_neighbors_too() -> None:
    node = helper.make_node("Add", ["x", ""], ["y"])
    assert find_producers([node]) == {"y": node}
    assert find_readers([node]) == {"x": [node]}


def test_needed_and_upstream_nodes() -> None:
    assert select_needed([A, B, C], ["q"]) == [A, B]
    assert find_upstream(["q"], find_producers([A, B, C])) == [A, B]
    assert find_upstream(["q"], find_producers([A, B, C]), stops={"p"}) == [B]


def test_the_order_stays_close_to_the_given_one() -> None:
    assert order_nodes([B, C, A], {"x"}, ["q"], model="m") == [C, A, B]


@pytest.mark.parametrize(
    ("nodes", "outputs", "why"),
    [
        ([A, A], ["p"], "m has a value with two producers"),
        ([B], ["q"], "1 operators can never run, first 'b'"),
        ([A], ["z"], "no operator produces the output 'z'"),
    ],
)
def test_graphs_without_an_order(nodes: list[Record], outputs: list[str], why: str) -> None:
    with pytest.raises(ModelUnreadable, match=why):
        order_nodes(nodes, {"x"}, outputs, model="m")
