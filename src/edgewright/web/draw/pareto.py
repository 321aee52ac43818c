"""Quality over latency, size as the area of a dot; what nothing beats in all three is marked and joined."""

from collections.abc import Sequence
from math import sqrt

from markupsafe import Markup
from msgspec import Struct

from edgewright.web.draw.scales import fit, usable, usable_pair
from edgewright.web.draw.svg import circle, drawing, line, path, text
from edgewright.web.numbers import exact, shorten, show

WIDTH, HEIGHT, LEFT, RIGHT, TOP, FLOOR = 1240.0, 340.0, 64.0, 16.0, 14.0, 298.0
LEAST_RADIUS, MOST_RADIUS = 4.0, 16.0
NAME_LETTERS = 26


class Point(Struct, frozen=True, kw_only=True):
    """One model in one runtime on one device. `quality` is in `quality_unit`, more is better."""

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
    """The points with `best` set where no other is at least as good in quality, latency and size and better in one."""
    return [_with_best(point, not any(beats(other, point) for other in points)) for point in points]


def _with_best(point: Point, best: bool) -> Point:
    fields = {name: getattr(point, name) for name in point.__struct_fields__}
    return Point(**{**fields, "best": best})


def beats(one: Point, other: Point) -> bool:
    """Whether `one` is nowhere worse than `other`, and somewhere better."""
    worse = one.quality < other.quality or one.latency_us > other.latency_us or one.bytes > other.bytes
    better = one.quality > other.quality or one.latency_us < other.latency_us or one.bytes < other.bytes
    return better and not worse


def pareto(points: Sequence[Point], quality: str) -> Markup:
    """The picture; points that are not finite are left out."""
    known = [point for point in points if usable(point.latency_us) and point.latency_us > 0 and usable(point.quality)]
    if not known:
        return Markup("")
    unit = known[0].quality_unit
    reach = [value for one in known for value in (one.latency_us, one.latency_low, one.latency_high)]
    across = fit(reach, LEFT, WIDTH - RIGHT, is_log=True)
    up = fit([value for one in known for value in (one.quality, one.quality_low, one.quality_high)], FLOOR, TOP)
    parts: list[Markup] = []
    for tick in up.ticks(6):
        parts += [
            line(LEFT, up(tick), WIDTH - RIGHT, up(tick), "grid"),
            text(LEFT - 6, up(tick) + 4, show(tick, unit), "label", "end"),
        ]
    for tick in across.ticks(8):
        parts += [
            line(across(tick), TOP, across(tick), FLOOR, "grid"),
            text(across(tick), FLOOR + 16, show(tick, "us"), "label", "middle"),
        ]
    parts += [
        text((LEFT + WIDTH) / 2, HEIGHT - 6, "median latency, faster to the left", "label", "middle"),
        text(LEFT, TOP - 3, quality, "label strong"),
    ]
    front = sorted((one for one in known if one.best), key=lambda one: one.latency_us)
    if len(front) > 1:
        parts.append(path([(across(one.latency_us), up(one.quality)) for one in front], "front"))
    largest = max(one.bytes for one in known) or 1
    taken: list[tuple[float, float]] = []
    for one in sorted(known, key=lambda point: -point.bytes):
        x, y = across(one.latency_us), up(one.quality)
        if bounds := usable_pair(one.latency_low, one.latency_high):
            parts.append(line(across(bounds[0]), y, across(bounds[1]), y, "cross"))
        if bounds := usable_pair(one.quality_low, one.quality_high):
            parts.append(line(x, up(bounds[0]), x, up(bounds[1]), "cross"))
        radius = max(MOST_RADIUS * sqrt(one.bytes / largest), LEAST_RADIUS)
        parts.append(circle(x, y, radius, "point best" if one.best else "point", told_of(one)))
    for one in sorted(known, key=lambda point: not point.best):
        x, y = across(one.latency_us), up(one.quality) - 20
        if all(abs(x - other) > 84 or abs(y - height) > 13 for other, height in taken):
            taken.append((x, y))
            held = min(max(x, LEFT + 50), WIDTH - RIGHT - 50)
            parts.append(
                text(
                    held,
                    max(y, TOP + 8),
                    shorten(f"{one.runtime} {one.precision}", NAME_LETTERS),
                    "label strong" if one.best else "label",
                    "middle",
                )
            )
    told = f"{len(known)} points, {len(front)} of them on the front"
    return drawing(WIDTH, HEIGHT, f"{quality} over latency, size as the area", told, *parts, kind="chart wide")


def told_of(one: Point) -> str:
    return (
        f"{shorten(one.name, 60)} in {one.runtime} on {shorten(one.device, 30)}: {show(one.quality, one.quality_unit)}"
        f", {exact(one.latency_us, 'us')}, {show(one.bytes, 'bytes')}"
    )
