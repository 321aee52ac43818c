"""A session of MNN: backends, sizes, rejected files, and the child processes that try a file."""

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgewright.runtimes import mnn
from edgewright.runtimes.contract import Mismatch, Rejected
from edgewright.runtimes.mnn.graph import read_mnn_model, set_stable_uuid
from edgewright.runtimes.mnn.session import MnnSession, backend_notes
from edgewright.runtimes.wire import SessionRequest
from tests.models.mnn_files import compile_file, write_words
from tests.models.onnx_files import normal_feed, write_conv_net

pytest.importorskip("MNN", reason="MNN is not installed")
GIGABYTE = 2**30


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("session")
    return str(folder / "out" / compile_file(write_conv_net(folder / "m.onnx"), folder / "out").main)


@pytest.mark.parametrize("backend", ["OpenCL", "Vulkan"])
def test_a_backend_that_is_not_given_is_reported(backend: str, model: str, tmp_path: Path) -> None:
    request = SessionRequest(model=model, options={"backend": backend})
    session = MnnSession(request)
    if session.backend == backend:
        pytest.skip(f"this build of MNN has {backend} and a device")
    assert session.backend == "CPU"
    assert backend in session.notes[0]
    mnn.profile(request, {"x": normal_feed(1, 3, 8, 8)}, 2, tmp_path)
    report = mnn.layers(tmp_path, ())
    assert report.asked == backend
    assert report.fallbacks() == report.layers


def test_a_backend_that_is_given_needs_no_note() -> None:
    assert backend_notes("CPU", "CPU") == ()


def test_other_sizes_than_the_files_can_be_opened(model: str) -> None:
    x = normal_feed(2, 3, 8, 8)
    pair = mnn.open_session(SessionRequest(model=model, shapes={"x": x.shape}))
    pair.bind({"x": x})
    pair.run()
    both = pair.fetch()["y"]
    single = mnn.open_session(SessionRequest(model=model, threads=2))
    for i in range(2):
        single.bind({"x": x[i : i + 1]})
        single.run()
        np.testing.assert_allclose(single.fetch()["y"], both[i : i + 1], rtol=1e-4, atol=1e-5)


def test_sizes_for_an_unknown_input_are_a_mismatch(model: str) -> None:
    with pytest.raises(Mismatch, match="'unknown'"):
        mnn.open_session(SessionRequest(model=model, shapes={"unknown": (1,)}))


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff" * 64], ids=["empty", "text", "offsets"])
def test_what_is_no_model_is_rejected(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.mnn").write_bytes(content)
    with pytest.raises(Rejected):
        mnn.open_session(SessionRequest(model=str(tmp_path / "m.mnn")))


def test_the_file_lists_its_operators_and_inputs(tmp_path: Path) -> None:
    compile_file(write_words(tmp_path / "m.onnx"), tmp_path / "out")
    net = read_mnn_model(tmp_path / "out/m.mnn")
    assert [(entry.name, entry.shape, entry.dtype) for entry in net.inputs] == [
        ("ids", (1, 7), "int32"),
        ("mask", (1, 7), "int32"),
    ]
    assert net.outputs == ("y", "best")
    assert net.subgraphs == 0
    assert {"y", "best"} <= {tensor for operator in net.operators for tensor in operator.outputs}


def test_the_identity_follows_from_the_content(model: str) -> None:
    data = Path(model).read_bytes()
    assert set_stable_uuid(data) == data


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits what a process may allocate so")
def test_a_confined_process_cannot_take_all_memory() -> None:
    script = "from edgewright.runtimes.mnn.conversion.confine import confine_process as confine; "
    script += "confine(1000); bytearray(5 * 2**30)"
    reported = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert reported.returncode == 1
    assert "MemoryError" in reported.stderr
    assert resource.getrlimit(resource.RLIMIT_DATA)[0] != 4 * GIGABYTE + 20_000  # this process is not touched
