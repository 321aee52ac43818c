"""Curves of trainings: one quantity over the steps, a line for each network."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from edgewright.web.draw.scales import Scale, fit, usable
from edgewright.web.draw.svg import circle, drawing, line, path, text
from edgewright.web.numbers import show

# Small enough that its letters can be read on a phone.
WIDTH, HEIGHT, LEFT, RIGHT, TOP, FLOOR = 420.0, 208.0, 52.0, 10.0, 26.0, 168.0
CONTROL = "control"
FEW = 12  # points: so few are marked, and one alone is no line


def curves(name: str, unit: str, lines: Mapping[str, tuple[Sequence[int], Sequence[float]]]) -> Markup:
    """Steps and values by network; empty where no value is a number.

    The control is dashed and drawn last, so that it hides nothing where the two are the same.
    """
    known = {
        title: [(float(step), value) for step, value in zip(*points, strict=True) if usable(value)]
        for title, points in sorted(lines.items(), key=lambda item: item[0] == CONTROL)
    }
    known = {title: points for title, points in known.items() if points}
    if not known:
        return Markup("")
    up = fit([value for points in known.values() for _, value in points], FLOOR, TOP)
    across = Scale(0.0, max(points[-1][0] for points in known.values()) or 1.0, LEFT, WIDTH - RIGHT)
    parts = [line(LEFT, FLOOR, WIDTH - RIGHT, FLOOR, "axis")]
    for tick in up.ticks(5):
        parts += [line(LEFT, up(tick), WIDTH - RIGHT, up(tick), "grid")]
        parts.append(text(LEFT - 6, up(tick) + 4, show(tick, unit), "label", "end"))
    for tick in across.ticks(6):
        if tick.is_integer():
            parts.append(text(across(tick), FLOOR + 16, f"{tick:,.0f}", "label", "middle"))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, FLOOR + 34, "steps", "label", "middle"))
    told = []
    for place, (title, points) in enumerate(known.items()):
        side = "control" if title == CONTROL else "network"
        if len(points) > 1:
            parts.append(path([(across(step), up(value)) for step, value in points], f"curve {side}"))
        if len(points) <= FEW:
            parts += [circle(across(step), up(value), 3, f"spot {side}", show(value, unit)) for step, value in points]
        x = LEFT + 130 * place
        parts += [line(x, 10, x + 26, 10, f"curve {side}"), text(x + 32, 14, title, "label")]
        told.append(f"{title} ends at {show(points[-1][1], unit)}")
    return drawing(WIDTH, HEIGHT, f"{name} over the steps", "; ".join(told), *parts, kind="chart small")
