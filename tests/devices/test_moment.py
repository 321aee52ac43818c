"""The machine's state now, and the time that a hypervisor took between two moments."""

from pathlib import Path

import pytest

from edgewright.devices.moment import moment, steal_share
from tests.devices.trees import plant_tree, write


def test_laptop(tmp_path: Path) -> None:
    assert moment(plant_tree("laptop", tmp_path)) == {
        "load1": 2.75,
        "running_processes": 3.0,
        "psi_cpu_some_avg10": 12.5,
        "psi_memory_some_avg10": 0.0,
        "psi_io_some_avg10": 1.25,
        "memory_available_bytes": 600_000 * 1024.0,
        "swap_used_bytes": 500_000 * 1024.0,
        "cpu_steal_ticks": 0.0,
        "cpu_total_ticks": 9620.0,  # without the 5 ticks of guests, which are among the user's 1000
    }


def test_kernel_without_pressure(tmp_path: Path) -> None:
    told = moment(plant_tree("arm-board", tmp_path))
    assert not [name for name in told if name.startswith("psi_")]
    assert told["load1"] == 0.1


def test_empty_root_tells_nothing(tmp_path: Path) -> None:
    assert moment(tmp_path) == {}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("proc/loadavg", "nonsense"),
        ("proc/loadavg", ""),
        ("proc/stat", "cpu  1 2 3"),
        ("proc/stat", "cpu  a b c d e f g h"),
        ("proc/pressure/cpu", "full avg10=1.00"),
        ("proc/pressure/cpu", "some avg10=x"),
        ("proc/meminfo", "MemAvailable: much kB\nSwapTotal: 5 kB"),
    ],
)
def test_senseless_text_is_left_out(tmp_path: Path, path: str, text: str) -> None:
    write(tmp_path, path, text)
    assert moment(tmp_path) == {}


def test_steal_between_two_moments() -> None:
    before = {"cpu_steal_ticks": 40.0, "cpu_total_ticks": 1000.0}
    after = {"cpu_steal_ticks": 65.0, "cpu_total_ticks": 1100.0}
    assert steal_share(before, after) == 0.25
    assert steal_share(after, after) is None
    assert steal_share({}, before) == 0.04
    assert steal_share({}, {}) is None
