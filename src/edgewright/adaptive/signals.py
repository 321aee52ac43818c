"""What a policy can know about the device: one reading, with impossible values left out."""

import math
from collections.abc import Mapping

from msgspec import Struct

# Lowest and highest value that a signal can have; outside, the sensor is wrong and the value is unknown.
RANGES = {
    "temperature_c": (-20.0, 100.0),
    "headroom": (0.0, 3.0),
    "battery_pct": (0.0, 100.0),
    "charging": (0.0, 1.0),
    "saver": (0.0, 1.0),
    "pressure": (0.0, 100.0),
}
# A device cannot warm or cool faster than this where the hand feels it: a larger change is a jump of the sensor.
FASTEST_K_PER_S = 2.0
SLOPE_WINDOW_S = 60.0
SIGNALS = (*RANGES, "supply_pct", "slope_k_min")


class SignalReading(Struct, frozen=True, kw_only=True):
    """The signals at one moment; what is not known is None.

    Attributes:
        t_s: seconds on a clock that does not jump.
        temperature_c: of the skin.
        headroom: thermal headroom as in Android: 1 is where throttling begins, larger is hotter.
        supply_pct: the battery's level, and 100 while it is charged.
        slope_k_min: growth of the temperature over the last minute.
        pressure: memory pressure, PSI `some avg10` in percent.
    """

    t_s: float
    temperature_c: float | None = None
    headroom: float | None = None
    battery_pct: float | None = None
    charging: float | None = None
    saver: float | None = None
    pressure: float | None = None
    supply_pct: float | None = None
    slope_k_min: float | None = None


class SignalFilter:
    """Turns raw values into readings: leaves out impossible values, and adds what follows from several of them."""

    def __init__(self) -> None:
        self._clock = -math.inf
        self._temperatures: list[tuple[float, float]] = []
        self._jump: tuple[float, float] | None = None

    def read(self, t_s: float, values: Mapping[str, float | None]) -> SignalReading:
        """Return the reading of one moment. A clock that goes back stands still."""
        self._clock = max(self._clock, t_s) if math.isfinite(t_s) else self._clock
        known = {name: _check(name, values.get(name)) for name in RANGES}
        known["temperature_c"] = self._check_jump(known["temperature_c"])
        charging, battery = known["charging"], known["battery_pct"]
        supply = 100.0 if charging else battery
        return SignalReading(t_s=self._clock, **known, supply_pct=supply, slope_k_min=self._find_slope())

    def _check_jump(self, value: float | None) -> float | None:
        """Return a temperature; None at a jump, until a second value confirms it."""
        if value is None:
            return None
        for last in (self._temperatures[-1] if self._temperatures else None, self._jump):
            if last is None or abs(value - last[1]) <= FASTEST_K_PER_S * max(self._clock - last[0], 1.0):
                if last is not None and last is self._jump:
                    self._temperatures.clear()  # the new level is confirmed: the values before it give no slope
                self._temperatures.append((self._clock, value))
                self._jump = None
                return value
        self._jump = (self._clock, value)
        return None

    def _find_slope(self) -> float | None:
        while self._temperatures and self._temperatures[0][0] < self._clock - SLOPE_WINDOW_S:
            self._temperatures.pop(0)
        if len(self._temperatures) < 2:
            return None
        (first, start), (last, end) = self._temperatures[0], self._temperatures[-1]
        return (end - start) / (last - first) * 60 if last - first >= SLOPE_WINDOW_S / 2 else None


def _check(name: str, value: float | None) -> float | None:
    low, high = RANGES[name]
    return value if value is not None and low <= value <= high else None
