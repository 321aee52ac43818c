"""Charts of quantization error: a bar per operator, and histograms of activations with their range."""

from collections.abc import Sequence
from math import log1p
from typing import NamedTuple

from markupsafe import Markup

from edgewright.report.charts.scales import fit_scale, is_drawable
from edgewright.report.charts.svg import Box, line, make_drawing, rect, text
from edgewright.report.numbers import format_value, pluralize, shorten

WIDTH, LEFT, RIGHT = 1240.0, 330.0, 70.0
BAR_HEIGHT, GAP = 15.0, 5.0
NAME_LETTERS = 52
SMALL_WIDTH, SMALL_HEIGHT, EDGE, BASELINE = 400.0, 118.0, 6.0, 96.0


class OperatorNoise(NamedTuple):
    """SQNR of the network's output in dB when only this operator is quantized; higher is better."""

    name: str
    description: str
    sqnr_db: float
    kept: bool


def draw_operator_bars(rows: Sequence[OperatorNoise]) -> Markup:
    """Draw one bar per operator, in the given order; operators in higher precision have another color."""
    rows = [row for row in rows if is_drawable(row.sqnr_db)]
    if not rows:
        return Markup("")
    x_scale = fit_scale([max(row.sqnr_db, 0.0) for row in rows], LEFT, WIDTH - RIGHT, zero=True)
    baseline = len(rows) * (BAR_HEIGHT + GAP)
    drawn = []
    for tick in x_scale.ticks(8):
        x = x_scale(tick)
        drawn += [line(x, 0, x, baseline, "grid"), text(x, baseline + 14, format_value(tick, "dB"), "label", "middle")]
    for index, row in enumerate(rows):
        y = index * (BAR_HEIGHT + GAP)
        end = x_scale(max(row.sqnr_db, 0.0))
        drawn += [
            text(LEFT - 8, y + BAR_HEIGHT - 3, shorten(row.name, NAME_LETTERS), "label", "end"),
            rect(Box(LEFT, y, max(end - LEFT, 1.0), BAR_HEIGHT), "bar kept" if row.kept else "bar", row.description, 2),
            text(end + 6, y + BAR_HEIGHT - 3, format_value(row.sqnr_db, "dB"), "label strong"),
        ]
    description = ", ".join(f"{shorten(row.name, 40)} {format_value(row.sqnr_db, 'dB')}" for row in rows[:8])
    title = "SQNR when only one operator is quantized"
    return make_drawing(WIDTH, baseline + 20, title, description, *drawn, kind="chart wide")


def draw_value_histogram(
    name: str, counts: Sequence[int], seen: tuple[float, float], covered: tuple[float, float]
) -> Markup:
    """Draw a histogram with equal bins from `seen[0]` to `seen[1]`; values outside of `covered` are marked.

    Heights grow with the logarithm of the count, so that a few clipped values can be seen beside many others.
    """
    most = max(counts, default=0)
    if most <= 0 or not all(is_drawable(one) for one in (*seen, *covered)):
        return Markup("")
    low, high = seen if seen[1] > seen[0] else (seen[0], seen[0] + 1.0)
    x_scale = fit_scale([min(low, covered[0]), max(high, covered[1])], EDGE, SMALL_WIDTH - EDGE)
    size = (high - low) / len(counts)
    drawn = [line(EDGE, BASELINE, SMALL_WIDTH - EDGE, BASELINE, "axis")]
    for index, count in enumerate(counts):
        if count <= 0:
            continue
        begin, end = low + index * size, low + (index + 1) * size
        outside = begin + end < 2 * covered[0] or begin + end > 2 * covered[1]
        bar_height = (BASELINE - 14) * log1p(count) / log1p(most)
        clipped = ", clipped" if outside else ""
        description = f"{pluralize(count, 'value')} from {format_value(begin, '')} to {format_value(end, '')}{clipped}"
        width = max(x_scale(end) - x_scale(begin) - 0.6, 0.8)
        drawn.append(
            rect(
                Box(x_scale(begin), BASELINE - bar_height, width, bar_height),
                "bar clipped" if outside else "bar",
                description,
            )
        )
    drawn += [
        *(line(x_scale(value), 8, x_scale(value), BASELINE, "mark") for value in covered),
        text(
            min(max(x_scale(covered[0]), EDGE), SMALL_WIDTH / 2),
            SMALL_HEIGHT - 6,
            format_value(covered[0], ""),
            "label",
        ),
        text(
            max(min(x_scale(covered[1]), SMALL_WIDTH - EDGE), SMALL_WIDTH / 2),
            SMALL_HEIGHT - 6,
            format_value(covered[1], ""),
            "label",
            "end",
        ),
    ]
    extent = f"values from {format_value(low, '')} to {format_value(high, '')}"
    description = f"{extent}, quantization range from {format_value(covered[0], '')} to {format_value(covered[1], '')}"
    return make_drawing(
        SMALL_WIDTH, SMALL_HEIGHT, f"Values of {shorten(name, 60)}", description, *drawn, kind="chart small"
    )
