"""OpenVINO's counters as layer rows, joined to the source graph."""

from collections import Counter
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from edgewright.formats.onnx.reader import OnnxFile
from edgewright.runtimes import openvino
from edgewright.runtimes.openvino.join import find_source_nodes, split_names
from edgewright.runtimes.openvino.profiler import (
    RAN,
    ExecutedOperator,
    OpenvinoOperator,
    OpenvinoProfile,
    restore_sums,
    run_block,
    split_runs,
)
from edgewright.runtimes.openvino.rows import report_layers
from edgewright.runtimes.wire import SessionRequest
from edgewright.schema.model import GraphNode
from edgewright.schema.run import LayerReport
from tests.contracts.runtime_contract import Feeds
from tests.models.onnx_files import (
    node,
    normal_feed,
    value,
    weights,
    write_control_flow,
    write_identity,
    write_onnx,
    write_qdq_net,
    write_residual_net,
)
from tests.models.openvino_files import compile_onnx, write_openvino
from tests.paths import ROOT

needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")
MODELS = ROOT.parent / "shared" / "data" / "models"


def profiled(source: Path, feeds: Feeds, model: Path | None = None, **options: str) -> LayerReport:
    folder = source.parent / "trace"
    folder.mkdir()
    request = SessionRequest(model=str(model or write_openvino(source)), options=options)
    openvino.profile(request, feeds, 6, folder)
    return openvino.layers(folder, OnnxFile(source).nodes())


def claims(report: LayerReport) -> Counter[str]:
    return Counter(name for layer in report.layers for name in layer.source_nodes)


def rows(report: LayerReport) -> dict[str, tuple[str, ...]]:
    return {layer.name: layer.source_nodes for layer in report.layers}


@needs_openvino
def test_what_was_fused_stands_in_one_row(tmp_path: Path) -> None:
    report = profiled(write_residual_net(tmp_path / "m.onnx"), {"x": normal_feed(1, 16, 8, 8)})
    assert ("right1", "add1", "relu1") in rows(report).values()
    assert ("gemm",) in rows(report).values()
    assert claims(report) == Counter(node.name for node in OnnxFile(tmp_path / "m.onnx").nodes())


@needs_openvino
def test_a_change_of_layout_computes_nothing_of_the_source(tmp_path: Path) -> None:
    report = profiled(write_residual_net(tmp_path / "m.onnx"), {"x": normal_feed(1, 16, 8, 8)})
    assert all(layer.source_nodes == () for layer in report.layers if layer.op.startswith("Reorder"))


@needs_openvino
def test_rows_report_kernel_unit_and_backend(tmp_path: Path) -> None:
    report = profiled(write_residual_net(tmp_path / "m.onnx"), {"x": normal_feed(1, 16, 8, 8)})
    assert {layer.unit for layer in report.layers} == {"CPU"}
    assert {layer.backend for layer in report.layers} == {report.asked} == {"OpenVINO CPU"}
    assert {layer.evidence for layer in report.layers} == {"measured"}
    assert all(layer.start_us is None for layer in report.layers)
    assert sum(layer.op.startswith("Convolution (") and "f32" in layer.op for layer in report.layers) == 5


@needs_openvino
def test_constants_have_no_rows(tmp_path: Path) -> None:
    """The weights of the last layer are transposed once, when the model is loaded."""
    report = profiled(write_residual_net(tmp_path / "m.onnx"), {"x": normal_feed(1, 16, 8, 8)})
    assert not any("transpose" in layer.name.lower() for layer in report.layers)


@needs_openvino
def test_a_quantized_model_runs_in_int8(tmp_path: Path) -> None:
    report = profiled(write_qdq_net(tmp_path / "m.onnx"), {"x": normal_feed(1, 8, 8, 8)})
    integer = [layer.op.split()[0] for layer in report.layers if layer.op.endswith("_I8)")]
    assert integer.count("Convolution") == 2
    assert "FullyConnected" in integer
    assert set(claims(report)) == {node.name for node in OnnxFile(tmp_path / "m.onnx").nodes()}


@needs_openvino
def test_the_graphs_inside_an_operator_are_part_of_it(tmp_path: Path) -> None:
    report = profiled(write_control_flow(tmp_path / "m.onnx"), {"x": normal_feed(2, 4)})
    assert [layer.source_nodes for layer in report.layers] == [("first",), ("greater",), ("if",), ("loop",), ("Exp#4",)]


@needs_openvino
def test_names_may_hold_commas_and_belong_to_other_tensors(tmp_path: Path) -> None:
    """Sources are reported comma-separated, and the last operator has the name of the output instead of its own."""
    nodes = [
        node("Conv", ["x", "w"], ["c"], "y", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["r"], "a,b"),
        node("Conv", ["r", "w"], ["d"], "a", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Relu", ["d"], ["y"], "b"),
    ]
    source = write_onnx(
        tmp_path / "m.onnx", nodes, [value("x", [1, 4, 8, 8])], [value("y", [1, 4, 8, 8])], [weights("w", 4, 4, 3, 3)]
    )
    report = profiled(source, {"x": normal_feed(1, 4, 8, 8)})
    convolutions = [layer.source_nodes for layer in report.layers if layer.op.startswith("Convolution")]
    assert convolutions == [("y", "a,b"), ("a", "b")]


@needs_openvino
def test_the_rows_of_one_node_taken_apart_all_name_it(tmp_path: Path) -> None:
    nodes = [
        node("LogSoftmax", ["x"], ["s"], "scores", axis=-1),
        node("LSTM", ["s", "w", "r"], ["h"], "lstm", hidden_size=4, direction="bidirectional"),
        node("Sin", ["h"], ["y"], "sin"),
    ]
    constants = [weights("w", 2, 16, 6), weights("r", 2, 16, 4, seed=1)]
    source = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [5, 1, 6])], [value("y", [5, 2, 1, 4])], constants)
    report = profiled(source, {"x": normal_feed(5, 1, 6)})
    assert claims(report)["scores"] > 1
    assert [layer.source_nodes for layer in report.layers if "RNN" in layer.op] == [("lstm",), ("lstm",)]
    assert all(layer.source_nodes for layer in report.layers if not layer.op.startswith(("Reorder", "Convert")))


@needs_openvino
def test_a_fallback_from_an_absent_device_is_seen(tmp_path: Path) -> None:
    source = write_identity(tmp_path / "m.onnx", "FLOAT")
    model = write_openvino(source)
    if "NPU was requested" not in "".join(openvino.open_session(asking(model)).notes):
        pytest.skip("there is an NPU here")
    report = profiled(source, {"x": np.ones(2, np.float32)}, model, device="NPU")
    assert report.asked == "OpenVINO NPU"
    assert report.fallbacks() == report.layers


def asking(model: Path) -> SessionRequest:
    return SessionRequest(model=str(model), options={"device": "NPU"})


@needs_openvino
def test_the_trace_is_one_file(tmp_path: Path) -> None:
    source = write_identity(tmp_path / "m.onnx", "FLOAT")
    profiled(source, {"x": np.ones(2, np.float32)})
    assert [path.name for path in (tmp_path / "trace").iterdir()] == [RAN]


@needs_openvino
@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet8_cifar10", "dscnn_kws"])
def test_real_networks_are_joined_whole(name: str, tmp_path: Path) -> None:
    model = MODELS / f"{name}.onnx"
    if not model.exists():
        pytest.skip("the shared data is not beside the checkout")
    spec = OnnxFile(model).signature().inputs[0]
    shape = tuple(size if isinstance(size, int) else 1 for size in spec.shape)
    source = tmp_path / "m.onnx"
    source.write_bytes(model.read_bytes())
    compiled, folder = compile_onnx(source, shapes={spec.name: shape})
    report = profiled(source, {spec.name: normal_feed(*shape)}, folder / compiled.main)
    assert claims(report) == Counter(node.name for node in OnnxFile(source).nodes())


@pytest.mark.parametrize(
    ("runs", "sizes"),
    [(1, [1]), (2, [2]), (5, [5]), (6, [3, 3]), (8, [4, 4]), (30, [3] * 10), (100, [10] * 10), (31, [4] + [3] * 9)],
)
def test_runs_are_split_into_blocks(runs: int, sizes: list[int]) -> None:
    assert split_runs(runs) == sizes


class Counting:
    """A session whose operator takes these microseconds, counted as OpenVINO's devices do."""

    def __init__(self, times: list[float], *, summing: bool) -> None:
        self.times, self.summing, self.count = times, summing, 0
        self.request = self

    def run(self) -> None:
        self.count += 1

    def get_profiling_info(self) -> list[Any]:
        done = self.times[: self.count]
        reported = sum(map(int, done)) // len(done) if self.summing else int(done[-1])
        seconds = SimpleNamespace(total_seconds=lambda: reported / 1e6)
        return [SimpleNamespace(node_name="op", real_time=seconds)]


def test_a_processors_mean_since_loading_is_undone() -> None:
    """The slow first runs are in the counters, and must not be in the sample."""
    session: Any = Counting([900.0, 500.0, *[100.0] * 20], summing=True)
    (sample,) = run_block(session, "CPU", ["op", "absent"], 20)
    assert sample.operators[0] == pytest.approx(100.0, abs=1.0)
    assert sample.operators[1] == 0.0
    assert sample.whole > 0


def test_other_devices_give_a_sample_of_each_run() -> None:
    session: Any = Counting([900.0, 500.0, 100.0, 120.0], summing=False)
    assert [sample.operators for sample in run_block(session, "GPU.0", ["op"], 2)] == [[100.0], [120.0]]


def test_sums_are_the_middle_of_what_they_can_be() -> None:
    assert restore_sums([10.0, 0.0], 5) == [52.0, 0.0]


def write_ran(folder: Path, **facts: Any) -> None:
    defaults: Mapping[str, Any] = {"asked": "CPU", "device": "CPU", "wholes_us": (), "executed": (), "operators": ()}
    (folder / RAN).write_bytes(msgspec.json.encode(OpenvinoProfile(**{**defaults, **facts})))


def ran(name: str, originals: str = "", kind: str = "Work", readers: tuple[int, ...] = ()) -> ExecutedOperator:
    return ExecutedOperator(
        name=name, kind=kind, primitive="", originals=originals, readers=readers, samples_us=(2.0, 4.0)
    )


def test_rows_summarize_their_samples(tmp_path: Path) -> None:
    one = msgspec.structs.replace(ran("a"), samples_us=tuple(float(i) for i in range(1, 12)))
    write_ran(tmp_path, executed=(one,), wholes_us=(10.0, 30.0, 20.0), device="GPU.1", asked="GPU")
    report = report_layers(tmp_path, ())
    (layer,) = report.layers
    assert (layer.median_us, layer.p90_us) == (6.0, 10.0)
    assert (report.whole_us, report.partitions, report.via) == (20.0, 1, "profiler")
    assert (layer.unit, layer.backend, report.asked) == ("GPU", "OpenVINO GPU", "OpenVINO GPU")


def test_nothing_that_ran_gives_no_rows(tmp_path: Path) -> None:
    write_ran(tmp_path)
    report = report_layers(tmp_path, ())
    assert (report.layers, report.whole_us, report.partitions) == ((), 0.0, 0)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a,b", ["a", "b"]),
        ("a,b,c", ["a", "b,c"]),
        ("b,c,a,unknown", ["b,c", "a", "unknown"]),
        ("", []),
    ],
)
def test_names_are_split_by_those_that_are_known(text: str, names: list[str]) -> None:
    assert split_names(text, {"a", "b", "b,c"}) == names


GRAPH = (
    GraphNode(name="first", op="Conv", inputs=("x",), outputs=("c",)),
    GraphNode(name="folded", op="Mul", inputs=("c",), outputs=("m",)),
    GraphNode(name="last", op="Softmax", inputs=("m",), outputs=("y",)),
)
OPERATORS = (
    OpenvinoOperator(name="x", tensors=("x",), readers=(1,)),
    OpenvinoOperator(name="conv", tensors=("c",), readers=(2,)),
    OpenvinoOperator(name="last/Exp", tensors=(), readers=(3,)),
    OpenvinoOperator(name="soft", tensors=("y",), readers=()),
)


def test_a_part_belongs_to_what_reads_it_and_the_unclaimed_to_the_next_downstream() -> None:
    executed = (ran("a", "conv"), ran("b", "last/Exp"), ran("c", "soft"))
    assert find_source_nodes(executed, OPERATORS, GRAPH) == [("first",), ("folded", "last"), ("last",)]


def test_a_port_of_an_operator_is_the_operator() -> None:
    assert find_source_nodes((ran("a", "conv.1"),), OPERATORS, GRAPH) == [("first",)]


def test_what_openvino_makes_itself_belongs_to_the_next_downstream_unless_it_only_rearranges() -> None:
    executed = (
        ran("own", "Made_1", readers=(1,)),
        ran("layout", "", "Reorder", readers=(2,)),
        ran("c", "soft"),
        ran("lost", "Made_2"),
    )
    found = find_source_nodes(executed, OPERATORS, GRAPH)
    assert found[0] == ("last",)
    assert found[1] == ()
    assert found[3] == ()
