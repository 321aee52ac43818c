"""What every device must do, wherever it is.

Inherit `DeviceContract` and give it one fixture, `open_device`: a function that connects to the same device each time
it is called. Nothing is taken for granted of the device but a worker that can run the `pretend` runtime.

    class TestBoard(DeviceContract):
        @pytest.fixture
        def open_device(self) -> Callable[[], Device]:
            return lambda: BoardDevice("192.0.2.7")
"""

import json
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgewright.devices.protocol import Device
from edgewright.errors import EdgewrightError
from edgewright.runtimes.wire import (
    Close,
    CommandDone,
    Invoke,
    Open,
    Opened,
    ReadMemory,
    SessionRequest,
    TimeRuns,
    Times,
)

OpenDevice = Callable[[], Device]
TIMEOUT_S = 60.0


def push(device: Device, path: Path) -> str:
    return device.push(path, sha256(path.read_bytes()).hexdigest())


class DeviceContract:
    """See the module's text for what to give it."""

    @pytest.fixture
    def device(self, open_device: OpenDevice) -> Iterator[Device]:
        device = open_device()
        yield device
        device.close()

    def test_facts_are_the_same_at_every_connection(self, device: Device, open_device: OpenDevice) -> None:
        other = open_device()
        assert device.facts() == device.facts() == other.facts()
        other.close()
        assert device.facts().id
        assert device.facts().kind

    def test_facts_and_environment_are_plain_json(self, device: Device) -> None:
        facts = msgspec.to_builtins(device.facts())
        environment = device.environment()
        assert json.loads(json.dumps(facts, allow_nan=False)) == facts
        assert json.loads(json.dumps(environment, allow_nan=False)) == environment

    def test_the_moment_is_reported_in_numbers(self, device: Device) -> None:
        system_state = device.system_state()
        assert all(isinstance(value, int | float) and value >= 0 for value in system_state.values())

    def test_sensors_say_what_they_are_or_why_there_is_none(self, device: Device) -> None:
        first, second = device.sensors(), device.sensors()
        assert first.source
        if first.energy_uj is not None and second.energy_uj is not None:
            assert second.energy_uj >= first.energy_uj
        assert first.power_uw is None or first.power_uw >= 0
        assert first.temperature_c is None or -50 < first.temperature_c < 150

    def test_a_pushed_file_can_be_pulled(self, device: Device, tmp_path: Path) -> None:
        path = tmp_path / "größe and space.bin"
        path.write_bytes(bytes(range(256)) * 100)
        remote = push(device, path)
        device.pull(remote, tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == path.read_bytes()

    def test_pushing_again_gives_the_same_path(self, device: Device, tmp_path: Path) -> None:
        path = tmp_path / "m.bin"
        path.write_bytes(b"model")
        assert push(device, path) == push(device, path)

    def test_another_content_of_the_same_name_is_not_mixed_up(self, device: Device, tmp_path: Path) -> None:
        for content in (b"one", b"two"):
            path = tmp_path / content.decode() / "m.bin"
            path.parent.mkdir()
            path.write_bytes(content)
            device.pull(push(device, path), tmp_path / "back")
            assert (tmp_path / "back").read_bytes() == content

    def test_what_lies_beside_keeps_its_place(self, device: Device, tmp_path: Path) -> None:
        path, data = tmp_path / "m.onnx", tmp_path / "parts" / "weights.bin"
        path.write_bytes(b"model")
        data.parent.mkdir()
        data.write_bytes(b"weights")
        remote = device.push(path, sha256(b"both").hexdigest(), {"parts/weights.bin": data})
        beside = remote.removesuffix("m.onnx") + "parts/weights.bin"
        device.pull(beside, tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == b"weights"

    def test_the_workspace_is_empty_at_first_and_gone_after_close(
        self, open_device: OpenDevice, tmp_path: Path
    ) -> None:
        device = open_device()
        device.pull(device.workspace(), tmp_path / "empty")
        assert list((tmp_path / "empty").iterdir()) == []
        workspace = device.workspace()
        device.close()
        other = open_device()
        with pytest.raises((OSError, EdgewrightError)):
            other.pull(workspace, tmp_path / "gone")
        other.close()

    def test_closing_twice_does_no_harm(self, open_device: OpenDevice) -> None:
        device = open_device()
        device.close()
        device.close()

    def test_a_worker_runs_on_what_was_pushed_and_leaves_its_results(self, device: Device, tmp_path: Path) -> None:
        model, feeds = tmp_path / "m.pretend", tmp_path / "feeds.npz"
        model.write_bytes(b"pretend")
        np.savez(feeds, x=np.arange(4.0))
        remote_feeds, result = push(device, feeds), f"{device.workspace()}/out.npz"
        request = SessionRequest(model=push(device, model), options={"latency-us": "10"})
        with device.start_worker("pretend", (), TIMEOUT_S, tmp_path / "log") as worker:
            assert worker.hello.runtime == "pretend"
            assert worker.start_us > 0
            worker.ask(Open(session=request, feeds=remote_feeds), Opened)
            assert len(worker.ask(TimeRuns(runs=3, seconds=10), Times).wall_ns) == 3
            worker.ask(Invoke(feeds=remote_feeds, outputs=result), CommandDone)
            worker.leave()
        device.pull(device.workspace(), tmp_path / "results")
        with np.load(tmp_path / "results" / "out.npz") as outputs:
            assert outputs["sums"].tolist() == [6.0]

    def test_every_worker_is_a_fresh_process(self, device: Device, tmp_path: Path) -> None:
        pids = set()
        for number in range(2):
            with device.start_worker("pretend", (), TIMEOUT_S, tmp_path / f"{number}.log") as worker:
                pids.add(worker.hello.pid)
                worker.ask(Close(), CommandDone)
        assert len(pids) == 2

    def test_two_workers_live_side_by_side(self, device: Device, tmp_path: Path) -> None:
        with (
            device.start_worker("pretend", (), TIMEOUT_S, tmp_path / "1.log") as one,
            device.start_worker("pretend", (), TIMEOUT_S, tmp_path / "2.log") as two,
        ):
            assert one.hello.pid != two.hello.pid
            one.leave()
            assert two.ask(ReadMemory(), CommandDone).memory.peak != 0

    def test_a_runtime_that_does_not_exist_is_an_error(self, device: Device, tmp_path: Path) -> None:
        with pytest.raises(EdgewrightError):
            device.start_worker("nonsense", (), TIMEOUT_S, tmp_path / "log")
