"""Nodes that pnnx or ncnn misreads, several outputs in one model, so that pnnx runs once for each."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto

from edgewright.runtimes.contract import NotConvertible
from tests.models.onnx_files import constant, node, value, weights, write_onnx

pytest.importorskip("ncnn", reason="ncnn is not installed")  # before the module below, which needs both
pytest.importorskip("pnnx", reason="pnnx is not installed")

from tests.runtimes.ncnn.test_compiler import (
    compile_model,
    feeds_of,
    run_artifact,
    run_source,
    sqnr_db,
)


def check(path: Path, feeds: dict[str, NDArray[Any]] | None = None) -> None:
    """All outputs are those of ONNX Runtime."""
    feeds = feeds or feeds_of(path)
    given, wanted = run_artifact(compile_model(path), feeds), run_source(path, feeds)
    worst = {name: sqnr_db(array, given[name].reshape(array.shape)) for name, array in wanted.items()}
    assert {name: db > 60 for name, db in worst.items()} == dict.fromkeys(wanted, True), worst


def write(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[str], constants: list[TensorProto]) -> Path:
    return write_onnx(path, nodes, inputs, [value(name, None) for name in outputs], constants, opset=19)


def i64(name: str, *numbers: int) -> TensorProto:
    return constant(name, numbers, np.int64)


def test_padding_is_written_out(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w"], ["same"], "same", strides=[2, 2], auto_pad="SAME_LOWER"),
        node("ConvTranspose", ["x", "t"], ["sized"], "sized", strides=[2, 2], output_shape=[10, 14]),
        node("Pad", ["x", "pads"], ["cut"], "cut"),
        node("AveragePool", ["x"], ["mean"], "mean", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 0]),
        node("MaxPool", ["x"], ["most"], "most", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 0]),
    ]
    constants = [weights("w", 3, 4, 4, 2), weights("t", 4, 3, 3, 3, seed=1), i64("pads", 0, 0, -1, 1, 0, 0, 1, -2)]
    outputs = ["same", "sized", "cut", "mean", "most"]
    check(write(tmp_path / "m.onnx", nodes, [value("x", [1, 4, 5, 7])], outputs, constants))


def test_functions_that_overflow_and_maxima_over_several_axes(tmp_path: Path) -> None:
    nodes = [
        node("Softplus", ["x"], ["soft"], "soft"),
        node("LogSoftmax", ["x"], ["log"], "log"),
        node("ReduceLogSumExp", ["x", "last"], ["total"], "total"),
        node("ReduceMax", ["x"], ["peak"], "peak", keepdims=0),
        node("Sub", ["x", "peak"], ["below"], "below"),
        node("Max", ["least", "x"], ["same"], "guard"),
        node("Pow", ["x", "five"], ["power"], "power"),
    ]
    constants = [i64("last", -1), constant("least", -np.inf), constant("five", 5)]
    outputs = ["soft", "log", "total", "below", "same", "power"]
    rows = np.array([[[-1000, -100, -1, 0, 20, 88, 100, 1000], [-60, -40, -20, 0, 20, 40, 60, 30]]], np.float32)
    check(write(tmp_path / "m.onnx", nodes, [value("x", [1, 2, 8])], outputs, constants), {"x": rows})


def test_a_norm_whose_bound_is_expanded_and_an_ellipsis(tmp_path: Path) -> None:
    nodes = [
        node("ReduceL2", ["x", "last"], ["n"], "norm"),
        node("Clip", ["n", "tiny"], ["c"], "bound"),
        node("Expand", ["c", "shape"], ["e"], "expand"),
        node("Div", ["x", "e"], ["y"], "divide"),
        node("Einsum", ["y", "w"], ["z"], "product", equation="...i,ij->...j"),
    ]
    constants = [i64("last", -1), constant("tiny", 1e-12), i64("shape", 1, 16), weights("w", 16, 4)]
    check(write(tmp_path / "m.onnx", nodes, [value("x", [1, 16])], ["y", "z"], constants))


STATES = 4
HIDDEN = {"LSTM": 4, "GRU": 3}


@pytest.mark.parametrize(("op", "count"), [("LSTM", 1), ("GRU", 2)])
def test_raw_outputs_and_last_states_of_recurrent_layers(op: str, count: int, tmp_path: Path) -> None:
    gates = HIDDEN[op]
    options: dict[str, Any] = {"direction": "bidirectional"} if count == 2 else {}
    options |= {"linear_before_reset": 1} if op == "GRU" else {}
    cell = ["cn"] if op == "LSTM" else []
    nodes = [node(op, ["x", "w", "r", "b"], ["y", "hn", *cell], "layer", hidden_size=STATES, **options)]
    constants = [
        weights("w", count, gates * STATES, 3),
        weights("r", count, gates * STATES, STATES, seed=1),
        weights("b", count, 2 * gates * STATES, seed=2),
    ]
    check(write(tmp_path / "m.onnx", nodes, [value("x", [5, 1, 3])], ["y", "hn", *cell], constants))


def test_zero_first_states_of_both_directions_are_left_out(tmp_path: Path) -> None:
    """pnnx stores them as those of one direction, and ncnn reads beyond them."""
    nodes = [
        node("GRU", ["x", "w", "r", "b", "", "h"], ["y"], "layer", hidden_size=STATES, direction="bidirectional",
             linear_before_reset=1),
        node("Transpose", ["y"], ["t"], "turn", perm=[0, 2, 1, 3]),
        node("Reshape", ["t", "flat"], ["z"], "join"),
    ]  # fmt: skip
    constants = [weights("w", 2, 12, 3), weights("r", 2, 12, 4, seed=1), weights("b", 2, 24, seed=2)]
    constants += [constant("h", np.zeros((2, 1, 4))), i64("flat", 0, 0, -1)]
    made = compile_model(write(tmp_path / "m.onnx", nodes, [value("x", [5, 1, 3])], ["z"], constants))
    assert "MemoryData" not in made.main.read_text()


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ([node("Resize", ["x", "", "s"], ["y"], "culprit", mode="linear", antialias=1)], "antialiasing"),
        ([node("AveragePool", ["x"], ["y"], "culprit", kernel_shape=[1, 2], dilations=[1, 2])], "dilations"),
        ([node("ScatterND", ["x", "i", "u"], ["y"], "culprit")], "pnnx fails"),
        ([node("Squeeze", ["x", "zero"], ["q"], "q"),
          node("GRU", ["q", "w", "r"], ["", "y"], "culprit", hidden_size=4)], "linear_before_reset"),
    ],
)  # fmt: skip
def test_what_ncnn_cannot_compute_is_rejected_with_the_sources_node(nodes: list[Any], why: str, tmp_path: Path) -> None:
    constants = [constant("s", [1, 1, 0.5, 0.5]), constant("i", [[0, 1]], np.int64), weights("u", 1, 1, 6)]
    constants += [i64("zero", 0), weights("w", 1, 12, 6), weights("r", 1, 12, 4, seed=1)]
    path = write(tmp_path / "m.onnx", nodes, [value("x", [1, 4, 1, 6])], ["y"], constants)
    with pytest.raises(NotConvertible, match="'culprit'") as raised:
        compile_model(path)
    assert why in str(raised.value)


def test_axes_of_one_move_between_convolutions_and_a_recurrent_layer(tmp_path: Path) -> None:
    """pnnx takes the first axis for the batch of a convolution, the second for that of the recurrent layer."""
    nodes = [
        node("Conv", ["x", "w"], ["before"], "before"),
        node("Transpose", ["before"], ["steps"], "steps", perm=[0, 2, 1]),
        node("LSTM", ["steps", "i", "r", "b", "", "h", "c"], ["y", "hn", "cn"], "lstm", hidden_size=4),
        node("Squeeze", ["y", "one"], ["s"], "squeeze"),
        node("Relu", ["s"], ["p"], "relu"),
        node("Transpose", ["p"], ["channels"], "channels", perm=[1, 2, 0]),
        node("Conv", ["channels", "v"], ["after"], "after"),
        node("Reshape", ["after", "flat"], ["z"], "flat"),
    ]
    drawn = [weights("w", 4, 3, 2), weights("i", 1, 16, 4, seed=1), weights("r", 1, 16, 4, seed=2)]
    drawn += [weights("b", 1, 32, seed=3), weights("v", 1, 4, 1, seed=4), i64("one", 1), i64("flat", -1)]
    inputs = [value("x", [1, 3, 2]), value("h", [1, 1, 4]), value("c", [1, 1, 4])]
    check(write(tmp_path / "m.onnx", nodes, inputs, ["z", "hn", "cn"], drawn))
