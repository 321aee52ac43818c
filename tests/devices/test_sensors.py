"""Sensors on simulated machines; counters that wrap around are reported without the jump."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.devices.sensors import EnergyCounter, choose_channel, find_sensors, is_on_battery
from tests.devices.trees import plant_tree, write

CPUS = "sys/devices/system/cpu"
RAPL = "sys/class/powercap/intel-rapl:0"
HWMON = "sys/class/hwmon/hwmon0"
BATTERY = "sys/class/power_supply/BAT0"
ZONES = "sys/class/thermal"


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Path]:
    yield plant_tree("laptop", tmp_path)


def remove_rapl(root: Path) -> None:
    for name in root.joinpath("sys/class/powercap").glob("*/name"):
        name.unlink()


def test_rapl_counts_each_package_once(laptop: Path) -> None:
    reading = find_sensors(laptop).read()
    # Neither psys nor core nor the mmio duplicate is added.
    assert (reading.energy_uj, reading.power_uw, reading.source) == (1_000_000, None, "rapl:package-0")
    assert reading.temperature_c == 83.5  # the package's zone, not the hotter wifi or the board's
    assert reading.frequency_khz == 1_350_000


def test_rapl_sums_packages(laptop: Path) -> None:
    write(laptop, "sys/class/powercap/intel-rapl:2/name", "package-1")
    write(laptop, "sys/class/powercap/intel-rapl:2/energy_uj", "500")
    reading = find_sensors(laptop).read()
    assert (reading.energy_uj, reading.source) == (1_000_500, "rapl:package-0+package-1")


def test_rapl_wraps_around(laptop: Path) -> None:
    write(laptop, f"{RAPL}/max_energy_range_uj", "1000000")
    sensors = find_sensors(laptop)
    before = sensors.read().energy_uj
    write(laptop, f"{RAPL}/energy_uj", "41")
    after = sensors.read().energy_uj
    assert before is not None and after is not None
    assert after - before == 42


@settings(deadline=None)
@given(
    range_uj=st.integers(1, 2**40),
    start=st.integers(0, 2**41),
    shares=st.lists(st.floats(0, 1), max_size=12),
)
def test_energy_between_reads_is_exact_over_wrap_arounds(range_uj: int, start: int, shares: list[float]) -> None:
    spent = [min(int(share * range_uj), range_uj) for share in shares]
    with TemporaryDirectory() as folder:
        file = Path(folder) / "energy_uj"
        true_uj = start % (range_uj + 1)
        file.write_text(str(true_uj))
        counter = EnergyCounter(file, range_uj)
        first = counter.read()
        assert first == true_uj
        for step in spent:
            true_uj += step
            file.write_text(f"{true_uj % (range_uj + 1)}\n")
            assert counter.read() == true_uj


def test_a_counter_that_falls_without_a_range_is_unknown_from_then_on(tmp_path: Path) -> None:
    file = tmp_path / "energy1_input"
    counter = EnergyCounter(file, None)
    readings = []
    for text in ("100", "150", "30", "200"):
        file.write_text(text)
        readings.append(counter.read())
    assert readings == [100, 150, None, None]


def test_unreadable_rapl_says_how_to_allow_it(laptop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.read_text

    def fail(self: Path, *args: str | None, **kwargs: str | None) -> str:
        if self.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", fail)
    write(laptop, f"{BATTERY}/status", "Full")
    reading = find_sensors(laptop).read()
    assert (reading.energy_uj, reading.power_uw) == (None, None)
    assert "no permission to read" in reading.source and "chmod" in reading.source


def test_rapl_that_becomes_unreadable_is_reported(laptop: Path) -> None:
    sensors = find_sensors(laptop)
    (laptop / RAPL / "energy_uj").unlink()
    reading = sensors.read()
    assert reading.energy_uj is None
    assert "unreadable" in reading.source


def test_board_takes_the_channel_of_the_whole_board(tmp_path: Path) -> None:
    reading = find_sensors(plant_tree("arm-board", tmp_path)).read()
    assert (reading.energy_uj, reading.power_uw, reading.source) == (None, 10_200_000, "hwmon:ina3221/VDD_IN")
    assert reading.temperature_c == 46.2  # the gpu's 60 degrees are not the processor's
    assert reading.frequency_khz == pytest.approx((4 * 1_000_000 + 2 * 2_200_000) / 6)


def test_hwmon_energy_sums_sockets(tmp_path: Path) -> None:
    write(tmp_path, f"{HWMON}/name", "amd_energy")
    for number, (label, energy) in enumerate([("Ecore000", 7), ("Esocket0", 100), ("Esocket1", 30)], 1):
        write(tmp_path, f"{HWMON}/energy{number}_label", label)
        write(tmp_path, f"{HWMON}/energy{number}_input", str(energy))
    reading = find_sensors(tmp_path).read()
    assert (reading.energy_uj, reading.source) == (130, "hwmon:amd_energy/Esocket0+Esocket1")


def test_hwmon_power_of_the_machine_and_not_of_its_graphics_card(tmp_path: Path) -> None:
    write(tmp_path, f"{HWMON}/name", "amdgpu")
    write(tmp_path, f"{HWMON}/power1_average", "99000000")
    assert find_sensors(tmp_path).read().power_uw is None
    write(tmp_path, "sys/class/hwmon/hwmon1/name", "power_meter")
    write(tmp_path, "sys/class/hwmon/hwmon1/power1_average", "42000000")
    reading = find_sensors(tmp_path).read()
    assert (reading.power_uw, reading.source) == (42_000_000, "hwmon:power_meter/power1")


def test_battery_while_it_discharges(laptop: Path) -> None:
    remove_rapl(laptop)
    sensors = find_sensors(laptop)
    reading = sensors.read()
    assert (reading.power_uw, reading.source) == (17_100_000, "battery:BAT0")  # 1.5 A at 11.4 V
    write(laptop, f"{BATTERY}/current_now", "-1000000")
    assert sensors.read().power_uw == 11_400_000  # some drivers count a discharge below zero
    write(laptop, f"{BATTERY}/power_now", "5000000")
    assert find_sensors(laptop).read().power_uw == 5_000_000


def test_battery_that_charges_reports_no_use(laptop: Path) -> None:
    remove_rapl(laptop)
    write(laptop, f"{BATTERY}/status", "Charging")
    reading = find_sensors(laptop).read()
    assert reading.power_uw is None
    assert "only while it discharges" in reading.source


def test_on_battery(laptop: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert is_on_battery(laptop) is True
    write(laptop, "sys/class/power_supply/AC/online", "1")
    assert is_on_battery(laptop) is False
    assert is_on_battery(tmp_path_factory.mktemp("nothing")) is None


def test_nothing_has_a_reason_in_words(tmp_path: Path) -> None:
    reading = find_sensors(plant_tree("virtual-machine", tmp_path)).read()
    assert (reading.energy_uj, reading.power_uw, reading.temperature_c, reading.frequency_khz) == (None,) * 4
    assert reading.source.startswith("no energy sensor")


def test_implausible_temperatures_are_none(tmp_path: Path) -> None:
    for number, text in enumerate(["-273000", "0", "127000", "nonsense"]):
        write(tmp_path, f"{ZONES}/thermal_zone{number}/type", "cpu-thermal")
        write(tmp_path, f"{ZONES}/thermal_zone{number}/temp", text)
    assert find_sensors(tmp_path).read().temperature_c is None


def test_temperature_of_a_chip_where_there_is_no_zone(tmp_path: Path) -> None:
    write(tmp_path, f"{HWMON}/name", "k10temp")
    write(tmp_path, f"{HWMON}/temp1_input", "55125")
    assert find_sensors(tmp_path).read().temperature_c == 55.125


def test_unnamed_zones_count_when_there_is_nothing_better(tmp_path: Path) -> None:
    for number, (kind, text) in enumerate([("acpitz", "48000"), ("battery", "60000")]):
        write(tmp_path, f"{ZONES}/thermal_zone{number}/type", kind)
        write(tmp_path, f"{ZONES}/thermal_zone{number}/temp", text)
    assert find_sensors(tmp_path).read().temperature_c == 48.0


@pytest.mark.parametrize(
    ("labels", "chosen"),
    [(["VDD_GPU", "VDD_IN"], "VDD_IN"), (["VDD_GPU", "VDD_CPU_CV"], "VDD_CPU_CV"), (["power1", "power2"], "power1")],
)
def test_channels(labels: list[str], chosen: str) -> None:
    assert choose_channel(labels) == chosen
