"""The device that only pretends."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edgewright.devices.pretend import PretendDevice
from edgewright.devices.protocol import Device
from edgewright.errors import DeviceUnreachable
from tests.contracts.device_contract import DeviceContract


class TestPretendDevice(DeviceContract):
    @pytest.fixture
    def open_device(self) -> Callable[[], Device]:
        return PretendDevice


def test_an_unreachable_device_says_so_from_the_start() -> None:
    with pytest.raises(DeviceUnreachable) as lost:
        PretendDevice(reachable=False)
    assert lost.value.exit_code == 4


def test_the_cable_falls_out_after_so_many_workers(tmp_path: Path) -> None:
    device = PretendDevice(workers=1)
    device.start_worker("pretend", (), 60, tmp_path / "log").end()
    for _ in range(2):
        with pytest.raises(DeviceUnreachable):
            device.start_worker("pretend", (), 60, tmp_path / "log")
    device.close()


def test_it_drains_and_heats_with_every_reading() -> None:
    device = PretendDevice()
    readings = [device.sensors() for _ in range(3)]
    energy = [reading.energy_uj or 0 for reading in readings]
    heat = [reading.temperature_c or 0 for reading in readings]
    assert energy[2] - energy[1] == energy[1] - energy[0] > 0
    assert heat[0] < heat[1] < heat[2]
    device.close()


def test_pushing_copies_onto_the_device(tmp_path: Path) -> None:
    device = PretendDevice()
    path = tmp_path / "m.bin"
    path.write_bytes(b"model")
    remote = Path(device.push(path, "a" * 64))
    path.unlink()
    assert remote.read_bytes() == b"model"
    device.close()
