"""Curves of trainings: one quantity over the steps, a line for each network."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from edgewright.web.draw.charts import LEFT, RIGHT, WIDTH
from edgewright.web.draw.scales import Scale, fit, usable
from edgewright.web.draw.svg import drawing, line, path, text
from edgewright.web.numbers import show

HEIGHT, TOP, FLOOR = 200.0, 26.0, 168.0
STYLES = ("curve", "curve second", "curve third")


def curves(name: str, unit: str, lines: Mapping[str, tuple[Sequence[int], Sequence[float]]]) -> Markup:
    """Steps and values by network; empty where fewer than two values are numbers."""
    known = {
        title: [(float(step), value) for step, value in zip(*points, strict=True) if usable(value)]
        for title, points in lines.items()
    }
    known = {title: points for title, points in known.items() if len(points) > 1}
    if not known:
        return Markup("")
    up = fit([value for points in known.values() for _, value in points], FLOOR, TOP)
    across = Scale(0.0, max(points[-1][0] for points in known.values()) or 1.0, LEFT, WIDTH - RIGHT)
    parts = [line(LEFT, FLOOR, WIDTH - RIGHT, FLOOR, "axis")]
    for tick in up.ticks(5):
        parts += [line(LEFT, up(tick), WIDTH - RIGHT, up(tick), "grid")]
        parts.append(text(LEFT - 6, up(tick) + 4, show(tick, unit), "label", "end"))
    for tick in across.ticks(6):
        parts.append(text(across(tick), FLOOR + 16, f"{tick:g}", "label", "middle"))
    told = []
    for place, (title, points) in enumerate(known.items()):
        css = STYLES[min(place, len(STYLES) - 1)]
        parts.append(path([(across(step), up(value)) for step, value in points], css))
        x = LEFT + 130 * place
        parts += [line(x, 10, x + 20, 10, css), text(x + 26, 14, title, "label")]
        told.append(f"{title} ends at {show(points[-1][1], unit)}")
    return drawing(WIDTH, HEIGHT, f"{name} over the steps", "; ".join(told), *parts)
