"""The ONNX models of probes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.runtimes.support.bases import Probe, Value

IR_VERSION = 10
# Operators whose output onnx does not infer, and the input that it looks like.
UNINFERRED = {"GroupNormalization": 0, "MeanVarianceNormalization": 0, "Loop": 2}
PASSING = {"Identity", "Dropout"}
QUANTIZATION = ((0.05, np.float32, "scale"), (0.005, np.float32, "small"), (0, np.int8, "zero"))


def is_valid(probe: Probe) -> bool:
    """Whether ONNX's own checks take the model."""
    try:
        onnx.checker.check_model(build(probe), full_check=True)
    except Exception:
        return False
    return True


def build(probe: Probe) -> Any:
    """The model of a probe: inputs `x0`, `x1` …, a node `node`, outputs `y0` …"""
    names = ["" if value is None else f"x{i}" for i, value in enumerate(probe.inputs)]
    outputs = [f"y{i}" for i in range(probe.outputs)]
    node = make_control(probe, names) or helper.make_node(probe.op, names, outputs, name="node", **probe.attributes)
    reported = [(name, value) for name, value in zip(names, probe.inputs, strict=True) if value is not None]
    inputs = [describe(name, value) for name, value in reported if not value.is_constant()]
    constants = [numpy_helper.from_array(value.data, name) for name, value in reported if value.is_constant()]
    nodes = [node]
    if probe.op in PASSING:  # alone they would leave an output that is nothing but the input
        nodes = [
            helper.make_node("Relu", ["x0"], ["before"], name="relu"),
            node,
            helper.make_node("Neg", ["y0"], ["z0"], name="neg"),
        ]
        node.input[0], outputs = "before", ["z0"]
    if probe.change[:1] == ("after",):
        kernel = np.random.default_rng(1).standard_normal((8, 8, 1, 1)).astype(np.float32)
        constants = [*constants, numpy_helper.from_array(kernel, "kernel")]
        nodes = [helper.make_node("Conv", ["x0", "kernel"], ["before"], name="conv"), node]
        node.input[0] = "before"
    if probe.change[:1] == ("quantized",):
        nodes, outputs, constants = quantize(node, reported, constants)
    graph = helper.make_graph(
        nodes, "probe", inputs, [helper.make_empty_tensor_value_info(name) for name in outputs], constants
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", probe.opset)], ir_version=IR_VERSION)
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    for value in inferred.graph.output:
        if probe.op in UNINFERRED:
            value.type.CopyFrom(next(one.type for one in inputs if one.name == names[UNINFERRED[probe.op]]))
        for dim in value.type.tensor_type.shape.dim:
            if not dim.HasField("dim_value"):
                dim.Clear()
    return inferred


def describe(name: str, value: Value) -> Any:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(value.dtype)), value.shape)


def make_control(probe: Probe, names: Sequence[str]) -> Any:
    """An If of two constants, a Loop that doubles; None for any other operator."""
    if probe.op == "If":
        branches = [
            helper.make_graph(
                [helper.make_node("Constant", [], ["c"], value_floats=[float(number)] * 4)],
                f"branch{number}", [], [helper.make_tensor_value_info("c", TensorProto.FLOAT, [4])],
            )
            for number in (0, 1)
        ]  # fmt: skip
        return helper.make_node("If", names, ["y0"], name="node", then_branch=branches[0], else_branch=branches[1])
    if probe.op == "Loop":
        state = helper.make_tensor_value_info("s", TensorProto.FLOAT, [2, 4])
        result = helper.make_tensor_value_info("t", TensorProto.FLOAT, [2, 4])
        go = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("go", "on")]
        turn = helper.make_tensor_value_info("i", TensorProto.INT64, [])
        nodes = [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["s", "s"], ["t"])]
        return helper.make_node(
            "Loop",
            names,
            ["y0"],
            name="node",
            body=helper.make_graph(nodes, "body", [turn, go[0], state], [go[1], result]),
        )
    return None


def quantize(
    node: Any, reported: Sequence[tuple[str, Value]], constants: Sequence[Any]
) -> tuple[list[Any], list[str], list[Any]]:
    """The node between QuantizeLinear and DequantizeLinear in int8: nodes, output, constants."""
    nodes: list[Any] = []
    kept = {tensor.name: tensor for tensor in constants}
    scale, small, zero = (numpy_helper.from_array(np.asarray(n, t), name) for n, t, name in QUANTIZATION)
    for position, (name, value) in enumerate(reported):
        if (
            value.dtype != "float32"
            or (value.is_constant() and value.data.ndim == 0)
            or (node.op_type == "Resize" and position)
        ):
            continue
        if value.is_constant():
            is_bias = value.data.ndim == 1
            step = 0.05 * 0.005 if is_bias else 0.005
            kind = np.int32 if is_bias else np.int8
            kept[name] = numpy_helper.from_array(np.round(value.data / step).clip(-127, 127).astype(kind), name)
            scales = ["bias_scale"] if is_bias else ["small", "zero"]
            nodes.append(
                helper.make_node("DequantizeLinear", [name, *scales], [f"{name}_dq"], name=f"{name}_dequantize")
            )
        else:
            nodes.append(
                helper.make_node("QuantizeLinear", [name, "scale", "zero"], [f"{name}_q"], name=f"{name}_quantize")
            )
            nodes.append(
                helper.make_node(
                    "DequantizeLinear", [f"{name}_q", "scale", "zero"], [f"{name}_dq"], name=f"{name}_dequantize"
                )
            )
        for i, read in enumerate(node.input):
            if read == name:
                node.input[i] = f"{name}_dq"
    ends = []
    for name in node.output:
        ends.append(helper.make_node("QuantizeLinear", [name, "scale", "zero"], [f"{name}_q"], name=f"{name}_quantize"))
        ends.append(
            helper.make_node(
                "DequantizeLinear", [f"{name}_q", "scale", "zero"], [f"{name}_dq"], name=f"{name}_dequantize"
            )
        )
    bias = numpy_helper.from_array(np.asarray(0.05 * 0.005, np.float32), "bias_scale")
    return [*nodes, node, *ends], [f"{name}_dq" for name in node.output], [*kept.values(), scale, small, zero, bias]
