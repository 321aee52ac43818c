"""Charts: correct positions, and valid XML for any numbers."""

import math
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.report.charts import run
from edgewright.report.charts.pareto import Point, draw_pareto, mark_front
from edgewright.report.charts.run import BarSegment
from edgewright.report.charts.scales import Scale, fit_scale
from edgewright.report.charts.svg import element
from edgewright.report.charts.timeline import draw_timeline, make_spans
from tests.web.records import make_layers

NUMBERS = st.floats(allow_nan=True, allow_infinity=True) | st.floats(1e-3, 1e9)


def whole(picture: str) -> ElementTree.Element:
    """Return the chart as XML, after a check of its title and description."""
    root = ElementTree.fromstring(picture)
    assert root.find("title") is not None
    assert root.find("desc") is not None
    assert "nan" not in "".join(str(value) for node in root.iter() for value in node.attrib.values()).lower()
    return root


def test_scale_maps_its_ends_and_holds_what_is_beyond() -> None:
    linear, logarithmic = Scale(0, 10, 100, 200), Scale(1, 100, 0, 100, is_log=True)
    assert [linear(value) for value in (0, 5, 10, -3, 99)] == [100, 150, 200, 100, 200]
    assert [logarithmic(value) for value in (1, 10, 100, 0)] == pytest.approx([0, 50, 100, 0])


@given(st.lists(NUMBERS, max_size=8), st.booleans(), st.booleans())
def test_ticks_lie_within(values: list[float], is_log: bool, zero: bool) -> None:
    scale = fit_scale(values, 0, 300, is_log=is_log, zero=zero)
    if math.isfinite(scale.high - scale.low):
        slack = (scale.high - scale.low) * 1e-9
        ticks = scale.ticks()
        assert all(scale.low - slack <= tick <= scale.high + slack for tick in ticks)
        assert len(ticks) < 30


def test_attributes_and_words_are_escaped() -> None:
    assert element("text", {"class": '"><x>'}, "<b>") == '<text class="&#34;&gt;&lt;x&gt;">&lt;b&gt;</text>'


def test_the_histogram_counts_every_sample() -> None:
    samples = [float(value) for value in range(1000)]
    root = whole(run.draw_histogram(samples, "us", (("p50", 500.0),), (480.0, 520.0)))
    bars = [node for node in root.iter("rect") if node.attrib["class"] == "bar"]
    counts = [int((node.findtext("title") or "0").split()[0].replace(",", "")) for node in bars]
    assert sum(counts) == 990
    assert "10 samples beyond" in "".join(node.text or "" for node in root.iter("text"))


def test_samples_over_time_report_values_that_are_not_finite() -> None:
    root = whole(run.draw_over_time([1.0, math.nan, 3.0, math.inf, 5.0], "us", (2, 3)))
    assert "2 values that are not finite are omitted" in (root.findtext("desc") or "")


@settings(deadline=None, max_examples=60)
@given(st.lists(NUMBERS, max_size=40))
def test_pictures_are_whole_for_any_numbers(values: list[float]) -> None:
    parts = [
        BarSegment("cpu", f"part {place}", abs(value) if math.isfinite(value) else 1.0, "tooltip")
        for place, value in enumerate(values)
    ]
    scale = fit_scale(values, 4, 110, is_log=True)
    rows = [(name, values, *(values[:3] if len(values) > 2 else (1.0, None, None))) for name in "AB"]
    for picture in (
        run.draw_histogram(values, "us", (("p50", values[0] if values else None),)),
        run.draw_over_time(values, "us", (3, 4)),
        run.draw_shares(parts, "shares"),
        run.draw_levels(parts, "bytes", "levels"),
        run.draw_whisker(values[0] if values else None, None, 3.0, scale, "tooltip"),
        run.draw_strip_plot(rows, "us"),
    ):
        if picture:
            whole(picture)


def point(quality: float, latency: float, size: int) -> Point:
    return Point(
        name="m",
        model_id="x",
        runtime="r",
        precision="fp32",
        device="d",
        run_id="id",
        bytes=size,
        latency_us=latency,
        latency_low=latency * 0.9,
        latency_high=latency * 1.1,
        quality=quality,
        quality_low=None,
        quality_high=None,
        quality_unit="share",
    )


def test_the_pareto_front() -> None:
    points = [point(0.9, 10, 100), point(0.8, 5, 100), point(0.8, 6, 100), point(0.8, 6, 50), point(0.9, 10, 100)]
    assert [one.best for one in mark_front(points)] == [True, True, False, True, True]


def test_pareto_leaves_out_what_is_no_number() -> None:
    root = whole(
        draw_pareto(mark_front([point(0.9, 10, 100), point(math.nan, 5, 9), point(0.5, math.inf, 9)]), "accuracy")
    )
    assert len(list(root.iter("circle"))) == 1
    assert draw_pareto([], "accuracy") == ""


def test_timeline_without_start_times() -> None:
    layers = make_layers(7)
    assert make_spans(layers)[1]
    unmeasured = [
        type(one)(**{**{name: getattr(one, name) for name in one.__struct_fields__}, "start_us": None})
        for one in layers
    ]
    spans, measured = make_spans(unmeasured)
    assert not measured
    assert spans[2].start_us == spans[0].length_us + spans[1].length_us
    root = whole(draw_timeline(spans))
    assert len([node for node in root.iter("rect") if node.attrib["class"].startswith("span")]) == 7
    assert draw_timeline([]) == ""
