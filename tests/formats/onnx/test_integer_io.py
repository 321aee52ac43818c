"""Integers at the border of a QDQ graph: the same numbers, and reasons where an edge stays as it is."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from edgewright.formats.onnx.integer_io import IntegerPort, make_io_integer
from tests.models.border_files import ENDED, KEPT, dequantize, requantize, write_integer_io_model
from tests.models.onnx_files import node, quantize, value
from tests.models.qdq_files import images, write_mobile_qdq

Array = NDArray[Any]


def run(model: Any, feeds: dict[str, Array]) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(one) for one in session.run(None, feeds)]


def take(path: Path) -> tuple[Any, dict[str, IntegerPort], tuple[str, ...]]:
    model = onnx.load(str(path))
    edges, notes = make_io_integer(model)
    onnx.checker.check_model(model, full_check=True)
    return model, edges, notes


def stored(array: Array, edge: IntegerPort) -> Array:
    limits, scale = np.iinfo(edge.dtype), np.float32(edge.quantization.scale)
    whole: Array = np.rint(array / scale) + edge.quantization.zero_point
    return np.clip(whole, limits.min, limits.max).astype(edge.dtype)


def real(array: Array, edge: IntegerPort) -> Array:
    shifted = array.astype(np.float32) - np.float32(edge.quantization.zero_point)
    return np.asarray(shifted * np.float32(edge.quantization.scale))


@pytest.mark.parametrize("kind", ["QUInt8", "QInt8", "QUInt16"])
def test_the_numbers_are_the_same(kind: str, tmp_path: Path) -> None:
    path = write_mobile_qdq(tmp_path, kind=kind)
    model, edges, notes = take(path)
    assert notes == ()
    assert {name: edge.dtype for name, edge in edges.items()} == dict.fromkeys("xy", kind[1:].lower())
    read = {name for one in model.graph.node for name in one.input}
    assert {one.name for one in model.graph.initializer} <= read
    for feeds in images(3, seed=7):
        (wanted,) = run(onnx.load(str(path)), feeds)
        (given,) = run(model, {"x": stored(feeds["x"], edges["x"])})
        assert given.dtype == edges["y"].dtype
        np.testing.assert_array_equal(real(given, edges["y"]), wanted)


@pytest.mark.parametrize(("what", "nodes", "outputs", "note"), KEPT, ids=[one[0] for one in KEPT])
def test_an_edge_that_stays(what: str, nodes: list[Any], outputs: tuple[str, ...], note: str, tmp_path: Path) -> None:
    path = write_integer_io_model(tmp_path / "m.onnx", nodes, outputs)
    model, edges, notes = take(path)
    assert note in notes
    x = np.linspace(-3, 3, 4, dtype=np.float32).reshape(1, 4)
    given = run(model, {"x": stored(x, edges["x"]) if "x" in edges else x})
    for name, one, wanted in zip(outputs, given, run(onnx.load(str(path)), {"x": x}), strict=True):
        np.testing.assert_array_equal(real(one, edges[name]) if name in edges else one, wanted)


def test_two_readers_of_one_scale_are_one(tmp_path: Path) -> None:
    more = [requantize("x", "x", "again_q"), dequantize("again_q", "x", "again"), node("Tanh", ["again"], ["z"], "t")]
    model, edges, notes = take(write_integer_io_model(tmp_path / "m.onnx", [*ENDED, *more], ("y", "z")))
    assert sorted(edges) == ["x", "y"]
    assert notes == ("output 'z' stays float32: it is the output of Tanh 't'",)
    assert [one.op_type for one in model.graph.node].count("QuantizeLinear") == 1


def test_whole_numbers_and_what_a_branch_reads_stay(tmp_path: Path) -> None:
    inputs = [value("x", [1, 4]), value("ids", [1, 4], "INT64"), value("unread", [1, 4])]
    nodes = [*ENDED, node("Cast", ["ids"], ["z"], "cast", to=1)]
    _, edges, notes = take(write_integer_io_model(tmp_path / "m.onnx", nodes, ("y", "z"), inputs))
    assert sorted(edges) == ["x", "y"]
    assert "input 'ids' stays int64: it is not a float32 tensor that could be quantized" in notes
    assert "input 'unread' stays float32: no operator reads it" in notes
    inner = onnx.helper.make_graph([node("Neg", ["x"], ["n"])], "then", [], [value("n", [1, 4])])
    branch = node("If", ["on"], ["z"], "if", then_branch=inner, else_branch=inner)
    path = write_integer_io_model(
        tmp_path / "b.onnx", [*ENDED, branch], ("y", "z"), [value("x", [1, 4]), value("on", [], "BOOL")]
    )
    _, edges, notes = take(path)
    assert sorted(edges) == ["y"]
    assert "input 'x' stays float32: it is also an output, or a subgraph of an operator reads it" in notes


def test_scales_along_an_axis_stay(tmp_path: Path) -> None:
    path = write_integer_io_model(tmp_path / "m.onnx", ENDED)
    model = onnx.load(str(path))
    for one in model.graph.initializer:
        if one.name in ("x_scale", "x_zero"):
            array = np.repeat(onnx.numpy_helper.to_array(one).reshape(1), 4)
            one.CopyFrom(onnx.numpy_helper.from_array(array, one.name))
    edges, notes = make_io_integer(model)
    assert sorted(edges) == ["y"]
    assert notes == ("input 'x' stays float32: it is not quantized per-tensor with one scale",)
    assert [one.op_type for one in model.graph.node[:2]] == [one.op_type for one in quantize("x")]
