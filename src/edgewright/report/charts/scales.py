"""Linear and logarithmic scales from values to pixels, with ticks at round values."""

from collections.abc import Iterable
from math import floor, isfinite, log10
from typing import NamedTuple

MIN_DRAWABLE, MAX_DRAWABLE = 1e-100, 1e100
_MIN_TICK_DISTANCE_PX = 44.0  # between two ticks
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


def is_drawable(value: float) -> bool:
    """Return whether a value can be drawn: finite, and within a reasonable magnitude."""
    return isfinite(value) and (value == 0 or MIN_DRAWABLE <= abs(value) <= MAX_DRAWABLE)


def make_drawable_interval(low: float | None, high: float | None) -> tuple[float, float] | None:
    """Return an interval that can be drawn; None if either end is not known."""
    if low is None or high is None or not (is_drawable(low) and is_drawable(high)):
        return None
    return low, high


class Scale(NamedTuple):
    """Scale that maps `low` to `high` to `begin` to `end` in pixels; `high` is above `low`."""

    low: float
    high: float
    begin: float
    end: float
    is_log: bool = False

    def __call__(self, value: float) -> float:
        """Return the pixel of a value, clamped to the ends."""
        low, high, value = (
            (log10(x) for x in (self.low, self.high, max(value, self.low)))
            if self.is_log
            else (self.low, self.high, value)
        )
        share = (value - low) / (high - low)
        return self.begin + min(max(share, 0.0), 1.0) * (self.end - self.begin)

    def ticks(self, most: int = 6) -> list[float]:
        """Return round values within the scale."""
        if not self.is_log:
            return _make_linear_ticks(self.low, self.high, most)
        found: list[float] = []
        for tick in _make_log_ticks(self.low, self.high, most):
            if not found or abs(self(tick) - self(found[-1])) > _MIN_TICK_DISTANCE_PX:
                found.append(tick)
        return found


def fit_scale(
    values: Iterable[float | None], begin: float, end: float, *, is_log: bool = False, zero: bool = False
) -> Scale:
    """Return a scale that contains all finite values with a margin; from zero with `zero`."""
    known = [value for value in values if value is not None and is_drawable(value) and (value > 0 or not is_log)]
    if not known:
        return Scale(1.0, 10.0, begin, end, is_log) if is_log else Scale(0.0, 1.0, begin, end)
    low, high = min(known), max(known)
    if is_log:
        spread = max((high / low) ** 0.06, 1.04)
        return Scale(low / spread, high * spread, begin, end, is_log=True)
    margin = (high - low) * 0.05 or abs(high) * 0.05 or 0.5
    return Scale(0.0 if zero and low >= 0 else low - margin, high + margin, begin, end)


def _make_linear_ticks(low: float, high: float, most: int) -> list[float]:
    rough = (high - low) / max(most - 1, 1)
    size = 10.0 ** floor(log10(rough))
    step = next(size * one for one in _STEPS if size * one >= rough)
    first = int(-(-low // step))
    count = int(high // step) - first + 1
    return [(first + index) * step for index in range(max(count, 0))]


def _make_log_ticks(low: float, high: float, most: int) -> list[float]:
    found: list[float] = []
    for factors in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), tuple(map(float, range(1, 10)))):
        decades = range(floor(log10(low)), floor(log10(high)) + 1)
        ticks = [factor * 10.0**decade for decade in decades for factor in factors]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) > most:
            break
        found = ticks
    return found if len(found) > 1 else _make_linear_ticks(low, high, most)
