"""A graph cut behind one of its tensors computes what the whole computes there."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from edgewright.formats.onnx.submodel import SubmodelExtractor
from tests.models.onnx_files import constant, node, value, weights, write_conv_net, write_onnx


def compute(path: Path, **feeds: object) -> list[np.ndarray]:
    return list(onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, feeds))


def test_places_are_in_order_and_leave_out_constants(tmp_path: Path) -> None:
    nodes = [node("Neg", ["k"], ["c"], "const"), node("Add", ["x", "c"], ["a"], "add"), node("Relu", ["a"], ["y"], "r")]
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [2])], [value("y", [2])], [constant("k", [1, 2])])
    assert [place.node for place in SubmodelExtractor(path).cut_points()] == ["add", "r"]


def test_integers_are_no_places(tmp_path: Path) -> None:
    nodes = [node("Shape", ["x"], ["s"], "shape"), node("Relu", ["x"], ["y"], "r")]
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [2])], [value("y", [2])])
    assert [place.tensor for place in SubmodelExtractor(path).cut_points()] == ["y"]


def test_every_cut_computes_the_same(tmp_path: Path) -> None:
    path = write_conv_net(tmp_path / "m.onnx")
    extractor = SubmodelExtractor(path)
    cut_points = extractor.cut_points()
    assert [place.op for place in cut_points] == ["Conv", "Relu", "GlobalAveragePool", "Flatten", "Gemm"]
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    whole = onnx.load(path)
    whole.graph.output.extend(onnx.ValueInfoProto(name=place.tensor) for place in cut_points[:-1])
    onnx.save(whole, tmp_path / "all.onnx")
    y, *inner = compute(tmp_path / "all.onnx", x=x)
    for place, expected in zip(cut_points, [*inner, y], strict=True):
        part = extractor.extract(place.tensor, tmp_path / "part.onnx")
        np.testing.assert_allclose(compute(part, x=x)[0], expected, rtol=1e-5, atol=1e-6)
        assert len(onnx.load(part).graph.node) == cut_points.index(place) + 1


def test_inputs_that_are_not_needed_are_left_out(tmp_path: Path) -> None:
    nodes = [node("Relu", ["a"], ["r"], "r"), node("Add", ["r", "b"], ["y"], "add")]
    path = write_onnx(
        tmp_path / "m.onnx", nodes, [value("a", [2]), value("b", [2])], [value("y", [2])], [weights("w", 2)]
    )
    part = SubmodelExtractor(path).extract("r", tmp_path / "part.onnx")
    assert [one.name for one in onnx.load(part).graph.input] == ["a"]


def test_what_an_inner_graph_reads_stays(tmp_path: Path) -> None:
    inner = onnx.helper.make_graph([node("Identity", ["r"], ["i"], "inner")], "then", [], [value("i", [2])])
    nodes = [
        node("Relu", ["x"], ["r"], "r"),
        node("If", ["c"], ["y"], "if", then_branch=inner, else_branch=inner),
    ]
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [2]), value("c", [1], "BOOL")], [value("y", [2])])
    part = SubmodelExtractor(path).extract("y", tmp_path / "part.onnx")
    assert compute(part, x=np.array([-1.0, 2.0], np.float32), c=np.array([True]))[0].tolist() == [0.0, 2.0]


@pytest.mark.parametrize("tensor", ["absent"])
def test_a_tensor_that_is_not_there(tmp_path: Path, tensor: str) -> None:
    with pytest.raises(KeyError):
        SubmodelExtractor(write_conv_net(tmp_path / "m.onnx")).extract(tensor, tmp_path / "part.onnx")
