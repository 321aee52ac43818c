"""Quantized weights beside float activations, as a DequantizeLinear on a constant says it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, save

from tests.models.onnx_files import node
from tests.runtimes.litert.writer.compare import Compared, compare, count_partitions

Array = NDArray[Any]
INPUTS, OUTPUTS = 128, 96
# LiteRT rounds the activations of such a product to int8 while it runs.
DYNAMIC_DB = 38.0


def run(folder: Path, nodes: list[Any], constants: list[Any], shape: list[int]) -> Compared:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        constants,
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), folder / "m.onnx")
    return compare(folder / "m.onnx")


def draw(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def four_bits(data: Array, name: str) -> Any:
    return helper.make_tensor(name, TensorProto.INT4, data.shape, data.reshape(-1).astype(int).tolist())


def quantize(data: Array, axis: int, most: int) -> tuple[Array, Array]:
    others = tuple(a for a in range(data.ndim) if a != axis)
    scale = np.abs(data).max(others, keepdims=True) / most
    return np.round(data / scale).astype(np.int8), scale.reshape(-1).astype(np.float32)


def check_matrix(compared: Compared, bits: int) -> None:
    assert compared.converted.operators == ("FULLY_CONNECTED",)
    assert compared.sqnr_db > DYNAMIC_DB
    assert count_partitions(compared.converted.data) == 1
    assert len(compared.converted.data) < INPUTS * OUTPUTS * bits / 8 + 3000
    assert compared.converted.notes == ()


@pytest.mark.parametrize("signed", [True, False])
def test_a_layer_of_int8(tmp_path: Path, signed: bool) -> None:
    stored, scale = quantize(draw(INPUTS, OUTPUTS), 1, 127)
    zero = np.zeros(OUTPUTS, np.int8) if signed else np.full(OUTPUTS, 128, np.uint8)
    stored = stored if signed else (stored.astype(np.int16) + 128).astype(np.uint8)
    nodes = [
        node("DequantizeLinear", ["w", "s", "z"], ["real"], axis=1),
        node("MatMul", ["x", "real"], ["m"], "product"),
        node("Add", ["m", "b"], ["a"], "bias"),
        node("Relu", ["a"], ["y"], "relu"),
    ]
    parts = {"w": stored, "s": scale, "z": zero, "b": draw(OUTPUTS)}
    constants = [numpy_helper.from_array(data, name) for name, data in parts.items()]
    check_matrix(run(tmp_path, nodes, constants, [2, 5, INPUTS]), 8)


def test_a_layer_of_int8_behind_a_transpose(tmp_path: Path) -> None:
    stored, scale = quantize(draw(OUTPUTS, INPUTS), 0, 127)
    nodes = [
        node("DequantizeLinear", ["w", "s"], ["real"], axis=0),
        node("Transpose", ["real"], ["t"], perm=[1, 0]),
        node("MatMul", ["x", "t"], ["y"], "product"),
    ]
    check_matrix(
        run(tmp_path, nodes, [numpy_helper.from_array(stored, "w"), numpy_helper.from_array(scale, "s")], [5, INPUTS]),
        8,
    )


def test_a_layer_of_int4(tmp_path: Path) -> None:
    stored, scale = quantize(draw(OUTPUTS, INPUTS), 0, 7)
    nodes = [node("DequantizeLinear", ["w", "s"], ["real"], axis=0), node("Gemm", ["x", "real"], ["y"], transB=1)]
    check_matrix(run(tmp_path, nodes, [four_bits(stored, "w"), numpy_helper.from_array(scale, "s")], [5, INPUTS]), 4)


@pytest.mark.parametrize("block", [32, 64])
def test_a_layer_of_int4_in_blocks(tmp_path: Path, block: int) -> None:
    real = draw(INPUTS // block, block, OUTPUTS)
    scale = (np.abs(real).max(1) / 7).astype(np.float32)
    stored = np.round(real / scale[:, None]).reshape(INPUTS, OUTPUTS)
    nodes = [
        node("DequantizeLinear", ["w", "s"], ["real"], axis=0, block_size=block),
        node("MatMul", ["x", "real"], ["y"], "product"),
    ]
    constants = [four_bits(stored, "w"), numpy_helper.from_array(scale, "s")]
    check_matrix(run(tmp_path, nodes, constants, [5, INPUTS]), 4)


def test_blocks_that_no_kernel_takes_become_floats(tmp_path: Path) -> None:
    real = draw(INPUTS // 16, 16, OUTPUTS)
    scale = (np.abs(real).max(1) / 7).astype(np.float32)
    stored = np.round(real / scale[:, None]).reshape(INPUTS, OUTPUTS)
    nodes = [
        node("DequantizeLinear", ["w", "s"], ["real"], axis=0, block_size=16),
        node("MatMul", ["x", "real"], ["y"], "product"),
    ]
    compared = run(tmp_path, nodes, [four_bits(stored, "w"), numpy_helper.from_array(scale, "s")], [5, INPUTS])
    assert len(compared.converted.data) > INPUTS * OUTPUTS * 4
    assert compared.sqnr_db > DYNAMIC_DB
    (note,) = compared.converted.notes
    assert note.startswith("1 quantized weight (0.0492 MB) stored as float32")
    assert "blocks of 16" in note and "'w'" in note


@pytest.mark.parametrize("most", [127, 7])
@pytest.mark.parametrize(("op", "axis"), [("Conv", 0), ("ConvTranspose", 1)])
def test_a_convolution_is_computed_in_floats_from_integer_weights(
    tmp_path: Path, op: str, axis: int, most: int
) -> None:
    """int4 is stored as int8: no kernel of a convolution takes it."""
    stored, scale = quantize(draw(32, 16, 3, 3), axis, most)
    nodes = [node("DequantizeLinear", ["w", "s"], ["real"], axis=axis), node(op, ["x", "real"], ["y"], "conv")]
    weights = four_bits(stored, "w") if most == 7 else numpy_helper.from_array(stored, "w")
    constants = [weights, numpy_helper.from_array(scale, "s")]
    compared = run(tmp_path, nodes, constants, [1, 16 if op == "Conv" else 32, 8, 8])
    assert compared.converted.operators[0] == "DEQUANTIZE"
    assert compared.sqnr_db > 80
    assert len(compared.converted.data) < 1.5 * stored.nbytes
    assert count_partitions(compared.converted.data) == 1


def test_rows_of_a_table_are_picked_as_int8(tmp_path: Path) -> None:
    stored, _ = quantize(draw(INPUTS, OUTPUTS), 1, 127)
    nodes = [
        node("Cast", ["x"], ["i"], to=7),
        node("DequantizeLinear", ["w", "s"], ["real"]),
        node("Gather", ["real", "i"], ["y"], "embedding"),
    ]
    constants = [numpy_helper.from_array(stored, "w"), numpy_helper.from_array(np.asarray(0.02, np.float32), "s")]
    compared = run(tmp_path, nodes, constants, [7])
    assert compared.sqnr_db == 300
    assert len(compared.converted.data) < INPUTS * OUTPUTS + 3000


def test_int4_weights_between_integer_activations_run_as_int8(tmp_path: Path) -> None:
    stored, scale = quantize(draw(8, 3, 3, 3), 0, 7)
    nodes = [
        node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"]),
        node("DequantizeLinear", ["w", "s"], ["real"], axis=0),
        node("Conv", ["xd", "real"], ["c"], "conv"),
        node("QuantizeLinear", ["c", "ys", "xz"], ["cq"]),
        node("DequantizeLinear", ["cq", "ys", "xz"], ["y"]),
    ]
    constants = [
        four_bits(stored, "w"),
        numpy_helper.from_array(scale, "s"),
        numpy_helper.from_array(np.array(0.04, np.float32), "xs"),
        numpy_helper.from_array(np.array(0.2, np.float32), "ys"),
        numpy_helper.from_array(np.array(128, np.uint8), "xz"),
    ]
    compared = run(tmp_path, nodes, constants, [1, 3, 10, 10])
    assert compared.converted.operators == ("QUANTIZE", "CONV_2D", "DEQUANTIZE")
    assert compared.sqnr_db > 30
