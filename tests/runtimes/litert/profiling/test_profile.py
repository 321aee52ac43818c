"""Profiling: through the C API, and what happens when that fails."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgewright.formats.tflite.reader import read_graph, read_tflite
from edgewright.runtimes import litert
from edgewright.runtimes.contract import Mismatch, Rejected
from edgewright.runtimes.litert.profiling import capi, profiler
from edgewright.runtimes.litert.profiling.capture import ERROR_FILE, by_index, open_compiled
from edgewright.runtimes.litert.profiling.trace import read_trace
from edgewright.runtimes.wire import SessionRequest
from edgewright.schema.arrays import Array
from edgewright.schema.run import LayerReport
from tests.models.tflite_files import Node, Tensor, write_convnet, write_int8_convnet, write_sum, write_tflite
from tests.paths import ROOT

pytest.importorskip("ai_edge_litert")

MODELS = ROOT.parent / "shared/data/models"
REAL = sorted(MODELS.glob("*.tflite"))
Writer = Callable[[Path], Path]


def ones(request: SessionRequest) -> dict[str, Array]:
    signature = litert.open_session(request).signature
    return {s.name: np.ones([int(size) for size in s.shape], s.dtype) for s in signature.inputs}


def profile(request: SessionRequest, folder: Path, runs: int = 4) -> LayerReport:
    litert.profile(request, ones(request), runs, folder)
    return litert.layers(folder, read_graph(Path(request.model)))


def test_the_c_api_reports_every_operator_in_place(tmp_path: Path) -> None:
    report = profile(SessionRequest(model=str(write_convnet(tmp_path / "m.tflite"))), tmp_path)
    assert report.via == "c-api"
    assert [(x.name, x.op.split(" (")[0]) for x in report.layers] == [
        ("CONV_2D#0", "Convolution"),
        ("ADD#1", "Add"),
        ("ADD#1/Clamp", "Clamp"),
        ("AVERAGE_POOL_2D#2", "Average Pooling"),
        ("RESHAPE#3", "Static Reshape"),
        ("FULLY_CONNECTED#4/Static Reshape", "Static Reshape"),
        ("FULLY_CONNECTED#4", "Fully Connected"),
    ]
    assert report.partitions == 1


def test_a_fallback_is_seen_where_it_happens(tmp_path: Path) -> None:
    report = profile(SessionRequest(model=str(write_int8_convnet(tmp_path / "m.tflite"))), tmp_path)
    assert [layer.name for layer in report.fallbacks()] == ["AVERAGE_POOL_2D#2"]
    assert report.partitions == 3


def test_the_trace_keeps_the_runs_and_their_whole_times(tmp_path: Path) -> None:
    profile(SessionRequest(model=str(write_convnet(tmp_path / "m.tflite")), threads=2), tmp_path, runs=6)
    trace = read_trace(tmp_path)
    assert len(trace.runs) == 6
    assert all(run.whole_ns > 0 and run.events for run in trace.runs)
    assert (trace.threads, trace.reason, trace.version) == (2, "", litert.version())
    assert not list(tmp_path.glob("*.npz"))


def test_without_the_delegate_the_built_in_kernels_run(tmp_path: Path) -> None:
    request = SessionRequest(model=str(write_convnet(tmp_path / "m.tflite")), options={"delegate": "none"})
    report = profile(request, tmp_path)
    assert {layer.backend for layer in report.layers} == {"builtin"}
    assert [layer.name for layer in report.layers] == [node.name for node in read_graph(Path(request.model))]


def test_padding_and_activation_that_xnnpack_folds_are_reported(tmp_path: Path) -> None:
    pads = np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32)
    tensors = [
        Tensor("x", (1, 8, 8, 1)),
        Tensor("pads", (4, 2), "int32", pads),
        Tensor("padded", (1, 10, 10, 1)),
        Tensor("w", (2, 3, 3, 1), data=np.ones((2, 3, 3, 1), np.float32)),
        Tensor("b", (2,), data=np.zeros(2, np.float32)),
        Tensor("conv", (1, 8, 8, 2)),
        Tensor("y", (1, 8, 8, 2)),
    ]
    options = {"padding": 1, "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    nodes = [
        Node("PAD", ("x", "pads"), ("padded",), "PadOptions"),
        Node("CONV_2D", ("padded", "w", "b"), ("conv",), "Conv2DOptions", options),
        Node("RELU", ("conv",), ("y",)),
    ]
    path = write_tflite(tmp_path / "m.tflite", tensors, nodes, ["x"], ["y"])
    report = profile(SessionRequest(model=str(path)), tmp_path)
    assert [layer.source_nodes for layer in report.layers] == [("PAD#0", "CONV_2D#1", "RELU#2")]


def test_operators_beside_each_other_are_joined_as_litert_orders_them(tmp_path: Path) -> None:
    tensors = [Tensor(name, (1, 8)) for name in "xafbgy"]
    nodes = [
        Node("TANH", ("x",), ("a",)),
        Node("FLOOR_MOD", ("a", "x"), ("f",)),
        Node("LOGISTIC", ("x",), ("b",)),
        Node("MUL", ("f", "b"), ("g",), "MulOptions"),
        Node("FLOOR_MOD", ("g", "x"), ("y",)),
    ]
    path = write_tflite(tmp_path / "m.tflite", tensors, nodes, ["x"], ["y"])
    report = profile(SessionRequest(model=str(path)), tmp_path)
    assert [x.name for x in report.layers] == ["TANH#0", "LOGISTIC#2", "FLOOR_MOD#1", "MUL#3", "FLOOR_MOD#4"]
    assert report.partitions == 4


def test_a_free_size_is_profiled_at_the_size_asked_for(tmp_path: Path) -> None:
    path = write_sum(tmp_path / "m.tflite")
    request = SessionRequest(model=str(path), shapes={"a": (5, 4), "b": (5, 4)})
    assert [layer.name for layer in profile(request, tmp_path).layers] == ["ADD#0"]
    check_outputs(request)


@pytest.mark.parametrize("delegate", ["xnnpack", "none"])
@pytest.mark.parametrize("write", [write_convnet, write_int8_convnet])
def test_the_c_api_computes_what_the_session_computes(tmp_path: Path, write: Writer, delegate: str) -> None:
    check_outputs(SessionRequest(model=str(write(tmp_path / "m.tflite")), options={"delegate": delegate}))


def check_outputs(request: SessionRequest) -> None:
    feeds = ones(request)
    session = litert.open_session(request)
    session.bind(feeds)
    session.run()
    graph = read_tflite(Path(request.model))
    compiled = open_compiled(request, graph)
    compiled.bind(by_index(graph, feeds))
    compiled.run()
    fetched = compiled.fetch()
    for index, expected in zip(graph.outputs, session.fetch().values(), strict=True):
        np.testing.assert_array_equal(np.frombuffer(fetched[index], expected.dtype), expected.ravel())


# When the C API fails


@pytest.mark.parametrize(
    ("child", "reason"),
    [
        ("import os; os.abort()", "SIGABRT"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("raise SystemExit(3)", "status 3"),
        ("import time; time.sleep(60)", "did not answer"),
        ("pass", "wrote no trace"),
    ],
    ids=["abort", "segfault", "exit", "hang", "nothing"],
)
@pytest.mark.parametrize("write", [write_convnet, write_int8_convnet])
def test_each_operator_is_then_run_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Writer, child: str, reason: str
) -> None:
    monkeypatch.setattr(profiler, "CHILD_LIMIT_SECONDS", 0.5 if "sleep" in child else 30.0)
    real = profiler.run_child
    monkeypatch.setattr(profiler, "run_child", lambda _, folder: real([sys.executable, "-c", child], folder))
    report = profile(SessionRequest(model=str(write(tmp_path / "m.tflite"))), tmp_path)
    assert report.via == "cut-out"
    assert reason in read_trace(tmp_path).reason
    assert [layer.name for layer in report.layers] == [node.name for node in read_graph(tmp_path / "m.tflite")]
    assert [layer.evidence for layer in report.layers] == ["assigned"] * 5
    expected = [] if write is write_convnet else ["AVERAGE_POOL_2D#2"]
    assert [layer.name for layer in report.fallbacks()] == expected
    assert report.whole_us > 0


def test_a_library_without_the_symbols_is_rejected_by_name(tmp_path: Path) -> None:
    with pytest.raises(capi.CApiUnavailable, match="has no LiteRtCreateEnvironment"):
        capi.LiteRtLibrary(Path("libc.so.6"))
    with pytest.raises(capi.CApiUnavailable):
        capi.LiteRtLibrary(tmp_path / "absent.so")


def test_the_childs_own_rejection_is_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ERROR_FILE).write_text("the library returns no profiler")
    real = profiler.run_child
    child = [sys.executable, "-c", "raise SystemExit(1)"]
    monkeypatch.setattr(profiler, "run_child", lambda _, folder: real(child, folder))
    profile(SessionRequest(model=str(write_convnet(tmp_path / "m.tflite"))), tmp_path)
    assert read_trace(tmp_path).reason == "the library returns no profiler"


def test_a_broken_model_is_rejected_and_wrong_feeds_are_a_mismatch(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(b"TFL3" * 20)
    with pytest.raises(Rejected):
        litert.profile(SessionRequest(model=str(tmp_path / "m.tflite")), {}, 2, tmp_path)
    request = SessionRequest(model=str(write_convnet(tmp_path / "good.tflite")))
    with pytest.raises(Mismatch):
        litert.profile(request, {}, 2, tmp_path)


@pytest.mark.shared_data
@pytest.mark.skipif(not REAL, reason="the evaluation models do not lie beside the checkout")
@pytest.mark.parametrize("path", REAL or [MODELS], ids=lambda path: path.name)
def test_real_models_are_joined_whole(tmp_path: Path, path: Path) -> None:
    report = profile(SessionRequest(model=str(path)), tmp_path)
    assert report.via == "c-api"
    assert all(layer.source_nodes for layer in report.layers)
    named = {source for layer in report.layers for source in layer.source_nodes}
    assert named == {node.name for node in read_graph(path)}
