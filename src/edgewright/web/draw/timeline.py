"""The layers of one inference on lanes, one for each unit; a page with script shows the same on a canvas."""

from collections.abc import Sequence
from math import isfinite

from markupsafe import Markup
from msgspec import Struct

from edgewright.facts.run import Layer
from edgewright.web.draw.scales import Scale
from edgewright.web.draw.svg import drawing, line, rect, text
from edgewright.web.numbers import shorten, show

WIDTH, LEFT, LANE, GAP = 1240.0, 56.0, 28.0, 8.0
UNITS = ("CPU", "GPU", "NPU", "UNKNOWN")


class Span(Struct, frozen=True, kw_only=True):
    """One layer on its lane, microseconds from the inference's begin."""

    lane: str
    name: str
    op: str
    start_us: float
    length_us: float
    position: int


def make_spans(layers: Sequence[Layer]) -> tuple[list[Span], bool]:
    """The spans, and whether their starts were measured: a runtime that tells none has its layers end to end."""
    known = [layer for layer in layers if isfinite(layer.median_us)]
    measured = bool(known) and all(layer.start_us is not None and isfinite(layer.start_us) for layer in known)
    spans, clock = [], 0.0
    for layer in known:
        start = layer.start_us if measured and layer.start_us is not None else clock
        spans.append(
            Span(
                lane=layer.unit,
                name=layer.name,
                op=layer.op,
                start_us=start,
                length_us=layer.median_us,
                position=layer.position,
            )
        )
        clock += layer.median_us
    return spans, measured


def timeline(spans: Sequence[Span]) -> Markup:
    """Lanes in the order CPU, GPU, NPU, unknown; only those that are used."""
    end = max((span.start_us + span.length_us for span in spans), default=0.0)
    if end <= 0:
        return Markup("")
    lanes = [unit for unit in UNITS if any(span.lane == unit for span in spans)]
    across = Scale(0.0, end, LEFT, WIDTH - 8)
    floor = len(lanes) * (LANE + GAP)
    parts = []
    for place, lane in enumerate(lanes):
        parts += [
            text(LEFT - 8, place * (LANE + GAP) + LANE / 2 + 4, lane, "label", "end"),
            rect(LEFT, place * (LANE + GAP), WIDTH - 8 - LEFT, LANE, "lane"),
        ]
    for span in spans:
        y = lanes.index(span.lane) * (LANE + GAP)
        told = f"{shorten(span.name, 80)} ({shorten(span.op, 60)}): {show(span.length_us, 'us')}"
        width = across(span.start_us + span.length_us) - across(span.start_us)
        css = f"span {span.lane.lower()}{' odd' if span.position % 2 else ''}"
        parts.append(rect(across(span.start_us), y, max(width - 0.3, 0.4), LANE, css, told))
    for tick in across.ticks(8):
        parts += [
            line(across(tick), floor, across(tick), floor + 4, "axis"),
            text(across(tick), floor + 16, show(tick, "us"), "label", "middle"),
        ]
    told = f"{len(spans)} layers on {', '.join(lanes)}, {show(end, 'us')} in all"
    return drawing(WIDTH, floor + 22, "Timeline of the layers", told, *parts, kind="chart wide")
