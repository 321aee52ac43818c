"""If nodes with a known condition are replaced by their branch."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper

from edgewright.formats.onnx.normalize.source import prepare_onnx
from tests.models.onnx_files import constant, node, value, write_onnx


def branch(nodes: list[onnx.NodeProto], end: str, *constants: onnx.TensorProto) -> onnx.GraphProto:
    return helper.make_graph(nodes, "branch", [], [value(end, None)], constants)


def run(path: Path, **feeds: Any) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def write_rate_net(path: Path) -> Path:
    """x float32[1,4] → twice x where `sr` is 16000, plus 1 where it is 8000, otherwise −x; both branches name their
    values alike."""
    inner = node(
        "If", ["is8"], ["b"], "inner",
        then_branch=branch([node("Add", ["x", "k"], ["a"], "add")], "a", constant("k", 1.0)),
        else_branch=branch([node("Neg", ["x"], ["a"], "neg")], "a"),
    )  # fmt: skip
    nodes = [
        node("Relu", ["x"], ["r"], "first"),
        node("Equal", ["sr", "k16"], ["c"], "is16k"),
        node("Equal", ["sr", "k8"], ["is8"], "is8k"),
        node(
            "If", ["c"], ["z"], "rate",
            then_branch=branch([node("Mul", ["x", "k"], ["b"], "mul")], "b", constant("k", 2.0)),
            else_branch=branch([inner], "b"),
        ),
        node("If", ["c"], ["same"], "outer", then_branch=branch([node("Identity", ["r"], ["b"])], "b"),
             else_branch=branch([node("Identity", ["x"], ["b"])], "b")),
        node("Add", ["z", "same"], ["y"], "sum"),
    ]  # fmt: skip
    constants = [constant("k16", 16000, np.int64), constant("k8", 8000, np.int64), constant("k", 5.0)]
    inputs = [value("x", [1, 4]), value("sr", [], "INT64")]
    return write_onnx(path, nodes, inputs, [value("y", [1, 4])], constants)


def test_a_fixed_input_decides(tmp_path: Path) -> None:
    path = write_rate_net(tmp_path / "m.onnx")
    x = np.array([[1, -2, 3, -4]], np.float32)
    for rate, ops in (
        (16000, ["Relu", "Mul", "Identity", "Add"]),
        (8000, ["Add", "Identity", "Add"]),
        (1, ["Neg", "Identity", "Add"]),
    ):
        ready = prepare_onnx(path, {"x": (1, 4)}, tmp_path / f"{rate}.onnx", {"sr": np.array(rate)})
        graph = onnx.load(ready).graph
        assert [one.op_type for one in graph.node] == ops
        assert [one.name for one in graph.input] == ["x"]
        np.testing.assert_array_equal(run(ready, x=x), run(path, x=x, sr=np.array(rate)))


def test_a_computed_condition_stays(tmp_path: Path) -> None:
    path = write_rate_net(tmp_path / "m.onnx")
    assert prepare_onnx(path, {"x": (1, 4)}, tmp_path / "to.onnx") == path


def test_a_size_decides(tmp_path: Path) -> None:
    axes = constant("axes", [0], np.int64)
    nodes = [
        node("Shape", ["x"], ["s"], "shape"),
        node("Gather", ["s", "zero"], ["d"], "dim"),
        node("Equal", ["d", "one"], ["c"], "is_one"),
        node(
            "If", ["c"], ["z"], "if",
            then_branch=branch([node("Squeeze", ["x", "axes"], ["a"], "squeeze")], "a", axes),
            else_branch=branch([node("Identity", ["x"], ["a"], "id")], "a"),
        ),
        node("Relu", ["z"], ["y"], "relu"),
    ]  # fmt: skip
    constants = [constant("zero", 0, np.int64), constant("one", 1, np.int64)]
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", ["n", 4])], [value("y", None)], constants)
    for size, op in ((1, "Squeeze"), (2, "Identity")):
        ready = prepare_onnx(path, {"x": (size, 4)}, tmp_path / f"{size}.onnx")
        graph = onnx.load(ready).graph
        assert [one.op_type for one in graph.node] == [op, "Relu"]
        x = np.ones((size, 4), np.float32)
        np.testing.assert_array_equal(run(ready, x=x)[0], x[0] if size == 1 else x)
