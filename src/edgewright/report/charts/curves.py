"""Training curves: one quantity over the steps, with a line per network."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from edgewright.report.charts.scales import Scale, fit_scale, is_drawable
from edgewright.report.charts.svg import circle, line, make_drawing, path, text
from edgewright.report.numbers import format_value

# small enough for readable text on a phone
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BASELINE = 420.0, 208.0, 52.0, 10.0, 26.0, 168.0
CONTROL = "control"
FEW_POINTS = 12  # up to this number, points are marked


def draw_curves(name: str, unit: str, lines: Mapping[str, tuple[Sequence[int], Sequence[float]]]) -> Markup:
    """Draw steps and values by network; empty if no value is finite.

    The control is dashed and drawn last, so that it hides nothing where the two are the same.
    """
    known = {
        title: [(float(step), value) for step, value in zip(*points, strict=True) if is_drawable(value)]
        for title, points in sorted(lines.items(), key=lambda item: item[0] == CONTROL)
    }
    known = {title: points for title, points in known.items() if points}
    if not known:
        return Markup("")
    y_scale = fit_scale([value for points in known.values() for _, value in points], BASELINE, TOP)
    x_scale = Scale(0.0, max(points[-1][0] for points in known.values()) or 1.0, LEFT, WIDTH - RIGHT)
    parts = [line(LEFT, BASELINE, WIDTH - RIGHT, BASELINE, "axis")]
    for tick in y_scale.ticks(5):
        parts += [line(LEFT, y_scale(tick), WIDTH - RIGHT, y_scale(tick), "grid")]
        parts.append(text(LEFT - 6, y_scale(tick) + 4, format_value(tick, unit), "label", "end"))
    for tick in x_scale.ticks(6):
        if tick.is_integer():
            parts.append(text(x_scale(tick), BASELINE + 16, f"{tick:,.0f}", "label", "middle"))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, BASELINE + 34, "steps", "label", "middle"))
    description = []
    for index, (title, points) in enumerate(known.items()):
        css = "control" if title == CONTROL else "network"
        if len(points) > 1:
            parts.append(path([(x_scale(step), y_scale(value)) for step, value in points], f"curve {css}"))
        if len(points) <= FEW_POINTS:
            parts += [
                circle(x_scale(step), y_scale(value), 3, f"spot {css}", format_value(value, unit))
                for step, value in points
            ]
        x = LEFT + 130 * index
        parts += [line(x, 10, x + 26, 10, f"curve {css}"), text(x + 32, 14, title, "label")]
        description.append(f"{title} ends at {format_value(points[-1][1], unit)}")
    return make_drawing(WIDTH, HEIGHT, f"{name} over the steps", "; ".join(description), *parts, kind="chart small")
