"""The agent in Kotlin on a JVM, with the real ONNX Runtime Java binding; only its sensors are missing."""

import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import onnx
import pytest

import edgewright
import edgewright.devices.agent
from edgewright.devices.agent import connect, prepare
from edgewright.devices.kinds import DeviceContext
from edgewright.devices.protocol import Device
from edgewright.errors import DeviceUnauthorized, DeviceUnreachable, InputError, ModelRejected, RuntimeMissing
from edgewright.runtimes.wire import CommandDone, Invoke, Open, Opened, SessionRequest, TimeRuns, Times
from edgewright.runtimes.worker import read_arrays, write_arrays
from edgewright.schema.devices import RegisteredDevice
from tests.cli.calling import make_call
from tests.contracts.device_contract import push
from tests.models.onnx_files import write_conv_net
from tests_slow.apps.jvm import compile_kotlin, forward_onnx_runtime, make_command, need_jvm

KOTLIN = Path(edgewright.devices.agent.__file__).parent / "kotlin"
DIGITS = Path(edgewright.__file__).parent / "flows/digits/digits.onnx"
CODE = "CODE2345"
WAIT_S = 120.0

pytestmark = pytest.mark.slow


class JvmAgent:
    """A running agent."""

    def __init__(self, classes: Path, folder: Path, code: str, options: Sequence[str] = ()) -> None:
        command = [*make_command(classes, "edgewright.agent.jvm.MainKt", options), "agent", str(folder), "0", code]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.address = self.process.stdout.readline().strip()
        self.folder = folder

    def close(self) -> None:
        assert self.process.stdout
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_jvm()
    target = tmp_path_factory.mktemp("classes")
    done = compile_kotlin([KOTLIN], target)
    assert (done.returncode, done.stderr) == (0, "")
    return target


@pytest.fixture
def agent(classes: Path, tmp_path: Path) -> Iterator[JvmAgent]:
    agent = JvmAgent(classes, tmp_path / "phone", CODE)
    yield agent
    agent.close()


@pytest.fixture
def open_device(agent: JvmAgent, tmp_path: Path) -> Iterator[Callable[[], Device]]:
    context = DeviceContext(tmp_path / "home", lambda line: None, CODE)
    plain = RegisteredDevice(name="jvm", kind="agent", address=agent.address, added_at="2026-01-01T00:00:00Z")
    row = prepare(plain, context)
    with pytest.raises(DeviceUnauthorized):  # a code is for one pairing
        prepare(plain, context)
    with ExitStack() as stack:

        def open_closing() -> Device:
            device = connect(row, context)
            stack.callback(device.close)
            return device

        yield open_closing


def write_old_net(path: Path) -> Path:
    """Write a model that the binding's own library reads, which is ONNX Runtime 1.17."""
    model = onnx.load(write_conv_net(path))
    model.ir_version = 8
    onnx.save(model, path)
    return path


def test_a_model_has_the_outputs_of_this_machine(open_device: Callable[[], Device], tmp_path: Path) -> None:
    device = open_device()
    model, feeds = write_old_net(tmp_path / "m.onnx"), tmp_path / "feeds.npz"
    shape = tuple(one.dim_value for one in onnx.load(model).graph.input[0].type.tensor_type.shape.dim)
    name = onnx.load(model).graph.input[0].name
    image = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    write_arrays(str(feeds), {name: image})
    stacked = tmp_path / "stacked.npys"
    write_arrays(str(stacked), {name: np.stack([image, image * 2])})
    request = SessionRequest(model=push(device, model))
    one, two = (f"{device.workspace()}/{file}" for file in ("one.npz", "two.npys"))
    with device.start_worker("onnxruntime", (), WAIT_S, tmp_path / "log") as worker:
        opened = worker.ask(Open(session=request, feeds=push(device, feeds)), Opened)
        times = worker.ask(TimeRuns(runs=5, seconds=60), Times)
        framed = worker.ask(TimeRuns(runs=3, seconds=60, interval_ns=1_000_000), Times)
        worker.ask(Invoke(feeds=push(device, feeds), outputs=one), CommandDone)
        worker.ask(Invoke(feeds=push(device, stacked), outputs=two, stacked=True), CommandDone)
        worker.leave()
    assert (len(times.wall_ns), len(times.cpu_ns), len(framed.wall_ns)) == (5, 5, 3)
    assert [spec.name for spec in opened.signature.inputs] == [name]
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    device.pull(device.workspace(), tmp_path / "out")
    got, pair = read_arrays(str(tmp_path / "out/one.npz")), read_arrays(str(tmp_path / "out/two.npys"))
    for spec, wanted in zip(session.get_outputs(), session.run(None, {name: image}), strict=True):
        np.testing.assert_allclose(got[spec.name], wanted, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(pair[spec.name][0], got[spec.name])
    doubled = session.run(None, {name: image * 2})[0]
    np.testing.assert_allclose(pair[session.get_outputs()[0].name][1], doubled, rtol=1e-4, atol=1e-5)


def test_bad_requests_are_answered(open_device: Callable[[], Device], tmp_path: Path) -> None:
    device = open_device()
    broken, feeds = tmp_path / "m.onnx", tmp_path / "feeds.npz"
    broken.write_bytes(b"no model")
    write_arrays(str(feeds), {"other": np.zeros(3, np.float32)})
    model = write_old_net(tmp_path / "good.onnx")
    with device.start_worker("onnxruntime", (), WAIT_S, tmp_path / "log") as worker:
        with pytest.raises(ModelRejected):
            worker.ask(Open(session=SessionRequest(model=push(device, broken)), feeds=push(device, feeds)), Opened)
        with pytest.raises(InputError):
            worker.ask(Open(session=SessionRequest(model=push(device, model)), feeds=push(device, feeds)), Opened)
        unit = SessionRequest(model=push(device, model), options={"provider": "NNAPI"})
        with pytest.raises(RuntimeMissing):
            worker.ask(Open(session=unit, feeds=push(device, feeds)), Opened)
    with pytest.raises(RuntimeMissing):
        device.prepare("litert")


@pytest.mark.parametrize("path", ["../outside", "work/../../outside", "/etc/passwd"])
def test_no_file_outside_of_its_folder_is_read(open_device: Callable[[], Device], tmp_path: Path, path: str) -> None:
    (tmp_path / "outside").write_text("secret")
    with pytest.raises(DeviceUnreachable):
        open_device().pull(path, tmp_path / "got")
    assert not (tmp_path / "got").exists()


def test_an_agent_that_ends_is_a_lost_device(
    open_device: Callable[[], Device], agent: JvmAgent, tmp_path: Path
) -> None:
    device = open_device()
    with device.start_worker("onnxruntime", (), WAIT_S, tmp_path / "log") as worker:
        agent.process.kill()
        agent.process.wait()
        with pytest.raises(DeviceUnreachable):
            worker.leave()


def test_a_benchmark_on_a_jvm(
    classes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The demo's model, on the ONNX Runtime of this Python, which the binding reaches by `ort_forward.c`."""
    monkeypatch.setenv("EDGEWRIGHT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("REAL_ORT", "")
    natives = tmp_path / "natives"
    natives.mkdir()
    agent, call = JvmAgent(classes, tmp_path / "phone", "", forward_onnx_runtime(natives)), make_call(capfd)
    try:
        assert call("devices", "add", "jvm", agent.address, "--json").json()["kind"] == "agent"
        found = call("benchmark", DIGITS, "--on", "local,jvm", "--processes", "2", "--runs", "20", "--json")
        assert found.code == 0, found.err
        assert [one["device_kind"] for one in found.json()["runs"]] == ["local", "agent"]
        assert all(one["latency_us"] for one in found.json()["runs"])
        assert call("devices", "remove", "jvm").code == 0
        assert {one.name for one in agent.folder.iterdir()} <= {"id"}
    finally:
        agent.close()
