"""Nodes that MNN's converter misreads, each an output of one model, so that the converter runs once."""

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from tests.models.onnx_files import constant, node, normal_feed, value, weights, write_onnx

pytest.importorskip("MNN", reason="MNN is not installed")  # before the module below, which needs it

from tests.runtimes.mnn.test_compiler import run_both, sqnr_db


def test_what_a_node_implies_is_written_out(tmp_path: Path) -> None:
    def i64(name: str, *numbers: int) -> TensorProto:
        return constant(name, numbers, np.int64)

    nodes = [
        node("Conv", ["x", "w"], ["same"], "same", strides=[2, 2], auto_pad="SAME_LOWER"),
        node("ConvTranspose", ["x", "t"], ["up"], "up", strides=[2, 2], auto_pad="SAME_LOWER"),
        node("ConvTranspose", ["x", "t"], ["sized"], "sized", strides=[2, 2], output_shape=[10, 14]),
        node("Pad", ["x", "pads"], ["cut"], "cut"),
        node("AveragePool", ["x"], ["mean"], "mean", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 0],
             count_include_pad=1),
        node("Conv", ["x", "w"], ["c"], "conv"),
        node("Mul", ["c", "half"], ["scaled"], "scaled"),
        node("Shape", ["x"], ["sizes"], "shape"),
        node("Cast", ["sizes"], ["sizes_32"], "narrow", to=TensorProto.INT32),
        node("Cast", ["sizes_32"], ["sizes_64"], "widen", to=TensorProto.INT64),
        node("Reshape", ["x", "sizes_64"], ["shaped"], "reshape"),
        node("Conv", ["shaped", "w"], ["d"], "conv_of_computed_sizes"),
        node("Add", ["half", "d"], ["added"], "added"),
        node("ScatterND", ["x", "places", "u"], ["scattered"], "scattered"),
        node("Softplus", ["large"], ["soft"], "soft"),
        node("ReduceLogSumExp", ["large", "axis"], ["total"], "total", keepdims=0),
    ]  # fmt: skip
    constants = [
        weights("w", 3, 4, 4, 2),
        weights("t", 4, 3, 3, 3, seed=1),
        constant("half", [[[[0.5]]]]),
        i64("pads", 0, 0, -1, 1, 0, 0, 1, -2),
        constant("places", [[0, 1, 2], [0, -1, 0]], np.int64),
        i64("axis", 1),
    ]
    outputs = ["same", "up", "sized", "cut", "mean", "scaled", "added", "scattered", "soft", "total"]
    inputs = [value("x", [1, 4, 5, 7]), value("u", [2, 7]), value("large", [1, 8])]
    source = write_onnx(tmp_path / "m.onnx", nodes, inputs, [value(name, None) for name in outputs], constants)
    large = np.array([[-1000, -100, -1, 0, 20, 88, 100, 1000]], np.float32)
    feeds = {"x": normal_feed(1, 4, 5, 7), "u": normal_feed(2, 7, seed=1), "large": large}
    got, wanted = run_both(source, feeds, tmp_path / "out")
    assert {
        name: sqnr_db(got[name].reshape(array.shape), array) > 60 for name, array in wanted.items()
    } == dict.fromkeys(outputs, True)


def test_the_last_state_of_one_step_is_not_overwritten(tmp_path: Path) -> None:
    nodes = [
        node("Shape", ["x"], ["sizes"], "shape"),
        node("Max", ["sizes", "one"], ["positive"], "max"),
        node("Reshape", ["x", "positive"], ["shaped"], "reshape"),
        node("LSTM", ["shaped", "w", "r", "b", "", "h", "c"], ["y", "hn", "cn"], "lstm", hidden_size=4),
        node("Squeeze", ["y", "one"], ["s"], "squeeze"),
        node("Relu", ["s"], ["p"], "relu"),
    ]
    constants = [weights("w", 1, 16, 3), weights("r", 1, 16, 4, seed=1), weights("b", 1, 32, seed=2)]
    inputs = [value("x", [1, 1, 3]), value("h", [1, 1, 4]), value("c", [1, 1, 4])]
    outputs = [value("p", [1, 1, 4]), value("hn", [1, 1, 4]), value("cn", [1, 1, 4])]
    source = write_onnx(tmp_path / "m.onnx", nodes, inputs, outputs, [*constants, constant("one", [1], np.int64)])
    feeds = {"x": normal_feed(1, 1, 3), "h": normal_feed(1, 1, 4, seed=1), "c": normal_feed(1, 1, 4, seed=2)}
    got, wanted = run_both(source, feeds, tmp_path / "out")
    assert all(sqnr_db(got[name], array) > 60 for name, array in wanted.items())
    assert (wanted["hn"] < 0).any()
