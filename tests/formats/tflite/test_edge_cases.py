"""TFLite files converted to ONNX: values and graphs at the limits of what operators accept."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from edgewright.formats.tflite.to_onnx.convert import convert
from edgewright.formats.tflite.to_onnx.nodes import NodeWriter
from edgewright.formats.tflite.to_onnx.read import ConversionRequest, OnnxConversion
from edgewright.limits import ResourceBudget
from tests.models.tflite_files import Node, Tensor, write_tflite

Array = NDArray[Any]
ROW, ROWS = Tensor("y", (4,)), Tensor("y", (2, 3))
NO_AXES = Tensor("axes", (0,), "int32", np.zeros(0, np.int32))


def to_onnx(path: Path) -> OnnxConversion:
    return convert(path, ConversionRequest(shapes={}, to=str(path.with_suffix(".onnx"))), ResourceBudget())


def run_both(path: Path, feeds: Sequence[Array]) -> tuple[Array, Array]:
    """LiteRT's output, and that of the ONNX model in ONNX Runtime."""
    assert to_onnx(path).rejected == ()
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    for spec, value in zip(interpreter.get_input_details(), feeds, strict=True):
        interpreter.set_tensor(spec["index"], value)
    interpreter.invoke()
    session = onnxruntime.InferenceSession(str(path.with_suffix(".onnx")), providers=["CPUExecutionProvider"])
    named = dict(zip((one.name for one in session.get_inputs()), feeds, strict=True))
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"]), session.run(None, named)[0]


def check(folder: Path, node: Node, tensors: Sequence[Tensor], feeds: Sequence[Array]) -> None:
    inputs = [tensor.name for tensor in tensors if tensor.data is None and tensor.name not in node.outputs]
    path = write_tflite(folder / "m.tflite", tensors, [node], inputs, node.outputs)
    np.testing.assert_allclose(*run_both(path, feeds), rtol=1e-6)


@pytest.mark.parametrize("norm", [1e-4, 3e-7, 0.0])
def test_small_vectors_are_normalized(norm: float, tmp_path: Path) -> None:
    node = Node("L2_NORMALIZATION", ("x",), ("y",), "L2NormOptions")
    value = np.array([[1, 2, 2]], np.float32) / 3 * np.float32(norm)
    check(tmp_path, node, [Tensor("x", (1, 3)), Tensor("y", (1, 3))], [value])


@pytest.mark.parametrize("axis", [-1, 0])
def test_one_hot_has_no_place_for_other_indices(axis: int, tmp_path: Path) -> None:
    node = Node("ONE_HOT", ("x", "depth", "on", "off"), ("y",), "OneHotOptions", {"axis": axis})
    values = [Tensor("depth", (), "int32", np.array(3, np.int32)), Tensor("on", (), data=np.array(2, np.float32)),
              Tensor("off", (), data=np.array(-1, np.float32))]  # fmt: skip
    shape = (5, 3) if axis else (3, 5)
    indices = np.array([-1, -3, 0, 2, 3], np.int32)
    check(tmp_path, node, [Tensor("x", (5,), "int32"), *values, Tensor("y", shape)], [indices])


@pytest.mark.parametrize(("op", "dtype"), [("MEAN", "float32"), ("SUM", "float32"), ("REDUCE_ANY", "bool")])
def test_a_reduction_without_axes_returns_its_input(op: str, dtype: str, tmp_path: Path) -> None:
    node = Node(op, ("x", "axes"), ("y",), "ReducerOptions", {"keepDims": False})
    value = np.arange(6).reshape(2, 3).astype(dtype)
    check(tmp_path, node, [Tensor("x", (2, 3), dtype), NO_AXES, Tensor("y", (2, 3), dtype)], [value])


def test_the_angle_of_negative_zero_is_negative(tmp_path: Path) -> None:
    y, x = np.array([[-0.0, 0.0, -0.0, -np.inf], [-1.0, -2.0, 3.0, -4.0]], np.float32)
    check(tmp_path, Node("ATAN2", ("a", "b"), ("y",)), [Tensor("a", (4,)), Tensor("b", (4,)), ROW], [y, x])


def test_a_slope_of_zero_may_be_omitted(tmp_path: Path) -> None:
    value = np.array([-2, -1, 0, 3], np.float32)
    check(tmp_path, Node("LEAKY_RELU", ("x",), ("y",)), [Tensor("x", (4,)), ROW], [value])


def test_an_output_that_is_an_input_has_its_own_name(tmp_path: Path) -> None:
    tensors = [Tensor("x", (2, 3)), ROWS]
    path = write_tflite(tmp_path / "m.tflite", tensors, [Node("RELU", ("x",), ("y",))], ["x"], ["x", "y"])
    assert to_onnx(path).rejected == ()
    session = onnxruntime.InferenceSession(str(path.with_suffix(".onnx")), providers=["CPUExecutionProvider"])
    value = np.array([[-1, 2, -3], [4, -5, 6]], np.float32)
    same, made = session.run(["x#0", "y"], {"x": value})
    assert same.tolist() == value.tolist()
    assert made.tolist() == np.maximum(value, 0).tolist()


def test_an_operator_on_integers_without_scale_is_named(tmp_path: Path) -> None:
    tensors = [Tensor("x", (2, 3), "int8"), Tensor("y", (2, 3), "int8")]
    path = write_tflite(tmp_path / "m.tflite", tensors, [Node("TANH", ("x",), ("y",))], ["x"], ["y"])
    assert [one.node for one in to_onnx(path).rejected] == ["TANH#0"]


class _CountingSet(set[str]):
    lookups = 0

    def __contains__(self, name: object) -> bool:
        self.lookups += 1
        return super().__contains__(name)


def test_names_are_found_in_linear_time() -> None:
    writer, taken = NodeWriter(18, []), _CountingSet()
    writer._taken = taken
    names = {writer.number(1.0) for _ in range(100)}
    assert len(names) == 100
    assert taken.lookups <= 300
