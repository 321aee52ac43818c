"""Charts of one run: distribution, samples over time, shares, phases."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from edgewright.locale.language import translate
from edgewright.report.charts.scales import Scale, fit_scale, is_drawable, make_drawable_interval
from edgewright.report.charts.svg import Box, circle, element, line, make_drawing, path, rect, text
from edgewright.report.numbers import format_value, pluralize, shorten

WIDTH, LEFT, RIGHT = 720.0, 56.0, 12.0
WIDE_WIDTH = 1240.0  # of a chart with the width of the page, so that all text has the same size
BINS = 60
MAX_SHOWN = 0.99  # of the samples: outliers would compress all others into one bar
COLUMNS = 640
WIDE_RATIO = 8.0
MAX_STRIP_LETTERS, STRIP_LETTER_PX = 44, 7.0


class BarSegment(NamedTuple):
    """Segment of a bar: CSS class, name, size and tooltip."""

    css: str
    name: str
    size: float
    description: str


def _keep_drawable(values: Sequence[float]) -> list[float]:
    return [value for value in values if is_drawable(value)]


def draw_histogram(
    samples: Sequence[float],
    unit: str,
    marks: Sequence[tuple[str, float | None]],
    interval: tuple[float | None, float | None] = (None, None),
) -> Markup:
    """Draw a histogram of times; the count of the long tail is shown at the right edge."""
    known = np.asarray(_keep_drawable(samples), dtype=np.float64)
    if len(known) < 2:
        return Markup("")
    low, high = float(known.min()), float(np.quantile(known, MAX_SHOWN))
    if high <= low:
        margin = abs(low) * 0.01 + 1e-9
        low, high = low - margin, high + margin
    beyond = int((known > high).sum())
    is_log = _needs_log_scale(low, high)
    bin_edges = np.geomspace(low, high, BINS + 1) if is_log else np.linspace(low, high, BINS + 1)
    bin_edges[0], bin_edges[-1] = low, high
    counts, edges = np.histogram(known[known <= high], bins=bin_edges)
    height, top, baseline = 190.0, 26.0, 160.0
    x_scale = Scale(low, high, LEFT, WIDTH - RIGHT, is_log)
    y_scale = Scale(0.0, float(counts.max()) or 1.0, baseline, top)
    parts = [line(LEFT, baseline, WIDTH - RIGHT, baseline, "axis")]
    if bounds := make_drawable_interval(*interval):
        begin, end = x_scale(bounds[0]), x_scale(bounds[1])
        parts.append(
            rect(
                Box(begin, top - 8, max(end - begin, 1.5), baseline - top + 8),
                "band",
                "confidence interval of the median",
            )
        )
    for count, (begin, end) in zip(counts, pairwise(edges), strict=True):
        if count:
            x, y = x_scale(float(begin)), y_scale(float(count))
            span = f"{format_value(float(begin), unit)} to {format_value(float(end), unit)}"
            description = f"{pluralize(int(count), 'sample')} from {span}"
            parts.append(rect(Box(x + 0.5, y, x_scale(float(end)) - x - 1, baseline - y), "bar", description))
    parts += _draw_marks(marks, x_scale, top, baseline, high)
    parts += _draw_x_ticks(x_scale, baseline, unit)
    description = (
        f"{pluralize(len(known), 'sample')} from {format_value(low, unit)} to {format_value(float(known.max()), unit)}"
    )
    if is_log:
        parts.append(text(LEFT, height - 2, "logarithmic scale", "label quiet"))
    if beyond:
        words = f"{pluralize(beyond, 'sample')} beyond, up to {format_value(float(known.max()), unit)} →"
        parts.append(text(WIDTH - RIGHT, height - 2, words, "label quiet", "end"))
    return make_drawing(WIDTH, height, "Distribution of the samples", description, *parts)


def _needs_log_scale(low: float, high: float) -> bool:
    """Return whether the range is so large that most values would overlap on a linear scale."""
    return low > 0 and high / low > WIDE_RATIO


def _draw_marks(
    marks: Sequence[tuple[str, float | None]], x_scale: Scale, top: float, baseline: float, high: float
) -> list[Markup]:
    """Return vertical lines with their names, without names that would overlap with the previous one."""
    found, last = [], -100.0
    for name, value in marks:
        if value is None or not is_drawable(value) or value > high:
            continue
        x = x_scale(value)
        found.append(line(x, top - 8, x, baseline, "mark"))
        if x - last > 30:
            found.append(text(min(x, WIDTH - RIGHT - 8), top - 12, name, "label strong", "middle"))
            last = x
    return found


def _draw_x_ticks(x_scale: Scale, baseline: float, unit: str) -> list[Markup]:
    found = []
    for tick in x_scale.ticks(7):
        x = x_scale(tick)
        found += [
            line(x, baseline, x, baseline + 4, "axis"),
            text(x, baseline + 16, format_value(tick, unit), "label", "middle"),
        ]
    return found


def _draw_y_ticks(y_scale: Scale, unit: str, most: int = 5) -> list[Markup]:
    found = []
    for tick in y_scale.ticks(most):
        y = y_scale(tick)
        found += [
            line(LEFT, y, WIDTH - RIGHT, y, "grid"),
            text(LEFT - 6, y + 4, format_value(tick, unit), "label", "end"),
        ]
    return found


def draw_over_time(
    samples: Sequence[float],
    unit: str,
    counts: Sequence[int] = (),
    name: str = "Samples over time",
    height: float = 190.0,
) -> Markup:
    """Draw samples in order: the range per column as a band, the median as a line, a rule between processes."""
    values = np.array([value if is_drawable(value) else np.nan for value in samples], dtype=np.float64)
    known = values[np.isfinite(values)]
    if len(known) < 2:
        return Markup("")
    top, baseline = 10.0, height - 26.0
    high = float(np.quantile(known, MAX_SHOWN))
    low = float(known.min())
    y_scale = fit_scale([low, high], baseline, top, is_log=_needs_log_scale(low, high))
    x_scale = Scale(0.0, float(len(values)), LEFT, WIDTH - RIGHT)
    parts = [*_draw_y_ticks(y_scale, unit)]
    parts += [line(x_scale(end), top, x_scale(end), baseline, "rule") for end in list(accumulate(counts))[:-1]]
    lows, highs, middles = [], [], []
    for piece, begin in _split_columns(values):
        x = x_scale(begin + len(piece) / 2)
        good = piece[np.isfinite(piece)]
        if len(good):
            lows.append((x, y_scale(float(good.min()))))
            highs.append((x, y_scale(float(good.max()))))
            middles.append((x, y_scale(float(np.median(good)))))
    if len(values) > COLUMNS:
        parts.append(path([*lows, *reversed(highs)], "envelope", closed=True))
    parts.append(path(middles, "trace"))
    words = (
        f"{pluralize(len(values), 'sample')} of {len(counts)} processes"
        if counts
        else pluralize(len(values), "reading")
    )
    parts.append(text(WIDTH - RIGHT, height - 8, words, "label quiet", "end"))
    if y_scale.is_log:
        parts.append(text(LEFT, height - 8, "logarithmic scale", "label quiet"))
    span = f"{format_value(float(known.min()), unit)} to {format_value(float(known.max()), unit)}"
    description = f"{len(values)} values from {span}"
    if len(known) < len(values):
        description += f"; {len(values) - len(known)} values that are not finite are omitted"
    return make_drawing(WIDTH, height, name, description, *parts)


def _split_columns(
    values: "np.ndarray[tuple[int], np.dtype[np.float64]]",
) -> list[tuple["np.ndarray[tuple[int], np.dtype[np.float64]]", int]]:
    size = max(len(values) / COLUMNS, 1.0)
    starts = sorted({int(index * size) for index in range(min(COLUMNS, len(values)))})
    return [(values[begin:end], begin) for begin, end in pairwise([*starts, len(values)])]


def draw_shares(parts: Sequence[BarSegment], name: str, height: float = 26.0) -> Markup:
    """Draw one bar of segments with their names, where the name fits."""
    parts = [part for part in parts if is_drawable(part.size)]
    total = sum(part.size for part in parts)
    if total <= 0:
        return Markup("")
    drawn, x = list[Markup](), 0.0
    for part in parts:
        width = WIDE_WIDTH * part.size / total
        drawn.append(rect(Box(x, 0, max(width - 1, 0.5), height), f"part {part.css}", part.description, 2))
        words = f"{part.name} {part.size / total:.0%}"
        if width > 8 + 6.6 * len(words):
            drawn.append(text(x + 8, height / 2 + 4, words, f"label on {part.css}"))
        x += width
    description = ", ".join(f"{part.name} {part.size / total:.1%}" for part in parts)
    return make_drawing(WIDE_WIDTH, height, name, description, *drawn, kind="chart wide")


def draw_levels(parts: Sequence[BarSegment], unit: str, name: str) -> Markup:
    """Draw horizontal bars from zero, each with its value."""
    known = [part for part in parts if is_drawable(part.size)]
    if not known:
        return Markup("")
    margin, bar = 150.0, 22.0
    x_scale = fit_scale([part.size for part in known], margin, WIDTH - 90.0, zero=True)
    drawn = []
    for index, part in enumerate(known):
        y = index * (bar + 6)
        drawn += [
            text(margin - 8, y + bar / 2 + 4, translate(part.name), "label", "end"),
            rect(Box(margin, y, x_scale(part.size) - margin, bar), f"part {part.css}", part.description, 2),
            text(x_scale(part.size) + 6, y + bar / 2 + 4, format_value(part.size, unit), "label strong"),
        ]
    description = ", ".join(f"{part.name} {format_value(part.size, unit)}" for part in known)
    return make_drawing(WIDTH, len(known) * (bar + 6), name, description, *drawn)


def draw_whisker(
    value: float | None, low: float | None, high: float | None, x_scale: Scale, description: str, css: str = "dot"
) -> Markup:
    """Draw a value and its interval for a table row, on the table's common scale."""
    width, height = x_scale.end + 6, 16.0
    if value is None or not is_drawable(value):
        return Markup("")
    x, parts = x_scale(value), []
    if bounds := make_drawable_interval(low, high):
        begin, end = x_scale(bounds[0]), x_scale(bounds[1])
        parts.append(line(begin, height / 2, end, height / 2, f"reach {css}"))
    parts.append(rect(Box(x - 2, 3, 4, height - 6), css, "", 2))
    return make_drawing(
        width, height, "Interval", description, line(0, height / 2, width, height / 2, "grid"), *parts, kind="whisker"
    )


def draw_mini_bar(share: float, unit: str = "") -> Markup:
    """Draw a share as a short bar in a table cell; it is hidden from screen readers, since the number is beside it."""
    return _draw_mini_bar(round(90.0 * min(max(share, 0.0), 1.0), 1), unit.lower() or "plain")


@lru_cache(maxsize=4_096)  # layer tables have thousands of cells with few distinct lengths
def _draw_mini_bar(width: float, css: str) -> Markup:
    bar = rect(Box(0, 0, max(width, 1.0), 8), css, "", 2)
    return element("svg", {"class": "mini", "viewBox": "0 0 90 8", "aria-hidden": "true"}, bar)


StripPlotRow = tuple[str, Sequence[float], float | None, float | None, float | None]


def _format_ticks(ticks: Sequence[float], unit: str) -> list[str]:
    """Return the labels of an axis, with more digits where two would be equal."""
    words = [format_value(tick, unit) for tick in ticks]
    if len(set(words)) == len(words) or unit != "us":
        return words
    factor, name = next((one for one in ((1e6, "s"), (1e3, "ms")) if abs(ticks[-1]) >= one[0]), (1.0, "µs"))
    return [f"{tick / factor:.6g} {name}" for tick in ticks]


def draw_strip_plot(rows: Sequence[StripPlotRow], unit: str, *, width: float = WIDE_WIDTH) -> Markup:
    """Draw one row per run on one scale: a dot per process, the interval of the median, and the median."""
    values = [value for _, dots, middle, low, high in rows for value in (*dots, middle, low, high)]
    if not any(value is not None and is_drawable(value) for value in values):
        return Markup("")
    known = [value for value in values if value is not None and is_drawable(value) and value > 0]
    left = max(LEFT - 20, *(min(len(name), MAX_STRIP_LETTERS) * STRIP_LETTER_PX + 24 for name, *_ in rows))
    x_scale = fit_scale(known, left, width - RIGHT - 10, is_log=bool(known) and max(known) / min(known) > 4)
    row_height, drawn = 30.0, []
    baseline = len(rows) * row_height + 4
    ticks = x_scale.ticks(8 if width == WIDE_WIDTH else 5)
    for tick, words in zip(ticks, _format_ticks(ticks, unit), strict=True):
        x = x_scale(tick)
        drawn += [line(x, 0, x, baseline, "grid"), text(x, baseline + 14, words, "label", "middle")]
    for index, (name, dots, middle, low, high) in enumerate(rows):
        y = index * row_height + row_height / 2
        drawn.append(text(4, y + 4, shorten(name, MAX_STRIP_LETTERS), "label strong"))
        if bounds := make_drawable_interval(low, high):
            begin, end = x_scale(bounds[0]), x_scale(bounds[1])
            description = f"{name}: {format_value(low, unit)} to {format_value(high, unit)}"
            drawn.append(rect(Box(begin, y - 8, max(end - begin, 2), 16), "band", description, 3))
        drawn += [
            circle(x_scale(dot), y, 2.4, "point", f"{name}: {format_value(dot, unit)}") for dot in _keep_drawable(dots)
        ]
        if middle is not None and is_drawable(middle):
            drawn.append(
                rect(Box(x_scale(middle) - 1.5, y - 10, 3, 20), "dot", f"{name}: {format_value(middle, unit)}", 1)
            )
    description = ", ".join(f"{name} {format_value(middle, unit)}" for name, _, middle, _, _ in rows)
    kind = "chart wide" if width == WIDE_WIDTH else "chart"
    return make_drawing(width, baseline + 20, "Medians of the processes on one scale", description, *drawn, kind=kind)
