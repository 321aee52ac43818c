"""Filtered, grouped and aligned layers."""

import math

import pytest
from msgspec.structs import replace

from edgewright.schema.run import Layer, Run
from edgewright.web.pages.layers import (
    LayerView,
    align_layers,
    filter_layers,
    get_module,
    group_layers,
    parse_layer_view,
)
from tests.web.records import make_layers, make_run


def layer(
    name: str, nodes: tuple[str, ...], us: float, bounds: tuple[float, float] | None = None, op: str = "Conv"
) -> Layer:
    (one,) = make_layers(1)
    low, high = bounds or (us * 0.95, us * 1.05)
    return replace(one, name=name, op=op, source_nodes=nodes, median_us=us, p90_us=us * 1.1, low_us=low, high_us=high)


def with_layers(*layers: Layer) -> Run:
    return replace(make_run(layers=0), layers=layers)


def test_fused_and_separate_layers_meet_in_one_row() -> None:
    one = with_layers(layer("conv+relu", ("conv", "relu"), 10), layer("add", ("add",), 5))
    other = with_layers(layer("conv", ("conv",), 4), layer("relu", ("relu",), 3), layer("add", ("add",), 5))
    first, second = align_layers([one, other])
    assert first.nodes == ("conv", "relu")
    assert [cell and (cell.median_us, cell.count) for cell in first.cells] == [(10, 1), (7, 2)]
    assert [cell and cell.mark for cell in first.cells] == ["", "faster"]
    assert [cell and cell.mark for cell in second.cells] == ["", ""]


def test_a_chain_of_shared_nodes_joins_layers() -> None:
    one = with_layers(layer("ab", ("a", "b"), 1), layer("c", ("c",), 1))
    other = with_layers(layer("a", ("a",), 1), layer("bc", ("b", "c"), 1))
    (row,) = align_layers([one, other])
    assert row.nodes == ("a", "b", "c")


def test_conversions_do_not_join_the_layers_of_a_quantized_network() -> None:
    """One runtime fuses the pair before an operator, another the pair behind it."""
    before = with_layers(
        layer("in", ("image/quantize",), 1),
        layer("a", ("x/dequantize", "conv"), 1),
        layer("b", ("y/dequantize", "fc"), 1),
    )
    behind = with_layers(
        layer("a", ("x/dequantize", "conv", "y/quantize"), 1), layer("b", ("y/dequantize", "fc", "z/quantize"), 1)
    )
    rows = align_layers([before, behind])
    assert [row.name for row in rows] == ["quantize and dequantize", "conv", "fc"]
    assert [[cell is not None for cell in row.cells] for row in rows] == [[True, False], [True, True], [True, True]]


def test_layers_without_a_source_are_joined_by_their_operator() -> None:
    one = with_layers(layer("r1", (), 1, op="Reorder"), layer("r2", (), 2, op="Reorder"))
    other = with_layers(layer("x", (), 1, op="Cast"))
    first, second = align_layers([one, other])
    assert [cell and cell.median_us for cell in first.cells] == [3, None]
    assert [cell and cell.median_us for cell in second.cells] == [None, 1]


@pytest.mark.parametrize(
    ("low", "high", "mark"),
    [
        (10.5, 13.0, ""),
        (11.0, 12.6, ""),  # the ratio excludes 1, by less than 5 %
        (11.6, 13.0, "slower"),
        (7.4, 9.3, ""),
        (7.0, 8.5, "faster"),
        (7.0, 12.0, ""),
    ],
)
def test_a_difference_is_marked_only_where_it_is_shown(low: float, high: float, mark: str) -> None:
    reference = with_layers(layer("a", ("a",), 10.0, (9.0, 11.0)))
    (row,) = align_layers([reference, with_layers(layer("a", ("a",), (low + high) / 2, (low, high)))])
    assert row.cells[1] is not None
    assert row.cells[1].mark == mark


def test_a_sum_has_an_interval_only_where_all_its_layers_have_one() -> None:
    fused = with_layers(layer("ab", ("a", "b"), 30.0))
    apart = [layer("a", ("a",), 2.0, (1.0, 3.0)), layer("b", ("b",), 4.0, (3.5, 5.0))]
    (row,) = align_layers([fused, with_layers(*apart)])
    assert row.cells[1] is not None
    assert (row.cells[1].low_us, row.cells[1].high_us, row.cells[1].mark) == (4.5, 8.0, "faster")
    (row,) = align_layers([fused, with_layers(apart[0], replace(apart[1], low_us=None, high_us=None))])
    assert row.cells[1] is not None
    assert (row.cells[1].low_us, row.cells[1].high_us, row.cells[1].mark) == (None, None, "")


def test_groups_are_sums_and_the_slowest_is_first() -> None:
    layers = [
        layer("a", ("b1/x",), 1, op="Add"),
        layer("b", ("b1/y",), 5),
        layer("c", ("b2/z",), 4),
        layer("n", (), math.nan),
    ]
    assert [(one.name, one.count, one.share) for one in group_layers(layers, "op")] == [
        ("Conv", 3, 0.9),
        ("Add", 1, 0.1),
    ]
    assert [one.share for one in group_layers([layer("x", (), 0.0)], "op")] == [0.0]
    assert [one.name for one in group_layers(layers, "module")] == ["b1", "b2", "(no source node)"]


@pytest.mark.parametrize(
    ("node", "module"),
    [
        ("/features/0/conv/Conv", "features/0"),
        ("stem/conv/Conv", "stem/conv"),
        ("conv", "conv"),
        ("a.b.c", "a/b"),
        ("/", ""),
    ],
)
def test_module(node: str, module: str) -> None:
    assert get_module(layer("x", (node,), 1)) == module


def test_choosing() -> None:
    layers = make_layers(12)
    assert [one.position for one in filter_layers(layers, LayerView(text="GPU"))] == [0, 5, 10]
    assert [one.median_us for one in filter_layers(layers, LayerView(sort="time"))][:2] == [16.0, 15.0]
    assert filter_layers(layers, LayerView(text="nothing")) == []


def test_a_view_from_an_address_knows_only_its_own_words() -> None:
    assert parse_layer_view({"sort": "__class__", "group": "x", "layer": " conv "}) == LayerView(text="conv")
    assert parse_layer_view({"sort": "time", "group": "op"}) == LayerView(sort="time", group="op")
