"""The machine's state now, and the time that a hypervisor took between two moments."""

from pathlib import Path

import pytest

from edgewright.devices.system_state import compute_steal_share, read_system_state
from tests.devices.trees import plant_tree, write


def test_laptop(tmp_path: Path) -> None:
    assert read_system_state(plant_tree("laptop", tmp_path)) == {
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
    state = read_system_state(plant_tree("arm-board", tmp_path))
    assert not [name for name in state if name.startswith("psi_")]
    assert state["load1"] == 0.1


def test_empty_root_reports_nothing(tmp_path: Path) -> None:
    assert read_system_state(tmp_path) == {}


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
    assert read_system_state(tmp_path) == {}


def test_steal_between_two_moments() -> None:
    before = {"cpu_steal_ticks": 40.0, "cpu_total_ticks": 1000.0}
    after = {"cpu_steal_ticks": 65.0, "cpu_total_ticks": 1100.0}
    assert compute_steal_share(before, after) == 0.25
    assert compute_steal_share(after, after) is None
    assert compute_steal_share({}, before) == 0.04
    assert compute_steal_share({}, {}) is None
