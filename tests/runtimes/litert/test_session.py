"""A LiteRT session against the plain interpreter."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.formats.tflite.reader import read_signature
from edgewright.runtimes import litert
from edgewright.runtimes.contract import Mismatch, Rejected
from edgewright.runtimes.wire import SessionRequest
from edgewright.schema.arrays import Array
from edgewright.schema.model import Signature, TensorSpec
from tests.models.tflite_files import (
    Names,
    Node,
    Tensor,
    write_convnet,
    write_dense,
    write_int8_convnet,
    write_sum,
    write_tflite,
)
from tests.paths import ROOT

interpreter_module: Any = pytest.importorskip("ai_edge_litert.interpreter")

MODELS = ROOT.parent / "shared/data/models"
REAL = sorted(MODELS.glob("*.tflite"))
Writer = Callable[[Path], Path]


def make_feeds(signature: Signature) -> dict[str, Array]:
    made = np.random.default_rng(7)
    return {spec.name: make_array(made, spec) for spec in signature.inputs}


def make_array(made: np.random.Generator, spec: TensorSpec) -> Array:
    shape = tuple(int(size) for size in spec.shape)
    if spec.dtype == "float32":
        return made.standard_normal(shape, dtype=np.float32)
    return made.integers(-100 if spec.dtype == "int8" else 0, 100, shape).astype(spec.dtype)


def run_plainly(path: Path, feeds: dict[str, Array]) -> list[Array]:
    interpreter = interpreter_module.Interpreter(str(path))
    for detail, array in zip(interpreter.get_input_details(), feeds.values(), strict=True):
        interpreter.resize_tensor_input(detail["index"], array.shape)
    interpreter.allocate_tensors()
    for detail, array in zip(interpreter.get_input_details(), feeds.values(), strict=True):
        interpreter.set_tensor(detail["index"], array)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def check_against_plain(path: Path, request: SessionRequest) -> None:
    session = litert.open_session(request)
    feeds = make_feeds(session.signature)
    session.bind(feeds)
    session.run()
    first = session.fetch()
    session.run()
    for spec, array, expected in zip(session.signature.outputs, first.values(), run_plainly(path, feeds), strict=True):
        assert array.dtype.name == spec.dtype
        assert array.shape == spec.shape
        np.testing.assert_array_equal(array, expected)
    session.close()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("write", [write_convnet, write_int8_convnet])
def test_outputs_equal_those_of_the_plain_interpreter(tmp_path: Path, write: Writer, threads: int) -> None:
    path = write(tmp_path / "m.tflite")
    check_against_plain(path, SessionRequest(model=str(path), threads=threads))


def test_free_sizes_come_from_the_request(tmp_path: Path) -> None:
    path = write_sum(tmp_path / "m.tflite")
    request = SessionRequest(model=str(path), shapes={"a": (3, 4), "b": (3, 4)})
    assert [spec.shape for spec in litert.open_session(request).signature.inputs] == [(3, 4), (3, 4)]
    assert litert.open_session(request).signature.outputs[0].shape == (3, 4)
    check_against_plain(path, request)


def test_fetched_outputs_are_copies(tmp_path: Path) -> None:
    session = litert.open_session(SessionRequest(model=str(write_convnet(tmp_path / "m.tflite"))))
    session.bind({"x": np.zeros((1, 8, 8, 3), np.float32)})
    session.run()
    (before,) = session.fetch().values()
    session.bind({"x": np.ones((1, 8, 8, 3), np.float32)})
    session.run()
    (after,) = session.fetch().values()
    assert not np.array_equal(before, after)


@pytest.mark.parametrize(
    "signatures",
    [
        [],
        [Names({"second": "b", "first": "a"}, {"total": "c"})],
        [Names({"p": "a", "q": "b"}, {"r": "c"}, "one"), Names({"s": "a", "t": "b"}, {"u": "c"}, "two")],
        [Names({"p": "a"}, {"r": "c"})],
    ],
    ids=["none", "one", "two", "one that leaves an input out"],
)
def test_names_are_those_of_the_reader(tmp_path: Path, signatures: list[Names]) -> None:
    path = write_sum(tmp_path / "m.tflite", signatures)
    seen, reported = litert.open_session(SessionRequest(model=str(path))).signature, read_signature(path)
    assert [spec.name for spec in seen.inputs] == [spec.name for spec in reported.inputs]
    assert [spec.name for spec in seen.outputs] == [spec.name for spec in reported.outputs]


def test_a_tensor_that_is_output_twice_has_two_names(tmp_path: Path) -> None:
    tensors = [Tensor("a", (2,)), Tensor("b", (2,))]
    path = write_tflite(tmp_path / "m.tflite", tensors, [Node("NEG", ("a",), ("b",))], ["a"], ["b", "b"])
    session = litert.open_session(SessionRequest(model=str(path)))
    session.bind({"a": np.array([1, 2], np.float32)})
    session.run()
    assert {name: array.tolist() for name, array in session.fetch().items()} == {"b": [-1, -2], "b#1": [-1, -2]}
    assert [spec.name for spec in read_signature(path).outputs] == ["b", "b#1"]


def test_text_goes_in_and_comes_out(tmp_path: Path) -> None:
    tensors = [
        Tensor("x", (4,), "str"),
        Tensor("shape", (2,), "int32", np.array([2, 2], np.int32)),
        Tensor("y", (2, 2), "str"),
    ]
    node = Node("RESHAPE", ("x", "shape"), ("y",), "ReshapeOptions", {"newShape": [2, 2]})
    session = litert.open_session(
        SessionRequest(model=str(write_tflite(tmp_path / "m.tflite", tensors, [node], ["x"], ["y"])))
    )
    assert session.signature.inputs[0].dtype == "str"
    session.bind({"x": np.array(["a", "bß", "", "dd"])})
    session.run()
    assert session.fetch()["y"].tolist() == [["a", "bß"], ["", "dd"]]


def test_quantization_is_reported(tmp_path: Path) -> None:
    path = write_int8_convnet(tmp_path / "m.tflite")
    assert litert.open_session(SessionRequest(model=str(path))).signature == read_signature(path)


@pytest.mark.parametrize(
    "feeds",
    [
        {},
        {"y": np.zeros((1, 8, 8, 3), np.float32)},
        {"x": np.zeros((1, 8, 8, 3), np.float64)},
        {"x": np.zeros((2, 8, 8, 3), np.float32)},
        {"x": np.zeros((8, 8, 3), np.float32)},
    ],
    ids=["none", "name", "dtype", "size", "rank"],
)
def test_feeds_that_do_not_fit_are_a_mismatch(tmp_path: Path, feeds: dict[str, Array]) -> None:
    session = litert.open_session(SessionRequest(model=str(write_convnet(tmp_path / "m.tflite"))))
    with pytest.raises(Mismatch):
        session.bind(feeds)


def test_a_shape_for_an_unknown_input_is_a_mismatch(tmp_path: Path) -> None:
    path = write_sum(tmp_path / "m.tflite")
    with pytest.raises(Mismatch, match="no input 'z'"):
        litert.open_session(SessionRequest(model=str(path), shapes={"z": (1, 4)}))


def test_a_shape_that_the_model_does_not_leave_free_is_rejected(tmp_path: Path) -> None:
    path = write_convnet(tmp_path / "m.tflite")
    with pytest.raises(Rejected):
        litert.open_session(SessionRequest(model=str(path), shapes={"x": (2, 8, 8, 3)}))


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\0" * 64], ids=["empty", "tiny", "zeros"])
def test_what_is_no_model_is_rejected(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.tflite").write_bytes(content)
    with pytest.raises(Rejected):
        litert.open_session(SessionRequest(model=str(tmp_path / "m.tflite")))


def test_an_operator_that_litert_lacks_is_rejected_with_its_name(tmp_path: Path) -> None:
    tensors = [Tensor("x", (1,)), Tensor("y", (1,))]
    path = write_tflite(tmp_path / "m.tflite", tensors, [Node("MyOperator", ("x",), ("y",))], ["x"], ["y"])
    with pytest.raises(Rejected, match="MyOperator"):
        litert.open_session(SessionRequest(model=str(path)))


def test_a_delegate_that_took_nothing_is_noted(tmp_path: Path) -> None:
    tensors = [Tensor("x", (4,)), Tensor("y", (4,))]
    path = write_tflite(tmp_path / "m.tflite", tensors, [Node("FLOOR_MOD", ("x", "x"), ("y",))], ["x"], ["y"])
    assert any("XNNPACK" in note for note in litert.open_session(SessionRequest(model=str(path))).notes)
    plain = SessionRequest(model=str(path), options={"delegate": "none"})
    assert not litert.open_session(plain).notes
    assert not litert.open_session(SessionRequest(model=str(write_dense(tmp_path / "d.tflite", "float32")))).notes


def test_without_the_delegate_no_operator_is_delegated(tmp_path: Path) -> None:
    from edgewright.runtimes.litert.session import is_delegated, open_interpreter

    path = str(write_convnet(tmp_path / "m.tflite"))
    assert is_delegated(open_interpreter(SessionRequest(model=path)))
    assert not is_delegated(open_interpreter(SessionRequest(model=path, options={"delegate": "none"})))


def test_a_closed_session_does_not_run(tmp_path: Path) -> None:
    session = litert.open_session(SessionRequest(model=str(write_convnet(tmp_path / "m.tflite"))))
    session.close()
    with pytest.raises(RuntimeError):
        session.run()


def test_the_module_imports_without_the_library() -> None:
    code = "import sys; sys.modules['ai_edge_litert'] = None; import edgewright.runtimes.litert as m; m.version()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip().splitlines()[-1].startswith("ModuleNotFoundError")
    assert "in version" in done.stderr


def test_version_is_that_of_the_package() -> None:
    from importlib.metadata import version

    assert litert.version() == version("ai-edge-litert")


@pytest.mark.shared_data
@pytest.mark.skipif(not REAL, reason="the evaluation models do not lie beside the checkout")
@pytest.mark.parametrize("path", REAL or [MODELS], ids=lambda path: path.name)
def test_real_models_run_as_in_the_plain_interpreter(path: Path) -> None:
    check_against_plain(path, SessionRequest(model=str(path)))
    reported = read_signature(path)
    seen = litert.open_session(SessionRequest(model=str(path))).signature
    assert [spec.name for spec in seen.inputs + seen.outputs] == [
        spec.name for spec in reported.inputs + reported.outputs
    ]


def test_a_delegate_of_browsers_is_rejected_here(tmp_path: Path) -> None:
    from edgewright.runtimes.litert.session import open_interpreter

    with pytest.raises(Rejected, match="only browsers have the delegate webgpu"):
        open_interpreter(SessionRequest(model=str(tmp_path / "m.tflite"), options={"delegate": "webgpu"}))
