"""ONNX: signature, graph, precision, weights in files of their own, and graphs that are none."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgewright.errors import ExternalDataMissing, ModelError, ModelUnreadable
from edgewright.formats.files import read_model
from edgewright.formats.onnx.reader import OnnxFile
from edgewright.schema.model import TensorSpec
from tests.models.onnx_files import (
    constant,
    node,
    value,
    weights,
    write_branches,
    write_conv_net,
    write_external,
    write_identity,
    write_many_outputs,
    write_onnx,
    write_qdq_net,
    write_sequence,
)

X, Y = value("x", [2]), value("y", [2])


def precision_of(path: Path, nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto]) -> str:
    return OnnxFile(write_onnx(path, nodes, [X], [Y], constants)).precision()


def external_tensor(name: str, location: str, dims: tuple[int, ...] = (2,), **entries: str) -> onnx.TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, text in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=text)
    return tensor


def add_external(path: Path, location: str, **more: Any) -> Path:
    return write_onnx(path, [node("Add", ["x", "w"], ["y"])], [X], [Y], [external_tensor("w", location, **more)])


# Signature and graph


def test_signature(tmp_path: Path) -> None:
    signature = OnnxFile(write_conv_net(tmp_path / "m.onnx", batch="N")).signature()
    assert signature.inputs == (TensorSpec(name="x", dtype="float32", shape=("N", 3, 8, 8)),)
    assert signature.outputs == (TensorSpec(name="y", dtype="float32", shape=("N", 5)),)


def test_types_and_scalars(tmp_path: Path) -> None:
    signature = OnnxFile(write_many_outputs(tmp_path / "m.onnx")).signature()
    assert [(spec.dtype, spec.shape) for spec in signature.inputs] == [("int64", ("n",)), ("bool", ("n",))]
    assert [spec.shape for spec in signature.outputs] == [("n", 4), ("k",), ()]


@pytest.mark.parametrize(
    ("onnx_name", "dtype"),
    [
        ("FLOAT", "float32"),
        ("FLOAT16", "float16"),
        ("DOUBLE", "float64"),
        ("INT8", "int8"),
        ("UINT16", "uint16"),
        ("STRING", "str"),
        ("BFLOAT16", "bfloat16"),
        ("FLOAT8E4M3FN", "float8e4m3fn"),
    ],
)
def test_names_of_types(tmp_path: Path, onnx_name: str, dtype: str) -> None:
    assert OnnxFile(write_identity(tmp_path / "m.onnx", onnx_name)).signature().inputs[0].dtype == dtype


def test_a_type_of_the_future(tmp_path: Path) -> None:
    future = helper.make_tensor_value_info("x", 999, [2])
    path = write_onnx(tmp_path / "m.onnx", [node("Neg", ["x"], ["y"])], [future], [Y])
    assert OnnxFile(path).signature().inputs[0].dtype == "unknown"


def test_sizes_that_are_not_given_or_make_no_sense(tmp_path: Path) -> None:
    odd = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, "N", 0, -1, 3])
    path = write_onnx(tmp_path / "m.onnx", [node("Neg", ["x"], ["y"])], [odd], [Y])
    assert OnnxFile(path).signature().inputs[0].shape == ("", "N", "", "", 3)


def test_initializers_are_not_inputs(tmp_path: Path) -> None:
    """Files of IR version 3 list their weights among the inputs too."""
    inputs = [X, value("w", [2])]
    path = write_onnx(tmp_path / "m.onnx", [node("Add", ["x", "w"], ["y"])], inputs, [Y], [weights("w", 2)])
    assert [spec.name for spec in OnnxFile(path).signature().inputs] == ["x"]


@pytest.mark.parametrize(("inputs", "outputs"), [("aa", "y"), ("a", "yy")])
def test_two_of_the_same_name(tmp_path: Path, inputs: str, outputs: str) -> None:
    ends = [value(name, [1]) for name in inputs], [value(name, [1]) for name in outputs]
    with pytest.raises(ModelUnreadable, match="same name"):
        read_model(write_onnx(tmp_path / "m.onnx", [node("Relu", ["a"], ["y"])], *ends))


def test_a_sequence_has_no_dtype_to_make_up(tmp_path: Path) -> None:
    assert OnnxFile(write_sequence(tmp_path / "m.onnx")).signature().outputs[0].dtype == "undefined"


def test_nodes_leave_constants_out(tmp_path: Path) -> None:
    nodes = OnnxFile(write_conv_net(tmp_path / "m.onnx")).nodes()
    assert [one.name for one in nodes] == ["conv", "relu", "pool", "flatten", "gemm"]
    assert nodes[0].inputs == ("x",)
    assert nodes[4].inputs == ("f",)


def test_nameless_and_equal_names_stay_apart_by_position(tmp_path: Path) -> None:
    names = [one.name for one in OnnxFile(write_branches(tmp_path / "m.onnx")).nodes()]
    assert names == ["Exp_4", "Sigmoid#1", "MatMul#2", "Tanh#3", "Exp#4", "Exp#5"]
    twice = [node("Neg", ["x"], ["a"], "same"), node("Neg", ["a"], ["y"], "same")]
    again = OnnxFile(write_onnx(tmp_path / "n.onnx", twice, [X], [Y])).nodes()
    assert [one.name for one in again] == ["same", "same"]


def test_a_circle_is_read_as_it_is(tmp_path: Path) -> None:
    circle = [node("Add", ["x", "b"], ["a"]), node("Neg", ["a"], ["b"]), node("Neg", ["b"], ["y"])]
    model = read_model(write_onnx(tmp_path / "m.onnx", circle, [X], [Y]))
    assert [spec.name for spec in model.signature.inputs] == ["x"]


# Precision


def test_float_precisions_go_by_most_weights(tmp_path: Path) -> None:
    add = [node("Add", ["x", "w"], ["y"])]
    small, large = constant("v", np.ones(3)), np.ones(100)
    assert precision_of(tmp_path / "a.onnx", add, [small]) == "fp32"
    assert precision_of(tmp_path / "b.onnx", add, [small, constant("w", large, np.float16)]) == "fp16"
    brain = helper.make_tensor("w", TensorProto.BFLOAT16, [100], [1.0] * 100)
    assert precision_of(tmp_path / "c.onnx", add, [small, brain]) == "bf16"
    assert precision_of(tmp_path / "d.onnx", add, [constant("w", np.ones(100), np.int64)]) == "fp32"
    assert precision_of(tmp_path / "e.onnx", [node("Neg", ["x"], ["y"])], []) == "fp32"


def test_integer_precisions(tmp_path: Path) -> None:
    assert OnnxFile(write_qdq_net(tmp_path / "q.onnx")).precision() == "w8a8"
    scale = [constant("s", 0.1), constant("w", np.ones(2), np.int8)]
    weight_only = [node("DequantizeLinear", ["w", "s"], ["d"]), node("Add", ["x", "d"], ["y"])]
    assert precision_of(tmp_path / "w.onnx", weight_only, scale) == "w8"
    dynamic = [node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]), node("MatMulInteger", ["q", "w"], ["y"])]
    assert precision_of(tmp_path / "d.onnx", dynamic, scale) == "w8a8-dynamic"
    assert precision_of(tmp_path / "i.onnx", [node("QLinearConv", ["x", "w"], ["y"])], scale) == "w8a8"
    assert precision_of(tmp_path / "n.onnx", [node("MatMulNBits", ["x", "w"], ["y"])], scale) == "w4"
    eight = node("MatMulNBits", ["x", "w"], ["y"], bits=8, accuracy_level=1)
    assert precision_of(tmp_path / "n8.onnx", [eight], scale) == "w8"
    rounds = node("MatMulNBits", ["x", "w"], ["y"], bits=4, accuracy_level=4)
    assert precision_of(tmp_path / "n48.onnx", [rounds], scale) == "w4a8"
    four = helper.make_tensor("w", TensorProto.INT4, [2], [1, -1])
    assert precision_of(tmp_path / "w4.onnx", weight_only, [scale[0], four]) == "w4"
    wide = [node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["y"])]
    assert precision_of(tmp_path / "16.onnx", wide, [*scale, constant("z", 0, np.int16)]) == "w8a16"
    assert precision_of(tmp_path / "8.onnx", wide, [*scale, constant("z", 0, np.uint8)]) == "w8a8"


# Weights in files of their own


def test_weights_in_a_folder_below(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "w.bin").write_bytes(bytes(8))
    assert OnnxFile(add_external(tmp_path / "m.onnx", "data/w.bin")).data_files() == ("data/w.bin",)


@pytest.mark.parametrize(
    "location", ["absent.bin", "", "/etc/passwd", "../w.bin", "data/../../w.bin", "data", "w\0.bin", "x" * 300, "."]
)
def test_weights_that_are_not_beside_the_model(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "models"
    (folder / "data").mkdir(parents=True)
    (tmp_path / "w.bin").write_bytes(bytes(8))
    with pytest.raises(ExternalDataMissing) as caught:
        read_model(add_external(folder / "m.onnx", location))
    assert caught.value.exit_code == 6
    assert len(caught.value.what) < 500


def test_constants_of_operators_may_lie_outside_too(tmp_path: Path) -> None:
    outside = external_tensor("c", "constant.bin")
    then = helper.make_graph([node("Constant", [], ["t"], value=outside)], "then", [], [value("t", [2])])
    other = helper.make_graph([node("Neg", ["x"], ["u"])], "other", [], [value("u", [2])])
    nodes = [node("If", ["go"], ["y"], then_branch=then, else_branch=other)]
    path = write_onnx(tmp_path / "m.onnx", nodes, [X, value("go", [], "BOOL")], [Y])
    with pytest.raises(ExternalDataMissing, match=r"constant\.bin"):
        read_model(path)
    (tmp_path / "constant.bin").write_bytes(bytes(8))
    assert read_model(path).data_files == ("constant.bin",)


def test_declared_sizes_cost_nothing(tmp_path: Path) -> None:
    """Three gigabytes and more are declared by a file of a few hundred bytes."""
    huge = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1 << 40, 1 << 20])
    path = write_onnx(tmp_path / "m.onnx", [node("Add", ["x", "w"], ["y"])], [X], [Y], [huge])
    far = add_external(tmp_path / "n.onnx", "w.bin", dims=(1 << 30,), offset=str(1 << 40), length=str(1 << 32))
    (tmp_path / "w.bin").write_bytes(bytes(8))
    tracemalloc.start()
    try:
        assert read_model(path).precision == "fp32"
        with pytest.raises(ModelUnreadable, match="too short"):
            read_model(far)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


# No graphs


def test_no_graph(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx.ModelProto(ir_version=8).SerializeToString())
    with pytest.raises(ModelUnreadable, match="no operators"):
        OnnxFile(path)


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    path = write_external(tmp_path / "m.onnx")
    whole = path.read_bytes()
    for name in (b"MatMul", b"weights.bin", b"w0", b"s5"):
        path.write_bytes(whole.replace(name, b"\xff" * len(name)))
        with pytest.raises(ModelError) as caught:
            read_model(path)
        assert caught.value.exit_code == 6


def field(number: int, data: bytes) -> bytes:
    """A length-delimited field of protobuf's wire format."""
    size, length = b"", len(data)
    while length > 127:
        size, length = size + bytes([length & 127 | 128]), length >> 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + data


def test_a_deep_nest_of_graphs_is_rejected(tmp_path: Path) -> None:
    graph = b""
    for _ in range(2000):
        graph = field(1, field(5, field(6, graph)))  # graph.node.attribute.g
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\x08\x08" + field(7, graph))
    with pytest.raises(ModelUnreadable):
        read_model(path)
