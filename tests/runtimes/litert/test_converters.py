"""The LiteRT converters onnx2tf and litert-torch: our code around them, and the converters where they are installed.

EDGEWRIGHT_TEST_ENVIRONMENTS names a folder with environments that `edgewright runtimes setup` made.
"""

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgewright.devices.local import LocalDevice
from edgewright.errors import ModelUnreadable
from edgewright.formats.tflite.reader import read_graph
from edgewright.runtimes.contract import NotConvertible
from edgewright.runtimes.environments import find_ready_locks
from edgewright.runtimes.litert.converters import isolated
from edgewright.runtimes.litert.converters.isolated import compile_litert_torch, compile_onnx2tf, reject_foreign_ops
from edgewright.runtimes.litert.converters.onnx2tf import (
    explain,
    file_names,
    is_image,
    make_input_options,
    prepare,
    run_reference,
)
from edgewright.runtimes.litert.converters.ports import NEAR, ReferenceIo, distance, match_ports
from edgewright.runtimes.litert.converters.sandbox import enter_sandbox
from edgewright.runtimes.litert.session import LiteRtSession
from edgewright.runtimes.litert.writer import convert_onnx
from edgewright.runtimes.wire import Compile, Compiled, CompileRequest, SessionRequest
from edgewright.schema.artifact import IoMap
from edgewright.tasks.data.ports import feed_artifact, read_artifact_outputs
from tests.models.onnx_files import constant, node, value, weights, write_conv_net, write_onnx

pytest.importorskip("ai_edge_litert", reason="the files are run in LiteRT")
onnxruntime: Any = pytest.importorskip("onnxruntime")
onnx: Any = pytest.importorskip("onnx")

Feeds = dict[str, NDArray[Any]]
ENVIRONMENTS = os.environ.get("EDGEWRIGHT_TEST_ENVIRONMENTS", "")


def request(source: Path, folder: Path, precision: Any = "fp32", **options: str) -> CompileRequest:
    graph = onnx.load(str(source)).graph
    shapes = {v.name: tuple(dim.dim_value for dim in v.type.tensor_type.shape.dim) for v in graph.input}
    return CompileRequest(
        source=str(source),
        format="onnx",
        precision=precision,
        shapes=shapes,
        folder=str(folder),
        stem="m",
        options=options,
    )


def run_source(source: Path, feeds: Feeds) -> Feeds:
    session = onnxruntime.InferenceSession(str(source), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def run_file(path: Path, io_map: IoMap, feeds: Feeds) -> Feeds:
    session = LiteRtSession(SessionRequest(model=str(path)))
    session.bind(feed_artifact(feeds, io_map))
    session.run()
    return read_artifact_outputs(session.fetch(), io_map)


def assert_same(source: Path, path: Path, io_map: IoMap) -> None:
    """The file computes what the source computes, on other inputs than those it was matched on."""
    random = np.random.default_rng(99)
    feeds = {port.source: random.standard_normal(port.source_shape).astype(np.float32) for port in io_map.inputs}
    given = run_file(path, io_map, feeds)
    for name, wanted in run_source(source, feeds).items():
        np.testing.assert_allclose(given[name], wanted, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- a place apart


def test_a_converter_stands_in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("USERPROFILE", raising=False)
    path = os.environ["PATH"]
    with enter_sandbox() as folder:
        assert Path.cwd() == folder.resolve() != tmp_path
        assert Path.home() == folder  # a package that is imported may write there, as Keras does
        assert os.environ["PATH"].startswith(str(Path(sys.executable).parent))
        Path("left").write_text("x")
    assert Path.cwd() == tmp_path and list(tmp_path.iterdir()) == []
    assert (os.environ["PATH"], folder.exists()) == (path, False)
    assert Path.home() == tmp_path and "USERPROFILE" not in os.environ


def test_the_folder_is_left_when_the_converter_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit), enter_sandbox():
        raise SystemExit(1)
    assert Path.cwd() == tmp_path


def test_there_is_no_network_within_and_it_comes_back(tmp_path: Path) -> None:
    server = socket.create_server(("127.0.0.1", 0))
    place = server.getsockname()
    with enter_sandbox():
        for reach in (lambda: socket.create_connection(place), lambda: socket.getaddrinfo("localhost", 80)):
            with pytest.raises(OSError, match="tried to use the network"):
                reach()
        with socket.socket() as plain, pytest.raises(OSError, match="tried to use the network"):
            plain.connect(place)
    socket.create_connection(place, timeout=10).close()
    server.close()


# ---------------------------------------------------------------- what lies where


def write_square(path: Path) -> Path:
    """x float32[1,3,3,3] → Conv → y [1,3,3,3]: sizes do not determine the channel axis; outputs do."""
    nodes = [
        node("Conv", ["x", "w"], ["c"], "conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["y"]),
    ]
    return write_onnx(path, nodes, [value("x", [1, 3, 3, 3])], [value("y", [1, 3, 3, 3])], [weights("w", 3, 3, 3, 3)])


@pytest.mark.parametrize("order", ["channels_last", "source"])
def test_numbers_determine_the_order_of_axes_where_sizes_do_not(tmp_path: Path, order: Any) -> None:
    source = write_square(tmp_path / "m.onnx")
    path = tmp_path / "m.tflite"
    path.write_bytes(convert_onnx(source, io=order, check=False).data)
    io_map, notes = match_ports(path, run_reference(source, {"x": (1, 3, 3, 3)}))
    axes = (0, 2, 3, 1) if order == "channels_last" else (0, 1, 2, 3)
    assert (io_map.inputs[0].axes, io_map.outputs[0].axes, notes) == (axes, axes, ())
    assert_same(source, path, io_map)


def test_a_file_that_computes_something_else_is_noted(tmp_path: Path) -> None:
    source = write_square(tmp_path / "m.onnx")
    path = tmp_path / "m.tflite"
    path.write_bytes(convert_onnx(source, check=False).data)
    ends = run_reference(source, {"x": (1, 3, 3, 3)})
    wrong = ReferenceIo(ends.inputs, {"y": np.flip(ends.outputs["y"]).copy()}, ends.names)
    assert "differ from the source's by" in match_ports(path, wrong)[1][0]


def test_other_outputs_than_the_sources_are_rejected(tmp_path: Path) -> None:
    source = write_square(tmp_path / "m.onnx")
    path = tmp_path / "m.tflite"
    path.write_bytes(convert_onnx(source, check=False).data)
    ends = run_reference(source, {"x": (1, 3, 3, 3)})
    with pytest.raises(NotConvertible, match="has no output 'z'"):
        match_ports(path, ReferenceIo(ends.inputs, {"z": ends.outputs["y"]}, {"x": "x", "z": "z"}))
    with pytest.raises(NotConvertible, match=r"has shape \[1, 3, 3, 4\] in the source"):
        match_ports(path, ReferenceIo(ends.inputs, {"y": np.ones((1, 3, 3, 4), np.float32)}, ends.names))


def test_distance_is_relative_and_infinite_for_what_is_no_number() -> None:
    ones = np.ones(4, np.float32)
    assert distance(ones, ones) == 0.0
    assert distance(ones * 1.5, ones) == pytest.approx(0.5)
    assert distance(ones * np.float32("nan"), ones) == float("inf")
    assert distance(np.array([3]), np.array([2])) > NEAR


@pytest.mark.parametrize("operator", ["FlexErf", "CUSTOM:Mine"])
def test_operators_that_litert_lacks_are_rejected_by_name(operator: str) -> None:
    with pytest.raises(NotConvertible, match=operator):
        reject_foreign_ops(["CONV_2D", operator])
    reject_foreign_ops(["CONV_2D", "RELU"])


# ---------------------------------------------------------------- what onnx2tf is handed


def write_mixed(path: Path, name: str = "x") -> Path:
    """An image and a sequence; HardSigmoid and Erf; an output that is an image."""
    nodes = [
        node("Conv", [name, "w"], ["c"], "conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("HardSigmoid", ["c"], ["h"], "hs", alpha=0.3, beta=0.4),
        node("Erf", ["h"], ["e"], "erf"),
        node("MatMul", ["z", "v"], ["s"], "matmul"),
    ]
    inputs = [value(name, [1, 3, 6, 8]), value("z", [1, 5, 4])]
    outputs = [value("e", [1, 4, 6, 8]), value("s", [1, 5, 2])]
    return write_onnx(path, nodes, inputs, outputs, [weights("w", 4, 3, 3, 3), weights("v", 4, 2)])


def test_hard_sigmoid_is_written_with_relu6_and_computes_the_same(tmp_path: Path) -> None:
    source = write_mixed(tmp_path / "m.onnx")
    onnx.save(prepare(source), str(tmp_path / "p.onnx"))
    assert "HardSigmoid" not in {one.op_type for one in onnx.load(str(tmp_path / "p.onnx")).graph.node}
    random = np.random.default_rng(3)
    feeds = {
        name: random.standard_normal(shape).astype(np.float32) * 4
        for name, shape in (("x", (1, 3, 6, 8)), ("z", (1, 5, 4)))
    }
    for name, wanted in run_source(source, feeds).items():
        np.testing.assert_allclose(run_source(tmp_path / "p.onnx", feeds)[name], wanted, atol=1e-6)


def test_only_images_get_their_channels_last(tmp_path: Path) -> None:
    model = onnx.load(str(write_mixed(tmp_path / "m.onnx")))
    assert is_image(model.graph, "x") and not is_image(model.graph, "z")
    assert make_input_options(model, in_order=False) == {"keep_shape_absolutely_input_names": ["z"]}
    assert make_input_options(model, in_order=True) == {
        "keep_shape_absolutely_input_names": ["z"],
        "keep_ncw_or_nchw_or_ncdhw_input_names": ["x"],
    }


def test_an_image_is_one_through_operators_that_do_not_care(tmp_path: Path) -> None:
    nodes = [node("Mul", ["x", "k"], ["m"]), node("Conv", ["m", "w"], ["y"], kernel_shape=[3, 3])]
    constants = [weights("w", 4, 3, 3, 3), constant("k", 2.0)]
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [1, 3, 6, 8])], [value("y", [1, 4, 4, 6])], constants)
    assert is_image(onnx.load(str(path)).graph, "x")


def test_names_that_tensorflow_would_change_are_replaced_everywhere(tmp_path: Path) -> None:
    model = prepare(write_mixed(tmp_path / "m.onnx", name="/in:0"))
    assert [one.name for one in model.graph.input] == ["in_0", "in_1"]
    assert [one.name for one in model.graph.output] == ["out_0", "out_1"]
    onnx.checker.check_model(model, full_check=True)
    plain = onnx.load(str(write_mixed(tmp_path / "q.onnx"))).graph
    assert file_names(plain) == {name: name for name in ("x", "z", "e", "s")}


def test_the_reason_is_what_onnx2tf_marks_else_the_exceptions_own() -> None:
    said = "\x1b[32mconverting\x1b[0m\n\x1b[31mERROR:\x1b[0m Einsum is not supported\n"
    assert explain(said, SystemExit(1)) == "Einsum is not supported"
    assert explain("", ValueError("first\nlast")) == "ValueError: last"


# ---------------------------------------------------------------- with a stand-in for onnx2tf


@pytest.fixture
def onnx2tf(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A module `onnx2tf` whose `convert` is our own writer; what it was called with, and where."""
    called: dict[str, Any] = {}

    def convert(**options: Any) -> None:
        called.update(options, files=sorted(path.name for path in Path.cwd().iterdir()))
        called["pictures"] = np.load(next(Path.cwd().glob("calibration_image_sample_data_*.npy")))
        if "fail" in called:
            print("\x1b[31mERROR:\x1b[0m Einsum is not supported")
            raise SystemExit(1)
        source = Path(options["input_onnx_file_path"])
        data = convert_onnx(source, check=False).data
        source.write_bytes(b"simplified in place")
        made = Path(options["output_folder_path"])
        made.mkdir()
        (made / "model_float32.tflite").write_bytes(data)
        (made / "model_float16.tflite").write_bytes(called.get("half", data))

    module = ModuleType("onnx2tf")
    module.convert = convert  # type: ignore[attr-defined] # made up here
    monkeypatch.setitem(sys.modules, "onnx2tf", module)
    monkeypatch.setattr(isolated, "installed_version", lambda name: "1")
    return called


def test_onnx2tf_gets_a_copy_and_its_file_is_brought_home(
    tmp_path: Path, onnx2tf: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    source = write_conv_net(tmp_path / "m.onnx")
    before = source.read_bytes()
    compiled = compile_onnx2tf(request(source, tmp_path / "out"))
    assert source.read_bytes() == before
    assert [path.name for path in (tmp_path / "out").iterdir()] == [compiled.main] == ["m.tflite"]
    assert list((tmp_path / "here").iterdir()) == []
    assert compiled.io_map.inputs[0].axes == (0, 2, 3, 1)
    assert compiled.io_map.inputs[0].shape == (1, 8, 8, 3)
    assert_same(source, tmp_path / "out" / compiled.main, compiled.io_map)
    assert set(compiled.tools) == {"onnx2tf", "tensorflow", "onnx"}


def test_the_pictures_that_onnx2tf_would_download_lie_there(tmp_path: Path, onnx2tf: dict[str, Any]) -> None:
    compile_onnx2tf(request(write_conv_net(tmp_path / "m.onnx"), tmp_path))
    assert "calibration_image_sample_data_20x128x128x3_float32.npy" in onnx2tf["files"]
    assert (onnx2tf["pictures"].shape, onnx2tf["pictures"].dtype) == ((20, 128, 128, 3), np.float32)
    assert onnx2tf["replace_to_pseudo_operators"] == ["erf"]  # the API compares in lower case, unlike the command
    assert onnx2tf["output_signaturedefs"] is True


def test_an_onnx2tf_that_ends_the_process_is_a_rejection(tmp_path: Path, onnx2tf: dict[str, Any]) -> None:
    onnx2tf["fail"] = True
    with pytest.raises(NotConvertible, match=r"^Einsum is not supported$"):
        compile_onnx2tf(request(write_conv_net(tmp_path / "m.onnx"), tmp_path))


def test_onnx2tf_quantizes_nothing_here(tmp_path: Path, onnx2tf: dict[str, Any]) -> None:
    with pytest.raises(NotConvertible, match="fp32 and fp16 here, not w8a8"):
        compile_onnx2tf(request(write_conv_net(tmp_path / "m.onnx"), tmp_path, precision="w8a8"))


def test_half_precision_takes_the_file_of_that_name(tmp_path: Path, onnx2tf: dict[str, Any]) -> None:
    onnx2tf["half"] = b"half"
    with pytest.raises(ModelUnreadable):
        compile_onnx2tf(request(write_conv_net(tmp_path / "m.onnx"), tmp_path, precision="fp16"))


def test_litert_torch_gives_fp32_alone_and_takes_programs_alone(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    wish = CompileRequest(
        source="m.py:build", format="torch", precision="fp16", shapes={}, folder=str(tmp_path), stem="m"
    )
    with pytest.raises(NotConvertible, match="not fp16"):
        compile_litert_torch(wish)
    script = CompileRequest(source="m.pt", format="torch", precision="fp32", shapes={}, folder=str(tmp_path), stem="m")
    with pytest.raises(NotConvertible, match=r"does not accept m\.pt"):
        compile_litert_torch(script)


# ---------------------------------------------------------------- with the converters themselves


@pytest.fixture
def compile_in(tmp_path: Path) -> Callable[[str, CompileRequest], Compiled]:
    """Compiles in a worker of a real environment."""

    def compile_there(name: str, wish: CompileRequest) -> Compiled:
        if name not in find_ready_locks(Path(ENVIRONMENTS) if ENVIRONMENTS else None):
            pytest.skip(f"EDGEWRIGHT_TEST_ENVIRONMENTS names no folder with the environment {name}")
        device = LocalDevice(environments=Path(ENVIRONMENTS))
        with device.start_worker("litert", (), 280, tmp_path / "log", name) as worker:
            compiled = worker.ask(Compile(request=wish), Compiled)
            worker.leave()
        device.close()
        return compiled

    return compile_there


@pytest.mark.parametrize("name", ["x", "/in:0"])
def test_onnx2tf_itself(tmp_path: Path, compile_in: Callable[[str, CompileRequest], Compiled], name: str) -> None:
    source = write_mixed(tmp_path / "m.onnx", name=name)
    compiled = compile_in("onnx2tf", request(source, tmp_path, converter="onnx2tf"))
    assert [port.axes for port in compiled.io_map.inputs] == [(0, 2, 3, 1), (0, 1, 2)]
    assert [port.axes for port in compiled.io_map.outputs] == [(0, 2, 3, 1), (0, 1, 2)]
    assert_same(source, tmp_path / compiled.main, compiled.io_map)
    operators = {one.op for one in read_graph(tmp_path / compiled.main)}
    assert not {one for one in operators if one.startswith("Flex") or one == "RELU_0_TO_1"}


PROGRAM = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, image, scale):
        y = self.conv(image)
        return y * scale, y.mean((2, 3))

def build():
    return Net()
"""


def test_litert_torch_itself(tmp_path: Path, compile_in: Callable[[str, CompileRequest], Compiled]) -> None:
    (tmp_path / "net.py").write_text(PROGRAM)
    compiled = compile_in(
        "litert-torch",
        CompileRequest(
            source=f"{tmp_path}/net.py:build",
            format="torch",
            precision="fp32",
            shapes={"image": (1, 3, 6, 8), "scale": (1,)},
            folder=str(tmp_path),
            stem="m",
            options={"converter": "litert-torch"},
        ),
    )
    assert [(port.source, port.axes) for port in compiled.io_map.inputs] == [("image", (0, 2, 3, 1)), ("scale", (0,))]
    assert [(port.source, port.shape) for port in compiled.io_map.outputs] == [
        ("output_0", (1, 6, 8, 4)),
        ("output_1", (1, 4)),
    ]
    assert compiled.notes == ()  # its numbers are torch's
