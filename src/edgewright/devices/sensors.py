"""Energy, power, temperature and frequency, from whichever sensors the machine has.

Energy is taken from the first of these that can be read: RAPL (the kernel's Documentation/power/powercap), a
hwmon energy counter, a hwmon power sensor, the battery while it discharges (the units are those of
Documentation/hwmon/sysfs-interface and Documentation/ABI/testing/sysfs-class-power).
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from edgewright.devices.cpu import CPU_FOLDER
from edgewright.devices.protocol import Reading
from edgewright.devices.sysfs import list_folder, list_numbered, read_int, read_text

# Chips whose power is not that of the processor or the board: graphics cards, disks, chargers and batteries
# (batteries are read separately, so that charging does not count as use).
EXCLUDED_CHIPS = re.compile(
    r"amdgpu|nouveau|radeon|i915|^xe$|nvidia|nvme|drivetemp|ucsi|^ACAD|^AC\d*$|^ADP|BAT|charger",
    re.IGNORECASE,
)
# Channels that feed the whole board, then those of the processor alone.
BOARD_CHANNEL = re.compile(r"VDD_IN|5V_IN|VIN|total|system|board|socket", re.IGNORECASE)
PROCESSOR_CHANNEL = re.compile(r"cpu|core|soc|package", re.IGNORECASE)

CPU_ZONE = re.compile(r"x86_pkg_temp|cpu|soc|\bbig\b|\bmid\b|\blittle\b|cluster", re.IGNORECASE)
OTHER_ZONE = re.compile(r"batt|iwlwifi|wifi|nvme|skin|charg|usb|gpu|pmic|modem|dram|ddr|quiet|lcd", re.IGNORECASE)
CPU_CHIP = re.compile(r"coretemp|k10temp|zenpower|cpu_thermal|soc_thermal|scpi_sensors", re.IGNORECASE)
# Zones that are switched off report 0 or less; broken ones report 127 or more.
PLAUSIBLE_MILLIDEGREES = range(1, 125_000)

ALLOW_RAPL = "sudo chmod -R a+r /sys/class/powercap/intel-rapl*/"


class EnergyCounter:
    """A counter of microjoules that wraps around at its range; `read` removes the jumps.

    Only one wrap-around between two reads can be detected: read more often than the counter wraps (at 50 W
    and RAPL's usual range of 262 kJ, every 87 minutes). A counter that falls and has no range was reset; its
    energy is unknown from then on.
    """

    def __init__(self, path: Path, range_uj: int | None) -> None:
        self._path = path
        self._range_uj = range_uj
        self._last_uj = 0
        self._total_uj = 0
        self._was_reset = False

    def read(self) -> int | None:
        """Return the microjoules since the counter's start; None if it cannot be read or was reset."""
        now_uj = read_int(self._path)
        if now_uj is None or self._was_reset:
            return None
        step_uj = now_uj - self._last_uj
        if step_uj < 0 and self._range_uj is None:
            self._was_reset = True
            return None
        # The counter takes the values 0 to its range, which is one value more than its range.
        self._total_uj += step_uj if step_uj >= 0 else step_uj + (self._range_uj or 0) + 1
        self._last_uj = now_uj
        return self._total_uj


class PowerProbe(NamedTuple):
    """A sensor of microwatts, or of microvolts and microamperes whose product is power."""

    power: Path | None = None
    voltage: Path | None = None
    current: Path | None = None
    # Watts × 1e6 for one unit of voltage × current: batteries count in µV and µA, hwmon in mV and mA.
    scale: float = 1.0

    def read(self) -> int | None:
        """Return microwatts without the sign, since drivers disagree on that of a discharge."""
        if self.power is not None:
            power_uw = read_int(self.power)
            return None if power_uw is None else abs(power_uw)
        if self.voltage is None or self.current is None:
            return None
        voltage, current = read_int(self.voltage), read_int(self.current)
        return None if voltage is None or current is None else round(abs(voltage * current) * self.scale)


class Battery(NamedTuple):
    """A battery of the machine itself; its probe measures the machine only while it discharges."""

    folder: Path
    probe: PowerProbe

    def is_discharging(self) -> bool:
        return (read_text(self.folder / "status") or "").lower() == "discharging"


class Sensors(NamedTuple):
    """The sensors of one machine. Use one object for all readings that are compared, since it detects wrap-arounds."""

    counters: Sequence[EnergyCounter]
    probes: Sequence[PowerProbe]
    source: str
    batteries: Sequence[Battery]
    temperatures: Sequence[Path]
    frequencies: Sequence[Path]
    reason: str

    def read(self) -> Reading:
        """Read all sensors once; a value that cannot be read now is None."""
        energy_uj = _sum([counter.read() for counter in self.counters])
        power_uw, source = self._read_power(energy_uj)
        return Reading(
            energy_uj=energy_uj,
            power_uw=power_uw,
            temperature_c=self._read_temperature(),
            frequency_khz=self._read_frequency(),
            source=source,
        )

    def _read_power(self, energy_uj: int | None) -> tuple[int | None, str]:
        if energy_uj is not None:
            return None, self.source
        power_uw = _sum([probe.read() for probe in self.probes])
        if power_uw is not None:
            return power_uw, self.source
        if self.source:
            return None, f"{self.source} became unreadable or was reset during the measurement"
        return self._read_batteries()

    def _read_batteries(self) -> tuple[int | None, str]:
        discharging = [battery for battery in self.batteries if battery.is_discharging()]
        power_uw = _sum([battery.probe.read() for battery in discharging])
        if power_uw is not None:
            return power_uw, "battery:" + "+".join(battery.folder.name for battery in discharging)
        return None, self.reason

    def _read_temperature(self) -> float | None:
        read = [millidegrees for path in self.temperatures if (millidegrees := read_int(path)) is not None]
        plausible = [millidegrees for millidegrees in read if millidegrees in PLAUSIBLE_MILLIDEGREES]
        return max(plausible) / 1000 if plausible else None

    def _read_frequency(self) -> float | None:
        read = [khz for path in self.frequencies if (khz := read_int(path)) is not None]
        return sum(read) / len(read) if read else None


def _sum(values: Sequence[int | None]) -> int | None:
    """Return the sum; None if any part is unknown or there is none, since part of a sum is not the sum."""
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None


def find_sensors(root: Path = Path("/")) -> Sensors:
    """Find the machine's sensors under `root`/sys. Never raises; a machine without sensors has a reason instead."""
    counters, source = _find_rapl(root)
    probes: list[PowerProbe] = []
    if not counters:
        counters, source = _find_hwmon_energy(root)
    if not counters:
        probes, source = _find_hwmon_power(root)
    batteries = read_batteries(root)
    return Sensors(
        counters=counters,
        probes=probes,
        source=source,
        batteries=batteries,
        temperatures=_find_temperatures(root),
        frequencies=[cpu / "cpufreq/scaling_cur_freq" for cpu in list_numbered(root / CPU_FOLDER, "cpu")],
        reason=_explain_absence(root, batteries),
    )


def _find_rapl(root: Path) -> tuple[list[EnergyCounter], str]:
    """Return one counter per processor package; none at all unless every package can be read."""
    packages = _list_packages(root)
    if not packages or any(read_int(folder / "energy_uj") is None for folder in packages.values()):
        return [], ""
    counters = [
        EnergyCounter(folder / "energy_uj", read_int(folder / "max_energy_range_uj")) for folder in packages.values()
    ]
    return counters, "rapl:" + "+".join(packages)


def _list_packages(root: Path) -> dict[str, Path]:
    """Return RAPL's package domains by name, without `psys`, which overlaps them, and the mmio duplicates."""
    packages: dict[str, Path] = {}
    for prefix in ("intel-rapl:", "intel-rapl-mmio:"):
        for folder in list_numbered(root / "sys/class/powercap", prefix):
            name = read_text(folder / "name") or ""
            if name.startswith("package"):
                packages.setdefault(name, folder)
    return packages


def _list_chips(root: Path) -> dict[str, Path]:
    """Return the hwmon chips by name that may measure the processor or the board."""
    chips: dict[str, Path] = {}
    for folder in list_numbered(root / "sys/class/hwmon", "hwmon"):
        name = read_text(folder / "name") or ""
        if name and not EXCLUDED_CHIPS.search(name):
            chips.setdefault(name if name not in chips else f"{name}@{folder.name}", folder)
    return chips


def _find_hwmon_energy(root: Path) -> tuple[list[EnergyCounter], str]:
    """Return the energy counters of sockets, or else the one channel that covers most."""
    for name, folder in _list_chips(root).items():
        channels = {_read_label(folder, path): path for path in _list_channels(folder, r"energy\d+_input")}
        if channels:
            sockets = [label for label in channels if "socket" in label.lower()]
            chosen = sockets or [choose_channel(list(channels))]
            return [EnergyCounter(channels[label], None) for label in chosen], f"hwmon:{name}/{'+'.join(chosen)}"
    return [], ""


def _find_hwmon_power(root: Path) -> tuple[list[PowerProbe], str]:
    """Return the one power channel that covers most: channels often contain each other, so they are not summed."""
    for name, folder in _list_chips(root).items():
        probes = {
            _read_label(folder, path): PowerProbe(power=path)
            for path in _list_channels(folder, r"power\d+_(input|average)")
        }
        probes = probes or _make_product_probes(folder)
        if probes:
            chosen = choose_channel(list(probes))
            return [probes[chosen]], f"hwmon:{name}/{chosen}"
    return [], ""


def _list_channels(folder: Path, pattern: str) -> list[Path]:
    return [path for path in list_folder(folder) if re.fullmatch(pattern, path.name) and read_int(path) is not None]


def _read_label(folder: Path, channel: Path) -> str:
    stem = channel.name.rpartition("_")[0]
    return read_text(folder / f"{stem}_label") or stem


def _make_product_probes(folder: Path) -> dict[str, PowerProbe]:
    """Return probes that multiply voltage and current, which the ina3221 of many boards reports in mV and mA."""
    probes = {}
    for current in _list_channels(folder, r"curr\d+_input"):
        voltage = folder / current.name.replace("curr", "in", 1)
        if read_int(voltage) is not None:
            probes[_read_label(folder, voltage)] = PowerProbe(voltage=voltage, current=current)
    return probes


def choose_channel(labels: Sequence[str]) -> str:
    """Return the label that names the whole board, else the processor, else the first."""
    for pattern in (BOARD_CHANNEL, PROCESSOR_CHANNEL):
        for label in labels:
            if pattern.search(label):
                return label
    return labels[0]


def read_batteries(root: Path) -> list[Battery]:
    """Return the machine's own batteries; the scope of those of a mouse or a keyboard is `Device`."""
    supplies = list_folder(root / "sys/class/power_supply")
    own = [folder for folder in supplies if _is_own(folder, "Battery")]
    return [Battery(folder, _make_battery_probe(folder)) for folder in own]


def _is_own(folder: Path, *kinds: str) -> bool:
    return read_text(folder / "type") in kinds and read_text(folder / "scope") != "Device"


def _make_battery_probe(folder: Path) -> PowerProbe:
    if read_int(folder / "power_now") is not None:
        return PowerProbe(power=folder / "power_now")
    return PowerProbe(voltage=folder / "voltage_now", current=folder / "current_now", scale=1e-6)


def is_on_battery(root: Path) -> bool | None:
    """Return whether the machine runs on its battery; None on a machine that has none."""
    batteries = read_batteries(root)
    if not batteries:
        return None
    mains = [folder for folder in list_folder(root / "sys/class/power_supply") if _is_own(folder, "Mains", "USB")]
    if any(read_int(folder / "online") == 1 for folder in mains):
        return False
    return any(battery.is_discharging() for battery in batteries)


def _find_temperatures(root: Path) -> list[Path]:
    """Return the processor's thermal zones, else those of its hwmon chip, else zones of unknown devices."""
    zones = {
        zone / "temp": read_text(zone / "type") or ""
        for zone in list_numbered(root / "sys/class/thermal", "thermal_zone")
    }
    others = [path for path, kind in zones.items() if not OTHER_ZONE.search(kind)]
    named = [path for path in others if CPU_ZONE.search(zones[path])]
    return named or _list_chip_temperatures(root) or others


def list_thermal_zones(root: Path) -> list[str]:
    """Return the kinds of the thermal zones, each once, sorted."""
    zones = list_numbered(root / "sys/class/thermal", "thermal_zone")
    return sorted({kind for zone in zones if (kind := read_text(zone / "type"))})


def _list_chip_temperatures(root: Path) -> list[Path]:
    chips = [folder for name, folder in _list_chips(root).items() if CPU_CHIP.search(name)]
    return [path for folder in chips for path in _list_channels(folder, r"temp\d+_input")]


def _explain_absence(root: Path, batteries: Sequence[Battery]) -> str:
    """Return why there is neither energy nor power, and a remedy if one exists."""
    if _list_packages(root):
        return f"RAPL exists, but this user has no permission to read it; to allow it: {ALLOW_RAPL}"
    if batteries:
        return "the battery reports power only while it discharges; there is neither RAPL nor a hwmon sensor"
    return "no energy sensor: no RAPL, no hwmon energy or power sensor, no battery"
