"""Layers of MNN: what ran, and which nodes of the source it stands for."""

from collections.abc import Sequence
from pathlib import Path

import onnx
import pytest
from onnx.tools.update_model_dims import update_inputs_outputs_dims

from edgewright.formats.onnx.reader import OnnxFile
from edgewright.runtimes import mnn
from edgewright.runtimes.mnn.graph import MnnOperator
from edgewright.runtimes.mnn.join import MnnKernel, find_source_nodes
from edgewright.runtimes.mnn.profiler import MnnOperatorTimes, MnnTrace
from edgewright.runtimes.mnn.rows import layer_row
from edgewright.runtimes.wire import SessionRequest
from edgewright.schema.model import GraphNode
from edgewright.schema.run import LayerReport
from tests.models.mnn_files import compile_file, write_forms, write_perceptron, write_recurrent, write_words
from tests.models.onnx_files import normal_feed, write_residual_net
from tests.paths import ROOT

pytest.importorskip("MNN", reason="MNN is not installed")

from tests.runtimes.mnn.test_compiler import (
    WORDS,
    Arrays,
    Writer,
    run_both,
    sqnr_db,
)

MODELS = ROOT.parent / "shared/data/models"


def profile_source(source: Path, feeds: Arrays, folder: Path, runs: int = 5) -> LayerReport:
    compiled = compile_file(source, folder)
    given = {port.name: feeds[port.source].astype(port.dtype) for port in compiled.io_map.inputs}
    mnn.profile(SessionRequest(model=str(folder / compiled.main)), given, runs, folder)
    return mnn.layers(folder, OnnxFile(source).nodes())


def rows_of(report: LayerReport) -> list[tuple[str, tuple[str, ...]]]:
    return [(layer.op, layer.source_nodes) for layer in report.layers]


def covered(report: LayerReport) -> set[str]:
    return {name for layer in report.layers for name in layer.source_nodes}


def test_fused_operators_stand_for_all_of_their_nodes(tmp_path: Path) -> None:
    report = profile_source(write_residual_net(tmp_path / "m.onnx"), {"x": normal_feed(1, 16, 8, 8)}, tmp_path / "out")
    rows = rows_of(report)
    assert ("Convolution", ("left1", "left1_relu")) in rows
    assert ("Convolution", ("right1",)) in rows
    assert ("Raster", ()) in rows  # the image's channels are packed by four before the first convolution
    assert covered(report) == {node.name for node in OnnxFile(tmp_path / "m.onnx").nodes()}


@pytest.mark.parametrize(
    ("write", "feeds"),
    [
        (write_perceptron, {"x": normal_feed(4, 16)}),
        (write_words, WORDS),
        (write_recurrent, {"x": normal_feed(9, 1, 4)}),
        (write_forms, {"x": normal_feed(1, 4, 6, 6), "m": normal_feed(5, 3)}),
    ],
    ids=["perceptron", "words", "recurrent", "rewritten"],
)
def test_every_node_is_found_again(write: Writer, feeds: Arrays, tmp_path: Path) -> None:
    report = profile_source(write(tmp_path / "m.onnx"), feeds, tmp_path / "out")
    assert covered(report) == {node.name for node in OnnxFile(tmp_path / "m.onnx").nodes()}


def test_the_inputs_are_handed_over_in_every_profiled_run(tmp_path: Path) -> None:
    """MNN writes over its inputs: ids that were not handed over again would be garbage, and rows out of the table."""
    report = profile_source(write_words(tmp_path / "m.onnx"), WORDS, tmp_path / "out", runs=20)
    assert {(layer.unit, layer.backend, layer.evidence) for layer in report.layers} == {("CPU", "CPU", "measured")}
    assert report.via == "callback"
    assert report.asked == "CPU"
    assert report.partitions == 1


def node(name: str, op: str, inputs: Sequence[str], output: str) -> GraphNode:
    return GraphNode(name=name, op=op, inputs=tuple(inputs), outputs=(output,))


def operator(name: str, inputs: Sequence[str], *outputs: str) -> MnnOperator:
    return MnnOperator(name=name, kind=0, inputs=tuple(inputs), outputs=outputs or (name,))


GRAPH = (
    node("turn", "Transpose", ["x"], "t"),
    node("multiply", "MatMul", ["t"], "m"),
    node("bias", "Add", ["m"], "a"),
    node("constant", "Constant", [], "k"),
    node("split", "Reshape", ["a", "k"], "r"),
    node("again", "MatMul", ["r", "r"], "y"),
)
FILE = (
    operator("Reshape3", ["x"]),
    operator("a__matmul_converted", ["Reshape3"]),
    operator("a", ["a__matmul_converted"]),
    operator("r", ["a"]),
    operator("y", ["r", "r"]),
)


def test_names_lead_back_to_the_nodes() -> None:
    ran = [
        MnnKernel("Reshape3", "BinaryOp"),
        MnnKernel("a__matmul_converted_raster_0", "Raster"),
        MnnKernel("a__matmul_converted", "Convolution"),
        MnnKernel("y_raster_0", "Raster"),
        MnnKernel("y_raster_1", "Raster"),
        MnnKernel("y", "While"),
        MnnKernel("unknown", "UnaryOp"),
    ]
    assert find_source_nodes(ran, FILE, GRAPH) == [
        ("multiply", "bias"),  # put in by the converter for what reads it
        ("turn",),
        ("multiply", "bias"),
        ("split",),
        ("split",),
        ("again",),
        (),
    ]


def test_moves_alone_stand_for_all_nodes() -> None:
    assert find_source_nodes([MnnKernel("r_raster_0", "Raster")], FILE, GRAPH) == [
        ("turn", "multiply", "bias", "split")
    ]


def test_on_a_gpu_the_unit_is_only_assigned() -> None:
    """MNN silently runs single operators on the CPU. No build with a GPU was available."""
    ran = MnnOperatorTimes(name="y", op="Convolution", starts_us=(1.0, 3.0), times_us=(2.0, 4.0))
    trace = MnnTrace(asked="OpenCL", backend="OpenCL", runs_us=(9.0, 9.0), ran=(ran,), operators=())
    row = layer_row(0, ran, ("conv",), trace)
    assert (row.unit, row.backend, row.evidence) == ("GPU", "OpenCL", "assigned")
    assert (row.start_us, row.median_us) == (2.0, 3.0)


@pytest.mark.shared_data
def test_mobilenet_is_right_and_all_its_nodes_are_found(tmp_path: Path) -> None:
    model = MODELS / "mobilenet_v2.onnx"
    if not model.is_file():
        pytest.skip("the evaluation data is not there")
    loaded = onnx.load(str(model))
    (name,), (result,) = [value.name for value in loaded.graph.input], [value.name for value in loaded.graph.output]
    fixed = update_inputs_outputs_dims(loaded, {name: [1, 3, 224, 224]}, {result: [1, 1000]})
    onnx.save(fixed, str(tmp_path / "m.onnx"))
    feeds = {name: normal_feed(1, 3, 224, 224)}
    got, wanted = run_both(tmp_path / "m.onnx", feeds, tmp_path / "run")
    assert sqnr_db(got[result], wanted[result]) >= 60
    report = profile_source(tmp_path / "m.onnx", feeds, tmp_path / "out")
    source = OnnxFile(tmp_path / "m.onnx").nodes()
    assert {one.name for one in source if one.op != "Constant"} == covered(report)
    convolutions = [layer for layer in report.layers if layer.op.startswith("Convolution")]
    assert len(convolutions) == 53  # 52 of the network, and its classifier
    assert all(layer.source_nodes for layer in convolutions)
