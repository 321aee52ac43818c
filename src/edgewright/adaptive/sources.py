"""The signals of a Linux device: temperature of the skin, headroom, battery, memory pressure."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from edgewright.devices.sensors import CPU_ZONE, is_on_battery, read_batteries
from edgewright.devices.sysfs import list_numbered, read_int, read_text
from edgewright.devices.system_state import read_system_state

SKIN_ZONE = re.compile(r"skin|quiet|shell", re.IGNORECASE)
HEADROOM_C = 30.0  # below the trip point the headroom is 0, as in Android


class SystemSignals:
    """Reads the signals below a folder; what the device does not have is absent."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def __call__(self) -> Mapping[str, float | None]:
        root, on_battery = self._root, is_on_battery(self._root)
        return {
            "temperature_c": self._read_skin(),
            "headroom": self._read_headroom(),
            "battery_pct": min(self._list_levels(), default=None),
            "charging": None if on_battery is None else float(not on_battery),
            "saver": _read_saver(root),
            "pressure": read_system_state(root).get("psi_memory_some_avg10"),
        }

    def _read_skin(self) -> float | None:
        """Return the temperature of a skin sensor, else of the battery."""
        zones = list_numbered(self._root / "sys/class/thermal", "thermal_zone")
        skin = [read_int(zone / "temp") for zone in zones if SKIN_ZONE.search(read_text(zone / "type") or "")]
        found = [one / 1000 for one in skin if one is not None]
        batteries = [read_int(one.folder / "temp") for one in read_batteries(self._root)]
        return max(found or [one / 10 for one in batteries if one is not None], default=None)

    def _read_headroom(self) -> float | None:
        """Return how close a processor's zone is to its passive trip point: 1 there, 0 at 30 °C less."""
        zones = list_numbered(self._root / "sys/class/thermal", "thermal_zone")
        found = [
            1 - (trip - now) / 1000 / HEADROOM_C
            for zone in zones
            if CPU_ZONE.search(read_text(zone / "type") or "") and (now := read_int(zone / "temp")) is not None
            for trip in _list_passive_trips(zone)
        ]
        return max(0.0, max(found)) if found else None

    def _list_levels(self) -> Iterator[float]:
        for battery in read_batteries(self._root):
            level = read_int(battery.folder / "capacity")
            if level is not None:
                yield float(level)


def _list_passive_trips(zone: Path) -> Iterator[int]:
    for number in range(8):
        trip = read_int(zone / f"trip_point_{number}_temp")
        if read_text(zone / f"trip_point_{number}_type") == "passive" and trip is not None and trip > 0:
            yield trip


def _read_saver(root: Path) -> float | None:
    profile = read_text(root / "sys/firmware/acpi/platform_profile")
    return None if profile is None else float(profile in ("low-power", "quiet"))
