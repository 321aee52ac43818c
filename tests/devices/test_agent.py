"""Agents as devices, with a stand-in for the agent (`agent_stand_in.py`)."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from edgewright.devices.agent import check_address, connect, prepare
from edgewright.devices.agent.link import Place, enter
from edgewright.devices.kinds import DeviceContext
from edgewright.devices.protocol import Device
from edgewright.errors import (
    DeviceUnauthorized,
    DeviceUnreachable,
    EdgewrightError,
    RuntimeMissing,
    UsageError,
    WorkerCrashed,
)
from edgewright.runtimes.wire import Calibrate, ClockCalibration, Open, Opened, SessionRequest, TimeRuns, Times
from edgewright.schema.devices import RegisteredDevice
from tests.cli.calling import make_call
from tests.contracts.device_contract import DeviceContract, OpenDevice, push
from tests.devices.agent_stand_in import AgentStandIn
from tests.models.onnx_files import write_conv_net

WAIT_S = 60.0


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentStandIn]:
    agent = AgentStandIn(tmp_path / "phone")
    yield agent
    agent.close()


@pytest.fixture
def context(tmp_path: Path) -> DeviceContext:
    return DeviceContext(tmp_path / "home", lambda line: None, "code2345")


@pytest.fixture
def row(agent: AgentStandIn, context: DeviceContext) -> RegisteredDevice:
    plain = RegisteredDevice(name="phone", kind="agent", address=agent.address, added_at="2026-01-01T00:00:00Z")
    return prepare(plain, context)


@pytest.fixture
def open_device(row: RegisteredDevice, context: DeviceContext) -> Iterator[Callable[[], Device]]:
    with ExitStack() as stack:

        def open_closing() -> Device:
            device = connect(row, context)
            stack.callback(device.close)
            return device

        yield open_closing


class TestAgent(DeviceContract):
    """The contract of devices."""


def test_what_is_there_is_not_sent_again(agent: AgentStandIn, open_device: OpenDevice, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"12345")
    for _ in range(2):
        device = open_device()
        push(device, path)
        device.close()
    assert agent.received == 5


def test_the_token_is_in_a_file_of_the_user_alone(row: RegisteredDevice, agent: AgentStandIn) -> None:
    assert Path(row.credential).read_text() == agent.token
    assert Path(row.credential).stat().st_mode & 0o777 == 0o600
    assert agent.token not in repr(row)


@pytest.mark.parametrize("code", ["", "CODE2346"])
def test_a_wrong_code_is_refused(agent: AgentStandIn, context: DeviceContext, code: str) -> None:
    row = RegisteredDevice(name="phone", kind="agent", address=agent.address, added_at="2026-01-01T00:00:00Z")
    with pytest.raises(DeviceUnauthorized):
        prepare(row, context._replace(code=code))
    assert not (context.home / "agents").exists()


def test_an_agent_without_the_secret_is_found_out(agent: AgentStandIn, row: RegisteredDevice) -> None:
    class Impostor(AgentStandIn):
        """Lets everybody in."""

    impostor = Impostor(agent.folder)
    impostor.token = "another"
    with pytest.raises(DeviceUnreachable):
        enter(Place("phone", impostor.address, agent.token), "control")
    impostor.close()


@pytest.mark.parametrize(
    "address",
    ["agent://", "agent://host", "agent://h:1/path", "agent://me:secret@h:1", "agent://h:99999", "agent://h:x"],
)
def test_addresses_that_cannot_be_used(address: str) -> None:
    with pytest.raises(UsageError):
        check_address(address)


@pytest.mark.parametrize(
    ("name", "value"),
    [("cores", 0), ("cores", "8"), ("memory", -1), ("model", "x" * 301), ("extra", 1), ("runtimes", ["pretend"])],
)
def test_false_facts_are_the_devices_fault(
    agent: AgentStandIn, open_device: OpenDevice, name: str, value: object
) -> None:
    agent.facts[name] = value
    with pytest.raises(DeviceUnreachable):
        open_device()


def test_impossible_readings_are_the_devices_fault(agent: AgentStandIn, open_device: OpenDevice) -> None:
    device = open_device()
    assert device.sensors().power_uw == 900_000
    agent.state["temperature_c"] = 4000.0
    with pytest.raises(DeviceUnreachable):
        device.sensors()


def test_checks_name_what_distorts(open_device: OpenDevice) -> None:
    device = open_device()
    states = {one.code: one.state for one in device.checks()}
    assert states == {
        "battery": "warning", "charging": "ok", "saver": "unknown", "visible": "ok", "temperature": "warning",
    }  # fmt: skip
    device.close()


def _shorten(line: bytes) -> bytes:
    return line.replace(b'"wall_ns":[', b'"wall_ns":[-5,') if b"wall_ns" in line else line


@pytest.mark.parametrize(
    "spoil",
    [
        lambda line: b"\xff\xfe garbage\n",
        lambda line: b"{}\n",
        lambda line: line.replace(b'"id":1', b'"id":7'),
        _shorten,
        lambda line: line.replace(b'"wall_ns":[', b'"wall_ns":[1,2,3,4,5,6,7,8,9,'),
        lambda line: None,
    ],
    ids=["garbage", "no message", "another id", "negative time", "too many times", "lost"],
)
def test_a_worker_that_breaks_the_protocol_is_the_devices_fault(
    agent: AgentStandIn, open_device: OpenDevice, tmp_path: Path, spoil: Callable[[bytes], bytes | None]
) -> None:
    device = open_device()
    model, feeds = tmp_path / "m.pretend", tmp_path / "feeds.npz"
    model.write_bytes(b"pretend")
    np.savez(feeds, x=np.arange(4.0))
    request = SessionRequest(model=push(device, model), options={"latency-us": "10"})
    with device.start_worker("pretend", (), WAIT_S, tmp_path / "log") as worker:
        agent.spoil = spoil
        with pytest.raises(DeviceUnreachable):
            worker.ask(Open(session=request, feeds=push(device, feeds)), Opened)
            worker.ask(TimeRuns(runs=3, seconds=10), Times)
    device.close()


def test_a_worker_that_ends_is_no_lost_device(open_device: OpenDevice, tmp_path: Path) -> None:
    device = open_device()
    model, feeds = tmp_path / "m.pretend", tmp_path / "feeds.npz"
    model.write_bytes(b"pretend")
    np.savez(feeds, x=np.arange(4.0))
    request = SessionRequest(model=push(device, model), options={"fail": "segfault"})
    with device.start_worker("pretend", (), WAIT_S, tmp_path / "log") as worker, pytest.raises(WorkerCrashed):
        worker.ask(Open(session=request, feeds=push(device, feeds)), Opened)
        worker.ask(TimeRuns(runs=3, seconds=10), Times)
    with device.start_worker("pretend", (), WAIT_S, tmp_path / "log") as worker:
        worker.ask(Calibrate(runs=3), ClockCalibration)
    device.close()


def test_outputs_that_are_no_arrays_are_the_devices_fault(
    agent: AgentStandIn, open_device: OpenDevice, tmp_path: Path
) -> None:
    device = open_device()
    (agent.folder / device.workspace() / "out.npz").write_bytes(b"PK nothing")
    with pytest.raises(DeviceUnreachable):
        device.pull(device.workspace(), tmp_path / "results")


def test_a_runtime_that_the_agent_lacks(open_device: OpenDevice) -> None:
    device = open_device()
    with pytest.raises(RuntimeMissing):
        device.prepare("ncnn")
    device.close()


def test_a_benchmark_runs_on_an_agent(
    agent: AgentStandIn, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real workers of this machine behind the stand-in's protocol."""
    monkeypatch.setenv("EDGEWRIGHT_HOME", str(tmp_path / "home"))
    model, call = write_conv_net(tmp_path / "m.onnx"), make_call(capfd)
    added = call("devices", "add", "phone", agent.address, "--code", agent.code, "--json")
    assert (added.code, added.json()["kind"]) == (0, "agent")
    options = ("--processes", "1", "--runs", "3", "--warmup-seconds", "0.01", "--no-layers", "--json")
    found = call("benchmark", model, "--on", "phone", *options)
    assert [one["device_kind"] for one in found.json()["runs"]] == ["agent"]


def test_removing_forgets_the_token(open_device: OpenDevice, row: RegisteredDevice, agent: AgentStandIn) -> None:
    device = open_device()
    device.remove()  # type: ignore[attr-defined]  # of agents and boards
    assert not Path(row.credential).exists()
    assert not agent.folder.exists()
    with pytest.raises(EdgewrightError):
        open_device()
