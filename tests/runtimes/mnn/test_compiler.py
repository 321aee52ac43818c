"""MNN's converter: outputs and rejections."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from edgewright.formats.onnx.editable import EditableGraph
from edgewright.formats.onnx.normalize.weights import fold_batch_norms
from edgewright.runtimes import mnn
from edgewright.runtimes.contract import NotConvertible
from edgewright.runtimes.mnn.conversion.half import CONVOLUTIONS
from edgewright.runtimes.mnn.conversion.rewrites import rewrite_nodes
from edgewright.runtimes.wire import SessionRequest
from edgewright.schema.artifact import Port
from edgewright.schema.vocabulary import Precision
from tests.models.mnn_files import (
    compile_file,
    write_forms,
    write_normed_net,
    write_perceptron,
    write_recurrent,
    write_sound_net,
    write_two_ways,
    write_unknown,
    write_volume,
    write_words,
)
from tests.models.onnx_files import (
    node,
    normal_feed,
    value,
    weights,
    write_control_flow,
    write_conv_net,
    write_identity,
    write_many_outputs,
    write_onnx,
    write_residual_net,
    write_sequence,
)

pytest.importorskip("MNN", reason="MNN is not installed")
Arrays = Mapping[str, NDArray[Any]]
Writer = Callable[[Path], Path]
IMAGE = (1, 3, 8, 8)
WORDS = {"ids": np.array([[3, 0, 10, 7, 7, 1, 2]]), "mask": np.array([[True, True, False, True, False, True, True]])}
CASES: list[tuple[Writer, Arrays]] = [
    (write_conv_net, {"x": normal_feed(*IMAGE)}),
    (write_residual_net, {"x": normal_feed(1, 16, 8, 8)}),
    (write_perceptron, {"x": normal_feed(4, 16)}),
    (write_two_ways, {"a": normal_feed(*IMAGE), "b": normal_feed(*IMAGE, seed=1)}),
    (write_sound_net, {"x": normal_feed(1, 4, 32)}),
    (write_volume, {"x": normal_feed(2, 3, 5)}),
    (write_words, WORDS),
    (write_normed_net, {"x": normal_feed(1, 3, 16, 16)}),
    (write_recurrent, {"x": normal_feed(9, 1, 4)}),
    (write_forms, {"x": normal_feed(1, 4, 6, 6), "m": normal_feed(5, 3)}),
]
FP32_DB, COSINE = 60.0, 0.9999


def into(port: Port, array: NDArray[Any]) -> NDArray[Any]:
    return array.transpose(port.axes).reshape(port.shape).astype(port.dtype)


def back(port: Port, array: NDArray[Any]) -> NDArray[Any]:
    turned = array.reshape([port.source_shape[axis] for axis in port.axes])
    return turned.transpose(np.argsort(port.axes)).astype(port.source_dtype)


def run_both(source: Path, feeds: Arrays, folder: Path, precision: Precision = "fp32") -> tuple[Arrays, Arrays]:
    """The outputs by the source's names: MNN's, and ONNX Runtime's."""
    compiled = compile_file(source, folder, precision)
    session = mnn.open_session(SessionRequest(model=str(folder / compiled.main)))
    session.bind({port.name: into(port, feeds[port.source]) for port in compiled.io_map.inputs})
    session.run()
    outputs = session.fetch()
    reference = onnxruntime.InferenceSession(str(source), providers=["CPUExecutionProvider"])
    names = [output.name for output in reference.get_outputs()]
    wanted = dict(zip(names, reference.run(None, dict(feeds)), strict=True))
    return {port.source: back(port, outputs[port.name]) for port in compiled.io_map.outputs}, wanted


def sqnr_db(got: NDArray[Any], wanted: NDArray[Any]) -> float:
    noise = np.sum((got.astype(np.float64) - wanted) ** 2)
    return float(10 * np.log10(np.sum(wanted.astype(np.float64) ** 2) / noise)) if noise else 200.0


@pytest.mark.parametrize(("write", "feeds"), CASES, ids=[write.__name__ for write, _ in CASES])
def test_numbers_are_those_of_onnxruntime(write: Writer, feeds: Arrays, tmp_path: Path) -> None:
    got, wanted = run_both(write(tmp_path / "m.onnx"), feeds, tmp_path / "out")
    assert list(got) == list(wanted)
    for name, array in wanted.items():
        assert got[name].shape == array.shape
        assert got[name].dtype == array.dtype
        assert sqnr_db(got[name], array) >= FP32_DB
        norms = np.linalg.norm(got[name]) * np.linalg.norm(array)
        assert np.vdot(got[name], array) / norms >= COSINE


def test_only_the_artifact_is_left(tmp_path: Path) -> None:
    here = sorted(Path.cwd().iterdir())
    compiled = compile_file(write_conv_net(tmp_path / "m.onnx"), tmp_path / "out")
    assert compiled.main == "m.mnn"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["m.mnn"]
    assert sorted(Path.cwd().iterdir()) == here
    assert set(compiled.tools) == {"onnx", "MNN"}


def test_the_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    """The converter gives each file another identity, and takes the axis of a softmax from memory nobody wrote."""
    nodes = [node("Softmax", ["x"], ["y"], "softmax")]
    source = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [2, 3, 4])], [value("y", [2, 3, 4])])
    for folder in ("one", "two"):
        compile_file(source, tmp_path / folder)
    assert (tmp_path / "one/m.mnn").read_bytes() == (tmp_path / "two/m.mnn").read_bytes()


def test_int64_and_bool_are_fed_as_int32(tmp_path: Path) -> None:
    ports = compile_file(write_words(tmp_path / "m.onnx"), tmp_path / "out").io_map
    assert {port.source: (port.source_dtype, port.dtype) for port in ports.inputs} == {
        "ids": ("int64", "int32"),
        "mask": ("bool", "int32"),
    }
    assert {port.source: (port.source_dtype, port.dtype) for port in ports.outputs} == {
        "y": ("float32", "float32"),
        "best": ("int64", "int32"),
    }


def test_an_input_that_nothing_reads_is_kept(tmp_path: Path) -> None:
    nodes, inputs = [node("Relu", ["x"], ["y"])], [value("x", [1, 3]), value("idle", [2, 2], "INT64")]
    source = write_onnx(tmp_path / "m.onnx", nodes, inputs, [value("y", [1, 3])])
    got, wanted = run_both(source, {"x": normal_feed(1, 3), "idle": np.ones((2, 2), np.int64)}, tmp_path / "out")
    np.testing.assert_array_equal(got["y"], wanted["y"])


def test_fp16_halves_the_weights_and_rounds_them_to_the_nearest(tmp_path: Path) -> None:
    """The converter cuts them off, which gives 58 dB here; rounding gives 69."""
    source = write_normed_net(tmp_path / "m.onnx")
    feeds = {"x": normal_feed(1, 3, 16, 16)}
    got, wanted = run_both(source, feeds, tmp_path / "half", "fp16")
    compile_file(source, tmp_path / "full")
    assert (tmp_path / "half/m.mnn").stat().st_size < 0.7 * (tmp_path / "full/m.mnn").stat().st_size
    assert got["y"].dtype == np.float32
    assert sqnr_db(got["y"], wanted["y"]) > 63


def test_folded_batch_norms_compute_the_same(tmp_path: Path) -> None:
    source = write_normed_net(tmp_path / "m.onnx")
    graph = EditableGraph.open(source)
    fold_batch_norms(graph, CONVOLUTIONS)
    model = graph.to_message()
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    feeds = {"x": normal_feed(1, 3, 16, 16)}
    (plain,) = onnxruntime.InferenceSession(str(source)).run(None, feeds)
    (folded,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, feeds)
    np.testing.assert_allclose(folded, plain, rtol=1e-4, atol=1e-5)


def test_a_batch_norm_is_not_folded_where_its_input_has_another_reader(tmp_path: Path) -> None:
    model = onnx.load(str(write_normed_net(tmp_path / "m.onnx")))
    model.graph.output.append(value("c1", [1, 16, 16, 16]))
    graph = EditableGraph(model)
    fold_batch_norms(graph, CONVOLUTIONS)
    assert [node.name for node in graph.nodes if node.op_type == "BatchNormalization"] == ["norm1"]


def test_unknown_operators_are_named_with_their_nodes(tmp_path: Path) -> None:
    with pytest.raises(NotConvertible) as rejected:
        compile_file(write_unknown(tmp_path / "m.onnx"), tmp_path / "out")
    assert "operator Hardmax (node hard)" in str(rejected.value)
    assert "operator Frobnicate (node frob)" in str(rejected.value)
    assert rejected.value.hint
    assert not list((tmp_path / "out").iterdir())


def write_last_index(path: Path) -> Path:
    nodes = [node("ArgMax", ["x"], ["y"], "last", axis=1, select_last_index=1)]
    return write_onnx(path, nodes, [value("x", [1, 3])], [value("y", [1, 1], "INT64")])


def write_bytes(path: Path) -> Path:
    return write_identity(path, "INT8", opset=18)


@pytest.mark.parametrize(
    ("write", "word"),
    [
        (write_control_flow, r"If \(node if\): MNN does not run branches.*\nLoop \(node loop\)"),
        (write_sequence, "'y' is not a tensor"),
        (write_last_index, r"ArgMax \(node last\): MNN returns the first"),
        (write_bytes, "type that MNN"),
        (write_many_outputs, "sizes depend on values"),
    ],
)
def test_rejections_say_why(write: Writer, word: str, tmp_path: Path) -> None:
    with pytest.raises(NotConvertible, match=word):
        compile_file(write(tmp_path / "m.onnx"), tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_crash_of_the_engine_is_reported_and_not_shared(tmp_path: Path) -> None:
    """Sums of uint8 crash MNN 3.6.1 when they run; where a later one computes them, its numbers must be right."""
    inputs = [value("a", [2, 3], "UINT8"), value("b", [2, 3], "UINT8")]
    source = write_onnx(tmp_path / "m.onnx", [node("Add", ["a", "b"], ["y"])], inputs, [value("y", [2, 3], "UINT8")])
    ones = np.ones((2, 3), np.uint8)
    try:
        got, wanted = run_both(source, {"a": ones, "b": ones}, tmp_path / "out")
    except NotConvertible as rejected:
        assert "crashes when running it, with signal" in str(rejected)
    else:
        np.testing.assert_array_equal(got["y"], wanted["y"])


def test_what_is_no_onnx_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\x08\x0a nothing of the kind")
    with pytest.raises(NotConvertible, match="cannot be read"):
        compile_file(tmp_path / "m.onnx", tmp_path / "out")


def test_weights_in_a_file_of_their_own_are_found(tmp_path: Path) -> None:
    nodes = [node("Conv", ["x", "w"], ["y"], "conv", kernel_shape=[3, 3])]
    constants = [weights("w", 4, 3, 3, 3)]
    model = onnx.load(
        str(write_onnx(tmp_path / "a.onnx", nodes, [value("x", IMAGE)], [value("y", [1, 4, 6, 6])], constants))
    )
    onnx.save(model, str(tmp_path / "m.onnx"), save_as_external_data=True, location="m.data", size_threshold=0)
    got, wanted = run_both(tmp_path / "m.onnx", {"x": normal_feed(*IMAGE)}, tmp_path / "out")
    assert sqnr_db(got["y"], wanted["y"]) >= FP32_DB


@pytest.mark.parametrize(("op", "opset"), [("Erf", 18), ("Gelu", 20)])
def test_erf_is_spelled_out_and_exact_to_a_step_of_float32(op: str, opset: int, tmp_path: Path) -> None:
    nodes = [node(op, ["x"], ["y"], "it")]
    source = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [1, 4001])], [value("y", [1, 4001])], opset=opset)
    feeds = {"x": np.linspace(-6, 6, 4001, dtype=np.float32)[None]}
    got, wanted = run_both(source, feeds, tmp_path / "out")
    np.testing.assert_allclose(got["y"], wanted["y"], rtol=0, atol=1e-6)
    prepared = onnx.load(str(source))
    rewrite_nodes(prepared)
    assert "Erf" not in {one.op_type for one in prepared.graph.node}
