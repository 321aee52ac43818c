"""From ONNX to OpenVINO's representation: the same numbers, names and shapes, or a reason."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from edgewright.formats.onnx.reader import OnnxFile
from edgewright.runtimes import openvino
from edgewright.runtimes.contract import NotConvertible
from edgewright.runtimes.wire import CompileRequest, SessionRequest
from tests.models.onnx_files import (
    constant,
    node,
    normal_feed,
    value,
    weights,
    write_conv_net,
    write_external,
    write_identity,
    write_many_outputs,
    write_onnx,
    write_qdq_net,
    write_residual_net,
    write_sequence,
)
from tests.models.openvino_files import compile_onnx, write_openvino
from tests.paths import ROOT

pytestmark = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")

Arrays = Mapping[str, NDArray[Any]]
MODELS = ROOT.parent / "shared" / "data" / "models"
LEAST_SQNR_DB, LEAST_COSINE = 60.0, 0.9999


def infer(model: Path, feeds: Arrays, **options: str) -> dict[str, NDArray[Any]]:
    wish = {name.replace("_", "-"): text for name, text in options.items()}
    session = openvino.open_session(SessionRequest(model=str(model), options=wish))
    session.bind(feeds)
    session.run()
    return session.fetch()


def reference(source: Path, feeds: Arrays) -> dict[str, NDArray[Any]]:
    session = onnxruntime.InferenceSession(str(source), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def sqnr_db(wanted: NDArray[Any], given: NDArray[Any]) -> float:
    noise = float(np.square(wanted.astype(np.float64) - given).sum())
    return float(10 * np.log10(np.square(wanted.astype(np.float64)).sum() / noise)) if noise else 200.0


def cosine(wanted: NDArray[Any], given: NDArray[Any]) -> float:
    a, b = wanted.astype(np.float64).ravel(), given.astype(np.float64).ravel()
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def assert_close(wanted: Arrays, given: Arrays, least_db: float = LEAST_SQNR_DB) -> None:
    assert list(given) == list(wanted)
    for name, array in wanted.items():
        assert (given[name].dtype, given[name].shape) == (array.dtype, array.shape)
        assert sqnr_db(array, given[name]) >= least_db
        assert cosine(array, given[name]) >= LEAST_COSINE


def write_embedding(path: Path) -> Path:
    """ids int64[1,6] and scale float32[1] → Gather, Mul, MatMul, Softmax → two outputs."""
    nodes = [
        node("Gather", ["table", "ids"], ["rows"], "embed"),
        node("Mul", ["rows", "scale"], ["scaled"], "scale it"),
        node("MatMul", ["scaled", "w"], ["scores"], "project"),
        node("Softmax", ["scores"], ["chances"], "softmax", axis=-1),
    ]
    inputs = [value("ids", [1, 6], "INT64"), value("scale", [1])]
    outputs = [value("chances", [1, 6, 5]), value("scores", [1, 6, 5])]
    return write_onnx(path, nodes, inputs, outputs, [weights("table", 10, 8), weights("w", 8, 5, seed=1)])


def write_audio(path: Path) -> Path:
    """x float32[1,4,32] → Conv over time, Relu, MaxPool, GRU's kin LayerNormalization → y."""
    nodes = [
        node("Conv", ["x", "w"], ["c"], "conv", kernel_shape=[3], pads=[1, 1]),
        node("Relu", ["c"], ["r"], "relu"),
        node("MaxPool", ["r"], ["p"], "pool", kernel_shape=[2], strides=[2]),
        node("LayerNormalization", ["p", "g", "h"], ["y"], "norm", axis=-1),
    ]
    constants = [weights("w", 8, 4, 3), weights("g", 16, seed=1), weights("h", 16, seed=2)]
    return write_onnx(path, nodes, [value("x", [1, 4, 32])], [value("y", [1, 8, 16])], constants)


def write_vector(path: Path) -> Path:
    """x float32[8] → MatMul, Tanh → y float32[4]; and the input itself through Identity."""
    nodes = [
        node("MatMul", ["x", "w"], ["m"], "matmul"),
        node("Tanh", ["m"], ["y"], "tanh"),
        node("Identity", ["x"], ["same"], "identity"),
    ]
    return write_onnx(path, nodes, [value("x", [8])], [value("y", [4]), value("same", [8])], [weights("w", 8, 4)])


def write_free(path: Path) -> Path:
    return write_conv_net(path, batch="batch")


CASES: list[tuple[Callable[[Path], Path], dict[str, NDArray[Any]]]] = [
    (write_conv_net, {"x": normal_feed(1, 3, 8, 8)}),
    (write_residual_net, {"x": normal_feed(1, 16, 8, 8)}),
    (write_embedding, {"ids": np.array([[3, 0, 9, 9, 1, 2]]), "scale": np.array([1.5], np.float32)}),
    (write_audio, {"x": normal_feed(1, 4, 32)}),
    (write_vector, {"x": normal_feed(8)}),
    (write_qdq_net, {"x": normal_feed(1, 8, 8, 8)}),
    (write_external, {"x": normal_feed(64, 128)}),
]


@pytest.mark.parametrize(("write", "feeds"), CASES)
def test_the_numbers_are_those_of_onnx_runtime(
    write: Callable[[Path], Path], feeds: dict[str, NDArray[Any]], tmp_path: Path
) -> None:
    source = write(tmp_path / "m.onnx")
    assert_close(reference(source, feeds), infer(write_openvino(source), feeds))


@pytest.mark.parametrize(("write", "feeds"), CASES[:3])
def test_half_precision_halves_the_weights_and_keeps_the_ports(
    write: Callable[[Path], Path], feeds: dict[str, NDArray[Any]], tmp_path: Path
) -> None:
    source = write(tmp_path / "m.onnx")
    compiled, folder = compile_onnx(source, "fp16")
    full, full_folder = compile_onnx(source)
    assert compiled.io_map == full.io_map
    assert "half precision" in compiled.notes[0]
    assert (folder / "m.bin").stat().st_size < (full_folder / "m.bin").stat().st_size
    assert_close(reference(source, feeds), infer(folder / compiled.main, feeds), 50.0)


def test_only_the_artifact_is_left(tmp_path: Path) -> None:
    compiled, folder = compile_onnx(write_conv_net(tmp_path / "m.onnx"))
    assert compiled.main == "m.xml"
    assert sorted(path.name for path in folder.iterdir()) == ["m.bin", "m.xml"]
    assert set(compiled.tools) == {"openvino"}


def test_the_parts_of_a_node_bear_its_name(tmp_path: Path) -> None:
    source = write_residual_net(tmp_path / "m.onnx")
    compiled, folder = compile_onnx(source)
    text = (folder / compiled.main).read_text()
    assert 'name="gemm/Multiply"' in text
    assert str(tmp_path) not in text


def test_the_io_map_names_every_port(tmp_path: Path) -> None:
    compiled, _ = compile_onnx(write_embedding(tmp_path / "m.onnx"))
    ports = [(port.source, port.name, port.shape, port.dtype) for port in compiled.io_map.inputs]
    assert ports == [("ids", "ids", (1, 6), "int64"), ("scale", "scale", (1,), "float32")]
    assert [port.name for port in compiled.io_map.outputs] == ["chances", "scores"]
    assert [port.axes for port in compiled.io_map.outputs] == [(0, 1, 2), (0, 1, 2)]


def test_outputs_of_one_tensor_keep_their_own_names(tmp_path: Path) -> None:
    nodes = [node("Neg", ["x"], ["n"]), node("Identity", ["n"], ["a"]), node("Identity", ["n"], ["b"])]
    outputs = [value("b", [2]), value("n", [2]), value("a", [2])]
    source = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [2])], outputs)
    feeds = {"x": np.array([1, -2], np.float32)}
    assert list(infer(write_openvino(source), feeds)) == ["b", "n", "a"]


def test_a_free_size_is_fixed_by_the_preparation(tmp_path: Path) -> None:
    source, feeds = write_free(tmp_path / "m.onnx"), {"x": normal_feed(2, 3, 8, 8)}
    compiled, folder = compile_onnx(source, shapes={"x": (2, 3, 8, 8)})
    assert compiled.io_map.outputs[0].shape == (2, 5)
    assert_close(reference(source, feeds), infer(folder / compiled.main, feeds))


def test_a_size_that_only_a_run_shows_is_written_so(tmp_path: Path) -> None:
    source = write_many_outputs(tmp_path / "m.onnx")
    feeds = {"ids": np.array([2, 0, 1]), "mask": np.array([True, False, True])}
    compiled, folder = compile_onnx(source, shapes={"ids": (3,), "mask": (3,)})
    assert [port.shape for port in compiled.io_map.outputs] == [(3, 4), (-1,), ()]
    wanted, given = reference(source, feeds), infer(folder / compiled.main, feeds)
    for name in wanted:
        np.testing.assert_array_equal(given[name], wanted[name])


def test_only_a_quantized_model_becomes_int8(tmp_path: Path) -> None:
    """int8 weights take a quarter of the space, so the file's size shows whether they are used."""
    compiled, folder = compile_onnx(write_qdq_net(tmp_path / "q.onnx"), "w8a8")
    floats, float_folder = compile_onnx(write_residual_net(tmp_path / "f.onnx"))
    assert compiled.notes == floats.notes == ()
    assert (folder / "q.bin").stat().st_size * 3 < (float_folder / "f.bin").stat().st_size
    with pytest.raises(NotConvertible, match="the model is fp32") as caught:
        compile_onnx(tmp_path / "f.onnx", "w8a8")
    assert "w8a8" in caught.value.hint


@pytest.mark.parametrize("size", [5, 6, 7])
def test_a_max_pool_rounds_its_size_up_as_onnx_does(size: int, tmp_path: Path) -> None:
    """OpenVINO's reader alone gives a column of the lowest float where the last window begins behind the input."""
    nodes = [node("MaxPool", ["x"], ["m"], "pool", kernel_shape=[1, 1], strides=[3, 3], ceil_mode=1)]
    nodes.append(node("Neg", ["m"], ["y"], "neg"))
    outputs = [value("m", None), value("y", None)]
    source = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [1, 2, size, size])], outputs)
    feeds = {"x": normal_feed(1, 2, size, size)}
    assert_close(reference(source, feeds), infer(write_openvino(source), feeds))


@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 1, 2]])
@pytest.mark.parametrize("counted", [0, 1])
@pytest.mark.parametrize("size", [5, 6, 7])
def test_an_average_pool_divides_its_last_window_as_onnx_does(
    pads: list[int], counted: int, size: int, tmp_path: Path
) -> None:
    shape = {"kernel_shape": [3, 3], "strides": [2, 3], "pads": pads}
    nodes = [node("AveragePool", ["x"], ["y"], "pool", ceil_mode=1, count_include_pad=counted, **shape)]
    source = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [1, 2, size, size])], [value("y", None)])
    feeds = {"x": normal_feed(1, 2, size, size)}
    assert_close(reference(source, feeds), infer(write_openvino(source), feeds))


def test_unknown_operators_are_named_with_their_nodes(tmp_path: Path) -> None:
    nodes = [
        node("Foo", ["x"], ["a"], "first, strange"),
        node("Neg", ["a"], ["b"], "known"),
        node("Bar", ["b"], ["y"], "last", domain="mine"),
    ]
    source = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [2])], [value("y", [2])])
    with pytest.raises(NotConvertible) as caught:
        compile_onnx(source)
    lines = str(caught.value).splitlines()
    assert any("Foo" in line and "'first, strange'" in line for line in lines)
    assert any("Bar" in line and "'last'" in line for line in lines)
    assert "Neg" not in str(caught.value)
    assert caught.value.hint
    assert not list((tmp_path / "m-fp32").iterdir())


@pytest.mark.parametrize("write", [write_sequence, lambda path: write_identity(path, "STRING")])
def test_what_cannot_be_run_is_rejected_and_leaves_nothing(write: Callable[[Path], Path], tmp_path: Path) -> None:
    with pytest.raises(NotConvertible, match=r"\S"):
        compile_onnx(write(tmp_path / "m.onnx"))
    assert not list((tmp_path / "m-fp32").iterdir())


def test_an_invalid_model_is_rejected_with_openvinos_words(tmp_path: Path) -> None:
    nodes = [node("MatMul", ["x", "w"], ["y"], "matmul")]
    constants = [constant("w", np.ones((3, 3)))]
    source = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [2, 4])], [value("y", [2, 3])], constants)
    with pytest.raises(NotConvertible, match="OpenVINO"):
        compile_onnx(source)


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet8_cifar10", "dscnn_kws"])
def test_real_networks_give_the_same_numbers(name: str, tmp_path: Path) -> None:
    model = MODELS / f"{name}.onnx"
    if not model.exists():
        pytest.skip("the shared data is not beside the checkout")
    spec = OnnxFile(model).signature().inputs[0]
    shape = tuple(size if isinstance(size, int) else 1 for size in spec.shape)
    source = tmp_path / "m.onnx"
    source.write_bytes(model.read_bytes())
    compiled, folder = compile_onnx(source, shapes={spec.name: shape})
    feeds = {spec.name: normal_feed(*shape)}
    assert_close(reference(model, feeds), infer(folder / compiled.main, feeds))


@pytest.mark.parametrize("place", ["input", "output"])
def test_a_no_op_at_the_border_keeps_the_source_s_names(place: str, tmp_path: Path) -> None:
    ops = ["Identity", "Relu"] if place == "input" else ["Relu", "Identity"]
    nodes = [node(ops[0], ["x"], ["a"], "first"), node(ops[1], ["a"], ["y"], "second")]
    source = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [2, 3])], [value("y", [2, 3])])
    (tmp_path / "to").mkdir()
    request = CompileRequest(
        source=str(source), format="onnx", precision="fp32", shapes={"x": (2, 3)}, folder=str(tmp_path / "to"), stem="m"
    )
    io_map = openvino.compile(request).io_map
    assert [port.source for port in (*io_map.inputs, *io_map.outputs)] == ["x", "y"]
