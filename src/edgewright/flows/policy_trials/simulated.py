"""A simulated phone: heat, battery and speed follow the load, in files of an injected tree of /sys.

The phone is one on which the full variant takes 90 % of a frame's interval at full speed, and each other variant in
proportion to its measured time. Half an hour of the phone passes in the time of one stream.
"""

import math
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from edgewright.adaptive.bundle import Variant
from edgewright.adaptive.variants import LoadedVariant
from edgewright.flows.policy_trials.plan import Scenario, StreamJob
from edgewright.prediction.heat import DEVICE_CLASSES, TwoNodeDevice

MINUTES = 30.0
FULL_SHARE = 0.9  # of a frame's interval that the full variant takes
UNKNOWN_RATIO = 0.5  # of the time of a variant without a measured one
SMALLEST_LOAD_S = 0.02  # between two steps of the simulation
# Air and start temperature in °C; start and size of the battery in percent and Wh.
SURROUNDINGS: dict[Scenario, tuple[float, float, float, float]] = {
    "hot": (33.0, 36.0, 80.0, 17.0),
    "low-battery": (22.0, 25.0, 21.0, 6.0),
}
DRAINING = "Discharging"
SKIN, BATTERY = "sys/class/thermal/thermal_zone0", "sys/class/power_supply/battery"


class SimulatedPhone:
    """Advances with the real clock, `speedup` times as fast, until `close`."""

    def __init__(self, job: StreamJob, root: Path) -> None:
        air, start, self.battery_pct, self._battery_wh = SURROUNDINGS[job.scenario]
        self._device = TwoNodeDevice(replace(DEVICE_CLASSES["flagship"], ambient_c=air), start)
        self.speedup = MINUTES * 60 / job.seconds
        self.peak_c, self._busy_s, self._root = start, 0.0, root
        self.interval_s = 1 / job.rate
        for name, content in (
            (f"{SKIN}/type", "skin"),
            (f"{BATTERY}/type", "Battery"),
            (f"{BATTERY}/status", DRAINING),
        ):
            _write(root / name, content)
        self._publish()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin the half hour."""
        self._thread.start()

    @property
    def speed(self) -> float:
        """Return the share of the full speed; 0 once the battery is empty."""
        return self._device.speed if self.battery_pct > 0 else 0.0

    def clock(self) -> float:
        """Return seconds of the phone's time."""
        return time.monotonic() * self.speedup

    def add_busy(self, seconds: float) -> None:
        """Count time under load."""
        with self._lock:
            self._busy_s += seconds

    def close(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        before = time.monotonic()
        while not self._ended.wait(SMALLEST_LOAD_S):
            now = time.monotonic()
            with self._lock:
                load, self._busy_s = min(1.0, self._busy_s / (now - before)), 0.0
            for _ in range(max(1, round((now - before) * self.speedup))):
                self._advance(load)
            before = now
            self._publish()

    def _advance(self, load: float) -> None:
        produced = self._device.state.produced_j
        self._device.advance(load if self.battery_pct > 0 else 0.0)
        used_wh = (self._device.state.produced_j - produced) / 3600
        self.battery_pct = max(0.0, self.battery_pct - used_wh / self._battery_wh * 100)
        self.peak_c = max(self.peak_c, self._device.state.body_c)

    def _publish(self) -> None:
        _write(self._root / SKIN / "temp", str(round(self._device.state.body_c * 1000)))
        _write(self._root / BATTERY / "capacity", str(math.ceil(self.battery_pct)))


class SimulatedVariant(LoadedVariant):
    """A variant whose inference takes as long as on the simulated phone."""

    def __init__(self, phone: SimulatedPhone, full: Variant, *given: Any) -> None:
        variant: Variant = given[1]
        ratio = variant.p50_us / full.p50_us if variant.p50_us and full.p50_us else UNKNOWN_RATIO
        share = FULL_SHARE if variant.name == full.name else FULL_SHARE * min(ratio, 1.0)
        self._phone, self._seconds, self._is_ready = phone, share * phone.interval_s, False
        super().__init__(*given)
        self._is_ready = True

    def __call__(self, inputs: Mapping[str, Any], /) -> Mapping[str, Any]:
        start = time.monotonic()
        outputs = super().__call__(inputs)
        if self._is_ready:  # the first run is that of the load
            speed = self._phone.speed
            wanted = self._seconds / speed if speed else 1.0
            time.sleep(max(0.0, start + wanted - time.monotonic()))
            self._phone.add_busy(time.monotonic() - start if speed else 0.0)
        return outputs


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
