"""An editable graph: weights stay in the file, and the message that it writes is the one that was read."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.errors import ExternalDataMissing, ModelUnreadable
from edgewright.formats.onnx.editable import EditableGraph

LARGE = np.arange(80 * 80, dtype=np.float32).reshape(80, 80)


def make_model() -> Any:
    """Weights as bytes and as numbers, an empty one, and one of a type that NumPy does not have."""
    weights = [
        numpy_helper.from_array(LARGE, "bytes"),
        helper.make_tensor("numbers", TensorProto.FLOAT, LARGE.shape, LARGE.reshape(-1)),
        helper.make_tensor("half", TensorProto.BFLOAT16, LARGE.shape, LARGE.reshape(-1)),
        numpy_helper.from_array(np.zeros((0,), np.int64), "none"),
        numpy_helper.from_array(np.array([1, 2]), "small"),
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "bytes"], ["a"], "first", doc_string="kept"),
        helper.make_node("MatMul", ["a", "numbers"], ["y"], "second"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 80]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights, doc_string="kept")
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], producer_name="someone")
    model.metadata_props.add(key="a", value="b")
    return model


@pytest.fixture(params=["one file", "beside it"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "m.onnx"
    onnx.save(make_model(), path, save_as_external_data=request.param == "beside it", location="m.data")
    return path


@pytest.mark.parametrize("is_mapped", [True, False])
def test_the_message_is_the_one_that_onnx_reads(path: Path, is_mapped: bool) -> None:
    graph, wanted = EditableGraph.open(path, is_mapped=is_mapped), onnx.load(path).SerializeToString()
    assert graph.to_message().SerializeToString() == wanted
    light = graph.to_message(4096)
    assert len(light.SerializeToString()) < 1500 < LARGE.nbytes
    graph.fill(light)
    assert light.SerializeToString() == wanted


@pytest.mark.parametrize("is_mapped", [True, False])
def test_changed_constants_replace_those_of_the_file(path: Path, is_mapped: bool) -> None:
    graph = EditableGraph.open(path, is_mapped=is_mapped)
    np.testing.assert_array_equal(graph.constants["bytes"], LARGE)
    graph.constants["bytes"] = graph.constants["bytes"] + 1
    graph.constants["new"] = np.ones(3, np.int8)
    graph.constants.put(numpy_helper.from_array(np.zeros(2, np.float32), "numbers"))
    del graph.constants["half"]
    graph.nodes = graph.nodes[:1]
    again = EditableGraph(graph.to_message())
    assert list(again.constants) == ["bytes", "numbers", "none", "small", "new"]
    np.testing.assert_array_equal(again.constants["bytes"], LARGE + 1)
    assert again.constants["numbers"].shape == (2,)
    assert [node.name for node in again.nodes] == ["first"]


def test_a_message_that_was_made_from_a_graph_has_its_weights(path: Path) -> None:
    graph = EditableGraph.open(path)
    graph.constants["bytes"] = LARGE * 2
    light = graph.to_message(4096)
    light.producer_name = "another"
    made = graph.replace_model(light).to_message()
    wanted = graph.to_message()
    wanted.producer_name = "another"
    assert made.SerializeToString() == wanted.SerializeToString()


@pytest.mark.parametrize("is_mapped", [True, False])
def test_a_file_without_all_of_its_weights_is_rejected(path: Path, is_mapped: bool) -> None:
    data = path.with_name("m.data")
    if data.exists():
        data.unlink()
        with pytest.raises(ExternalDataMissing):
            EditableGraph.open(path, is_mapped=is_mapped)
    else:
        path.write_bytes(path.read_bytes()[:9000])
        with pytest.raises(ModelUnreadable):
            EditableGraph.open(path, is_mapped=is_mapped)


def test_a_file_that_becomes_shorter_is_an_error_where_it_is_not_mapped(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(make_model(), path)
    graph = EditableGraph.open(path, is_mapped=False)
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(ModelUnreadable, match="became shorter"):
        graph.constants["bytes"]


@pytest.mark.parametrize("is_mapped", [True, False])
def test_weights_that_do_not_fit_their_sizes_are_named(tmp_path: Path, is_mapped: bool) -> None:
    model = make_model()
    model.graph.initializer[0].dims[0] += 1
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ModelUnreadable, match="'bytes' cannot be read"):
        EditableGraph.open(tmp_path / "m.onnx", is_mapped=is_mapped).constants["bytes"]
