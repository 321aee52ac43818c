"""coremltools' result, as far as it can be checked without macOS: operators, weights, names, and rejections."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.formats.onnx.reader import OnnxFile
from edgewright.runtimes import coreml
from edgewright.runtimes.contract import NotConvertible, Rejected
from edgewright.runtimes.coreml.compiler import valid_name
from edgewright.runtimes.coreml.package import MlProgram, read_program
from edgewright.runtimes.coreml.session import CoremlSession
from edgewright.runtimes.table import find_runtime
from edgewright.runtimes.wire import Compiled, CompileRequest, SessionRequest
from tests.models.onnx_files import node, normal_feed, value, weights, write_conv_net, write_onnx

pytest.importorskip("torch", reason="torch is not installed")
coremltools_there = find_spec("coremltools") is not None
pytestmark = [
    pytest.mark.skipif(not coremltools_there, reason="coremltools is not installed"),
    pytest.mark.filterwarnings("ignore"),  # torch warns of its own insides
]


def compile_package(source: Path, folder: Path, precision: str = "fp32", **options: str) -> tuple[Compiled, MlProgram]:
    shapes = {spec.name: tuple(int(size) for size in spec.shape) for spec in OnnxFile(source).signature().inputs}
    folder.mkdir(exist_ok=True)
    compiled = coreml.compile(
        CompileRequest(
            source=str(source),
            format="onnx",
            precision="fp16" if precision == "fp16" else "fp32",
            shapes=shapes,
            folder=str(folder),
            stem="m",
            options=options,
        )
    )
    return compiled, read_program(folder / compiled.main)


def write_words(path: Path) -> Path:
    """`ids:0` int64[2,3] and `1` bool[2,3,1] → rows of a table where the mask says so; and the mask."""
    nodes = [
        node("Gather", ["table", "ids:0"], ["e"], "words"),
        node("Where", ["1", "e", "other"], ["y"], "choose"),
        node("Not", ["1"], ["z"], "turn"),
    ]
    inputs = [value("ids:0", [2, 3], "INT64"), value("1", [2, 3, 1], "BOOL")]
    outputs = [value("y", [2, 3, 4]), value("z", [2, 3, 1], "BOOL")]
    return write_onnx(path, nodes, inputs, outputs, [weights("table", 9, 4), weights("other", 4, seed=1)])


def test_the_version_is_reported() -> None:
    assert coreml.version().split(".")[0].isdecimal()


def test_operators_and_weights_are_those_of_the_source(tmp_path: Path) -> None:
    compiled, program = compile_package(write_conv_net(tmp_path / "m.onnx"), tmp_path / "out")
    assert [one.kind for one in program.operators] == ["conv", "relu", "reduce_mean", "reshape", "linear"]
    assert (program.inputs, program.outputs) == (("x",), ("y",))
    assert [path.name for path in (tmp_path / "out").iterdir()] == [compiled.main] == ["m.mlpackage"]
    assert {tuple(array.shape) for array in program.weights.values()} >= {(4, 3, 3, 3)}
    (stored,) = [array for array in program.weights.values() if array.shape == (4, 3, 3, 3)]
    wanted = np.random.default_rng(0).standard_normal((4, 3, 3, 3)) * 0.2
    np.testing.assert_array_equal(stored, wanted.astype(np.float32))


def test_half_precision_has_weights_and_operators_in_half_and_ports_in_single(tmp_path: Path) -> None:
    compiled, program = compile_package(write_conv_net(tmp_path / "m.onnx"), tmp_path / "out", "fp16")
    assert {array.dtype.name for array in program.weights.values()} == {"float16"}
    assert program.operators[0].kind == "cast"
    assert [port.dtype for port in (*compiled.io_map.inputs, *compiled.io_map.outputs)] == ["float32", "float32"]


def test_names_and_types_that_core_ml_does_not_have_are_mapped(tmp_path: Path) -> None:
    compiled, program = compile_package(write_words(tmp_path / "m.onnx"), tmp_path / "out")
    ports = [(port.source, port.name, port.source_dtype, port.dtype) for port in compiled.io_map.inputs]
    assert ports == [("ids:0", "ids_0", "int64", "int32"), ("1", "_1", "bool", "int32")]
    assert [(port.name, port.dtype) for port in compiled.io_map.outputs] == [("y", "float32"), ("z", "int32")]
    assert program.inputs == ("ids_0", "_1")
    assert "gather" in [one.kind for one in program.operators]


def test_names_stay_apart() -> None:
    assert valid_name("a:b", set()) == "a_b"
    assert valid_name("a/b", {"a_b"}) == "a_b_"
    assert valid_name("7", set()) == "_7"
    assert valid_name("größe", set()) == "gr__e"


@pytest.mark.parametrize("target", find_runtime("coreml").compile_options[1].values)
def test_every_target_compiles(target: str, tmp_path: Path) -> None:
    _, program = compile_package(write_conv_net(tmp_path / "m.onnx"), tmp_path / "out", target=target)
    assert program.operators[0].kind == "conv"


def test_an_unknown_operator_is_named(tmp_path: Path) -> None:
    source = write_onnx(
        tmp_path / "m.onnx", [node("NonZero", ["x"], ["y"], "places")], [value("x", [4])], [value("y", None, "INT64")]
    )
    with pytest.raises(NotConvertible, match=r"NonZero \('places'\)"):
        compile_package(source, tmp_path / "out")


def test_reserved_names_and_scalars_are_mapped(tmp_path: Path) -> None:
    nodes = [
        node("Add", ["x", "state"], ["tensor"], "add"),
        node("Mul", ["tensor", "gain"], ["y"], "scale"),
        node("ReduceSum", ["y"], ["total"], "sum", keepdims=0),
    ]
    inputs = [value("x", [1, 4]), value("state", [1, 4]), value("gain", [])]
    outputs = [value("tensor", [1, 4]), value("y", [1, 4]), value("total", [])]
    compiled, program = compile_package(write_onnx(tmp_path / "m.onnx", nodes, inputs, outputs), tmp_path / "out")
    ports = {port.source: (port.name, port.source_shape, port.shape) for port in compiled.io_map.inputs}
    assert ports == {"x": ("x", (1, 4), (1, 4)), "state": ("state_", (1, 4), (1, 4)), "gain": ("gain", (), (1,))}
    made = {port.source: (port.name, port.shape) for port in compiled.io_map.outputs}
    assert made == {"tensor": ("tensor_", (1, 4)), "y": ("y", (1, 4)), "total": ("total", (1,))}
    assert program.inputs == ("x", "state_", "gain")


@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 1, 2)])
def test_arrays_of_other_ranks_are_rejected(shape: tuple[int, ...], tmp_path: Path) -> None:
    source = write_onnx(tmp_path / "m.onnx", [node("Neg", ["x"], ["y"])], [value("x", shape)], [value("y", shape)])
    with pytest.raises(NotConvertible, match="'x' has"):
        compile_package(source, tmp_path / "out")


def test_compiling_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = write_conv_net(tmp_path / "m.onnx")
    capfd.readouterr()
    compile_package(source, tmp_path / "out")
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS runs it")
def test_elsewhere_than_on_macos_a_session_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="only on macOS"):
        coreml.open_session(SessionRequest(model=str(tmp_path)))


def test_layers_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(Rejected):
        coreml.profile(SessionRequest(model=str(tmp_path)), {}, 1, tmp_path)


class FakeModel:
    """Stands in for coremltools.models.MLModel, which works on only on macOS."""

    def __init__(self, path: str, compute_units: Any) -> None:
        self.path, self.units = path, compute_units.name

    def predict(self, feeds: dict[str, Any]) -> dict[str, Any]:
        return {"y": feeds["x"].sum(axis=(2, 3)).repeat(2, axis=1)[:, :5]}


def test_a_session_hands_arrays_to_core_ml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgewright.runtimes.coreml.library import load_library

    compile_package(write_conv_net(tmp_path / "m.onnx"), tmp_path / "out")
    monkeypatch.setattr(load_library().models, "MLModel", FakeModel)
    request = SessionRequest(model=str(tmp_path / "out" / "m.mlpackage"), options={"units": "cpu"})
    session = CoremlSession(request, "darwin")
    assert session._model.units == "CPU_ONLY"
    assert [(spec.name, spec.dtype, spec.shape) for spec in session.signature.inputs] == [
        ("x", "float32", (1, 3, 8, 8))
    ]
    feed = normal_feed(1, 3, 8, 8)
    session.bind({"x": feed})
    session.run()
    assert session.fetch()["y"].shape == (1, 5)
    assert "threads" in session.notes[0]
