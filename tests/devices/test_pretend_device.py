"""The device that only pretends."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgewright.devices.pretend import Phase, PretendDevice
from edgewright.devices.protocol import Device
from edgewright.errors import DeviceUnreachable
from edgewright.runtimes.wire import CommandDone, Invoke, Open, Opened, SessionRequest, TimeRuns, Times
from tests.contracts.device_contract import DeviceContract
from tests.runtimes.workers import is_running


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


@pytest.mark.parametrize("phase", ["connect", "push", "start", "load", "measuring", "result"])
def test_it_is_lost_in_a_phase(phase: Phase, tmp_path: Path) -> None:
    """Everything before that phase works, and no worker is left."""
    path, feeds = tmp_path / "m.bin", tmp_path / "feeds.npz"
    path.write_bytes(b"model")
    np.savez(feeds, x=np.ones(3))
    pids: list[int] = []
    reached: list[str] = []

    def use() -> None:
        device = PretendDevice(lost_in=phase)
        reached.append("push")
        remote, remote_feeds = device.push(path, "a" * 64), device.push(feeds, "b" * 64)
        reached.append("start")
        with device.start_worker("pretend", (), 60, tmp_path / "log") as worker:
            pids.append(worker.hello.pid)
            reached.append("load")
            request = SessionRequest(model=remote, options={"latency-us": "10"})
            worker.ask(Open(session=request, feeds=remote_feeds), Opened)
            reached.append("measuring")
            worker.ask(TimeRuns(runs=1, seconds=1), Times)
            reached.append("result")
            worker.ask(Invoke(feeds=remote_feeds, outputs=f"{device.workspace()}/out.npz"), CommandDone)

    with pytest.raises(DeviceUnreachable):
        use()
    assert reached[-1:] == ([phase] if phase != "connect" else [])
    assert not any(is_running(pid) for pid in pids)
