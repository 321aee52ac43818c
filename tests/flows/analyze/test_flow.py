"""The flow: which runtimes and units take a model, in how many pieces, and what to do about the rest."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from edgewright.errors import ModelNotFound, ModelUnreadable, UsageError
from edgewright.flows.analyze.flow import analyze, encode_analysis
from edgewright.flows.analyze.partitions import OperatorItem, count_partitions, link_operators, make_item
from edgewright.flows.analyze.report import Analysis, RuntimeReport, UnitReport
from edgewright.flows.analyze.source import read_graph
from edgewright.formats.typed_graph import TensorType, TypedGraph, TypedNode
from edgewright.limits import ResourceBudget
from edgewright.runtimes.support import CheckedOperator
from edgewright.schema.model import Signature
from tests.models.onnx_files import (
    constant,
    node,
    quantized_constant,
    value,
    weights,
    write_control_flow,
    write_conv_net,
    write_onnx,
    write_qdq_net,
)
from tests.models.tflite_files import Node, Tensor, write_convnet, write_tflite

DOUBLES = constant("d", np.ones(4), np.float64)


def run(path: Path, *runtimes: str, **shapes: Sequence[int]) -> Analysis:
    return analyze(path, shapes, runtimes, lambda text: None)


def runtime(analysis: Analysis, name: str) -> RuntimeReport:
    return next(report for report in analysis.runtimes if report.runtime == name)


def unit(report: RuntimeReport, backend: str) -> UnitReport:
    return next(one for one in report.units if one.backend == backend)


def test_a_plain_network_is_taken_whole(tmp_path: Path) -> None:
    analysis = run(write_conv_net(tmp_path / "m.onnx"), "onnxruntime", "ncnn", "mnn", "openvino", "coreml")
    assert analysis.model.opset == 18
    assert {report.state for report in analysis.runtimes} == {"compiles"}
    for report in analysis.runtimes:
        assert [(one.supported, one.operators, one.partitions) for one in report.units[:1]] == [(5, 5, 1)]
    assert analysis.schema == "edgewright.analysis/1"
    assert encode_analysis(analysis).startswith(b'{"schema":"edgewright.analysis/1"')


@pytest.mark.parametrize(
    ("sizes", "dtype", "reason", "remedy"),
    [
        ([1, 4], "DOUBLE", "input 'x' is of float64: LiteRT's kernels do not support it", "float32"),
        (
            [0, 4],
            "FLOAT",
            "input 'x' is a tensor without elements: LiteRT does not support empty tensors",
            "sizes of at least 1",
        ),
    ],
)
def test_everything_unsupported_by_litert_is_listed(
    tmp_path: Path, sizes: list[int], dtype: str, reason: str, remedy: str
) -> None:
    """What it is and why, with a remedy that speaks of it; not the why alone."""
    ports = [value("x", sizes, dtype)], [value("y", sizes, dtype)]
    report = runtime(
        run(write_onnx(tmp_path / "m.onnx", [node("Relu", ["x"], ["y"], "r")], *ports), "litert"), "litert"
    )
    assert report.state == "refused"
    assert [one.reason for one in report.findings] == [reason]
    assert remedy in report.findings[0].remedy


def test_litert_is_asked_itself(tmp_path: Path) -> None:
    report = runtime(run(write_conv_net(tmp_path / "m.onnx"), "litert"), "litert")
    assert report.state == "compiles"
    assert unit(report, "XNNPACK").counted == "own"
    assert unit(report, "XNNPACK").partitions == 1
    npu = unit(report, "INT8 (Edge TPU)")
    assert npu.supported == 0
    assert {(one.kind, one.remedy[:8]) for one in npu.findings} == {("dtype", "quantize")}


def test_an_int8_model_suits_an_int8_unit(tmp_path: Path) -> None:
    npu = unit(runtime(run(write_qdq_net(tmp_path / "m.onnx"), "litert"), "litert"), "INT8 (Edge TPU)")
    assert npu.supported is not None
    assert npu.operators is not None
    assert npu.supported > 0
    assert not any("conv1" in one.node for one in npu.findings)
    assert {one.kind for one in npu.findings} <= {"dtype", "operator"}


def test_an_operator_that_no_table_has(tmp_path: Path) -> None:
    nodes = [node("Relu", ["x"], ["a"], "relu"), helper.make_node("Mystery", ["a"], ["y"], name="own", domain="mine")]
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [1, 4])], [value("y", [1, 4])])
    analysis = run(path)
    for report in analysis.runtimes:
        assert report.state == "refused", report.runtime
        (finding,) = report.findings
        assert finding.node == "own"
        assert "mine" in finding.reason
        assert finding.source
    assert analysis.costs.macs is None
    assert "Mystery" in analysis.costs.unknown["macs"]


def test_an_optional_input_that_is_left_out(tmp_path: Path) -> None:
    """ncnn wants a constant bias of a Gemm; one without a bias has none that could be computed."""
    nodes = [node("Gemm", ["x", "w"], ["y"], "gemm")]
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [1, 8])], [value("y", [1, 4])], [weights("w", 8, 4)])
    assert runtime(run(path, "ncnn"), "ncnn").findings == ()


def test_operators_of_onnx_runtime_s_own_domain(tmp_path: Path) -> None:
    fast = helper.make_node("FastGelu", ["x"], ["y"], name="fast", domain="com.microsoft")
    path = write_onnx(tmp_path / "m.onnx", [fast], [value("x", [1, 4])], [value("y", [1, 4])])
    analysis = run(path, "onnxruntime", "ncnn")
    assert [report.state for report in analysis.runtimes] == ["compiles", "refused"]


def test_why_and_what_to_do(tmp_path: Path) -> None:
    """A Pad that wraps: OpenVINO has no such mode, and says which attribute is at fault."""
    nodes = [node("Pad", ["x", "pads"], ["y"], "pad", mode="wrap")]
    pads = constant("pads", [0, 0, 1, 1, 0, 0, 1, 1], np.int64)
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [1, 8, 6, 5])], [value("y", None)], [pads], opset=19)
    (finding,) = runtime(run(path, "openvino"), "openvino").findings
    assert (finding.kind, finding.node) == ("attribute", "pad")
    assert "mode=wrap" in finding.reason
    assert "another mode" in finding.remedy


def test_an_opset_that_is_too_new_for_one(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "m.onnx", [node("Relu", ["x"], ["y"])], [value("x", [2])], [value("y", [2])], opset=28)
    (finding,) = runtime(run(path, "onnxruntime"), "onnxruntime").findings
    assert finding.kind == "opset"
    assert "28" in finding.reason
    assert finding.remedy.startswith("export the model with opset 2")


def test_free_sizes_want_a_shape(tmp_path: Path) -> None:
    nodes = [node("Relu", ["x"], ["y"], "relu")]
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", ["n", 3, "h", "w"])], [value("y", None)])
    analysis = run(path, "onnxruntime", "litert")
    assert {report.state for report in analysis.runtimes} == {"needs shapes"}
    qnn = unit(runtime(analysis, "onnxruntime"), "QNN HTP")
    assert qnn.supported == 0
    assert qnn.findings[0].kind == "dynamic shape"
    assert analysis.model.assumed == ("x",)
    assert any("assumed to be 1" in note for note in analysis.notes)
    assert any("--shape" in note for note in analysis.notes)
    fixed = run(path, "onnxruntime", "litert", x=(1, 3, 4, 5))
    assert {report.state for report in fixed.runtimes} == {"compiles"}
    assert fixed.notes == ()


def test_sizes_known_only_after_a_run(tmp_path: Path) -> None:
    nodes = [node("NonZero", ["x"], ["i"], "find"), node("Cast", ["i"], ["y"], "cast", to=1)]
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [4, 4])], [value("y", None)])
    analysis = run(path, "onnxruntime")
    qnn = unit(runtime(analysis, "onnxruntime"), "QNN HTP")
    assert [one.node for one in qnn.findings] == ["find", "cast"]
    assert "values" in qnn.findings[0].reason
    assert analysis.costs.arena_bytes is None


def test_control_flow_and_doubles(tmp_path: Path) -> None:
    assert runtime(run(write_control_flow(tmp_path / "c.onnx"), "ncnn"), "ncnn").state == "refused"
    nodes = [node("Cast", ["x"], ["a"], to=11), node("Add", ["a", "d"], ["b"]), node("Cast", ["b"], ["y"], to=1)]
    path = write_onnx(tmp_path / "d.onnx", nodes, [value("x", [4])], [value("y", [4])], [DOUBLES])
    assert any("float64" in note for note in run(path, "onnxruntime").notes)


def test_rewrites_are_reported(tmp_path: Path) -> None:
    nodes = [node("Pow", ["x", "two"], ["y"], "square")]
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [1, 4])], [value("y", [1, 4])], [constant("two", 2.0)])
    report = runtime(run(path, "ncnn"), "ncnn")
    assert [(one.node, one.op) for one in report.rewrites] == [("square", "Pow")]
    assert report.rewrites[0].text


def test_a_folded_branch_needs_no_support(tmp_path: Path) -> None:
    """Shape and its followers are computed beforehand: ncnn has none of them, and needs none."""
    nodes = [
        node("Shape", ["x"], ["s"], "shape"),
        node("Gather", ["s", "first"], ["n"], "gather"),
        node("Concat", ["n", "rest"], ["sizes"], "concat", axis=0),
        node("Reshape", ["x", "sizes"], ["r"], "reshape"),
        node("MatMul", ["r", "w"], ["y"], "matmul"),
    ]
    constants = [constant("first", [0], np.int64), constant("rest", [24], np.int64), weights("w", 24, 5)]
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [1, 4, 6])], [value("y", [1, 5])], constants)
    analysis = run(path, "ncnn")
    assert analysis.model.folded == 3
    assert runtime(analysis, "ncnn").state == "compiles"
    assert runtime(analysis, "ncnn").units[0].operators == 2


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        run(tmp_path / "absent.onnx")
    (tmp_path / "m.pretend").write_bytes(b"pretend")
    with pytest.raises(ModelUnreadable, match="cannot be analyzed"):
        run(tmp_path / "m.pretend")


def test_runtimes_without_a_table(tmp_path: Path) -> None:
    path = write_conv_net(tmp_path / "m.onnx")
    with pytest.raises(UsageError, match="no support table"):
        run(path, "pretend")
    with pytest.raises(UsageError, match="unknown runtime"):
        run(path, "nobody")
    assert [report.runtime for report in run(path, "ort", "onnxruntime").runtimes] == ["onnxruntime"]


# Partitions


def item(name: str, reads: str, *, makes: str = "") -> OperatorItem:
    subject = CheckedOperator(name=name, op="Op", domain="", attributes={}, dtypes=(), shapes=(), constant=())
    return OperatorItem(subject, tuple(reads.split()), tuple((makes or name).split()))


CHAIN = [item("a", "x"), item("b", "a"), item("c", "b"), item("d", "c")]
DIAMOND = [item("a", "x"), item("l", "a"), item("r", "a"), item("y", "l r")]


@pytest.mark.parametrize(
    ("items", "taken", "pieces"),
    [
        (CHAIN, "1111", 1),
        (CHAIN, "0000", 0),
        (CHAIN, "1011", 2),
        (CHAIN, "1010", 2),
        (CHAIN, "0110", 1),
        (DIAMOND, "1101", 2),
        (DIAMOND, "1011", 2),
        (DIAMOND, "0110", 1),  # both branches can run in one go
        ([], "", 0),
    ],
)
def test_partitions(items: list[OperatorItem], taken: str, pieces: int) -> None:
    assert count_partitions(link_operators(items), [mark == "1" for mark in taken]) == pieces


@pytest.mark.parametrize("seed", range(30))
def test_partitions_are_those_of_taking_turns(seed: int) -> None:
    """Against the definition: again and again all that can run here, then all that can run elsewhere."""
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 40))
    items = [
        OperatorItem(CHAIN[0].subject, tuple(f"v{i}" for i in random.choice(at, min(at, 2))) if at else (), (f"v{at}",))
        for at in range(count)
    ]
    taken = [bool(mark) for mark in random.integers(0, 2, count)]
    ready, waiting, pieces, here = set[str](), list(range(count)), 0, True
    while waiting:
        ran = [at for at in waiting if taken[at] == here and (ready.issuperset(items[at].reads))]
        while fresh := [at for at in ran if items[at].makes[0] not in ready]:
            ready.update(items[at].makes[0] for at in fresh)
            ran = [at for at in waiting if taken[at] == here and ready.issuperset(items[at].reads)]
        waiting = [at for at in waiting if at not in ran]
        pieces += here and bool(ran)
        here = not here
    assert count_partitions(link_operators(items), taken) == pieces


class CountedName(str):
    """A name that counts how often it is compared with another."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        CountedName.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_an_operator_of_many_inputs_is_looked_at_in_linear_time() -> None:
    names = tuple(CountedName(f"t{i}") for i in range(400))
    kind = TensorType(dtype="float32", shape=(1,))
    one = TypedNode(name="n", op="Concat", inputs=names, outputs=("y",))
    graph = TypedGraph(
        format="onnx", opset=17, domains={}, signature=Signature(inputs=(), outputs=()), precision="fp32", nodes=(one,),
        tensors=dict.fromkeys((*names, "y"), kind), inputs=names, outputs=("y",), shapes={},
    )  # fmt: skip
    CountedName.compared = 0
    assert make_item(graph, one).reads == names
    assert CountedName.compared < 10 * len(names)


def test_runtimes_behind_the_time_limit_are_unknown(tmp_path: Path) -> None:
    path = write_conv_net(tmp_path / "m.onnx")
    graph = read_graph(path, {}, ResourceBudget())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgewright.flows.analyze.flow.read_graph", lambda *given: graph)
        report = analyze(path, {}, ["ort", "litert"], lambda text: None, ResourceBudget(seconds=0.0))
    assert [one.state for one in report.runtimes] == ["unknown", "unknown"]
    assert "EDGEWRIGHT_TIME_LIMIT" in report.runtimes[0].reason


def test_a_tflite_file_is_checked_as_it_is_compiled(tmp_path: Path) -> None:
    """Other runtimes get its ONNX form; a custom operator runs nowhere."""
    analysis = run(write_convnet(tmp_path / "m.tflite"), "litert", "ncnn")
    assert [report.state for report in analysis.runtimes] == ["compiles", "compiles"]
    tensors = [Tensor(name, (2, 3)) for name in "xay"]
    nodes = [Node("Landmarks", ("x",), ("a",)), Node("RELU", ("a",), ("y",))]
    analysis = run(write_tflite(tmp_path / "c.tflite", tensors, nodes, ["x"], ["y"]), "litert", "ncnn")
    for report in analysis.runtimes:
        assert report.state == "refused"
        assert [one.node for one in report.findings] == ["Landmarks#0"]
        assert "custom operator" in report.findings[0].reason
    assert unit(runtime(analysis, "litert"), "built-in").supported == 1


def test_ncnn_and_mnn_are_asked_what_they_reject_themselves(tmp_path: Path) -> None:
    """What only a rewrite knows: the table has a MaxPool and a Slice, but not with these properties."""
    pool = helper.make_node("MaxPool", ["x"], ["y", "i"], name="pool", kernel_shape=[2, 2])
    sizes = [value("y", [1, 3, 7, 7]), value("i", [1, 3, 7, 7], "INT64")]
    path = write_onnx(tmp_path / "m.onnx", [pool], [value("x", [1, 3, 8, 8])], sizes)
    for report in run(path, "ncnn", "mnn").runtimes:
        assert report.state == "refused"
        assert [(one.node, one.op) for one in report.findings] == [("pool", "MaxPool")]
        assert "returns no indices" in report.findings[0].reason


def test_rules_apply_to_the_graph_that_the_converter_gets(tmp_path: Path) -> None:
    """ncnn reads rows of a table by computed indices; and a Cast of integers, which its table excludes, vanishes."""
    nodes = [helper.make_node("Cast", ["i"], ["k"], name="cast", to=7), node("Gather", ["t", "k"], ["y"], "gather")]
    ports = [value("i", [1, 5], "INT32")], [value("y", [1, 5, 4])]
    path = write_onnx(tmp_path / "m.onnx", nodes, *ports, [weights("t", 20, 4)])
    assert runtime(run(path, "ncnn"), "ncnn").findings == ()


def test_a_precision_that_compile_does_not_have(tmp_path: Path) -> None:
    nodes, constants = quantized_constant("w", 8, 5)
    nodes.append(node("MatMul", ["x", "w_dq"], ["y"], "product"))
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [1, 8])], [value("y", [1, 5])], constants)
    ncnn, openvino = run(path, "ncnn", "openvino").runtimes
    assert (ncnn.state, openvino.state) == ("refused", "compiles")
    assert "does not support w8" in ncnn.findings[0].reason
