"""ncnn's compiler: the same numbers as ONNX Runtime, and a named reason where there are none."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from edgewright.formats.onnx.normalize.source import prepare_onnx
from edgewright.formats.onnx.reader import OnnxFile
from edgewright.runtimes import ncnn
from edgewright.runtimes.contract import NotConvertible
from edgewright.runtimes.ncnn.conversion.pnnx import complaint, read_batches
from edgewright.runtimes.wire import Compiled, CompileRequest, SessionRequest
from edgewright.schema.run import LayerReport
from edgewright.schema.vocabulary import Precision
from tests.models.onnx_files import (
    constant,
    node,
    normal_feed,
    value,
    weights,
    write_conv_net,
    write_onnx,
    write_residual_net,
)
from tests.paths import ROOT

pytest.importorskip("ncnn", reason="ncnn is not installed")
pytest.importorskip("pnnx", reason="pnnx is not installed")

MODELS = ROOT.parent / "shared" / "data" / "models"
Arrays = dict[str, NDArray[Any]]


class Made(NamedTuple):
    """A source with its artifact."""

    source: Path
    folder: Path
    compiled: Compiled

    @property
    def main(self) -> Path:
        return self.folder / self.compiled.main


def compile_model(path: Path, precision: Precision = "fp32") -> Made:
    shapes = {
        spec.name: tuple(size if isinstance(size, int) else 1 for size in spec.shape)
        for spec in OnnxFile(path).signature().inputs
    }
    source = prepare_onnx(path, shapes, path.with_name("prepared.onnx"))
    folder = path.parent / f"out-{precision}"
    folder.mkdir()
    request = CompileRequest(
        source=str(source), format="onnx", precision=precision, shapes=shapes, folder=str(folder), stem="m"
    )
    return Made(source, folder, ncnn.compile(request))


def feeds_of(path: Path, seed: int = 7) -> Arrays:
    """Others than the compiler's own."""
    generator = np.random.default_rng(seed)
    arrays: Arrays = {}
    for spec in OnnxFile(path).signature().inputs:
        shape = tuple(size for size in spec.shape if isinstance(size, int))
        floats = generator.standard_normal(shape)
        arrays[spec.name] = floats.astype(np.float32) if spec.dtype == "float32" else (floats > 0).astype(spec.dtype)
    return arrays


def to_artifact(made: Made, feeds: Arrays) -> Arrays:
    ports = made.compiled.io_map.inputs
    return {p.name: feeds[p.source].transpose(p.axes).reshape(p.shape).astype(p.dtype) for p in ports}


def run_artifact(made: Made, feeds: Arrays, **options: str) -> Arrays:
    session = ncnn.open_session(SessionRequest(model=str(made.main), options=options))
    session.bind(to_artifact(made, feeds))
    session.run()
    outputs = session.fetch()
    return {port.source: outputs[port.name].reshape(port.source_shape) for port in made.compiled.io_map.outputs}


def run_source(path: Path, feeds: Arrays) -> Arrays:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return dict(zip([one.name for one in session.get_outputs()], session.run(None, feeds), strict=True))


def sqnr_db(signal: NDArray[Any], other: NDArray[Any]) -> float:
    noise = float(np.sum(np.square(signal.astype(np.float64) - other)))
    return 200.0 if noise == 0 else 10 * np.log10(float(np.sum(np.square(signal.astype(np.float64)))) / noise)


def profiled(made: Made, feeds: Arrays, folder: Path) -> LayerReport:
    folder.mkdir()
    ncnn.profile(SessionRequest(model=str(made.main)), to_artifact(made, feeds), 3, folder)
    return ncnn.layers(folder, OnnxFile(made.source).nodes())


def write_two(path: Path) -> Path:
    """Two inputs and two outputs, the one computed from the other; one input that nothing reads."""
    nodes = [
        node("MatMul", ["a", "w"], ["u"], "left"),
        node("Add", ["u", "b"], ["s"], "sum"),
        node("Sigmoid", ["s"], ["t"], "squeeze"),
    ]
    inputs = [value("a", [1, 6, 8]), value("unread", [1, 3]), value("b", [1, 6, 4])]
    outputs = [value("t", [1, 6, 4]), value("s", [1, 6, 4])]
    return write_onnx(path, nodes, inputs, outputs, [weights("w", 8, 4)])


def write_audio(path: Path) -> Path:
    """x float32[1,1,64] → Conv of one dimension, Relu, mean over time → y float32[1,8]."""
    nodes = [
        node("Conv", ["x", "w"], ["c"], "conv", kernel_shape=[5], strides=[2]),
        node("Relu", ["c"], ["r"], "relu"),
        node("ReduceMean", ["r", "a"], ["y"], "mean", keepdims=0),
    ]
    constants = [weights("w", 8, 1, 5), constant("a", [-1], np.int64)]
    return write_onnx(path, nodes, [value("x", [1, 1, 64])], [value("y", [1, 8])], constants)


def write_vector(path: Path) -> Path:
    """x float32[16] → y float32[4], with no batch at all."""
    nodes = [node("MatMul", ["x", "w"], ["m"], "matmul"), node("Tanh", ["m"], ["y"], "tanh")]
    return write_onnx(path, nodes, [value("x", [16])], [value("y", [4])], [weights("w", 16, 4)])


def write_tokens(path: Path) -> Path:
    """ids and mask int64[1,6] → rows of a table, weighed by the mask → y float32[1,6,8], by numbered tensors."""
    nodes = [
        node("Gather", ["table", "ids"], ["1"], "embed", axis=0),
        node("Cast", ["mask"], ["2"], "cast", to=1),
        node("Unsqueeze", ["2", "last"], ["3"], "widen"),
        node("Mul", ["1", "3"], ["4"], "weigh"),
        node("LayerNormalization", ["4", "g", "b"], ["y"], "norm"),
    ]
    constants = [
        weights("table", 9, 8),
        weights("g", 8, seed=1),
        weights("b", 8, seed=2),
        constant("last", [-1], np.int64),
    ]
    inputs = [value("ids", [1, 6], "INT64"), value("mask", [1, 6], "INT64")]
    return write_onnx(path, nodes, inputs, [value("y", [1, 6, 8])], constants)


def write_channels_last(path: Path) -> Path:
    """x float32[1,6,8,8] → channels last, MatMul, Relu, MatMul, back, sum → y: a linear layer over three axes."""
    nodes = [
        node("Transpose", ["x"], ["t"], "last", perm=[0, 2, 3, 1]),
        node("MatMul", ["t", "w"], ["m"], "matmul"),
        node("Add", ["m", "b"], ["s"], "bias"),
        node("Relu", ["s"], ["r"], "relu"),
        node("MatMul", ["r", "v"], ["n"], "second"),
        node("Transpose", ["n"], ["u"], "first", perm=[0, 3, 1, 2]),
        node("Add", ["x", "u"], ["y"], "sum"),
    ]
    constants = [weights("w", 6, 16), weights("b", 16, seed=1), weights("v", 16, 6, seed=2)]
    return write_onnx(path, nodes, [value("x", [1, 6, 8, 8])], [value("y", [1, 6, 8, 8])], constants)


NETS: Sequence[Callable[[Path], Path]] = (
    write_conv_net,
    write_residual_net,
    write_two,
    write_audio,
    write_vector,
    write_tokens,
    write_channels_last,
)


@pytest.mark.parametrize("write", NETS, ids=lambda write: write.__name__.removeprefix("write_"))
def test_outputs_are_those_of_onnx_runtime(write: Callable[[Path], Path], tmp_path: Path) -> None:
    made = compile_model(write(tmp_path / "s.onnx"))
    feeds = feeds_of(made.source)
    given, wanted = run_artifact(made, feeds), run_source(made.source, feeds)
    assert list(given) == list(wanted)
    for name in wanted:
        assert given[name].shape == wanted[name].shape
        assert sqnr_db(wanted[name], given[name]) > 100


@pytest.mark.parametrize("write", NETS, ids=lambda write: write.__name__.removeprefix("write_"))
def test_every_source_node_is_in_one_layer(write: Callable[[Path], Path], tmp_path: Path) -> None:
    made = compile_model(write(tmp_path / "s.onnx"))
    report = profiled(made, feeds_of(made.source), tmp_path / "trace")
    claimed = [name for layer in report.layers for name in layer.source_nodes]
    assert sorted(claimed) == sorted(node.name for node in OnnxFile(made.source).nodes())
    by_name = {layer.name: layer.source_nodes for layer in report.layers if layer.source_nodes}
    assert by_name == made.compiled.origins
    assert {(layer.unit, layer.backend, layer.evidence) for layer in report.layers} == {("CPU", "ncnn", "measured")}
    assert (report.via, report.asked, report.partitions) == ("extractor", "ncnn", 1)


def test_only_the_artifact_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    before = dict(os.environ)
    made = compile_model(write_conv_net(tmp_path / "s.onnx"))
    assert sorted(path.name for path in made.folder.iterdir()) == ["m.bin", "m.param"]
    assert list(here.iterdir()) == []
    assert dict(os.environ) == before
    assert set(made.compiled.tools) == {"onnx", "pnnx", "ncnn"}


def test_the_batch_is_dropped_and_names_are_kept(tmp_path: Path) -> None:
    ports = compile_model(write_conv_net(tmp_path / "s.onnx")).compiled.io_map
    assert [(p.source, p.name, p.source_shape, p.shape) for p in ports.inputs] == [("x", "x", (1, 3, 8, 8), (3, 8, 8))]
    assert [(p.source, p.name, p.source_shape, p.shape) for p in ports.outputs] == [("y", "y", (1, 5), (5,))]


def test_indices_are_int32_and_other_numbers_float32(tmp_path: Path) -> None:
    ports = compile_model(write_tokens(tmp_path / "s.onnx")).compiled.io_map.inputs
    assert [(p.source, p.source_dtype, p.dtype) for p in ports] == [
        ("ids", "int64", "int32"),
        ("mask", "int64", "float32"),
    ]


def test_half_precision_halves_the_weights(tmp_path: Path) -> None:
    path = write_residual_net(tmp_path / "s.onnx")
    full, half = compile_model(path), compile_model(path, "fp16")
    ratio = half.main.with_suffix(".bin").stat().st_size / full.main.with_suffix(".bin").stat().st_size
    assert ratio < 0.6
    feeds = feeds_of(path)
    wanted = run_source(path, feeds)["y"]
    assert 30 < sqnr_db(wanted, run_artifact(half, feeds)["y"]) < 100
    assert half.compiled.io_map.inputs[0].dtype == half.compiled.io_map.outputs[0].dtype == "float32"


def test_no_size_is_computed_while_it_runs(tmp_path: Path) -> None:
    """A Reshape that asks another blob for its sizes takes two hundred times as long."""
    text = compile_model(write_channels_last(tmp_path / "s.onnx")).main.read_text()
    assert "Reshape" in text
    assert '="' not in text


def test_a_batch_of_two_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(NotConvertible, match="input 'x' has a batch of 2"):
        compile_model(write_conv_net(tmp_path / "s.onnx", batch=2))


@pytest.mark.parametrize(
    ("op", "attributes"), [("TopK", {"axis": -1}), ("ThresholdedRelu", {"alpha": 0.5}), ("ArgMax", {"axis": -1})]
)
def test_an_operator_that_ncnn_lacks_is_named(op: str, attributes: dict[str, Any], tmp_path: Path) -> None:
    inputs, outputs = (["r", "k"], ["y", "i"]) if op == "TopK" else (["r"], ["y"])
    nodes = [node("Relu", ["x"], ["r"], "relu"), node(op, inputs, outputs, "culprit", **attributes)]
    made = [value(name, None, "INT64" if name == "i" or op == "ArgMax" else "FLOAT") for name in outputs]
    path = write_onnx(tmp_path / "s.onnx", nodes, [value("x", [1, 12, 32])], made, [constant("k", [3], np.int64)])
    with pytest.raises(NotConvertible, match=f"{op} 'culprit'"):
        compile_model(path)


def test_pnnx_is_believed_by_its_log_and_not_by_its_exit_code() -> None:
    log = "############# pass_level2\nort CreateSession failed This is an invalid model\nUnknown CPU vendor\n"
    assert "ort CreateSession failed This is an invalid model" in complaint(log, 0)
    assert "vendor" not in complaint(log, 0)
    assert "signal 11" in complaint("", -11)


def test_the_batch_axes_are_read_from_the_script() -> None:
    script = (
        'ex.input("in0", ncnn.Mat(in0.numpy(), batch_index=1).clone())\nex.input("in1", ncnn.Mat(in1.numpy()).clone())'
    )
    assert read_batches(script) == {"in0": 1}


@pytest.mark.shared_data
def test_mobilenet_is_whole_and_joined(tmp_path: Path) -> None:
    model = MODELS / "mobilenet_v2.onnx"
    if not model.exists():
        pytest.skip("the shared data is not beside the checkout")
    path = tmp_path / "s.onnx"
    path.write_bytes(model.read_bytes())
    made = compile_model(path)
    feeds = {"x": normal_feed(1, 3, 224, 224)}
    wanted, given = run_source(made.source, feeds)["y"], run_artifact(made, feeds)["y"]
    assert sqnr_db(wanted, given) >= 60
    assert float(np.vdot(wanted, given) / (np.linalg.norm(wanted) * np.linalg.norm(given))) >= 0.9999
    report = profiled(made, feeds, tmp_path / "trace")
    claimed = [name for layer in report.layers for name in layer.source_nodes]
    assert sorted(claimed) == sorted(one.name for one in OnnxFile(made.source).nodes())
    assert len(report.layers) < len(claimed)  # activations are fused
    assert onnx.load(str(model), load_external_data=False).graph.node[0].name == report.layers[0].name
