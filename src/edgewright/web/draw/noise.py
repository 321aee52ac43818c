"""What a quantisation costs: a bar for each operator, and what each activation's range clips."""

from collections.abc import Sequence
from math import log1p
from typing import NamedTuple

from markupsafe import Markup

from edgewright.web.draw.scales import fit, usable
from edgewright.web.draw.svg import drawing, line, rect, text
from edgewright.web.numbers import plural, shorten, show

WIDE, LEFT, RIGHT = 1240.0, 330.0, 70.0
BAR, GAP = 15.0, 5.0
NAME_LETTERS = 52
SMALL, TALL, EDGE, FLOOR = 400.0, 118.0, 6.0, 96.0


class Costs(NamedTuple):
    """One operator: SQNR of the network's output when it alone is quantised, in dB; more is better."""

    name: str
    told: str
    sqnr_db: float
    kept: bool


def site_bars(rows: Sequence[Costs]) -> Markup:
    """A bar each, in the order given; those that are treated better in another colour."""
    rows = [row for row in rows if usable(row.sqnr_db)]
    if not rows:
        return Markup("")
    across = fit([max(row.sqnr_db, 0.0) for row in rows], LEFT, WIDE - RIGHT, zero=True)
    floor = len(rows) * (BAR + GAP)
    drawn = []
    for tick in across.ticks(8):
        x = across(tick)
        drawn += [line(x, 0, x, floor, "grid"), text(x, floor + 14, show(tick, "dB"), "label", "middle")]
    for place, row in enumerate(rows):
        y = place * (BAR + GAP)
        end = across(max(row.sqnr_db, 0.0))
        drawn += [
            text(LEFT - 8, y + BAR - 3, shorten(row.name, NAME_LETTERS), "label", "end"),
            rect(LEFT, y, max(end - LEFT, 1.0), BAR, "bar kept" if row.kept else "bar", row.told, 2),
            text(end + 6, y + BAR - 3, show(row.sqnr_db, "dB"), "label strong"),
        ]
    told = ", ".join(f"{shorten(row.name, 40)} {show(row.sqnr_db, 'dB')}" for row in rows[:8])
    title = "Signal to noise when one operator alone is quantised"
    return drawing(WIDE, floor + 20, title, told, *drawn, kind="chart wide")


def value_bars(name: str, counts: Sequence[int], seen: tuple[float, float], covered: tuple[float, float]) -> Markup:
    """Histogram of the values seen, from `seen[0]` to `seen[1]` in even bins; those outside of `covered` are marked.

    Heights grow with the logarithm of the count, so that a few clipped values can be seen beside many others.
    """
    most = max(counts, default=0)
    if most <= 0 or not all(usable(one) for one in (*seen, *covered)):
        return Markup("")
    low, high = seen if seen[1] > seen[0] else (seen[0], seen[0] + 1.0)
    across = fit([min(low, covered[0]), max(high, covered[1])], EDGE, SMALL - EDGE)
    size = (high - low) / len(counts)
    drawn = [line(EDGE, FLOOR, SMALL - EDGE, FLOOR, "axis")]
    for place, count in enumerate(counts):
        if count <= 0:
            continue
        begin, end = low + place * size, low + (place + 1) * size
        outside = begin + end < 2 * covered[0] or begin + end > 2 * covered[1]
        tall = (FLOOR - 14) * log1p(count) / log1p(most)
        told = f"{plural(count, 'value')} from {show(begin, '')} to {show(end, '')}{', clipped' if outside else ''}"
        width = max(across(end) - across(begin) - 0.6, 0.8)
        drawn.append(rect(across(begin), FLOOR - tall, width, tall, "bar clipped" if outside else "bar", told))
    drawn += [
        *(line(across(value), 8, across(value), FLOOR, "mark") for value in covered),
        text(min(max(across(covered[0]), EDGE), SMALL / 2), TALL - 6, show(covered[0], ""), "label"),
        text(max(min(across(covered[1]), SMALL - EDGE), SMALL / 2), TALL - 6, show(covered[1], ""), "label", "end"),
    ]
    reach = f"values from {show(low, '')} to {show(high, '')}"
    told = f"{reach}, covered from {show(covered[0], '')} to {show(covered[1], '')}"
    return drawing(SMALL, TALL, f"Values of {shorten(name, 60)}", told, *drawn, kind="chart small")
