"""Joining XNNPACK's operators to the file's."""

import pytest

from edgewright.runtimes.litert.profiling.join import (
    EventOwner,
    ExecutionSubset,
    align_events,
    assign_skipped_operators,
    partition_graph,
)
from edgewright.schema.model import GraphNode


def node(name: str, inputs: str, outputs: str) -> GraphNode:
    return GraphNode(name=name, op=name.split("#")[0], inputs=tuple(inputs), outputs=tuple(outputs))


def owners_of(heads: list[str], operators: list[str]) -> list[int | None]:
    owners, _ = align_events(heads, operators)
    return [owners[i].operator if i in owners else None for i in range(len(heads))]


def test_a_chain_is_cut_where_the_backend_changes() -> None:
    graph = [node("A#0", "x", "a"), node("B#1", "a", "b"), node("C#2", "b", "c")]
    assert partition_graph(graph, {1}) == [
        ExecutionSubset(True, (0,)),
        ExecutionSubset(False, (1,)),
        ExecutionSubset(True, (2,)),
    ]


def test_an_operator_beside_the_chain_joins_the_earliest_partition_that_it_can() -> None:
    graph = [node("A#0", "x", "a"), node("B#1", "a", "b"), node("C#2", "x", "c"), node("D#3", "bc", "d")]
    assert partition_graph(graph, {1}) == [
        ExecutionSubset(True, (0, 2)),
        ExecutionSubset(False, (1,)),
        ExecutionSubset(True, (3,)),
    ]


def test_a_cycle_ends() -> None:
    graph = [node("A#0", "b", "a"), node("B#1", "a", "b")]
    assert partition_graph(graph, set()) == []


@pytest.mark.parametrize(
    ("heads", "operators", "expected"),
    [
        (["Convolution", "Add"], ["CONV_2D", "ADD"], [0, 1]),
        (["Add", "Clamp", "Convolution"], ["ADD", "CONV_2D"], [0, 0, 1]),
        (["Static Reshape", "Static Reshape", "Fully Connected"], ["RESHAPE", "FULLY_CONNECTED"], [0, 1, 1]),
        (["Convert", "Fully Connected", "Convert", "Fully Connected"], ["FULLY_CONNECTED"] * 2, [0, 0, 1, 1]),
        (["Copy", "Copy", "Add"], ["CONCATENATION", "ADD"], [0, 0, 1]),
        (["Convolution"], ["PAD", "CONV_2D", "RELU"], [1]),
        (["Convolution", "Mystery", "Add"], ["CONV_2D", "ADD"], [0, None, 1]),
        (["Clamp"], ["RELU", "RELU"], [None]),
        (["Mystery"], ["ADD"], [None]),
        ([], ["DEQUANTIZE"], []),
        (["Add"], [], [None]),
    ],
)
def test_alignment(heads: list[str], operators: list[str], expected: list[int | None]) -> None:
    assert owners_of(heads, operators) == expected


def test_the_operator_proper_is_distinguished_from_what_is_put_around_it() -> None:
    owners, _ = align_events(["Static Reshape", "Fully Connected", "Clamp"], ["FULLY_CONNECTED"])
    assert owners == {0: EventOwner(0, main=False), 1: EventOwner(0, main=True), 2: EventOwner(0, main=False)}


def test_long_partitions_are_joined_to_the_end() -> None:
    heads = ["Convolution", "Add", "Clamp"] * 300
    assert owners_of(heads, ["CONV_2D", "ADD"] * 300) == [i // 3 * 2 + min(i % 3, 1) for i in range(900)]


def test_folded_padding_and_activation_go_to_their_neighbors() -> None:
    graph = [node("PAD#0", "x", "p"), node("CONV_2D#1", "p", "c"), node("RELU#2", "c", "r"), node("ADD#3", "r", "y")]
    sources = {1: [1], 3: [3]}
    assign_skipped_operators(graph, (0, 1, 2, 3), {0, 2}, sources)
    assert sources == {1: [1, 0, 2], 3: [3]}
