"""Small networks of the families that people convert: attention, upsampling, recurrence, detection heads."""

from pathlib import Path
from typing import Any

import pytest

from edgewright.runtimes.litert.writer.operators import recurrent
from tests.models.onnx_files import constant, node, value, weights, write_onnx
from tests.runtimes.litert.writer.compare import Compared, compare, count_partitions

FLOAT_DB = 80.0


def run(
    folder: Path, nodes: list[Any], constants: list[Any], shape: list[int], outputs: tuple[str, ...] = ("y",)
) -> Compared:
    made = [value(name, None, "INT64" if name == "places" else "FLOAT") for name in outputs]
    path = write_onnx(folder / "m.onnx", nodes, [value("x", shape)], made, constants)
    compared = compare(path)
    assert compared.sqnr_db >= FLOAT_DB
    return compared


def test_attention(tmp_path: Path) -> None:
    """One layer of self-attention with two heads, as exporters write it; the softmax and products in their kernels."""
    nodes: list[Any] = [node("LayerNormalization", ["x", "scale", "shift"], ["n"], "norm")]
    for name in "qkv":
        nodes += [
            node("MatMul", ["n", f"w{name}"], [f"{name}0"], f"{name}/product"),
            node("Add", [f"{name}0", f"b{name}"], [f"{name}1"], f"{name}/bias"),
            node("Reshape", [f"{name}1", "heads"], [f"{name}2"]),
            node("Transpose", [f"{name}2"], [f"{name}3"], perm=[0, 2, 3, 1] if name == "k" else [0, 2, 1, 3]),
        ]
    nodes += [
        node("MatMul", ["q3", "k3"], ["s"], "scores"),
        node("Mul", ["s", "half"], ["h"]),
        node("Softmax", ["h"], ["p"], "softmax", axis=-1),
        node("MatMul", ["p", "v3"], ["o"], "mix"),
        node("Transpose", ["o"], ["t"], perm=[0, 2, 1, 3]),
        node("Reshape", ["t", "joined"], ["j"]),
        node("Add", ["x", "j"], ["y"], "residual"),
    ]
    constants = [weights(f"w{n}", 8, 8, seed=i) for i, n in enumerate("qkv")]
    constants += [weights(f"b{n}", 8, seed=i) for i, n in enumerate("qkv")]
    constants += [weights("scale", 8), weights("shift", 8), constant("half", 0.5)]
    constants += [constant("heads", [1, 5, 2, 4], "int64"), constant("joined", [1, 5, 8], "int64")]
    compared = run(tmp_path, nodes, constants, [1, 5, 8])
    assert compared.codes["FULLY_CONNECTED"] == 3
    assert compared.codes["BATCH_MATMUL"] == 2
    assert compared.codes["TRANSPOSE"] == 4


def test_a_net_that_goes_down_and_up(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w0", "b0"], ["c"], "down", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Relu", ["c"], ["r"]),
        node("ConvTranspose", ["r", "w1"], ["u"], "up", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2],
             output_padding=[1, 1]),
        node("Resize", ["r", "", "twice"], ["z"], "nearest", mode="nearest",
             coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
        node("Resize", ["r", "", "twice"], ["l"], "linear", mode="linear"),
        node("Concat", ["u", "z", "l"], ["k"], "join", axis=1),
        node("Conv", ["k", "w2"], ["y"], "last", kernel_shape=[1, 1]),
    ]  # fmt: skip
    constants = [weights("w0", 4, 3, 3, 3), weights("b0", 4), weights("w1", 4, 5, 3, 3), weights("w2", 2, 13, 1, 1)]
    compared = run(tmp_path, nodes, [*constants, constant("twice", [1, 1, 2, 2])], [1, 3, 16, 16])
    assert compared.codes["TRANSPOSE"] == 0


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_recurrence(tmp_path: Path, op: str, direction: str) -> None:
    ways, gates = 2 if direction == "bidirectional" else 1, {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    outputs = ["y", "h", "c"] if op == "LSTM" else ["y", "h"]
    constants = [
        weights("w", ways, gates * 6, 3),
        weights("r", ways, gates * 6, 6, seed=1),
        weights("b", ways, 2 * gates * 6, seed=2),
        weights("start", ways, 2, 6, seed=3),
    ]
    attributes: dict[str, Any] = {"hidden_size": 6, "direction": direction}
    nodes = [node(op, ["x", "w", "r", "b", "", "start"], outputs, "cell", **attributes)]
    run(tmp_path, nodes, constants, [4, 2, 3], tuple(outputs))


def test_a_gru_whose_reset_comes_after_its_product(tmp_path: Path) -> None:
    constants = [weights("w", 1, 12, 3), weights("r", 1, 12, 4, seed=1), weights("b", 1, 24, seed=2)]
    nodes = [node("GRU", ["x", "w", "r", "b"], ["y"], "cell", hidden_size=4, linear_before_reset=1)]
    run(tmp_path, nodes, constants, [5, 1, 3])


@pytest.mark.parametrize(("op", "reset"), [("LSTM", 0), ("GRU", 0), ("GRU", 1), ("RNN", 0)])
@pytest.mark.parametrize("direction", ["reverse", "bidirectional"])
def test_recurrence_whose_weights_are_read_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, op: str, reset: int, direction: str
) -> None:
    monkeypatch.setattr(recurrent, "PACKED_BYTES", 0)
    ways, gates = 2 if direction == "bidirectional" else 1, {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    constants = [
        weights("w", ways, gates * 6, 3),
        weights("r", ways, gates * 6, 6, seed=1),
        weights("b", ways, 2 * gates * 6, seed=2),
        weights("start", ways, 1, 6, seed=3),
    ]
    attributes: dict[str, Any] = {"hidden_size": 6, "direction": direction}
    if op == "GRU":
        attributes["linear_before_reset"] = reset
    nodes = [node(op, ["x", "w", "r", "b", "", "start"], ["y", "h"], "cell", **attributes)]
    compared = run(tmp_path, nodes, constants, [4, 1, 3], ("y", "h"))
    products = 2 if (op, reset) == ("GRU", 0) else 1  # a step
    inputs = 2 if op == "GRU" else 1
    assert compared.codes["FULLY_CONNECTED"] == ways * (4 * products + inputs)


@pytest.mark.parametrize(("hidden", "additions"), [(64, 8), (512, 0)])
def test_large_weights_of_many_steps_are_not_packed_for_each(tmp_path: Path, hidden: int, additions: int) -> None:
    """XNNPACK would hold them once a step; products whose bias is computed it leaves to LiteRT's own kernel."""
    constants = [weights("w", 1, hidden, 3), weights("r", 1, hidden, hidden, seed=1)]
    compared = run(tmp_path, [node("RNN", ["x", "w", "r"], ["y"], "cell", hidden_size=hidden)], constants, [8, 1, 3])
    assert compared.codes["ADD"] == additions
    assert (count_partitions(compared.converted.data) < 4) == bool(additions)


def test_a_detection_head(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w"], ["c"], "head", kernel_shape=[1, 1]),
        node("Sigmoid", ["c"], ["s"]),
        node("Mul", ["c", "s"], ["m"], "silu"),
        node("MaxPool", ["m"], ["p"], "pool", kernel_shape=[5, 5], pads=[2, 2, 2, 2]),
        node("Concat", ["m", "p"], ["k"], axis=1),
        node("Reshape", ["k", "flat"], ["f"]),
        node("Transpose", ["f"], ["t"], perm=[0, 2, 1]),
        node("Split", ["t", "parts"], ["boxes", "scores"], axis=2),
        node("ReduceMax", ["scores", "last"], ["best"], keepdims=0),
        node("TopK", ["best", "five"], ["y", "places"], axis=1),
    ]
    constants = [
        weights("w", 6, 3, 1, 1),
        constant("flat", [1, 12, 64], "int64"),
        constant("parts", [4, 8], "int64"),
        constant("last", [2], "int64"),
        constant("five", [5], "int64"),
    ]
    compared = run(tmp_path, nodes, constants, [1, 3, 8, 8], ("y", "places", "boxes"))
    assert compared.codes["TRANSPOSE"] == 0


def test_half_floats_are_computed_as_floats(tmp_path: Path) -> None:
    from edgewright.runtimes.litert.writer import convert_onnx

    nodes = [node("Conv", ["x", "w"], ["y"], "conv", kernel_shape=[1, 1])]
    data = [constant("w", [[[[0.5]]], [[[0.25]]]], "float16")]
    inputs, outputs = [value("x", [1, 1, 2, 2], "FLOAT16")], [value("y", None, "FLOAT16")]
    converted = convert_onnx(write_onnx(tmp_path / "m.onnx", nodes, inputs, outputs, data))
    assert [entry.dtype for entry in (*converted.inputs, *converted.outputs)] == ["float32", "float32"]


@pytest.mark.parametrize("shape", [[1], [2, 3, 4], [1, 3, 4, 4]])
def test_operators_that_no_node_test_proves(tmp_path: Path, shape: list[int]) -> None:
    nodes = [
        node("Shrink", ["x"], ["s"], bias=0.1, lambd=0.3),
        node("ReduceLogSumExp", ["x", "last"], ["l"]),
        node("Greater", ["x", "low"], ["g"]),
        node("Less", ["x", "high"], ["h"]),
        node("Xor", ["g", "h"], ["o"]),
        node("Cast", ["o"], ["f"], to=1),
        node("Add", ["s", "l"], ["a"]),
        node("Add", ["a", "f"], ["y"]),
    ]
    constants = [constant("last", [-1], "int64"), constant("low", -0.5), constant("high", 0.5)]
    run(tmp_path, nodes, constants, shape)
