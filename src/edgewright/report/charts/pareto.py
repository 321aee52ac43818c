"""Chart of quality over latency with size as dot area and a marked Pareto front."""

from collections.abc import Sequence
from math import sqrt

from markupsafe import Markup
from msgspec import Struct

from edgewright.report.charts.scales import fit_scale, is_drawable, make_drawable_interval
from edgewright.report.charts.svg import circle, line, make_drawing, path, text
from edgewright.report.numbers import format_exact, format_value, shorten

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BASELINE = 1240.0, 340.0, 64.0, 16.0, 14.0, 298.0
MIN_RADIUS, MAX_RADIUS = 4.0, 16.0
NAME_LETTERS = 26


class Point(Struct, frozen=True, kw_only=True):
    """One model in one runtime on one device. `quality` is in `quality_unit`; higher is better."""

    name: str
    model_id: str
    runtime: str
    precision: str
    device: str
    run_id: str
    bytes: int
    latency_us: float
    latency_low: float | None
    latency_high: float | None
    quality: float
    quality_low: float | None
    quality_high: float | None
    quality_unit: str
    best: bool = False


def mark_front(points: Sequence[Point]) -> list[Point]:
    """Return the points with `best` set for those on the Pareto front of quality, latency and size."""
    return [_with_best(point, not any(_dominates(other, point) for other in points)) for point in points]


def _with_best(point: Point, best: bool) -> Point:
    fields = {name: getattr(point, name) for name in point.__struct_fields__}
    return Point(**{**fields, "best": best})


def _dominates(one: Point, other: Point) -> bool:
    """Return whether `one` is not worse than `other` in any figure, and better in at least one."""
    worse = one.quality < other.quality or one.latency_us > other.latency_us or one.bytes > other.bytes
    better = one.quality > other.quality or one.latency_us < other.latency_us or one.bytes < other.bytes
    return better and not worse


def draw_pareto(points: Sequence[Point], quality: str) -> Markup:
    """Draw the chart without points that are not finite."""
    known = [
        point
        for point in points
        if is_drawable(point.latency_us) and point.latency_us > 0 and is_drawable(point.quality)
    ]
    if not known:
        return Markup("")
    unit = known[0].quality_unit
    latencies = [value for one in known for value in (one.latency_us, one.latency_low, one.latency_high)]
    x_scale = fit_scale(latencies, LEFT, WIDTH - RIGHT, is_log=True)
    y_scale = fit_scale(
        [value for one in known for value in (one.quality, one.quality_low, one.quality_high)], BASELINE, TOP
    )
    parts: list[Markup] = []
    for tick in y_scale.ticks(6):
        parts += [
            line(LEFT, y_scale(tick), WIDTH - RIGHT, y_scale(tick), "grid"),
            text(LEFT - 6, y_scale(tick) + 4, format_value(tick, unit), "label", "end"),
        ]
    for tick in x_scale.ticks(8):
        parts += [
            line(x_scale(tick), TOP, x_scale(tick), BASELINE, "grid"),
            text(x_scale(tick), BASELINE + 16, format_value(tick, "us"), "label", "middle"),
        ]
    parts += [
        text((LEFT + WIDTH) / 2, HEIGHT - 6, "median latency (left is faster)", "label", "middle"),
        text(LEFT, TOP - 3, quality, "label strong"),
    ]
    front = sorted((one for one in known if one.best), key=lambda one: one.latency_us)
    if len(front) > 1:
        parts.append(path([(x_scale(one.latency_us), y_scale(one.quality)) for one in front], "front"))
    largest = max(one.bytes for one in known) or 1
    label_positions: list[tuple[float, float]] = []
    for one in sorted(known, key=lambda point: -point.bytes):
        x, y = x_scale(one.latency_us), y_scale(one.quality)
        if bounds := make_drawable_interval(one.latency_low, one.latency_high):
            parts.append(line(x_scale(bounds[0]), y, x_scale(bounds[1]), y, "cross"))
        if bounds := make_drawable_interval(one.quality_low, one.quality_high):
            parts.append(line(x, y_scale(bounds[0]), x, y_scale(bounds[1]), "cross"))
        radius = max(MAX_RADIUS * sqrt(one.bytes / largest), MIN_RADIUS)
        parts.append(circle(x, y, radius, "point best" if one.best else "point", _describe_point(one)))
    for one in sorted(known, key=lambda point: not point.best):
        x, y = x_scale(one.latency_us), y_scale(one.quality) - 20
        if all(abs(x - other) > 84 or abs(y - height) > 13 for other, height in label_positions):
            label_positions.append((x, y))
            text_x = min(max(x, LEFT + 50), WIDTH - RIGHT - 50)
            parts.append(
                text(
                    text_x,
                    max(y, TOP + 8),
                    shorten(f"{one.runtime} {one.precision}", NAME_LETTERS),
                    "label strong" if one.best else "label",
                    "middle",
                )
            )
    description = f"{len(known)} points, {len(front)} of them on the Pareto front"
    return make_drawing(
        WIDTH, HEIGHT, f"{quality} over latency, with size as dot area", description, *parts, kind="chart wide"
    )


def _describe_point(one: Point) -> str:
    return (
        f"{shorten(one.name, 60)} in {one.runtime} on {shorten(one.device, 30)}: "
        f"{format_value(one.quality, one.quality_unit)}"
        f", {format_exact(one.latency_us, 'us')}, {format_value(one.bytes, 'bytes')}"
    )
