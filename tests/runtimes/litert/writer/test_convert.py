"""The function's contract: names, layouts, the mapping, rejections, equal bytes each time."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import edgewright
from edgewright.errors import ModelNotConvertible
from edgewright.formats.tflite.reader import read_graph, read_signature
from edgewright.runtimes.litert.writer import convert_onnx
from tests.models.onnx_files import constant, node, value, weights, write_conv_net, write_onnx
from tests.runtimes.litert.writer.compare import compare


def test_it_is_a_function_of_the_package(tmp_path: Path) -> None:
    data = edgewright.onnx_to_litert(write_conv_net(tmp_path / "m.onnx"))
    assert data[4:8] == b"TFL3"


def test_importing_the_package_loads_nothing_of_it() -> None:
    code = "import sys, edgewright; print([n for n in ('onnx', 'numpy', 'ai_edge_litert') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    path = write_conv_net(tmp_path / "m.onnx")
    assert convert_onnx(path).data == convert_onnx(path.read_bytes()).data


def test_names_and_layouts_are_recorded(tmp_path: Path) -> None:
    converted = convert_onnx(write_conv_net(tmp_path / "m.onnx"))
    (image,) = converted.inputs
    assert (image.name, image.shape, image.dtype, image.axes) == ("x", (1, 8, 8, 3), "float32", (0, 2, 3, 1))
    (tmp_path / "m.tflite").write_bytes(converted.data)
    signature = read_signature(tmp_path / "m.tflite")
    assert [spec.name for spec in signature.inputs] == ["x"]
    assert [spec.name for spec in signature.outputs] == ["y"]


def test_operators_are_joined_to_the_nodes_of_the_source(tmp_path: Path) -> None:
    converted = convert_onnx(write_conv_net(tmp_path / "m.onnx"))
    assert converted.operators == ("CONV_2D", "MEAN", "RESHAPE", "FULLY_CONNECTED")
    assert converted.sources == (("conv", "relu"), ("pool",), ("flatten",), ("gemm",))
    (tmp_path / "m.tflite").write_bytes(converted.data)
    assert read_graph(tmp_path / "m.tflite")[0].outputs[0] == "r"


def test_all_unknown_operators_are_named_at_once(tmp_path: Path) -> None:
    nodes = [
        node("NonZero", ["x"], ["n"], "first"),
        node("Foo", ["x"], ["f"], "second"),
        node("Det", ["x"], ["y"], "third"),
    ]
    outputs = [value("y", []), value("n", None, "INT64"), value("f", None)]
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [2, 2])], outputs)
    with pytest.raises(ModelNotConvertible) as caught:
        convert_onnx(path)
    assert all(name in caught.value.why for name in ("'first'", "'second'", "'third'"))
    assert "cut the model before it" in caught.value.try_this
    assert "docs/litert-coverage.md" in caught.value.try_this


def test_constant_shape_computations_vanish(tmp_path: Path) -> None:
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"]),
        node("Unsqueeze", ["n", "axis"], ["u"]),
        node("Concat", ["u", "rest"], ["t"], axis=0),
        node("Reshape", ["x", "t"], ["y"], "flat"),
    ]
    constants = [constant("zero", 0, "int64"), constant("axis", [0], "int64"), constant("rest", [-1], "int64")]
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", ["n", 3, 4])], [value("y", None)], constants)
    compared = compare(path, shapes={"x": (2, 3, 4)})
    assert compared.converted.operators == ("RESHAPE",)
    assert compared.sqnr_db == 300


def test_a_flattened_image_costs_no_transpose(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w"], ["c"], "conv", kernel_shape=[3, 3]),
        node("MaxPool", ["c"], ["p"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["p"], ["f"], "flatten"),
        node("Gemm", ["f", "g"], ["y"], "gemm", transB=1),
    ]
    constants = [weights("w", 4, 3, 3, 3), weights("g", 5, 4 * 3 * 3, seed=1)]
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [2, 3, 8, 8])], [value("y", [2, 5])], constants)
    compared = compare(path)
    assert compared.codes["TRANSPOSE"] == 0
    assert compared.sqnr_db >= 80


def test_batch_norm_and_clip_go_into_the_convolution(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w"], ["c"], "conv", kernel_shape=[1, 1]),
        node("BatchNormalization", ["c", "scale", "shift", "mean", "variance"], ["n"], "norm"),
        node("Clip", ["n", "zero", "six"], ["y"], "clip"),
    ]
    constants = [weights("w", 4, 3, 1, 1), *(weights(n, 4, seed=i) for i, n in enumerate(["scale", "shift", "mean"]))]
    constants += [constant("variance", np.linspace(0.5, 2, 4)), constant("zero", 0.0), constant("six", 6.0)]
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [1, 3, 5, 5])], [value("y", None)], constants)
    compared = compare(path)
    assert compared.converted.sources == (("conv", "norm", "clip"),)
    assert compared.sqnr_db >= 80


def test_gelu_and_hard_swish_are_found_in_pieces(tmp_path: Path) -> None:
    nodes = [
        node("Div", ["x", "root"], ["d"]),
        node("Erf", ["d"], ["e"]),
        node("Add", ["e", "one"], ["a"]),
        node("Mul", ["x", "a"], ["m"]),
        node("Mul", ["m", "half"], ["g"], "gelu"),
        node("Add", ["g", "three"], ["h"]),
        node("Clip", ["h", "zero", "six"], ["c"]),
        node("Mul", ["g", "c"], ["p"]),
        node("Div", ["p", "six"], ["y"], "swish"),
    ]
    numbers = {"root": 2**0.5, "one": 1.0, "half": 0.5, "three": 3.0, "zero": 0.0, "six": 6.0}
    constants = [constant(name, number) for name, number in numbers.items()]
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [2, 7])], [value("y", [2, 7])], constants)
    compared = compare(path)
    assert compared.converted.operators == ("GELU", "HARD_SWISH")
    assert compared.sqnr_db >= 60


def test_one_dimensional_convolution(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"], "conv", kernel_shape=[5], strides=[2], pads=[2, 2]),
        node("Relu", ["c"], ["y"], "relu"),
    ]
    constants = [weights("w", 4, 3, 5), weights("b", 4, seed=1)]
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [1, 3, 16])], [value("y", None)], constants)
    compared = compare(path)
    assert compared.codes["TRANSPOSE"] == 0
    assert compared.sqnr_db >= 80


def test_a_channel_shuffle_moves_data_once(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w"], ["c"], "conv", kernel_shape=[1, 1]),
        node("Reshape", ["c", "split"], ["s"]),
        node("Transpose", ["s"], ["t"], perm=[0, 2, 1, 3, 4]),
        node("Reshape", ["t", "join"], ["j"]),
        node("Conv", ["j", "v"], ["y"], "last", kernel_shape=[1, 1]),
    ]
    constants = [
        weights("w", 6, 3, 1, 1),
        weights("v", 2, 6, 1, 1, seed=1),
        constant("split", [1, 2, 3, 4, 4], "int64"),
        constant("join", [1, 6, 4, 4], "int64"),
    ]
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [1, 3, 4, 4])], [value("y", None)], constants)
    compared = compare(path)
    assert compared.codes["TRANSPOSE"] == 1
    assert compared.sqnr_db >= 80
