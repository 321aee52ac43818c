"""The pictures of one run: distribution, samples over time, shares, phases."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from edgewright.web.draw.scales import Scale, fit, usable, usable_pair
from edgewright.web.draw.svg import circle, drawing, element, line, path, rect, text
from edgewright.web.numbers import plural, show

WIDTH, LEFT, RIGHT = 720.0, 56.0, 12.0
WIDE = 1240.0  # of a picture that has the whole page: its letters are as large as those beside it
BINS = 60
MOST_SHOWN = 0.99  # of the samples: a few stray ones would press all others into one bar
COLUMNS = 640
WIDE_RATIO = 8.0


class Part(NamedTuple):
    """One piece of a bar: its CSS class, what it is called, its size, and what the mouse is told."""

    css: str
    name: str
    size: float
    told: str


def finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if usable(value)]


def histogram(
    samples: Sequence[float],
    unit: str,
    marks: Sequence[tuple[str, float | None]],
    interval: tuple[float | None, float | None] = (None, None),
) -> Markup:
    """How often which time was met; the long tail is counted at the right edge, not drawn to scale."""
    known = np.asarray(finite(samples), dtype=np.float64)
    if len(known) < 2:
        return Markup("")
    low, high = float(known.min()), float(np.quantile(known, MOST_SHOWN))
    if high <= low:
        room = abs(low) * 0.01 + 1e-9
        low, high = low - room, high + room
    beyond = int((known > high).sum())
    is_log = is_wide(low, high)
    cuts = np.geomspace(low, high, BINS + 1) if is_log else np.linspace(low, high, BINS + 1)
    cuts[0], cuts[-1] = low, high
    counts, edges = np.histogram(known[known <= high], bins=cuts)
    height, top, floor = 190.0, 26.0, 160.0
    across = Scale(low, high, LEFT, WIDTH - RIGHT, is_log)
    up = Scale(0.0, float(counts.max()) or 1.0, floor, top)
    parts = [line(LEFT, floor, WIDTH - RIGHT, floor, "axis")]
    if bounds := usable_pair(*interval):
        begin, end = across(bounds[0]), across(bounds[1])
        parts.append(rect(begin, top - 8, max(end - begin, 1.5), floor - top + 8, "band", "interval of the median"))
    for count, (begin, end) in zip(counts, pairwise(edges), strict=True):
        if count:
            x, y = across(float(begin)), up(float(count))
            told = f"{plural(int(count), 'sample')} from {show(float(begin), unit)} to {show(float(end), unit)}"
            parts.append(rect(x + 0.5, y, across(float(end)) - x - 1, floor - y, "bar", told))
    parts += _marks(marks, across, top, floor, high)
    parts += _ticks_below(across, floor, unit)
    told = f"{plural(len(known), 'sample')} from {show(low, unit)} to {show(float(known.max()), unit)}"
    if is_log:
        parts.append(text(LEFT, height - 2, "logarithmic scale", "label quiet"))
    if beyond:
        words = f"{plural(beyond, 'sample')} beyond, up to {show(float(known.max()), unit)} →"
        parts.append(text(WIDTH - RIGHT, height - 2, words, "label quiet", "end"))
    return drawing(WIDTH, height, "Distribution of the samples", told, *parts)


def is_wide(low: float, high: float) -> bool:
    """Whether values reach so far that on a linear scale most would lie upon each other."""
    return low > 0 and high / low > WIDE_RATIO


def _marks(
    marks: Sequence[tuple[str, float | None]], across: Scale, top: float, floor: float, high: float
) -> list[Markup]:
    """Vertical lines with their names; a name that would lie upon the one before it is left out."""
    found, last = [], -100.0
    for name, value in marks:
        if value is None or not usable(value) or value > high:
            continue
        x = across(value)
        found.append(line(x, top - 8, x, floor, "mark"))
        if x - last > 30:
            found.append(text(min(x, WIDTH - RIGHT - 8), top - 12, name, "label strong", "middle"))
            last = x
    return found


def _ticks_below(across: Scale, floor: float, unit: str) -> list[Markup]:
    found = []
    for tick in across.ticks(7):
        x = across(tick)
        found += [line(x, floor, x, floor + 4, "axis"), text(x, floor + 16, show(tick, unit), "label", "middle")]
    return found


def _ticks_beside(up: Scale, unit: str, most: int = 5) -> list[Markup]:
    found = []
    for tick in up.ticks(most):
        y = up(tick)
        found += [line(LEFT, y, WIDTH - RIGHT, y, "grid"), text(LEFT - 6, y + 4, show(tick, unit), "label", "end")]
    return found


def over_time(
    samples: Sequence[float],
    unit: str,
    counts: Sequence[int] = (),
    name: str = "Samples over time",
    height: float = 190.0,
) -> Markup:
    """Samples in their order: the range of each column as a band, its median as a line; a rule between processes."""
    values = np.array([value if usable(value) else np.nan for value in samples], dtype=np.float64)
    known = values[np.isfinite(values)]
    if len(known) < 2:
        return Markup("")
    top, floor = 10.0, height - 26.0
    high = float(np.quantile(known, MOST_SHOWN))
    low = float(known.min())
    up = fit([low, high], floor, top, is_log=is_wide(low, high))
    across = Scale(0.0, float(len(values)), LEFT, WIDTH - RIGHT)
    parts = [*_ticks_beside(up, unit)]
    parts += [line(across(end), top, across(end), floor, "rule") for end in list(accumulate(counts))[:-1]]
    lows, highs, middles = [], [], []
    for piece, begin in _columns(values):
        x = across(begin + len(piece) / 2)
        good = piece[np.isfinite(piece)]
        if len(good):
            lows.append((x, up(float(good.min()))))
            highs.append((x, up(float(good.max()))))
            middles.append((x, up(float(np.median(good)))))
    if len(values) > COLUMNS:
        parts.append(path([*lows, *reversed(highs)], "envelope", closed=True))
    parts.append(path(middles, "trace"))
    words = f"{plural(len(values), 'sample')} of {len(counts)} processes" if counts else plural(len(values), "reading")
    parts.append(text(WIDTH - RIGHT, height - 8, words, "label quiet", "end"))
    if up.is_log:
        parts.append(text(LEFT, height - 8, "logarithmic scale", "label quiet"))
    told = f"{len(values)} values from {show(float(known.min()), unit)} to {show(float(known.max()), unit)}"
    if len(known) < len(values):
        told += f"; {len(values) - len(known)} are not numbers and are left out"
    return drawing(WIDTH, height, name, told, *parts)


def _columns(
    values: "np.ndarray[tuple[int], np.dtype[np.float64]]",
) -> list[tuple["np.ndarray[tuple[int], np.dtype[np.float64]]", int]]:
    size = max(len(values) / COLUMNS, 1.0)
    places = sorted({int(place * size) for place in range(min(COLUMNS, len(values)))})
    return [(values[begin:end], begin) for begin, end in pairwise([*places, len(values)])]


def shares(parts: Sequence[Part], name: str, height: float = 26.0) -> Markup:
    """One bar cut in pieces, each named where its name has room."""
    parts = [part for part in parts if usable(part.size)]
    total = sum(part.size for part in parts)
    if total <= 0:
        return Markup("")
    drawn, x = list[Markup](), 0.0
    for part in parts:
        width = WIDE * part.size / total
        drawn.append(rect(x, 0, max(width - 1, 0.5), height, f"part {part.css}", part.told, 2))
        words = f"{part.name} {part.size / total:.0%}"
        if width > 8 + 6.6 * len(words):
            drawn.append(text(x + 8, height / 2 + 4, words, f"label on {part.css}"))
        x += width
    told = ", ".join(f"{part.name} {part.size / total:.1%}" for part in parts)
    return drawing(WIDE, height, name, told, *drawn, kind="chart wide")


def levels(parts: Sequence[Part], unit: str, name: str) -> Markup:
    """One bar below the other from nought, each with its value."""
    known = [part for part in parts if usable(part.size)]
    if not known:
        return Markup("")
    room, bar = 150.0, 22.0
    across = fit([part.size for part in known], room, WIDTH - 90.0, zero=True)
    drawn = []
    for place, part in enumerate(known):
        y = place * (bar + 6)
        drawn += [
            text(room - 8, y + bar / 2 + 4, part.name, "label", "end"),
            rect(room, y, across(part.size) - room, bar, f"part {part.css}", part.told, 2),
            text(across(part.size) + 6, y + bar / 2 + 4, show(part.size, unit), "label strong"),
        ]
    told = ", ".join(f"{part.name} {show(part.size, unit)}" for part in known)
    return drawing(WIDTH, len(known) * (bar + 6), name, told, *drawn)


def whisker(
    value: float | None, low: float | None, high: float | None, across: Scale, told: str, css: str = "dot"
) -> Markup:
    """A value and its interval in one line of a table, on the scale that the whole table shares."""
    width, height = across.end + 6, 16.0
    if value is None or not usable(value):
        return Markup("")
    x, parts = across(value), []
    if bounds := usable_pair(low, high):
        begin, end = across(bounds[0]), across(bounds[1])
        parts.append(line(begin, height / 2, end, height / 2, f"reach {css}"))
    parts.append(rect(x - 2, 3, 4, height - 6, css, "", 2))
    return drawing(
        width, height, "Interval", told, line(0, height / 2, width, height / 2, "grid"), *parts, kind="whisker"
    )


def mini_bar(share: float, unit: str = "") -> Markup:
    """A share as a short bar in a table's cell, for the eye alone: the number stands beside it."""
    return _bar(round(90.0 * min(max(share, 0.0), 1.0), 1), unit.lower() or "plain")


@lru_cache(maxsize=4_096)  # tables of layers have thousands of cells, and few lengths
def _bar(width: float, css: str) -> Markup:
    bar = rect(0, 0, max(width, 1.0), 8, css, "", 2)
    return element("svg", {"class": "mini", "viewBox": "0 0 90 8", "aria-hidden": "true"}, bar)


Strip = tuple[str, Sequence[float], float | None, float | None, float | None]


def strips(rows: Sequence[Strip], unit: str, *, width: float = WIDE) -> Markup:
    """Runs below each other on one scale: a dot for each process, the interval of the median, the median itself."""
    values = [value for _, dots, middle, low, high in rows for value in (*dots, middle, low, high)]
    if not any(value is not None and usable(value) for value in values):
        return Markup("")
    known = [value for value in values if value is not None and usable(value) and value > 0]
    across = fit(known, LEFT - 20, width - RIGHT - 10, is_log=bool(known) and max(known) / min(known) > 4)
    tall, drawn = 30.0, []
    floor = len(rows) * tall + 4
    for tick in across.ticks(8 if width == WIDE else 5):
        x = across(tick)
        drawn += [line(x, 0, x, floor, "grid"), text(x, floor + 14, show(tick, unit), "label", "middle")]
    for place, (name, dots, middle, low, high) in enumerate(rows):
        y = place * tall + tall / 2
        drawn.append(text(4, y + 4, name, "label strong"))
        if bounds := usable_pair(low, high):
            begin, end = across(bounds[0]), across(bounds[1])
            told = f"{name}: {show(low, unit)} to {show(high, unit)}"
            drawn.append(rect(begin, y - 8, max(end - begin, 2), 16, "band", told, 3))
        drawn += [circle(across(dot), y, 2.4, "point", f"{name}: {show(dot, unit)}") for dot in finite(dots)]
        if middle is not None and usable(middle):
            drawn.append(rect(across(middle) - 1.5, y - 10, 3, 20, "dot", f"{name}: {show(middle, unit)}", 1))
    told = ", ".join(f"{name} {show(middle, unit)}" for name, _, middle, _, _ in rows)
    kind = "chart wide" if width == WIDE else "chart"
    return drawing(width, floor + 20, "Medians of the processes on one scale", told, *drawn, kind=kind)
