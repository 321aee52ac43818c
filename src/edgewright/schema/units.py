"""Formatting of numbers for people, for any int or float including NaN, infinity and negative values."""

UNKNOWN = "–"


def _to_float(value: float) -> float:
    """Return the nearest float; infinity for an int that is larger than any."""
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def show_us(microseconds: float | None) -> str:
    """Return a time with three significant digits in µs, ms or s."""
    if microseconds is None:
        return UNKNOWN
    microseconds = _to_float(microseconds)
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if abs(microseconds) >= size:
            return f"{format_digits(microseconds / size)} {unit}"
    return f"{format_digits(microseconds)} µs"


def format_digits(value: float) -> str:
    """Return three significant digits without an exponent."""
    value = _to_float(value)
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def show_number(value: float) -> str:
    """Return four significant digits with trailing zeros: `0.9960`."""
    return f"{value:#.4g}".rstrip(".")


def show_bytes(count: float | None) -> str:
    """Return a size in decimal units: 1 MB is 1,000,000 bytes."""
    if count is None:
        return UNKNOWN
    count = _to_float(count)
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(count) >= size:
            return f"{format_digits(count / size)} {unit}"
    return f"{count:.0f} B"


def show_count(count: int | None) -> str:
    """Return a count in thousands, millions or billions with three digits, and the exact number."""
    if count is None:
        return UNKNOWN
    value = _to_float(count)
    if value in (float("inf"), float("-inf")):
        return f"{value:.0f}"
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{format_digits(value / size)} {unit} ({count:,})"
    return str(count)


def show_range(low_us: float | None, high_us: float | None) -> str:
    """Return two times in one unit: `3.51–3.70 ms`."""
    if low_us is None or high_us is None:
        return UNKNOWN
    unit, size = ("s", 1e6) if high_us >= 1e6 else ("ms", 1e3) if high_us >= 1e3 else ("µs", 1.0)
    return f"{format_digits(low_us / size)}–{format_digits(high_us / size)} {unit}"


def show_ratio(ratio: float, low: float | None, high: float | None) -> str:
    return UNKNOWN if ratio != ratio else f"{ratio:.2f}×{show_bounds(low, high)}"


def show_bounds(low: float | None, high: float | None) -> str:
    return f" ({low:.2f}–{high:.2f})" if low is not None and high is not None else ""


def show_share(share: float) -> str:
    return f"{share:.1%}"
