"""Formats of numbers, names and times on pages: short, with the exact value in a tooltip."""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from math import isfinite
from typing import Any

from markupsafe import Markup

from edgewright.locale.language import translate
from edgewright.schema.metrics import ACCURACIES, get_metric_info, is_share
from edgewright.schema.run import Metric
from edgewright.schema.text import REPLACEMENT, printable
from edgewright.schema.units import UNKNOWN, format_digits, show_bytes, show_range, show_share, show_us

MAX_NAME = 120
FormatNumber = Callable[[float], str]


def _format_plain(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) and abs(value) < 1e15 else f"{value:.4g}"


def _format_count(value: float) -> str:
    """Return three digits with k, M or G."""
    for letter, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{format_digits(value / size)} {letter}"
    return f"{value:.0f}"


FORMATTERS: dict[str, FormatNumber] = {
    "us": show_us,
    "ns": lambda value: show_us(value / 1e3) if value >= 1e3 else f"{value:.0f} ns",
    "s": lambda value: show_us(value * 1e6),
    "bytes": show_bytes,
    "B": show_bytes,
    "uJ": lambda value: f"{value:.3g} µJ",
    "dB": lambda value: f"{value:.1f} dB",
    "degC": lambda value: f"{value:.1f} °C",
    "kHz": lambda value: f"{value / 1e6:.2f} GHz" if value >= 1e6 else f"{value / 1e3:.0f} MHz",
    "W": lambda value: f"{format_digits(value)} W",
    "share": show_share,
    "MACs": _format_count,
}
UNITS = {
    "us": "µs",
    "ns": "ns",
    "s": "s",
    "bytes": "bytes",
    "B": "bytes",
    "uJ": "µJ",
    "dB": "dB",
    "degC": "°C",
    "kHz": "kHz",
    "W": "W",
    "MACs": "multiply-accumulates",
}


def find_accuracy(metrics: Mapping[str, Metric]) -> Metric | None:
    """Return the accuracy under either name."""
    return next((metrics[name] for name in ACCURACIES if name in metrics), None)


def get_unit(metric: Metric) -> str:
    """Return the metric's unit; metrics without a unit that are shares get the unit `share`."""
    return "share" if is_share(metric.name) else metric.unit


def format_value(value: float | None, unit: str) -> str:
    """Return a value with about three digits in a readable unit."""
    if value is None or not isfinite(value):
        return UNKNOWN
    return FORMATTERS.get(unit, _format_plain)(value)


def format_exact(value: float | None, unit: str) -> str:
    """Return a value with all its digits."""
    if value is None or not isfinite(value):
        return "not known"
    word = UNITS.get(unit, "")
    return f"{value:,.15g}".replace(",", " ") + (f" {word}" if word else "")


def format_quantity(value: float | None, unit: str) -> Markup:
    """Return a number as HTML: short, with the exact value in a tooltip."""
    return Markup('<span class="num" title="{}">{}</span>').format(
        translate(format_exact(value, unit)), format_value(value, unit)
    )


def format_layer_time(one: Any) -> Markup:
    """Return the `median_us` of a layer or a sum of layers as HTML, with its interval in a tooltip."""
    low, high = one.low_us, one.high_us
    description = (
        "interval not recorded"
        if low is None or high is None
        else f"from {format_exact(low, 'us')} to {format_exact(high, 'us')}"
    )
    title = f"{format_exact(one.median_us, 'us')}; {description}"
    return Markup('<span class="num" title="{}">{}</span>').format(translate(title), format_value(one.median_us, "us"))


def format_interval(low: float | None, high: float | None, unit: str) -> Markup:
    """Return an interval as HTML, or an empty text."""
    if low is None or high is None:
        return Markup("")
    shown = show_range(low, high) if unit == "us" else _join_range(format_value(low, unit), format_value(high, unit))
    description = f"from {format_exact(low, unit)} to {format_exact(high, unit)}"
    return Markup('<span class="interval" title="{}">{}</span>').format(translate(description), shown)


def _join_range(first: str, last: str) -> str:
    """Return an interval such as `3.1–3.5 MB`, with the unit only once if both ends have it."""
    number, _, word = first.rpartition(" ")
    return f"{number}–{last}" if number and last.endswith(f" {word}") else f"{first}–{last}"


def shorten(text: str, most: int = MAX_NAME) -> str:
    """Return the start and the end of a long name."""
    text = printable(text[: 4 * most] + text[-most:] if len(text) > 5 * most else text)
    text = text.replace("\t", REPLACEMENT).replace("\n", REPLACEMENT)
    if len(text) <= most:
        return text
    half = most // 2 - 1
    return f"{text[:half]} … {text[-half:]}"


def make_breakable(text: str) -> Markup:
    """Return a name with line break opportunities after dots and slashes."""
    return Markup("").join(
        Markup("{}<wbr>").format(piece) if piece in (".", "/") else piece for piece in re.split(r"([./])", text)
    )


def format_time(text: str | None) -> Markup:
    """Return a UTC time as HTML; the page's script converts it to the user's time zone."""
    if not text:
        return Markup("–")
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        return Markup("{}").format(shorten(text, 40))
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
        text, parsed.strftime("%Y-%m-%d %H:%M:%S"), parsed.strftime("%Y-%m-%d %H:%M")
    )


def count_seconds(begin: str, end: str | None) -> float | None:
    """Return the seconds between two times; None if either is missing."""
    try:
        return (datetime.fromisoformat(end or "") - datetime.fromisoformat(begin)).total_seconds()
    except (ValueError, TypeError):
        return None


def format_duration(seconds: float) -> str:
    """Return a duration as `6 min 11 s`."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def pluralize(count: int, word: str) -> str:
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def name_metric(name: str) -> str:
    """Return a metric's title within a sentence: `top-1 accuracy`, `SQNR to reference`."""
    title = get_metric_info(name).title or name
    return title if title[1:2].isupper() else title[:1].lower() + title[1:]


def join_words(words: Iterable[str]) -> str:
    """Return `a, b and c`; empty without words."""
    *most, last = [*words] or [""]
    return f"{', '.join(most)} and {last}" if most else last
