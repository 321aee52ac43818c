"""Former findings of a fuzzer: each is now equal to ONNX Runtime, or rejected."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.errors import ModelNotConvertible
from edgewright.runtimes.litert.writer import convert_onnx
from tests.runtimes.litert.writer.compare import compare


def _save(path: Path, nodes: list[Any], shape: list[int], constants: dict[str, Any], more: dict[str, int]) -> Path:
    outputs = {"y": TensorProto.FLOAT, **more}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path / "m.onnx")
    return path / "m.onnx"


def test_product_of_a_value_with_itself(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[3, 2, 0, 1]),
        helper.make_node("MatMul", ["t", "t"], ["y"]),
    ]
    assert compare(_save(tmp_path, nodes, [2, 2, 3, 2], {}, {})).sqnr_db > 80


def test_slice_backwards_along_axes_apart(tmp_path: Path) -> None:
    nodes = [helper.make_node("Slice", ["x", "s", "e", "a", "t"], ["y"])]
    constants = {"s": [-1, -1], "e": [-9, -9], "a": [0, 2], "t": [-1, -1]}
    model = _save(tmp_path, nodes, [2, 3, 4], {k: np.array(v, np.int64) for k, v in constants.items()}, {})
    assert compare(model).sqnr_db == 300


def test_quantized_value_that_is_also_an_output(tmp_path: Path) -> None:
    scale, zero = np.float32(0.01), np.uint8(0)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("Add", ["d", "d"], ["a"]),
        helper.make_node("QuantizeLinear", ["a", "s", "z"], ["b"]),
        helper.make_node("DequantizeLinear", ["b", "s", "z"], ["y"]),
    ]
    model = _save(tmp_path, nodes, [1, 2, 5, 5], {"s": scale, "z": zero}, {"q": TensorProto.UINT8})
    assert compare(model).sqnr_db > 40


def test_average_that_counts_padding_and_rounds_up(tmp_path: Path) -> None:
    node = helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[2, 2], strides=[3, 3], auto_pad="VALID",
                            ceil_mode=1, count_include_pad=1)  # fmt: skip
    assert compare(_save(tmp_path, [node], [1, 3, 7, 5], {}, {})).sqnr_db > 80


@pytest.mark.parametrize(
    ("node", "shape", "constants"),
    [
        (helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2]), [1, 2, 1, 2], {}),
        (helper.make_node("LpPool", ["x"], ["y"], kernel_shape=[1, 4], strides=[3, 1], auto_pad="SAME_UPPER"),
         [1, 2, 18, 6], {}),
        (helper.make_node("ConvTranspose", ["x", "w"], ["y"], auto_pad="SAME_UPPER", output_padding=[1], strides=[3]),
         [1, 4, 6], {"w": np.ones((4, 3, 3), np.float32)}),
        (helper.make_node("Resize", ["x", "", "f"], ["y"], coordinate_transformation_mode="asymmetric",
                          nearest_mode="ceil"), [1, 1, 81], {"f": np.array([1, 1, 0.7], np.float32)}),
    ],
)  # fmt: skip
def test_what_readers_disagree_on_is_rejected(
    node: Any, shape: list[int], constants: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(ModelNotConvertible):
        convert_onnx(_save(tmp_path, [node], shape, constants, {}))


def test_scales_that_do_not_fit_are_an_error_of_ours(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s"], ["y"]),
    ]
    with pytest.raises(ModelNotConvertible):
        convert_onnx(_save(tmp_path, nodes, [2, 3], {"s": np.ones(5, np.float32)}, {}))
