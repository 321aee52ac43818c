"""Timeline of one inference with a track per unit; a page with scripts shows it on a canvas."""

from collections.abc import Sequence
from math import isfinite

from markupsafe import Markup
from msgspec import Struct

from edgewright.report.charts.scales import Scale
from edgewright.report.charts.svg import Box, line, make_drawing, rect, text
from edgewright.report.numbers import format_value, shorten
from edgewright.schema.run import Layer

WIDTH, LEFT, TRACK_HEIGHT, GAP = 1240.0, 56.0, 28.0, 8.0
MIN_GAP = 0.02  # of the inference
UNITS = ("CPU", "GPU", "NPU", "UNKNOWN")


class Span(Struct, frozen=True, kw_only=True):
    """One layer on a track, in microseconds from the start of the inference."""

    lane: str
    name: str
    op: str
    start_us: float
    length_us: float
    position: int


class Timeline(Struct, frozen=True, kw_only=True):
    """One inference.

    Attributes:
        is_real: whether it is one profiled inference; otherwise the medians of the layers follow each other.
        gaps: start and length of the times over 2 % of the inference in which no operator ran.
        outside_us: time in which no operator ran.
    """

    spans: tuple[Span, ...]
    is_real: bool
    gaps: tuple[tuple[float, float], ...]
    outside_us: float
    end_us: float


def make_timeline(layers: Sequence[Layer], inference: Sequence[tuple[float, float]] = ()) -> Timeline:
    """Return the timeline.

    Args:
        inference: start and length of each layer in one profiled inference; without it the medians are used.
    """
    is_real = len(inference) == len(layers) > 0 and all(isfinite(value) for pair in inference for value in pair)
    spans, clock = [], 0.0
    for index, layer in enumerate(layers):
        start, length = inference[index] if is_real else (clock, layer.median_us)
        if not isfinite(length):
            continue
        spans.append(
            Span(
                lane=layer.unit,
                name=layer.name,
                op=layer.op,
                start_us=start,
                length_us=length,
                position=layer.position,
            )
        )
        clock += length
    end = max((span.start_us + span.length_us for span in spans), default=0.0)
    gaps = _find_gaps(spans)
    return Timeline(
        spans=tuple(spans),
        is_real=is_real,
        gaps=tuple(gap for gap in gaps if gap[1] > MIN_GAP * end),
        outside_us=sum(length for _, length in gaps),
        end_us=end,
    )


def _find_gaps(spans: Sequence[Span]) -> list[tuple[float, float]]:
    """Return start and length of the times that no span covers."""
    gaps, clock = [], 0.0
    for span in sorted(spans, key=lambda one: one.start_us):
        if span.start_us > clock:
            gaps.append((clock, span.start_us - clock))
        clock = max(clock, span.start_us + span.length_us)
    return gaps


def draw_timeline(timeline: Timeline) -> Markup:
    """Draw the used tracks in the order CPU, GPU, NPU, unknown."""
    spans, end = timeline.spans, timeline.end_us
    if end <= 0:
        return Markup("")
    tracks = [unit for unit in UNITS if any(span.lane == unit for span in spans)]
    x_scale = Scale(0.0, end, LEFT, WIDTH - 8)
    baseline = len(tracks) * (TRACK_HEIGHT + GAP)
    parts = []
    for index, unit in enumerate(tracks):
        parts += [
            text(LEFT - 8, index * (TRACK_HEIGHT + GAP) + TRACK_HEIGHT / 2 + 4, unit, "label", "end"),
            rect(Box(LEFT, index * (TRACK_HEIGHT + GAP), WIDTH - 8 - LEFT, TRACK_HEIGHT), "lane"),
        ]
    for start, length in timeline.gaps:
        words = f"not in any operator: {format_value(length, 'us')} ({length / end:.0%})"
        parts.append(
            rect(Box(x_scale(start), 0, x_scale(start + length) - x_scale(start), baseline - GAP), "gap", words)
        )
    for span in spans:
        y = tracks.index(span.lane) * (TRACK_HEIGHT + GAP)
        description = f"{shorten(span.name, 80)} ({shorten(span.op, 60)}): {format_value(span.length_us, 'us')}"
        width = x_scale(span.start_us + span.length_us) - x_scale(span.start_us)
        css = f"span {span.lane.lower()}{' odd' if span.position % 2 else ''}"
        parts.append(rect(Box(x_scale(span.start_us), y, max(width - 0.3, 0.4), TRACK_HEIGHT), css, description))
    for tick in x_scale.ticks(8):
        parts += [
            line(x_scale(tick), baseline, x_scale(tick), baseline + 4, "axis"),
            text(x_scale(tick), baseline + 16, format_value(tick, "us"), "label", "middle"),
        ]
    description = f"{len(spans)} layers on {', '.join(tracks)}, {format_value(end, 'us')} in total"
    return make_drawing(WIDTH, baseline + 22, "Timeline of the layers", description, *parts, kind="chart wide")
