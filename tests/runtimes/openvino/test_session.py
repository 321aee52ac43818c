"""A session of OpenVINO: types, supported and unsupported options, rejected files."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgewright.runtimes import openvino
from edgewright.runtimes.contract import Mismatch, Rejected
from edgewright.runtimes.openvino.library import get_error_text
from edgewright.runtimes.openvino.session import (
    OpenvinoSession,
    choose_device,
    compare_settings,
    configure,
    read_streams,
)
from edgewright.runtimes.wire import SessionRequest
from tests.models.onnx_files import (
    normal_feed,
    write_conv_net,
    write_identity,
    write_many_outputs,
    write_no_input,
    write_residual_net,
)
from tests.models.openvino_files import write_openvino

pytestmark = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")

NUMBERS = ["float16", "float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
TENSOR_PROTO = {"float16": "FLOAT16", "float32": "FLOAT", "float64": "DOUBLE"}


def open_model(model: Path, threads: int = 1, **options: str) -> OpenvinoSession:
    wish = {name.replace("_", "-"): text for name, text in options.items()}
    return openvino.open_session(SessionRequest(model=str(model), threads=threads, options=wish))


@pytest.mark.parametrize("dtype", NUMBERS)
def test_every_number_type_goes_through(dtype: str, tmp_path: Path) -> None:
    source = write_identity(tmp_path / "m.onnx", TENSOR_PROTO.get(dtype, dtype.upper()))
    session = open_model(write_openvino(source))
    array = np.array([1, 100], dtype)
    session.bind({"x": array})
    session.run()
    fetched = session.fetch()["y"]
    assert fetched.dtype == array.dtype
    np.testing.assert_array_equal(fetched, array)


def test_booleans_go_through(tmp_path: Path) -> None:
    session = open_model(write_openvino(write_identity(tmp_path / "m.onnx", "BOOL")))
    session.bind({"x": np.array([True, False])})
    session.run()
    assert session.fetch()["y"].tolist() == [True, False]
    assert session.fetch()["y"].dtype == bool


def test_a_type_that_numpy_lacks_is_a_mismatch(tmp_path: Path) -> None:
    session = open_model(write_openvino(write_identity(tmp_path / "m.onnx", "BFLOAT16")))
    with pytest.raises(Mismatch, match="is bfloat16"):
        session.bind({"x": np.ones(2, np.float16)})


def test_a_scalar_stays_one(tmp_path: Path) -> None:
    session = open_model(write_openvino(write_identity(tmp_path / "m.onnx", "FLOAT", ())))
    session.bind({"x": np.array(2.5, np.float32)})
    session.run()
    assert session.fetch()["y"].shape == ()


def test_a_model_without_inputs_runs(tmp_path: Path) -> None:
    session = open_model(write_openvino(write_no_input(tmp_path / "m.onnx")))
    session.bind({})
    session.run()
    assert session.fetch()["y"].tolist() == [1.0, 2.0]


def test_free_sizes_are_fixed_by_the_request(tmp_path: Path) -> None:
    """OpenVINO reads ONNX itself, sizes left free; the table does not offer that, but the session can."""
    source = str(write_many_outputs(tmp_path / "m.onnx"))
    free = openvino.open_session(SessionRequest(model=source))
    fixed = openvino.open_session(SessionRequest(model=source, shapes={"ids": (3,), "mask": (3,)}))
    assert [spec.shape for spec in free.signature.inputs] == [("",), ("",)]
    assert [spec.shape for spec in fixed.signature.inputs] == [(3,), (3,)]


def test_floats_are_computed_in_float32_unless_asked_otherwise(tmp_path: Path) -> None:
    """Left to itself OpenVINO computes in bfloat16 on processors that can."""
    model = write_openvino(write_residual_net(tmp_path / "m.onnx"))
    session = open_model(model)
    assert session.compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"
    assert session.notes == ()


@pytest.mark.parametrize("precision", ["f16", "bf16"])
def test_a_precision_is_given_or_its_absence_is_reported(precision: str, tmp_path: Path) -> None:
    session = open_model(write_openvino(write_residual_net(tmp_path / "m.onnx")), inference_precision=precision)
    given = session.compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    reported = (f"{precision} was requested, but the device computes in {given}",)
    assert session.notes == (() if given == precision else reported)


def test_a_device_that_is_absent_is_reported() -> None:
    core = SimpleNamespace(available_devices=["CPU", "GPU.0"])
    assert choose_device(core, {"device": "GPU"}) == ("GPU", ())
    device, (note,) = choose_device(core, {"device": "NPU"})
    assert device == "CPU"
    assert "NPU was requested" in note


def test_an_absent_device_leaves_a_running_session(tmp_path: Path) -> None:
    model = write_openvino(write_conv_net(tmp_path / "m.onnx"))
    session = open_model(model, device="NPU")
    assert session.device == "NPU" or "NPU was requested" in session.notes[0]


def test_auto_reports_what_it_chose(tmp_path: Path) -> None:
    session = open_model(write_openvino(write_conv_net(tmp_path / "m.onnx")), device="AUTO")
    assert any(note.startswith("AUTO chose ") for note in session.notes)


def test_the_threads_are_those_asked_for_or_it_is_reported(tmp_path: Path) -> None:
    model = write_openvino(write_conv_net(tmp_path / "m.onnx"))
    assert open_model(model).compiled.get_property("INFERENCE_NUM_THREADS") == 1
    many = open_model(model, threads=100_000)
    assert any("100000 threads were requested, but OpenVINO uses" in note for note in many.notes)


def test_fewer_threads_are_reported() -> None:
    settings = {"SUPPORTED_PROPERTIES": {"INFERENCE_NUM_THREADS": "RO"}, "INFERENCE_NUM_THREADS": 2}
    compiled = SimpleNamespace(get_property=settings.__getitem__)
    assert compare_settings(compiled, SessionRequest(model="m", threads=2)) == ()
    assert "4 threads" in compare_settings(compiled, SessionRequest(model="m", threads=4))[0]


@pytest.mark.parametrize(("text", "streams"), [("1", 1), ("4", 4), ("auto", None)])
def test_streams_are_read(text: str, streams: int | None) -> None:
    assert read_streams({"streams": text}) == streams


@pytest.mark.parametrize("text", ["0", "-1", "two", "", "9" * 30])
def test_streams_that_are_no_number_are_rejected(text: str) -> None:
    with pytest.raises(Rejected, match="streams="):
        read_streams({"streams": text})


def test_a_device_is_given_only_what_it_knows() -> None:
    request = SessionRequest(model="m")
    assert "INFERENCE_NUM_THREADS" not in configure(request, "GPU", count=False)
    assert "INFERENCE_PRECISION_HINT" not in configure(request, "NPU", count=False)
    assert configure(request, "CPU", count=True) == {
        "PERFORMANCE_HINT": "LATENCY",
        "PERF_COUNT": True,
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
    }


def damage(model: Path, how: str) -> None:
    weights = model.with_suffix(".bin")
    match how:
        case "weights missing":
            weights.unlink()
        case "weights cut":
            weights.write_bytes(weights.read_bytes()[:8])
        case "not XML":
            model.write_bytes(b"<?xml nothing")
        case "other XML":
            model.write_text('<?xml version="1.0"?><svg/>')


@pytest.mark.parametrize("how", ["weights missing", "weights cut", "not XML", "other XML"])
def test_damaged_files_are_rejected(how: str, tmp_path: Path) -> None:
    model = write_openvino(write_conv_net(tmp_path / "m.onnx"))
    damage(model, how)
    with pytest.raises(Rejected, match=r"\S") as rejected:
        open_model(model)
    assert ".cpp" not in str(rejected.value)


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("Exception from src/a.cpp:84:\nCheck 'x' failed at b.cpp:1:\nIncorrect weights\n\n", "Incorrect weights"),
        ("Exception from src/a.cpp:84:\n", "Exception from src/a.cpp:84:"),
        ("", "RuntimeError"),
    ],
)
def test_errors_are_reported_without_openvinos_own_files(text: str, reported: str) -> None:
    assert get_error_text(RuntimeError(text)) == reported


def test_inputs_are_copied(tmp_path: Path) -> None:
    """What the caller does with its array afterwards changes nothing."""
    session: Any = open_model(write_openvino(write_conv_net(tmp_path / "m.onnx")))
    array = normal_feed(1, 3, 8, 8)
    session.bind({"x": array})
    session.run()
    before = session.fetch()["y"]
    array[:] = 0
    session.run()
    np.testing.assert_array_equal(session.fetch()["y"], before)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has this stack")
def test_a_signal_after_two_cores_does_not_end_the_process() -> None:
    script = (
        "import signal\n"
        "from edgewright.runtimes.openvino.library import make_core\n"
        "first, second = make_core(), make_core()\n"
        "del first, second\n"
        "signal.signal(signal.SIGALRM, lambda *_: print('handled'))\n"
        "signal.raise_signal(signal.SIGALRM)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "handled\n")
