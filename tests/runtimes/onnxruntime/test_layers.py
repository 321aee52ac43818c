"""ONNX Runtime's layer rows, from stored traces and from the profiler itself.

The traces under fixtures were made by `tests.fixtures.onnxruntime.make_traces` on an x86-64 with AVX2.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgewright.formats.onnx.reader import OnnxFile
from edgewright.runtimes import onnxruntime
from edgewright.runtimes.onnxruntime.join import find_source_nodes
from edgewright.runtimes.onnxruntime.profiler import ExecutedNode
from edgewright.runtimes.onnxruntime.trace import split_inferences
from edgewright.runtimes.wire import SessionRequest
from edgewright.schema.model import GraphNode
from edgewright.schema.run import Layer, LayerReport
from tests.contracts.runtime_contract import Feeds
from tests.models.onnx_files import (
    normal_feed,
    write_branches,
    write_control_flow,
    write_conv_net,
    write_external,
    write_no_input,
    write_qdq_net,
    write_residual_net,
    write_wide_net,
)
from tests.paths import ROOT

TRACES = ROOT / "tests" / "fixtures/onnxruntime"
MODELS = ROOT.parent / "shared/data/models"
NAMES = ("branches", "control_flow", "qdq", "residual")
Writer = Callable[[Path], Path]


def stored_graph(name: str) -> list[GraphNode]:
    return msgspec.json.decode((TRACES / name / "graph.json").read_bytes(), type=list[GraphNode])


def stored(name: str) -> LayerReport:
    return onnxruntime.layers(TRACES / name, stored_graph(name))


def rows(report: LayerReport) -> dict[str, Layer]:
    return {layer.name: layer for layer in report.layers}


def claims(report: LayerReport) -> Counter[str]:
    return Counter(name for layer in report.layers for name in layer.source_nodes)


def profiled(model: Path, feeds: Feeds, folder: Path, **options: str) -> LayerReport:
    folder.mkdir()
    request = SessionRequest(model=str(model), options={name.replace("_", "-"): v for name, v in options.items()})
    onnxruntime.profile(request, feeds, 3, folder)
    return onnxruntime.layers(folder, OnnxFile(model).nodes())


@pytest.mark.parametrize("name", NAMES)
def test_every_source_node_is_claimed_by_exactly_one_row(name: str) -> None:
    assert claims(stored(name)) == dict.fromkeys((node.name for node in stored_graph(name)), 1)


@pytest.mark.parametrize("name", NAMES)
def test_rows_stand_in_the_order_they_began(name: str) -> None:
    report = stored(name)
    starts = [layer.start_us or 0.0 for layer in report.layers]
    assert starts[0] == 0.0
    assert starts == sorted(set(starts))
    assert [layer.position for layer in report.layers] == list(range(len(starts)))


@pytest.mark.parametrize("name", NAMES)
def test_rows_say_where_they_ran(name: str) -> None:
    report = stored(name)
    assert report.via == "profiler"
    assert report.asked == "CPUExecutionProvider"
    assert report.partitions == 1
    assert not report.fallbacks()
    assert {(layer.unit, layer.backend, layer.evidence) for layer in report.layers} == {
        ("CPU", "CPUExecutionProvider", "measured")
    }


@pytest.mark.parametrize("name", NAMES)
def test_rows_do_not_take_longer_than_the_whole(name: str) -> None:
    report = stored(name)
    assert 0 < sum(layer.median_us for layer in report.layers) < report.whole_us


def test_a_convolution_carries_what_was_fused_into_it() -> None:
    found = rows(stored("residual"))
    assert found["b0_nchwc"].source_nodes == ("stem", "stem_relu")
    assert found["left1_act_nchwc"].source_nodes == ("left1", "left1_relu")
    assert set(found["right1_out_nchwc"].source_nodes) == {"right1", "add1", "relu1"}
    assert set(found["right2_out_nchwc"].source_nodes) == {"right2", "add2", "relu2"}


def test_a_change_of_layout_computes_nothing_of_the_source() -> None:
    for name, ops in (("residual", {"ReorderInput", "ReorderOutput"}), ("qdq", {"Transpose"})):
        assert {layer.op for layer in stored(name).layers if not layer.source_nodes} == ops


def test_a_quantized_operator_carries_its_quantization_and_not_its_neighbors() -> None:
    found = rows(stored("qdq"))
    conv2 = {"r_dequantize", "w2_dequantize", "conv2", "same", "c2_quantize"}
    assert set(found["conv2_token_1"].source_nodes) == conv2
    assert found["conv2_token_1"].op == "QLinearConv"
    assert set(found["gemm"].source_nodes) == {"f_dequantize", "g_dequantize", "gemm", "s_quantize"}


def test_nodes_without_names_are_not_mixed_up() -> None:
    report = stored("branches")
    assert [(layer.op, layer.source_nodes) for layer in report.layers] == [
        ("MatMul", ("Exp_4",)),
        ("Sigmoid", ("Sigmoid#1",)),
        ("MatMul", ("MatMul#2",)),
        ("Tanh", ("Tanh#3",)),
        ("Exp", ("Exp#5",)),
        ("Exp", ("Exp#4",)),
    ]


def test_what_runs_inside_a_loop_is_part_of_the_loop() -> None:
    assert [layer.op for layer in stored("control_flow").layers] == ["ReduceSum", "Greater", "If", "Loop", "Exp"]


def test_the_warm_up_is_left_out_of_the_times() -> None:
    events = msgspec.json.decode((TRACES / "residual/trace.json").read_bytes())
    inferences = split_inferences(events)
    assert len(inferences) == 4
    first = stored("residual").layers[0]
    assert first.median_us == float(np.median([run[0].duration for run in inferences[1:]]))
    assert first.median_us < inferences[0][0].duration


def event(name: str, op: str, begin: int, duration: int, number: int, **more: object) -> dict[str, object]:
    """One line of a trace."""
    args = {"op_name": op, "provider": more.get("provider", "CPUExecutionProvider"), "node_index": str(number)}
    tid = more.get("tid", 1)
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": begin, "dur": duration, "tid": tid, "args": args}


END = {"cat": "Session", "name": "model_run", "ts": 0, "dur": 0, "args": {}}


def report_of(folder: Path, events: list[dict[str, object]], runs: int) -> LayerReport:
    (folder / "trace.json").write_bytes(msgspec.json.encode(events))
    ran = {"provider": "XnnpackExecutionProvider", "warmup": 0, "runs_us": [100.0] * runs, "nodes": []}
    (folder / "ran.json").write_bytes(msgspec.json.encode(ran))
    return onnxruntime.layers(folder, ())


def test_pieces_of_one_provider_are_counted_and_fallbacks_reported(tmp_path: Path) -> None:
    given = ["Xnnpack", "Xnnpack", "CPU", "Xnnpack"]
    events = [event(f"n{i}", "Conv", 10 * i, 5, i, provider=f"{p}ExecutionProvider") for i, p in enumerate(given)]
    report = report_of(tmp_path, [*events, END], 1)
    assert report.partitions == 3
    assert [layer.name for layer in report.fallbacks()] == ["n2"]


def test_operators_that_run_in_another_order_each_time_are_not_mixed_up(tmp_path: Path) -> None:
    first = [event("a", "Conv", 0, 50, 0), event("b", "Relu", 5, 1, 1, tid=2)]
    second = [event("b", "Relu", 100, 1, 1, tid=2), event("a", "Conv", 110, 50, 0)]
    found = rows(report_of(tmp_path, [*first, END, *second, END], 2))
    assert (found["a"].median_us, found["b"].median_us) == (50.0, 1.0)


def test_two_nodes_of_one_name_are_two_rows(tmp_path: Path) -> None:
    events = [event("same", "Conv", 0, 50, 0), event("same", "Relu", 60, 1, 1)]
    report = report_of(tmp_path, [*events, END, *events, END], 2)
    assert [(layer.op, layer.median_us) for layer in report.layers] == [("Conv", 50.0), ("Relu", 1.0)]


def test_a_node_that_only_some_inferences_ran_is_left_out(tmp_path: Path) -> None:
    both = event("a", "Conv", 0, 5, 0)
    report = report_of(tmp_path, [both, END, both, event("b", "Relu", 9, 5, 1), END], 2)
    assert [layer.name for layer in report.layers] == ["a"]


def test_another_thread_s_kernel_is_not_taken_for_a_part_of_a_loop(tmp_path: Path) -> None:
    events = [event("inner", "Exp", 2, 1, 0), event("beside", "Exp", 3, 1, 1, tid=2), event("loop", "Loop", 1, 9, 2)]
    assert [layer.name for layer in report_of(tmp_path, [*events, END], 1).layers] == ["loop", "beside"]


def test_nested_loops_are_part_of_the_outer_one(tmp_path: Path) -> None:
    events = [event("x", "Exp", 3, 1, 0), event("inner", "Loop", 2, 3, 0), event("outer", "Scan", 1, 9, 2)]
    assert [layer.name for layer in report_of(tmp_path, [*events, END], 1).layers] == ["outer"]


def test_an_empty_trace_has_no_layers(tmp_path: Path) -> None:
    report = report_of(tmp_path, [], 0)
    assert (report.layers, report.partitions, report.whole_us) == ((), 0, 0.0)


def test_nodes_that_cannot_be_distinguished_claim_nothing() -> None:
    duplicates = [
        ExecutedNode(name="", op="Fused", domain="", inputs=("x",), outputs=(out,)) for out in ("made1", "made2")
    ]
    graph = [GraphNode(name="n", op="Exp", inputs=("x",), outputs=("y",))]
    assert find_source_nodes(duplicates, graph) == [(), ()]


@pytest.mark.parametrize("optimization", ["all", "extended", "basic", "disable"])
@pytest.mark.parametrize(
    ("write", "shape"),
    [
        (write_conv_net, (1, 3, 8, 8)),
        (write_residual_net, (1, 16, 8, 8)),
        (write_qdq_net, (1, 8, 8, 8)),
        (write_branches, (2, 4)),
        (write_control_flow, (2, 4)),
        (write_external, (64, 128)),
    ],
    ids=["conv", "residual", "qdq", "branches", "control_flow", "external"],
)
def test_every_source_node_is_claimed_here_too(
    write: Writer, shape: tuple[int, ...], optimization: str, tmp_path: Path
) -> None:
    model = write(tmp_path / "m.onnx")
    report = profiled(model, {"x": normal_feed(*shape)}, tmp_path / "trace", optimization=optimization)
    claimed = claims(report)
    assert set(claimed) == {node.name for node in OnnxFile(model).nodes()}
    assert set(claimed.values()) == {1}


def test_without_optimization_every_node_runs(tmp_path: Path) -> None:
    model, feeds = write_residual_net(tmp_path / "m.onnx"), {"x": normal_feed(1, 16, 8, 8)}
    plain = profiled(model, feeds, tmp_path / "disable", optimization="disable")
    assert len(plain.layers) == len(OnnxFile(model).nodes())
    assert len(profiled(model, feeds, tmp_path / "all").layers) < len(plain.layers)


def test_parallel_execution_is_joined_too(tmp_path: Path) -> None:
    model = write_branches(tmp_path / "m.onnx")
    options = {"execution": "parallel", "inter_op_threads": "2"}
    report = profiled(model, {"x": normal_feed(2, 4)}, tmp_path / "trace", **options)
    for layer in report.layers:
        assert layer.source_nodes in {(f"{layer.op}#{i}",) for i in range(6)} | {("Exp_4",)}
    assert set(claims(report).values()) == {1}


def test_a_provider_that_is_not_there_makes_every_layer_a_fallback(tmp_path: Path) -> None:
    model = write_conv_net(tmp_path / "m.onnx")
    report = profiled(model, {"x": normal_feed(1, 3, 8, 8)}, tmp_path / "trace", provider="NNAPI")
    assert report.asked == "NnapiExecutionProvider"
    assert report.fallbacks() == report.layers


def test_the_pass_leaves_the_trace_and_nothing_else(tmp_path: Path) -> None:
    model = write_external(tmp_path / "m.onnx")
    before = {path.name for path in tmp_path.iterdir()}
    profiled(model, {"x": normal_feed(64, 128)}, tmp_path / "trace")
    assert {path.name for path in tmp_path.iterdir()} == before | {"trace"}
    assert {path.name for path in (tmp_path / "trace").iterdir()} == {"trace.json", "ran.json"}


def test_a_model_that_only_has_constants_has_no_layers(tmp_path: Path) -> None:
    assert profiled(write_no_input(tmp_path / "m.onnx"), {}, tmp_path / "trace").layers == ()


def test_threads_do_not_change_the_rows(tmp_path: Path) -> None:
    model, folder = write_wide_net(tmp_path / "m.onnx"), tmp_path / "trace"
    folder.mkdir()
    onnxruntime.profile(SessionRequest(model=str(model), threads=2), {"x": normal_feed(64, 128)}, 3, folder)
    report = onnxruntime.layers(folder, OnnxFile(model).nodes())
    assert [layer.source_nodes for layer in report.layers] == [(node.name,) for node in OnnxFile(model).nodes()]


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet8_cifar10", "dscnn_kws"])
def test_real_networks_are_joined_whole(name: str, tmp_path: Path) -> None:
    model = MODELS / f"{name}.onnx"
    if not model.exists():
        pytest.skip("the shared data is not beside the checkout")
    spec = OnnxFile(model).signature().inputs[0]
    shape = [size if isinstance(size, int) else 1 for size in spec.shape]
    report = profiled(model, {spec.name: normal_feed(*shape)}, tmp_path / "trace")
    claimed = claims(report)
    assert set(claimed) == {node.name for node in OnnxFile(model).nodes()}
    assert set(claimed.values()) == {1}
