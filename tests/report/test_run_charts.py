"""Charts of a run: every mark is where its number belongs."""

import math
from collections.abc import Sequence
from xml.etree.ElementTree import Element

import pytest

from edgewright.report.charts.run import (
    COLUMNS,
    LEFT,
    RIGHT,
    WIDE_WIDTH,
    WIDTH,
    BarSegment,
    draw_histogram,
    draw_levels,
    draw_mini_bar,
    draw_over_time,
    draw_shares,
    draw_strip_plot,
    draw_whisker,
)
from edgewright.report.charts.scales import Scale
from tests.report.test_charts import whole

END = WIDTH - RIGHT


def find(root: Element, kind: str, css: str) -> list[Element]:
    return [node for node in root.iter(kind) if node.attrib["class"] == css]


def get_numbers(node: Element, *names: str) -> list[float]:
    return [float(node.attrib[name]) for name in names]


def get_words(root: Element) -> list[str]:
    return [node.text or "" for node in root.iter("text")]


def test_bars_of_a_histogram_fill_their_bins() -> None:
    samples = [float(k) for k in range(60) for _ in range(1 + k % 3)]  # one to three samples in each bin
    root = whole(draw_histogram(samples, "us", ()))
    bars = [get_numbers(bar, "x", "width", "y", "height") for bar in find(root, "rect", "bar")]
    step = (END - LEFT) / 60
    assert len(bars) == 60
    for place, (x, width, y, height) in enumerate(bars):
        assert x == pytest.approx(LEFT + place * step + 0.5, abs=0.02)
        assert width == pytest.approx(step - 1, abs=0.02)
        assert y + height == pytest.approx(160.0, abs=0.02)
        assert height == pytest.approx((1 + place % 3) * (160.0 - 26.0) / 3, abs=0.02)
    axis, *ticks = (get_numbers(one, "x1", "x2", "y1", "y2") for one in find(root, "line", "axis"))
    assert axis == [LEFT, END, 160.0, 160.0]
    assert {(y1, y2) for _, _, y1, y2 in ticks} == {(160.0, 164.0)}


def test_a_histogram_shows_marks_and_interval_and_leaves_out_names_that_overlap() -> None:
    samples = [float(value) for value in range(101)]
    marks = [("p50", 50.0), ("near", 51.0), ("p90", 90.0), ("beyond", 100.0), ("unknown", None), ("wrong", math.nan)]
    root = whole(draw_histogram(samples, "us", marks, (40.0, 60.0)))
    at = Scale(0.0, 99.0, LEFT, END)
    assert [get_numbers(one, "x1")[0] for one in find(root, "line", "mark")] == pytest.approx(
        [at(50.0), at(51.0), at(90.0)], abs=0.01
    )
    assert [node.text for node in find(root, "text", "label strong")] == ["p50", "p90"]
    (band,) = find(root, "rect", "band")
    assert get_numbers(band, "x", "width") == pytest.approx([at(40.0), at(60.0) - at(40.0)], abs=0.01)
    first = whole(draw_histogram(samples, "us", [("first", 0.0)]))
    assert [node.text for node in find(first, "text", "label strong")] == ["first"]
    assert "1 sample beyond, up to 100 µs →" in get_words(root)
    assert "1 sample beyond, up to 100 µs →" not in get_words(whole(draw_histogram([1.0] * 9, "us", ())))


@pytest.mark.parametrize(("high", "is_log"), [(8.0, False), (8.1, True)])
def test_a_wide_range_is_logarithmic(high: float, *, is_log: bool) -> None:
    samples = [1.0 + (high - 1.0) * k / 9 for k in range(10)] + [high] * 90
    assert ("logarithmic scale" in get_words(whole(draw_histogram(samples, "us", ())))) == is_log
    assert ("logarithmic scale" in get_words(whole(draw_over_time(samples, "us")))) == is_log


def read_path(root: Element, css: str) -> list[tuple[float, float]]:
    (node,) = find(root, "path", css)
    steps = node.attrib["d"].removesuffix(" Z").replace("M", "").replace("L", "").split()
    numbers = [float(step) for step in steps]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def test_samples_over_time_are_a_line_with_rules_between_processes() -> None:
    root = whole(draw_over_time([10.0, 20.0, math.nan, 10.0], "us", (3, 1)))
    trace, step = read_path(root, "trace"), (END - LEFT) / 4
    assert [x for x, _ in trace] == pytest.approx([LEFT + step / 2, LEFT + 3 * step / 2, LEFT + 7 * step / 2])
    assert trace[0][1] == trace[2][1] > trace[1][1]
    assert [get_numbers(one, "x1", "x2") for one in find(root, "line", "rule")] == [[LEFT + 3 * step] * 2]
    assert {tuple(get_numbers(one, "x1", "x2")) for one in find(root, "line", "grid")} == {(LEFT, END)}
    assert not find(root, "path", "envelope")
    assert "4 samples of 2 processes" in get_words(root)
    assert "3 readings" in get_words(whole(draw_over_time([1.0, 2.0, 3.0], "us")))


def test_many_samples_are_columns_with_their_range() -> None:
    values = [100.0 + (k % 3 - 1) * 10 for k in range(3 * COLUMNS)]  # 90, 100 and 110 in each column
    root = whole(draw_over_time(values, "us"))
    trace, (envelope,) = read_path(root, "trace"), find(root, "path", "envelope")
    edge = read_path(root, "envelope")
    assert len(trace) == COLUMNS
    assert len(edge) == 2 * COLUMNS
    assert envelope.attrib["d"].endswith(" Z")
    lows, highs = [y for _, y in edge[:COLUMNS]], [y for _, y in edge[COLUMNS:]]
    middle = trace[0][1]
    assert set(lows) == {max(lows)} and set(highs) == {min(highs)}
    assert max(lows) - middle == pytest.approx(middle - min(highs), abs=0.02)
    assert max(lows) > middle


@pytest.mark.parametrize("samples", [[], [1.0], [1.0, math.nan]])
def test_nothing_is_drawn_of_less_than_two_numbers(samples: Sequence[float]) -> None:
    assert draw_histogram(samples, "us", ()) == draw_over_time(samples, "us") == ""


def make_segments(*sizes: float) -> list[BarSegment]:
    return [BarSegment(f"css{place}", f"part {place}", size, "tooltip") for place, size in enumerate(sizes)]


def test_segments_of_a_bar_are_as_wide_as_their_shares() -> None:
    root = whole(draw_shares(make_segments(75.0, math.nan, 24.0, 1.0), "shares"))
    bars = [get_numbers(node, "x", "width", "height") for node in root.iter("rect")]
    assert bars == [
        [0.0, WIDE_WIDTH * 0.75 - 1, 26.0],
        [WIDE_WIDTH * 0.75, pytest.approx(WIDE_WIDTH * 0.24 - 1), 26.0],
        [pytest.approx(WIDE_WIDTH * 0.99), pytest.approx(WIDE_WIDTH * 0.01 - 1), 26.0],
    ]
    assert get_words(root) == ["part 0 75%", "part 2 24%"]  # there is no room for the third
    assert [get_numbers(node, "x", "y") for node in root.iter("text")] == [[8.0, 17.0], [WIDE_WIDTH * 0.75 + 8, 17.0]]
    assert root.findtext("desc") == "part 0 75.0%, part 2 24.0%, part 3 1.0%"
    assert draw_shares(make_segments(0.0), "shares") == draw_shares([], "shares") == ""


def test_levels_begin_at_zero_and_have_their_value() -> None:
    root = whole(draw_levels(make_segments(100.0, math.inf, 50.0), "us", "levels"))
    (x, long, y), (other, short, below) = (get_numbers(node, "x", "width", "y") for node in root.iter("rect"))
    assert (x, other, y, below) == (150.0, 150.0, 0.0, 28.0)
    assert long == pytest.approx((WIDTH - 90 - 150) * 100 / 102.5, abs=0.01)
    assert short == pytest.approx(long / 2, abs=0.01)
    assert get_words(root) == ["part 0", "100 µs", "part 2", "50.0 µs"]
    positions = [get_numbers(node, "x", "y") for node in root.iter("text")]
    assert positions == [
        [142.0, 15.0],
        [pytest.approx(156 + long, abs=0.02), 15.0],
        [142.0, 43.0],
        [pytest.approx(156 + short, abs=0.02), 43.0],
    ]
    assert get_numbers(root, "height") == [56.0]
    assert draw_levels(make_segments(math.nan), "us", "levels") == ""


def test_a_whisker_has_its_value_and_its_interval() -> None:
    scale = Scale(0.0, 100.0, 4.0, 104.0)
    root = whole(draw_whisker(50.0, 40.0, 70.0, scale, "tooltip"))
    (reach,), (dot,) = find(root, "line", "reach dot"), find(root, "rect", "dot")
    assert get_numbers(reach, "x1", "y1", "x2", "y2") == [44.0, 8.0, 74.0, 8.0]
    assert get_numbers(dot, "x", "y", "width", "height") == [52.0, 3.0, 4.0, 10.0]
    assert get_numbers(root, "width", "height") == [110.0, 16.0]
    assert not find(whole(draw_whisker(50.0, None, 70.0, scale, "tooltip")), "line", "reach dot")
    assert draw_whisker(None, 1.0, 2.0, scale, "") == draw_whisker(math.nan, 1.0, 2.0, scale, "") == ""


@pytest.mark.parametrize(("share", "width"), [(-1.0, 1.0), (0.0, 1.0), (0.5, 45.0), (1.0, 90.0), (2.0, 90.0)])
def test_a_mini_bar_is_as_long_as_its_share(share: float, width: float) -> None:
    drawn = draw_mini_bar(share, "GPU")
    assert f'<rect x="0" y="0" width="{width:g}" height="8" class="gpu"' in drawn
    assert 'class="plain"' in draw_mini_bar(share)


def test_a_strip_plot_has_a_row_for_each_run() -> None:
    rows = [("a", [100.0, 300.0, math.nan], 200.0, 150.0, 250.0), ("b", [400.0], 400.0, None, None)]
    root = whole(draw_strip_plot(rows, "us"))
    at = Scale(85.0, 415.0, LEFT - 20, WIDE_WIDTH - RIGHT - 10)
    assert [get_numbers(dot, "cx", "cy") for dot in root.iter("circle")] == [
        [pytest.approx(at(100.0), abs=0.01), 15.0],
        [pytest.approx(at(300.0), abs=0.01), 15.0],
        [pytest.approx(at(400.0), abs=0.01), 45.0],
    ]
    (band,) = find(root, "rect", "band")
    assert get_numbers(band, "x", "width", "y", "height") == pytest.approx(
        [at(150.0), at(250.0) - at(150.0), 7.0, 16.0], abs=0.01
    )
    assert [get_numbers(dot, "x", "y", "width", "height") for dot in find(root, "rect", "dot")] == [
        [pytest.approx(at(200.0) - 1.5, abs=0.01), 5.0, 3.0, 20.0],
        [pytest.approx(at(400.0) - 1.5, abs=0.01), 35.0, 3.0, 20.0],
    ]
    assert [node.text for node in find(root, "text", "label strong")] == ["a", "b"]
    assert [node.text for node in find(root, "text", "label")] == [f"{value} µs" for value in range(100, 401, 50)]
    assert [get_numbers(one, "y1", "y2") for one in find(root, "line", "grid")] == [[0.0, 64.0]] * 7
    assert root.findtext("desc") == "a 200 µs, b 400 µs"
    assert (root.attrib["class"], get_numbers(root, "height")) == ("chart wide", [84.0])


def test_a_strip_plot_of_a_wide_range_is_logarithmic_and_of_nothing_empty() -> None:
    for high, is_middle in ((400.0, False), (401.0, True)):
        rows = [("a", [100.0, (100.0 * high) ** 0.5, high], None, None, None)]
        first, middle, last = (get_numbers(dot, "cx")[0] for dot in whole(draw_strip_plot(rows, "us")).iter("circle"))
        assert (middle == pytest.approx((first + last) / 2, abs=0.02)) == is_middle
    assert draw_strip_plot([("a", [], None, None, None)], "us") == ""
    assert whole(draw_strip_plot([("a", [1.0], None, None, None)], "us", width=WIDTH)).attrib["class"] == "chart"
