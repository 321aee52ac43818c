"""Timeline of one inference with a track per unit; a page with scripts shows it on a canvas."""

from collections.abc import Sequence
from math import isfinite

from markupsafe import Markup
from msgspec import Struct

from edgewright.report.charts.scales import Scale
from edgewright.report.charts.svg import line, make_drawing, rect, text
from edgewright.report.numbers import format_value, shorten
from edgewright.schema.run import Layer

WIDTH, LEFT, TRACK_HEIGHT, GAP = 1240.0, 56.0, 28.0, 8.0
UNITS = ("CPU", "GPU", "NPU", "UNKNOWN")


class Span(Struct, frozen=True, kw_only=True):
    """One layer on a track, in microseconds from the start of the inference."""

    lane: str
    name: str
    op: str
    start_us: float
    length_us: float
    position: int


def make_spans(layers: Sequence[Layer]) -> tuple[list[Span], bool]:
    """Return the spans, and whether their starts were measured; otherwise the layers follow each other."""
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


def draw_timeline(spans: Sequence[Span]) -> Markup:
    """Draw the used tracks in the order CPU, GPU, NPU, unknown."""
    end = max((span.start_us + span.length_us for span in spans), default=0.0)
    if end <= 0:
        return Markup("")
    tracks = [unit for unit in UNITS if any(span.lane == unit for span in spans)]
    x_scale = Scale(0.0, end, LEFT, WIDTH - 8)
    baseline = len(tracks) * (TRACK_HEIGHT + GAP)
    parts = []
    for index, unit in enumerate(tracks):
        parts += [
            text(LEFT - 8, index * (TRACK_HEIGHT + GAP) + TRACK_HEIGHT / 2 + 4, unit, "label", "end"),
            rect(LEFT, index * (TRACK_HEIGHT + GAP), WIDTH - 8 - LEFT, TRACK_HEIGHT, "lane"),
        ]
    for span in spans:
        y = tracks.index(span.lane) * (TRACK_HEIGHT + GAP)
        description = f"{shorten(span.name, 80)} ({shorten(span.op, 60)}): {format_value(span.length_us, 'us')}"
        width = x_scale(span.start_us + span.length_us) - x_scale(span.start_us)
        css = f"span {span.lane.lower()}{' odd' if span.position % 2 else ''}"
        parts.append(rect(x_scale(span.start_us), y, max(width - 0.3, 0.4), TRACK_HEIGHT, css, description))
    for tick in x_scale.ticks(8):
        parts += [
            line(x_scale(tick), baseline, x_scale(tick), baseline + 4, "axis"),
            text(x_scale(tick), baseline + 16, format_value(tick, "us"), "label", "middle"),
        ]
    description = f"{len(spans)} layers on {', '.join(tracks)}, {format_value(end, 'us')} in total"
    return make_drawing(WIDTH, baseline + 22, "Timeline of the layers", description, *parts, kind="chart wide")
