"""Writes small ONNX files for tests, with nothing but `onnx.helper`; the weights are seeded."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Node = onnx.NodeProto
Value = onnx.ValueInfoProto
Shape = Sequence[int | str | None]
OPSET, IR_VERSION = 18, 10


def value(name: str, shape: Shape | None, dtype: str = "FLOAT") -> Value:
    """A tensor of the signature; a str in `shape` is a free size, None for a shape leaves it unknown."""
    return helper.make_tensor_value_info(name, getattr(TensorProto, dtype), shape)


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], name: str = "", **attributes: Any) -> Node:
    return helper.make_node(op, inputs, outputs, name=name, **attributes)


def constant(name: str, array: Any, dtype: Any = np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(array, dtype), name)


def weights(name: str, *shape: int, seed: int = 0) -> onnx.TensorProto:
    """Seeded normal weights, small enough that no activation grows."""
    return constant(name, np.random.default_rng(seed).standard_normal(shape) * 0.2)


def write_onnx(
    path: Path,
    nodes: Sequence[Node],
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    constants: Sequence[onnx.TensorProto] = (),
    opset: int = OPSET,
) -> Path:
    """Write the model and return its path. It is not checked, so that bad ones can be written too."""
    graph = helper.make_graph(nodes, "graph", inputs, outputs, list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSION)
    onnx.save(model, str(path))
    return path


def write_conv_net(path: Path, batch: int | str = 1) -> Path:
    """x float32[batch,3,8,8] → Conv, Relu, GlobalAveragePool, Flatten, Gemm → y float32[batch,5]."""
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"], "conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["r"], "relu"),
        node("GlobalAveragePool", ["r"], ["p"], "pool"),
        node("Flatten", ["p"], ["f"], "flatten"),
        node("Gemm", ["f", "g", "h"], ["y"], "gemm"),
    ]
    constants = [weights("w", 4, 3, 3, 3), weights("b", 4, seed=1), weights("g", 4, 5, seed=2), weights("h", 5, seed=3)]
    return write_onnx(path, nodes, [value("x", [batch, 3, 8, 8])], [value("y", [batch, 5])], constants)


def conv(name: str, source: str, weight: str) -> Node:
    """A 3×3 convolution that keeps the size; its output has the node's name with `_out`."""
    return node("Conv", [source, weight], [f"{name}_out"], name, kernel_shape=[3, 3], pads=[1, 1, 1, 1])


def write_residual_net(path: Path) -> Path:
    """x float32[1,16,8,8] through two residual blocks; 16 channels are a multiple of every NCHWc block.

    ONNX Runtime lays it out as NCHWc, and fuses Conv+Relu and Conv+Add+Relu.
    """
    nodes = [conv("stem", "x", "w0"), node("Relu", ["stem_out"], ["b0"], "stem_relu")]
    for block in (1, 2):
        left, right = f"left{block}", f"right{block}"
        nodes += [
            conv(left, f"b{block - 1}", f"w{block}l"),
            node("Relu", [f"{left}_out"], [f"{left}_act"], f"{left}_relu"),
            conv(right, f"{left}_act", f"w{block}r"),
            node("Add", [f"{right}_out", f"b{block - 1}"], [f"sum{block}"], f"add{block}"),
            node("Relu", [f"sum{block}"], [f"b{block}"], f"relu{block}"),
        ]
    nodes += [node("GlobalAveragePool", ["b2"], ["p"], "pool"), node("Flatten", ["p"], ["f"], "flatten")]
    nodes += [node("Gemm", ["f", "g"], ["s"], "gemm"), node("Softmax", ["s"], ["y"], "softmax")]
    names = ["w0", "w1l", "w1r", "w2l", "w2r"]
    constants = [weights(name, 16, 16, 3, 3, seed=i) for i, name in enumerate(names)] + [weights("g", 16, 5)]
    return write_onnx(path, nodes, [value("x", [1, 16, 8, 8])], [value("y", [1, 5])], constants)


def quantize(tensor: str) -> list[Node]:
    """A QuantizeLinear and a DequantizeLinear; what comes out is the tensor's name with `_dq`."""
    scale = [f"{tensor}_scale", f"{tensor}_zero"]
    return [
        node("QuantizeLinear", [tensor, *scale], [f"{tensor}_q"], f"{tensor}_quantize"),
        node("DequantizeLinear", [f"{tensor}_q", *scale], [f"{tensor}_dq"], f"{tensor}_dequantize"),
    ]


def quantized_constant(name: str, *shape: int, seed: int = 0) -> tuple[list[Node], list[onnx.TensorProto]]:
    """int8 weights with the DequantizeLinear that reads them; what comes out is the name with `_dq`."""
    stored = np.random.default_rng(seed).integers(-127, 128, shape)
    constants = [
        constant(f"{name}_q", stored, np.int8),
        constant(f"{name}_scale", 0.002),
        constant(f"{name}_zero", 0, np.int8),
    ]
    reads = [f"{name}_q", f"{name}_scale", f"{name}_zero"]
    return [node("DequantizeLinear", reads, [f"{name}_dq"], f"{name}_dequantize")], constants


def write_qdq_net(path: Path) -> Path:
    """x float32[1,8,8,8] → two INT8 convolutions (the first with Relu) and an INT8 Gemm → y float32[1,5], as QDQ."""
    constants = []
    for tensor, scale in (("x", 0.02), ("r", 0.02), ("c2", 0.02), ("f", 0.02), ("s", 0.05)):
        constants += [constant(f"{tensor}_scale", scale), constant(f"{tensor}_zero", 128, np.uint8)]
    parts = [quantized_constant("w1", 8, 8, 3, 3), quantized_constant("w2", 8, 8, 3, 3, seed=1)]
    parts.append(quantized_constant("g", 8, 5, seed=2))
    nodes = [made for part in parts for made in part[0]]
    constants += [made for part in parts for made in part[1]]
    nodes += [
        *quantize("x"),
        conv("conv1", "x_dq", "w1_dq"),
        node("Relu", ["conv1_out"], ["r"], "relu"),
        *quantize("r"),
    ]
    nodes += [conv("conv2", "r_dq", "w2_dq"), node("Identity", ["conv2_out"], ["c2"], "same"), *quantize("c2")]
    nodes += [node("GlobalAveragePool", ["c2_dq"], ["p"], "pool"), node("Flatten", ["p"], ["f"], "flatten")]
    nodes += [*quantize("f"), node("Gemm", ["f_dq", "g_dq"], ["s"], "gemm"), *quantize("s")]
    nodes += [node("Softmax", ["s_dq"], ["y"], "softmax")]
    return write_onnx(path, nodes, [value("x", [1, 8, 8, 8])], [value("y", [1, 5])], constants)


def write_wide_net(path: Path, layers: int = 6, width: int = 128) -> Path:
    """x float32[64,width] through MatMul and Sigmoid, `layers` times: enough work for threads to share."""
    nodes, constants, last = [], [], "x"
    for layer in range(layers):
        constants.append(weights(f"w{layer}", width, width, seed=layer))
        nodes += [node("MatMul", [last, f"w{layer}"], [f"m{layer}"]), node("Sigmoid", [f"m{layer}"], [f"s{layer}"])]
        last = f"s{layer}"
    return write_onnx(path, nodes, [value("x", [64, width])], [value(last, [64, width])], constants)


def write_branches(path: Path) -> Path:
    """Nodes without names, several of one operator, whose execution order is not the file's."""
    nodes = [
        node("MatMul", ["x", "w"], ["a"], "Exp_4"),  # a name as ONNX Runtime makes for the nameless
        node("Sigmoid", ["a"], ["b"]),
        node("MatMul", ["b", "w"], ["c"]),
        node("Tanh", ["c"], ["d"]),
        node("Exp", ["a"], ["e"]),
        node("Exp", ["d"], ["f"]),
    ]
    outputs = [value("f", [2, 4]), value("e", [2, 4])]
    return write_onnx(path, nodes, [value("x", [2, 4])], outputs, [weights("w", 4, 4)])


def write_control_flow(path: Path) -> Path:
    """An If and a Loop of three rounds; inner nodes bear names that outer ones have too."""
    then = helper.make_graph([node("Sin", ["x"], ["t"], "first")], "then", [], [value("t", None)])
    other = helper.make_graph([node("Exp", ["x"], ["u"], "first")], "other", [], [value("u", None)])
    body = helper.make_graph(
        [
            node("Identity", ["go"], ["go_on"]),
            node("Sigmoid", ["state"], ["squeezed"], "first"),
            node("Add", ["squeezed", "x"], ["next"], "add"),
        ],
        "body",
        [value("round", [], "INT64"), value("go", [], "BOOL"), value("state", None)],
        [value("go_on", [], "BOOL"), value("next", None)],
    )
    nodes = [
        node("ReduceSum", ["x"], ["sum"], "first", keepdims=0),
        node("Greater", ["sum", "zero"], ["positive"], "greater"),
        node("If", ["positive"], ["chosen"], "if", then_branch=then, else_branch=other),
        node("Loop", ["rounds", "", "chosen"], ["looped"], "loop", body=body),
        node("Exp", ["looped"], ["y"]),
    ]
    constants = [constant("zero", 0.0), constant("rounds", 3, np.int64)]
    return write_onnx(path, nodes, [value("x", [2, 4])], [value("y", [2, 4])], constants)


def write_identity(path: Path, dtype: str, shape: Shape = (2,), name: str = "x", opset: int = 21) -> Path:
    """One input, unchanged into the output `y`, of any of ONNX's types by its name in TensorProto."""
    inputs, outputs = [value(name, shape, dtype)], [value("y", shape, dtype)]
    return write_onnx(path, [node("Identity", [name], ["y"])], inputs, outputs, opset=opset)


def write_named(path: Path, source: str, result: str) -> Path:
    """float32[2] → Neg → float32[2], under the names given."""
    return write_onnx(path, [node("Neg", [source], [result])], [value(source, [2])], [value(result, [2])])


def write_external(path: Path, data: str = "weights.bin") -> Path:
    """The wide net with its weights in the file `data` beside it."""
    model = onnx.load(str(write_wide_net(path)))
    onnx.save(model, str(path), save_as_external_data=True, location=data, size_threshold=0)
    return path


def write_many_outputs(path: Path) -> Path:
    """ids int64[n], mask bool[n] → rows float32[n,4], kept int64[k] (k follows the values), count int64[]."""
    nodes = [
        node("Gather", ["table", "ids"], ["rows"]),
        node("Compress", ["ids", "mask"], ["kept"], axis=0),
        node("Size", ["kept"], ["count"]),
    ]
    inputs = [value("ids", ["n"], "INT64"), value("mask", ["n"], "BOOL")]
    outputs = [value("rows", ["n", 4]), value("kept", ["k"], "INT64"), value("count", [], "INT64")]
    return write_onnx(path, nodes, inputs, outputs, [weights("table", 3, 4)])


def write_sequence(path: Path) -> Path:
    """A model whose output is a sequence of tensors."""
    outputs = [helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)]
    return write_onnx(path, [node("SequenceConstruct", ["x", "x"], ["y"])], [value("x", [2])], outputs)


def write_no_input(path: Path) -> Path:
    """A model that takes nothing and gives y float32[2] = 1, 2."""
    nodes = [node("Constant", [], ["y"], value=constant("", [1.0, 2.0]))]
    return write_onnx(path, nodes, [], [value("y", [2])])


def write_expand(path: Path) -> Path:
    """size int64[2] → y float32[size]: takes as much memory as its input says."""
    nodes = [node("Expand", ["one", "size"], ["y"])]
    return write_onnx(path, nodes, [value("size", [2], "INT64")], [value("y", [None, None])], [constant("one", [1.0])])


def normal_feed(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Seeded float32 values."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
