"""Small ONNX models for the tests of MNN, and MNN files made of them."""

from pathlib import Path

from edgewright.runtimes import mnn
from edgewright.runtimes.wire import Compiled, CompileRequest
from edgewright.schema.vocabulary import Precision
from tests.models.onnx_files import constant, node, value, weights, write_onnx


def compile_file(source: Path, folder: Path, precision: Precision = "fp32") -> Compiled:
    """Compile into `folder`, which is made, as `m.mnn`."""
    folder.mkdir()
    request = CompileRequest(
        source=str(source), format="onnx", precision=precision, shapes={}, folder=str(folder), stem="m"
    )
    return mnn.compile(request)


def write_perceptron(path: Path) -> Path:
    """x float32[4,16] → MatMul, Add, Erf, MatMul → y float32[4,5]: no axis is an image's."""
    nodes = [
        node("MatMul", ["x", "w"], ["a"], "first"),
        node("Add", ["a", "b"], ["s"], "bias"),
        node("Erf", ["s"], ["e"], "erf"),
        node("MatMul", ["e", "v"], ["y"], "second"),
    ]
    constants = [weights("w", 16, 8), weights("b", 8, seed=1), weights("v", 8, 5, seed=2)]
    return write_onnx(path, nodes, [value("x", [4, 16])], [value("y", [4, 5])], constants)


def write_two_ways(path: Path) -> Path:
    """a, b float32[1,3,8,8] → their convolutions' sum and product: two inputs, two outputs, in no order of names."""
    nodes = [
        node("Conv", ["b", "w"], ["p"], "left", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Conv", ["a", "v"], ["q"], "right", kernel_shape=[1, 1]),
        node("Add", ["p", "q"], ["z"], "sum"),
        node("Mul", ["p", "q"], ["c"], "product"),
    ]
    constants = [weights("w", 6, 3, 3, 3), weights("v", 6, 3, 1, 1, seed=1)]
    inputs = [value("b", [1, 3, 8, 8]), value("a", [1, 3, 8, 8])]
    return write_onnx(path, nodes, inputs, [value("z", [1, 6, 8, 8]), value("c", [1, 6, 8, 8])], constants)


def write_sound_net(path: Path) -> Path:
    """x float32[1,4,32] → a strided Conv of one dimension, Relu, ReduceMean → y float32[1,6]."""
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"], "conv", kernel_shape=[5], strides=[2], pads=[2, 2]),
        node("Relu", ["c"], ["r"], "relu"),
        node("ReduceMean", ["r", "axes"], ["y"], "mean", keepdims=0),
    ]
    constants = [weights("w", 6, 4, 5), weights("b", 6, seed=1), constant("axes", [2], "int64")]
    return write_onnx(path, nodes, [value("x", [1, 4, 32])], [value("y", [1, 6])], constants)


def write_volume(path: Path) -> Path:
    """x float32[2,3,5] → Transpose, Softmax, Reshape → y float32[6,5]: three axes, none of one size."""
    nodes = [
        node("Transpose", ["x"], ["t"], "turn", perm=[1, 0, 2]),
        node("Softmax", ["t"], ["s"], "softmax", axis=-1),
        node("Reshape", ["s", "sizes"], ["y"], "reshape"),
    ]
    constants = [constant("sizes", [6, 5], "int64")]
    return write_onnx(path, nodes, [value("x", [2, 3, 5])], [value("y", [6, 5])], constants)


def write_words(path: Path) -> Path:
    """ids int64[1,7], mask bool[1,7] → Gather, Where, MatMul → y float32[1,7,3]; best int64[1,7] by ArgMax."""
    nodes = [
        node("Gather", ["table", "ids"], ["rows"], "words"),
        node("Unsqueeze", ["mask", "last"], ["wide"], "widen"),
        node("Where", ["wide", "rows", "zero"], ["kept"], "choose"),
        node("MatMul", ["kept", "w"], ["y"], "head"),
        node("ArgMax", ["y"], ["best"], "best", axis=-1, keepdims=0),
    ]
    constants = [weights("table", 11, 8), weights("w", 8, 3), constant("zero", 0.0), constant("last", [-1], "int64")]
    inputs = [value("ids", [1, 7], "INT64"), value("mask", [1, 7], "BOOL")]
    return write_onnx(path, nodes, inputs, [value("y", [1, 7, 3]), value("best", [1, 7], "INT64")], constants)


def write_normed_net(path: Path) -> Path:
    """x float32[1,3,16,16] through four convolutions, each with a BatchNormalization and a Relu → y float32[1,8]."""
    nodes, constants, last = [], [], "x"
    for i, (width, before) in enumerate([(16, 3), (16, 16), (16, 16), (8, 16)]):
        nodes += [
            node("Conv", [last, f"w{i}"], [f"c{i}"], f"conv{i}", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            node("BatchNormalization", [f"c{i}", f"s{i}", f"b{i}", f"m{i}", f"v{i}"], [f"n{i}"], f"norm{i}"),
            node("Relu", [f"n{i}"], [f"r{i}"], f"relu{i}"),
        ]
        constants += [
            weights(f"w{i}", width, before, 3, 3, seed=i),
            constant(f"s{i}", [1.3] * width),
            weights(f"b{i}", width, seed=9),
            weights(f"m{i}", width, seed=8),
            constant(f"v{i}", [0.7] * width),
        ]
        last = f"r{i}"
    nodes += [node("GlobalAveragePool", [last], ["p"], "pool"), node("Flatten", ["p"], ["y"], "flatten")]
    return write_onnx(path, nodes, [value("x", [1, 3, 16, 16])], [value("y", [1, 8])], constants)


def write_recurrent(path: Path) -> Path:
    """x float32[9,1,4] → a bidirectional LSTM of 5 → y float32[9,2,1,5]."""
    attributes = {"hidden_size": 5, "direction": "bidirectional"}
    nodes = [node("LSTM", ["x", "w", "r", "b"], ["y"], "lstm", **attributes)]
    constants = [weights("w", 2, 20, 4), weights("r", 2, 20, 5, seed=1), weights("b", 2, 40, seed=2)]
    return write_onnx(path, nodes, [value("x", [9, 1, 4])], [value("y", [9, 2, 1, 5])], constants)


def write_unknown(path: Path) -> Path:
    """A Hardmax and an operator that nobody knows."""
    nodes = [node("Hardmax", ["x"], ["h"], "hard"), node("Frobnicate", ["h"], ["y"], "frob")]
    return write_onnx(path, nodes, [value("x", [1, 4])], [value("y", [1, 4])])


def write_forms(path: Path) -> Path:
    """x float32[1,4,6,6], m float32[5,3] → what MNN's converter gets wrong when it is given as it stands.

    A pool without strides, one that is padded below, a Gelu, a softmax without an axis, a Gemm of its first input's
    transpose, GatherElements with negative indices, a norm, pads of some axes, a whole exponent, a Mish.
    """
    nodes = [
        node("AveragePool", ["x"], ["pooled"], "pool", kernel_shape=[2, 2]),
        node("AveragePool", ["x"], ["low"], "low", kernel_shape=[2, 2], auto_pad="SAME_LOWER"),
        node("Gelu", ["x"], ["gelu"], "gelu"),
        node("Gemm", ["m", "w", "b"], ["turned"], "gemm", transA=1, alpha=0.5),
        node("GatherElements", ["m", "picks"], ["picked"], "pick", axis=0),
        node("LogSoftmax", ["m"], ["chances"], "softmax"),
        node("ReduceL2", ["m", "first"], ["norm"], "norm", keepdims=0),
        node("Pad", ["m", "pads", "", "first"], ["padded"], "pad"),
        node("Pow", ["m", "three"], ["cube"], "cube"),
        node("Mish", ["m"], ["mish"], "mish"),
    ]
    constants = [weights("w", 5, 4), weights("b", 4, seed=1), constant("picks", [[-1, 0, -2]], "int64")]
    constants += [constant("first", [0], "int64"), constant("pads", [1, 2], "int64"), constant("three", 3, "int64")]
    outputs = [
        value("pooled", [1, 4, 5, 5]),
        value("low", [1, 4, 6, 6]),
        value("gelu", [1, 4, 6, 6]),
        value("turned", [3, 4]),
        value("picked", [1, 3]),
        value("chances", [5, 3]),
        value("norm", [3]),
        value("padded", [8, 3]),
        value("cube", [5, 3]),
        value("mish", [5, 3]),
    ]
    return write_onnx(path, nodes, [value("x", [1, 4, 6, 6]), value("m", [5, 3])], outputs, constants, opset=20)
