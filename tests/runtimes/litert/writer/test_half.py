"""Weights of 16 bits."""

from pathlib import Path

import numpy as np
from onnx import helper, numpy_helper, save

from edgewright.runtimes.litert.writer import convert_onnx
from tests.models.onnx_files import node, value, weights, write_onnx
from tests.runtimes.litert.writer.compare import count_partitions


def write_net(path: Path) -> Path:
    nodes = [
        node("Conv", ["x", "w"], ["c"], "conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["r"], "relu"),
        node("Conv", ["r", "v"], ["y"], "last", kernel_shape=[1, 1]),
    ]
    constants = [weights("w", 64, 16, 3, 3), weights("v", 32, 64, 1, 1, seed=1)]
    return write_onnx(path, nodes, [value("x", [1, 16, 8, 8])], [value("y", None)], constants)


def test_weights_of_16_bits_halve_the_file_and_stay_in_one_partition(tmp_path: Path) -> None:
    path = write_net(tmp_path / "m.onnx")
    whole, half = convert_onnx(path, check="none"), convert_onnx(path, precision="fp16")
    assert len(half.data) < 0.6 * len(whole.data)
    assert half.operators.count("DEQUANTIZE") == 2
    assert count_partitions(half.data) == 1
    assert half.proof is not None
    assert half.proof.sqnr_db is not None
    assert half.proof.sqnr_db > 50


def test_a_source_in_half_floats_keeps_its_weights_so(tmp_path: Path) -> None:
    w = np.random.default_rng(0).standard_normal((64, 16, 3, 3)).astype(np.float16)
    graph = helper.make_graph(
        [node("Conv", ["x", "w"], ["y"], "conv", kernel_shape=[3, 3])],
        "g",
        [helper.make_tensor_value_info("x", 10, [1, 16, 8, 8])],
        [helper.make_tensor_value_info("y", 10, None)],
        [numpy_helper.from_array(w, "w")],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "m.onnx")
    converted = convert_onnx(tmp_path / "m.onnx")
    assert converted.operators == ("DEQUANTIZE", "CONV_2D")
    assert len(converted.data) < 1.2 * w.nbytes
    assert [entry.dtype for entry in (*converted.inputs, *converted.outputs)] == ["float32", "float32"]


def test_a_number_beyond_the_range_keeps_its_tensor_whole(tmp_path: Path) -> None:
    large = weights("w", 64, 16)
    data = numpy_helper.to_array(large).copy()
    data[0, 0] = 1e6
    nodes = [node("MatMul", ["x", "w"], ["y"], "layer")]
    constants = [numpy_helper.from_array(data, "w")]
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [1, 64])], [value("y", None)], constants)
    assert convert_onnx(path, precision="fp16").operators == ("FULLY_CONNECTED",)
