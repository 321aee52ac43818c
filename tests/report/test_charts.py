"""Charts: correct positions, and valid XML for any numbers."""

import itertools
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
from edgewright.report.charts.timeline import draw_timeline, make_timeline
from edgewright.runtimes.inference import choose_inference
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


def point(quality: float, latency: float, runtime: str = "r", half: float = 0.0, metric: str = "top1") -> Point:
    return Point(
        name="m",
        model_id="x",
        runtime=runtime,
        precision="fp32",
        run_id=f"run-{runtime}",
        bytes=100,
        latency_us=latency,
        latency_low=latency * 0.95,
        latency_high=latency * 1.05,
        metric=metric,
        quality=quality,
        quality_low=quality - half,
        quality_high=quality + half,
        quality_unit="share",
    )


def test_the_pareto_front_claims_no_difference_that_is_not_shown() -> None:
    """Of 99.1 % and 98.9 % of 539 images none is better: the slower file is not on the front."""
    points = [point(0.989, 10, half=0.01), point(0.991, 20, half=0.01), point(0.5, 5, half=0.05), point(0.5, 5.1)]
    assert [one.best for one in mark_front(points)] == [True, False, True, True]
    assert [one.best for one in mark_front([point(3.0, 9, metric="mae"), point(2.0, 9, metric="mae")])] == [False, True]


def test_the_front_is_a_staircase_and_points_lead_to_their_runs() -> None:
    points = mark_front([point(0.9, 10, "litert"), point(0.5, 5, "ncnn"), point(0.95, 30, "mnn"), point(0.4, 40, "x")])
    root = whole(draw_pareto(points, "Top-1 accuracy", lambda run_id: f"/runs/{run_id}"))
    (front,) = [node for node in root.iter("path") if node.attrib["class"] == "front"]
    corners = [tuple(map(float, word.split())) for word in front.attrib["d"].replace("M", "").split("L")]
    assert all(a[0] == b[0] or a[1] == b[1] for a, b in itertools.pairwise(corners))
    heights = [y for _, y in corners]
    assert heights == sorted(heights, reverse=True)
    assert {node.attrib["href"] for node in root.iter("a")} == {f"/runs/run-{one.runtime}" for one in points}
    labels = {node.text for node in root.iter("text")}
    assert {"litert fp32", "ncnn fp32", "mnn fp32", "x fp32"} <= labels


def test_every_point_has_a_label() -> None:
    points = mark_front([point(0.9, 10 + place / 50, f"runtime{place}") for place in range(6)])
    labels = {node.text for node in whole(draw_pareto(points, "accuracy")).iter("text")}
    assert {f"runtime{place} fp32" for place in range(6)} <= labels


def test_pareto_leaves_out_what_is_no_number() -> None:
    root = whole(draw_pareto(mark_front([point(0.9, 10), point(math.nan, 5), point(0.5, math.inf)]), "accuracy"))
    assert len(list(root.iter("circle"))) == 1
    assert draw_pareto([], "accuracy") == ""


def test_the_timeline_is_one_inference_with_its_gaps_or_medians_in_a_row() -> None:
    """Medians of starts and of lengths are of no inference: they leave gaps that none has."""
    layers = make_layers(3)  # starts of 0, 10 and 20 µs, lengths of 10, 11 and 12 µs
    row = make_timeline(layers)
    assert (row.is_real, row.gaps) == (False, ())
    assert [span.start_us for span in row.spans] == [0.0, 10.0, 21.0]
    real = make_timeline(layers, [(1.0, 9.0), (30.0, 11.0), (41.0, 12.0)])
    assert real.is_real
    assert [(span.start_us, span.length_us) for span in real.spans] == [(1.0, 9.0), (30.0, 11.0), (41.0, 12.0)]
    assert (real.gaps, real.outside_us, real.end_us) == (((10.0, 20.0),), 21.0, 53.0)
    root = whole(draw_timeline(real))
    assert len([node for node in root.iter("rect") if node.attrib["class"].startswith("span")]) == 3
    (gap,) = [node for node in root.iter("rect") if node.attrib["class"] == "gap"]
    assert gap.findtext("title") == "not in any operator: 20.0 µs (38%)"
    assert draw_timeline(make_timeline([])) == ""


def test_the_inference_closest_to_the_median_is_chosen() -> None:
    starts, times = [(0.0, 0.0, 0.0), (5.0, 50.0, 6.0)], [(5.0, 50.0, 6.0), (2.0, 9.0, 3.0)]
    assert choose_inference(starts, times) == ((0.0, 6.0), (6.0, 3.0))
    assert choose_inference([(), ()], times) == ()
    assert choose_inference([], []) == ()
