"""An ONNX model as converters like it, computing what it did."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from edgewright.errors import InputError
from edgewright.formats.onnx.normalize.source import is_prepared, prepare_onnx, resize_inputs
from edgewright.formats.onnx.reader import OnnxFile
from tests.models.onnx_files import node, value, weights, write_conv_net, write_onnx


def run(path: Path, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def test_a_fixed_and_named_model_is_taken_as_it_is(tmp_path: Path) -> None:
    path = write_conv_net(tmp_path / "m.onnx")
    assert prepare_onnx(path, {"x": (1, 3, 8, 8)}, tmp_path / "to.onnx") == path
    assert not (tmp_path / "to.onnx").exists()


def test_a_free_batch_is_fixed(tmp_path: Path) -> None:
    path = write_conv_net(tmp_path / "m.onnx", batch="n")
    ready = prepare_onnx(path, {"x": (2, 3, 8, 8)}, tmp_path / "to.onnx")
    assert OnnxFile(ready).signature().inputs[0].shape == (2, 3, 8, 8)
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    np.testing.assert_array_equal(run(ready, x), run(path, x))


def test_nodes_get_the_names_that_the_graph_gives_them(tmp_path: Path) -> None:
    nodes = [node("Relu", ["x"], ["a"], "same"), node("Relu", ["a"], ["b"]), node("Relu", ["b"], ["y"], "same")]
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [1])], [value("y", [1])])
    ready = prepare_onnx(path, {"x": (1,)}, tmp_path / "to.onnx")
    assert [one.name for one in OnnxFile(ready).nodes()] == ["same", "Relu#1", "same#2"]
    assert OnnxFile(path).nodes()[1].name == "Relu#1"


def test_weights_beside_the_model_come_along(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    path = write_conv_net(tmp_path / "m.onnx", batch="n")
    beside = tmp_path / "a" / "m.onnx"
    onnx.save(onnx.load(path), str(beside), save_as_external_data=True, location="w.data", size_threshold=0)
    ready = prepare_onnx(beside, {"x": (1, 3, 8, 8)}, tmp_path / "to.onnx")
    assert OnnxFile(ready).data_files() == ()
    x = np.ones((1, 3, 8, 8), np.float32)
    np.testing.assert_array_equal(run(ready, x), run(path, x))


def test_another_rank_is_an_error_of_the_input(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "m.onnx", [node("Relu", ["x"], ["y"], "r")], [value("x", ["n"])], [value("y", ["n"])])
    with pytest.raises(InputError, match="does not fit"):
        prepare_onnx(path, {"x": (1, 2)}, tmp_path / "to.onnx")
    with pytest.raises(InputError, match="no such input"):
        prepare_onnx(path, {"z": (1, 2)}, tmp_path / "to.onnx")
    assert weights("w", 1).name == "w"


def test_sizes_of_the_file_are_replaced_and_negative_ones_are_dynamic(tmp_path: Path) -> None:
    path = write_conv_net(tmp_path / "m.onnx", batch=4)
    ready = prepare_onnx(path, {"x": (2, 3, 9, 9)}, tmp_path / "to.onnx")
    signature = OnnxFile(ready).signature()
    assert [signature.inputs[0].shape, signature.outputs[0].shape] == [(2, 3, 9, 9), ("", "")]
    x = np.random.default_rng(0).standard_normal((2, 3, 9, 9)).astype(np.float32)
    free = write_conv_net(tmp_path / "free.onnx", batch="n")
    loose = resize_inputs(free, {"x": (2, 3, 9, 9)}, tmp_path / "loose.onnx")
    np.testing.assert_array_equal(run(ready, x), run(loose, x))
    negative = write_conv_net(tmp_path / "negative.onnx", batch=-1)
    assert not is_prepared(negative, {})
    assert is_prepared(free, {"x": (1, 3, 8, 8)})
    assert not is_prepared(free, {"x": (1, 3, 9, 9)})


def test_large_weights_are_read_only_if_something_changes(tmp_path: Path) -> None:
    constants = [weights("w", 64, 64)]
    path = write_onnx(
        tmp_path / "m.onnx", [node("MatMul", ["x", "w"], ["y"], "m")], [value("x", ["n", 64])],
        [value("y", ["n", 64])], constants,
    )  # fmt: skip
    ready = prepare_onnx(path, {"x": (1, 64)}, tmp_path / "to.onnx")
    np.testing.assert_array_equal(
        numpy_helper.to_array(onnx.load(ready).graph.initializer[0]), numpy_helper.to_array(constants[0])
    )
