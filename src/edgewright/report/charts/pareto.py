"""Chart of quality over latency of one family and one session, with the Pareto front as a staircase.

A point dominates another if it is shown to be better in latency or quality, and not shown to be worse in the other: its
interval lies beyond that of the other. Points that differ by less are both on the front.
"""

from collections.abc import Callable, Sequence

from markupsafe import Markup
from msgspec import Struct

from edgewright.locale.language import translate
from edgewright.report.charts.scales import Scale, fit_scale, is_drawable, make_drawable_interval
from edgewright.report.charts.svg import circle, element, line, make_drawing, path, text
from edgewright.report.numbers import format_exact, format_value, shorten
from edgewright.schema.metrics import get_metric_info

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BASELINE = 1240.0, 340.0, 64.0, 16.0, 22.0, 298.0
RADIUS = 5.0
NAME_LETTERS, LETTER_WIDTH, LINE_HEIGHT = 30, 6.2, 14.0
# Where a label is tried beside its point, nearest first: right, left, above, below, then farther with a line to it.
PLACES = (
    (9, 4),
    (-9, 4),
    (0, -11),
    (0, 20),
    (14, -18),
    (-14, -18),
    (14, 30),
    (-14, 30),
    (20, -36),
    (-20, -36),
    (20, 46),
)

Link = Callable[[str], str]


class Point(Struct, frozen=True, kw_only=True):
    """One artifact in one runtime. `quality` is the metric `metric`, in `quality_unit`."""

    name: str
    model_id: str
    runtime: str
    precision: str
    run_id: str
    bytes: int
    latency_us: float
    latency_low: float | None
    latency_high: float | None
    metric: str
    quality: float
    quality_low: float | None
    quality_high: float | None
    quality_unit: str
    best: bool = False


def mark_front(points: Sequence[Point]) -> list[Point]:
    """Return the points with `best` set for those that no other dominates."""
    return [_with_best(point, not any(_dominates(other, point) for other in points)) for point in points]


def _with_best(point: Point, best: bool) -> Point:
    fields = {name: getattr(point, name) for name in point.__struct_fields__}
    return Point(**{**fields, "best": best})


def _dominates(one: Point, other: Point) -> bool:
    faster, slower = _is_below(one, other, "latency"), _is_below(other, one, "latency")
    higher, lower = _is_below(other, one, "quality"), _is_below(one, other, "quality")
    if get_metric_info(one.metric).better == "lower":
        higher, lower = lower, higher
    return (faster and not lower) or (higher and not slower)


def _is_below(one: Point, other: Point, axis: str) -> bool:
    """Return whether the interval of `one` ends below that of `other`; a value without an interval is exact."""
    return _bounds(one, axis)[1] < _bounds(other, axis)[0]


def _bounds(point: Point, axis: str) -> tuple[float, float]:
    if axis == "latency":
        value, low, high = point.latency_us, point.latency_low, point.latency_high
    else:
        value, low, high = point.quality, point.quality_low, point.quality_high
    return (value, value) if low is None or high is None else (low, high)


def draw_pareto(points: Sequence[Point], quality: str, link: Link = lambda run_id: "") -> Markup:
    """Draw the chart without points that are not finite; `link` returns the address of a run, or an empty text."""
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
    parts = _draw_axes(x_scale, y_scale, unit, quality)
    front = [one for one in known if one.best]
    parts += _draw_staircase(front, x_scale, y_scale)
    for one in known:
        parts += _draw_point(one, x_scale, y_scale, link)
    parts += _draw_labels(known, x_scale, y_scale)
    description = f"{len(known)} points, {len(front)} of them on the Pareto front"
    return make_drawing(WIDTH, HEIGHT, f"{quality} over latency", description, *parts, kind="chart wide")


def _draw_axes(x_scale: Scale, y_scale: Scale, unit: str, quality: str) -> list[Markup]:
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
    return [
        *parts,
        text((LEFT + WIDTH) / 2, HEIGHT - 6, translate("median latency (left is faster)"), "label", "middle"),
        text(LEFT, TOP - 8, translate(quality), "label strong"),
    ]


def _draw_staircase(front: Sequence[Point], x_scale: Scale, y_scale: Scale) -> list[Markup]:
    """Draw the best quality up to each latency; a point of the front that does not raise it lies below the line."""
    if len(front) < 2:
        return []
    lower = get_metric_info(front[0].metric).better == "lower"
    steps: list[tuple[float, float]] = []
    for one in sorted(front, key=lambda point: point.latency_us):
        x, y = x_scale(one.latency_us), y_scale(one.quality)
        if not steps:
            steps.append((x, y))
        elif (y > steps[-1][1]) if lower else (y < steps[-1][1]):
            steps += [(x, steps[-1][1]), (x, y)]
    return [path([*steps, (WIDTH - RIGHT, steps[-1][1])], "front")]


def _draw_point(one: Point, x_scale: Scale, y_scale: Scale, link: Link) -> list[Markup]:
    x, y = x_scale(one.latency_us), y_scale(one.quality)
    parts = []
    if bounds := make_drawable_interval(one.latency_low, one.latency_high):
        parts.append(line(x_scale(bounds[0]), y, x_scale(bounds[1]), y, "cross"))
    if bounds := make_drawable_interval(one.quality_low, one.quality_high):
        parts.append(line(x, y_scale(bounds[0]), x, y_scale(bounds[1]), "cross"))
    dot = circle(x, y, RADIUS, "point best" if one.best else "point", _describe_point(one))
    address = link(one.run_id)
    return [*parts, element("a", {"href": address, "aria-label": _name_point(one)}, dot) if address else dot]


def _draw_labels(points: Sequence[Point], x_scale: Scale, y_scale: Scale) -> list[Markup]:
    """Write runtime and precision of every point beside it; far from it with a line that leads to it."""
    taken = [(x_scale(one.latency_us) - 6, y_scale(one.quality) - 6, 12.0, 12.0) for one in points]
    drawn: list[Markup] = []
    for one in sorted(points, key=lambda point: not point.best):
        x, y, words = x_scale(one.latency_us), y_scale(one.quality), _name_point(one)
        width = len(words) * LETTER_WIDTH
        boxes = [_make_box(x + right, y + down, width, right) for right, down in PLACES]
        place = next((index for index, box in enumerate(boxes) if not any(_overlap(box, other) for other in taken)), -1)
        right, down = PLACES[place]
        taken.append(boxes[place])
        if abs(down) > LINE_HEIGHT:
            drawn.append(line(x, y, x + right / 2, y + down - (0 if down < 0 else 10), "rule"))
        anchor = "start" if right > 0 else "end" if right < 0 else "middle"
        drawn.append(text(x + right, y + down, words, "label strong" if one.best else "label", anchor))
    return drawn


def _make_box(x: float, y: float, width: float, right: float) -> tuple[float, float, float, float]:
    left = x if right > 0 else x - width if right < 0 else x - width / 2
    return left, y - LINE_HEIGHT + 3, width, LINE_HEIGHT


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    """Return whether two boxes overlap; one beyond the edge of the chart overlaps everything."""
    if one[0] < LEFT - 60 or one[0] + one[2] > WIDTH or one[1] < 0 or one[1] + one[3] > BASELINE:
        return True
    apart = one[0] + one[2] < other[0] or other[0] + other[2] < one[0]
    return not (apart or one[1] + one[3] < other[1] or other[1] + other[3] < one[1])


def _name_point(one: Point) -> str:
    return shorten(f"{one.runtime} {one.precision}", NAME_LETTERS)


def _describe_point(one: Point) -> str:
    return (
        f"{shorten(one.name, 60)} in {one.runtime}: {format_value(one.quality, one.quality_unit)}, "
        f"{format_exact(one.latency_us, 'us')}, {format_value(one.bytes, 'bytes')}"
    )
