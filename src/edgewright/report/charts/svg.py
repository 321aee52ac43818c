"""SVG elements with escaped text and short numbers."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from edgewright.locale.language import translate

Value = str | float


def element(name: str, attributes: Mapping[str, Value], *inner: str) -> Markup:
    """Return an element. `inner` is escaped unless it is Markup; tag and attribute names come from this package."""
    words = "".join(f' {key}="{escape(_format_number(value))}"' for key, value in attributes.items())
    content = "".join(map(escape, inner))
    return Markup(f"<{name}{words}>{content}</{name}>")  # noqa: S704 - escaped in the two lines above


def _format_number(value: Value) -> str:
    """Return a number with at most two decimals."""
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")


def make_drawing(width: float, height: float, title: str, description: str, *inner: str, kind: str = "chart") -> Markup:
    """Return a complete SVG that scales with the page, with title and description for screen readers."""
    box = f"0 0 {_format_number(width)} {_format_number(height)}"
    size: dict[str, Value] = {"width": width, "height": height, "viewBox": box}
    title, description = translate(title), translate(description)
    words = element("title", {}, title), element("desc", {}, description)
    role = "group" if any("<a " in one for one in inner) else "img"  # an image cannot have links
    return element(
        "svg", {"class": kind, **size, "role": role, "aria-label": f"{title}. {description}"}, *words, *inner
    )


class Box(NamedTuple):
    """A place in a drawing."""

    x: float
    y: float
    width: float
    height: float


def rect(box: Box, css: str, title: str = "", round_: float = 0) -> Markup:
    """Return a rectangle with a tooltip."""
    size: dict[str, Value] = {"width": max(box.width, 0), "height": max(box.height, 0)}
    position: dict[str, Value] = {"x": box.x, "y": box.y, **size, "class": css}
    if round_:
        position["rx"] = round_
    return element("rect", position, *([element("title", {}, translate(title))] if title else []))


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> Markup:
    return element("line", {"x1": x1, "y1": y1, "x2": x2, "y2": y2, "class": css})


def circle(x: float, y: float, radius: float, css: str, title: str = "") -> Markup:
    position: dict[str, Value] = {"cx": x, "cy": y, "r": radius, "class": css}
    return element("circle", position, *([element("title", {}, translate(title))] if title else []))


def text(x: float, y: float, words: str, css: str = "label", anchor: str = "start") -> Markup:
    words = translate(words) if "quiet" in css.split() else words  # sentences; other labels are names and values
    return element("text", {"x": x, "y": y, "class": css, "text-anchor": anchor}, words)


def path(points: Sequence[tuple[float, float]], css: str, *, closed: bool = False) -> Markup:
    """Return a line through the points."""
    steps = " ".join(
        f"{'L' if position else 'M'}{_format_number(x)} {_format_number(y)}" for position, (x, y) in enumerate(points)
    )
    return element("path", {"d": steps + (" Z" if closed else ""), "class": css})
