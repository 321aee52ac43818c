"""Old opsets are raised, and the graph computes the same."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from edgewright.formats.onnx.normalize.source import is_prepared, prepare_onnx
from tests.models.onnx_files import constant, node, value, weights, write_onnx

X = (1, 3, 4, 6)
SCALES = constant("s", [1, 1, 2, 3])
CASES = {
    "softmax": ([node("Softmax", ["x"], ["y"], axis=1)], [], 11, 13),
    "squeeze": ([node("ReduceMean", ["x"], ["m"], axes=[1]), node("Squeeze", ["m"], ["y"], axes=[1])], [], 9, 13),
    "linear resize": ([node("Resize", ["x", "s"], ["y"], mode="linear")], [SCALES], 10, 13),
    "linear upsample": ([node("Upsample", ["x", "s"], ["y"], mode="linear")], [SCALES], 9, 13),
    "clip": ([node("Clip", ["x"], ["y"], min=-0.5, max=0.5)], [], 7, 13),
    "sum of absolutes": ([node("ReduceL1", ["x"], ["y"], axes=[1])], [], 13, 18),
}


def run(path: Path, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


@pytest.mark.parametrize("case", CASES)
def test_an_old_opset_is_raised(case: str, tmp_path: Path) -> None:
    nodes, constants, own, wanted = CASES[case]
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", X)], [value("y", None)], constants, own)
    ready = prepare_onnx(path, {}, tmp_path / "to.onnx")
    assert onnx.load(ready).opset_import[0].version == wanted
    x = np.random.default_rng(0).standard_normal(X).astype(np.float32)
    np.testing.assert_array_equal(run(ready, x), run(path, x))
    assert is_prepared(ready, {})


def test_large_weights_stay(tmp_path: Path) -> None:
    constants, nodes = [weights("w", 6, 500)], [node("MatMul", ["x", "w"], ["y"], "m")]
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", X)], [value("y", None)], constants, opset=11)
    beside = tmp_path / "beside.onnx"
    onnx.save(onnx.load(path), str(beside), save_as_external_data=True, location="w.data", size_threshold=0)
    x = np.random.default_rng(0).standard_normal(X).astype(np.float32)
    for source in (path, beside):
        ready = prepare_onnx(source, {}, tmp_path / "to.onnx")
        assert ready != source
        np.testing.assert_array_equal(run(ready, x), run(path, x))


def test_what_the_converter_gets_wrong_and_recent_opsets_stay(tmp_path: Path) -> None:
    for op, opset in (("Hardmax", 11), ("Softmax", 13), ("ReduceL1", 18)):
        nodes = [node(op, ["x"], ["y"], "n")]
        path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", X)], [value("y", X)], opset=opset)
        assert prepare_onnx(path, {}, tmp_path / "to.onnx") == path


def test_functions_are_inlined(tmp_path: Path) -> None:
    body = [node("Relu", ["a"], ["b"])]
    function = onnx.helper.make_function("mine", "Block", ["a"], ["b"], body, [onnx.helper.make_opsetid("", 18)])
    graph = onnx.helper.make_graph(
        [node("Block", ["x"], ["y"], "block", domain="mine")], "graph", [value("x", X)], [value("y", X)]
    )
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("mine", 1)]
    onnx.save(
        onnx.helper.make_model(graph, functions=[function], opset_imports=opsets, ir_version=10), tmp_path / "m.onnx"
    )
    ready = prepare_onnx(tmp_path / "m.onnx", {}, tmp_path / "to.onnx")
    assert [one.op_type for one in onnx.load(ready).graph.node] == ["Relu"]
