"""The quantized graph: Q/DQ pairs at activations, integer weights and biases with DequantizeLinear."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np

from edgewright.formats.neighbors import find_producers, find_read_names, find_readers
from edgewright.formats.onnx.attributes import keep_only
from edgewright.formats.onnx.constants import add_initializers, list_inputs_without_constants
from edgewright.formats.onnx.fold import SMALL
from edgewright.formats.onnx.normalize.weights import WeightNode
from edgewright.quantization.network import FloatNetwork
from edgewright.quantization.static.qdq import TensorQuantParams, insert_qdq_pairs
from edgewright.quantization.static.reconstruct import QuantizedWeights
from edgewright.schema.arrays import Array

BIAS_LIMIT = 2**31 - 1
LOWEST = "edgewright/lowest"
FOUR_BIT_OPSET = 21  # the first in which DequantizeLinear takes INT4, and QuantizeLinear 16 bits


def write_qdq(
    network: FloatNetwork,
    tensor_params: Mapping[str, TensorQuantParams],
    stored: Mapping[str, QuantizedWeights],
    operands: Mapping[str, TensorQuantParams],
) -> Any:
    """Return the model with integer weights for each site of `stored`, and a Q/DQ pair after each tensor of
    `tensor_params`.

    A site with a quantized input gets its bias as int32 with the scale of input × weights, as integer kernels require;
    any other keeps a float bias.

    Args:
        operands: parameters of constant operands, which are stored as integers too.
    """

    nodes, constants = insert_qdq_pairs(network.nodes, network.inputs, tensor_params, network.outputs)
    constants = {**network.constants, **constants}
    packed: dict[str, Any] = {}
    front: list[Any] = []
    for name, own in operands.items():
        front.append(_store_operand(name, constants.pop(name), own, constants))
    by_name = {node.name: node for node in nodes}
    for name, one in stored.items():
        weight_node = network.weight_nodes[name]
        front += _store_weights(weight_node, one, by_name[name], tensor_params, constants, packed)
    for node in nodes:
        for at, name in enumerate(node.input):
            if name in operands:
                node.input[at] = f"{name}/dq"
    model = network.graph.to_message(SMALL)
    graph = model.graph
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend([*front, *nodes])
    read = find_read_names(graph.node) | set(network.outputs)
    add_initializers(graph, {name: array for name, array in constants.items() if name in read})
    graph.initializer.extend(packed.values())
    _drop_stale_inputs(graph)
    model.producer_name, model.producer_version = "edgewright", ""
    return (
        model
        if network.opset >= _find_needed_opset(tensor_params, stored)
        else _raise_opset(model, _find_needed_opset(tensor_params, stored))
    )


def _store_operand(name: str, array: Array, tensor_params: TensorQuantParams, constants: dict[str, Array]) -> Any:
    from onnx import helper

    limits = np.iinfo(tensor_params.zero.dtype)
    values = np.clip(np.rint(array / tensor_params.scale) + float(tensor_params.zero), limits.min, limits.max).astype(
        tensor_params.zero.dtype
    )
    constants |= {f"{name}/q": values, f"{name}/scale": tensor_params.scale, f"{name}/zero": tensor_params.zero}
    return helper.make_node(
        "DequantizeLinear", [f"{name}/q", f"{name}/scale", f"{name}/zero"], [f"{name}/dq"], name=f"{name}/dequantize"
    )


def _store_weights(
    weight_node: WeightNode,
    stored: QuantizedWeights,
    node: Any,
    tensor_params: Mapping[str, TensorQuantParams],
    constants: dict[str, Array],
    packed: dict[str, Any],
) -> list[Any]:
    """Return the DequantizeLinear nodes of a site's weights and bias, which `node` then reads."""
    own = f"{weight_node.node}/weights"  # named after the site: two sites may share one tensor
    front = [_make_dequantize_node(own, stored.scale, stored.axis, constants)]
    if stored.bits == 4:
        packed[f"{own}/q"] = pack_four_bits(f"{own}/q", stored.values)
        constants.pop(f"{own}/zero")
        del front[0].input[2]
    else:
        constants[f"{own}/q"] = stored.values
    node.input[1] = f"{own}/dq"
    if weight_node.op == "MatMul":
        return front
    name = f"{weight_node.node}/bias"
    source = tensor_params.get(weight_node.input)
    if source is None or stored.bits == 4:
        if weight_node.bias or np.any(stored.bias):
            constants[name] = stored.bias
            _set_bias(node, name)
        return front
    scale = (source.scale.astype(np.float32) * stored.scale).astype(np.float32)
    values = np.clip(np.rint(stored.bias.astype(np.float64) / np.maximum(scale, 1e-30)), -BIAS_LIMIT, BIAS_LIMIT)
    front.append(_make_dequantize_node(name, scale, 0, constants, np.int32))
    constants[f"{name}/q"] = values.astype(np.int32)
    _set_bias(node, f"{name}/dq")
    return front


def _make_dequantize_node(
    name: str, scale: Array, axis: int, constants: dict[str, Array], dtype: type[np.signedinteger[Any]] = np.int8
) -> Any:
    from onnx import helper

    constants[f"{name}/scale"], constants[f"{name}/zero"] = scale, np.zeros(scale.shape, dtype)
    parameters = [f"{name}/q", f"{name}/scale", f"{name}/zero"]
    return helper.make_node("DequantizeLinear", parameters, [f"{name}/dq"], name=f"{name}/dequantize", axis=axis)


def _set_bias(node: Any, name: str) -> None:
    del node.input[2:]
    node.input.append(name)


def pack_four_bits(name: str, values: Array) -> Any:
    """Return an INT4 tensor: two numbers a byte, the first in the low half."""
    from onnx import TensorProto

    flat = values.reshape(-1).astype(np.int8)
    flat = np.append(flat, np.zeros(flat.size % 2, np.int8))
    halves = (flat & 0x0F).astype(np.uint8)
    raw = (halves[0::2] | (halves[1::2] << 4)).tobytes()
    return TensorProto(name=name, data_type=TensorProto.INT4, dims=values.shape, raw_data=raw)


def _drop_stale_inputs(graph: Any) -> None:
    """Remove the constants from the graph inputs, where old exporters list them."""
    used = find_read_names(graph.node)
    inputs = list_inputs_without_constants(graph)
    keep_only(graph.input, [one for one in inputs if one.name in used or one.type.tensor_type.shape.dim])


def _find_needed_opset(tensor_params: Mapping[str, TensorQuantParams], stored: Mapping[str, QuantizedWeights]) -> int:
    wide = any(one.zero.dtype.itemsize > 1 for one in tensor_params.values())
    if wide or any(one.bits == 4 for one in stored.values()):
        return FOUR_BIT_OPSET
    return 13  # the first in which QuantizeLinear has an axis


def _raise_opset(model: Any, opset: int) -> Any:
    """Return the same model in a newer opset. Pairs keep their text: only the other operators are converted."""
    import onnx

    return onnx.version_converter.convert_version(model, opset)


def protect_float_layers(model: Any) -> Any | None:
    """Return a copy for ONNX Runtime, in which layers with float weights between two pairs stay as they are; None
    if there are none.

    ONNX Runtime (1.31, WeightBiasQuantization) rounds such weights itself, with one scale for all of them. A Max with
    the lowest number before the QuantizeLinear changes no value and prevents that.
    """
    from onnx import helper

    producers = {name: node.op_type for name, node in find_producers(model.graph.node).items()}
    constants = {one.name for one in model.graph.initializer}
    consumers = find_readers(model.graph.node)
    ends = []
    for node in model.graph.node:
        layer = node.op_type in ("Conv", "ConvTranspose", "Gemm")
        if layer and node.input[1] in constants and producers.get(node.input[0]) == "DequantizeLinear":
            end = node
            while len(consumers.get(end.output[0], [])) == 1 and consumers[end.output[0]][0].op_type in (
                "Relu",
                "Clip",
            ):
                end = consumers[end.output[0]][0]
            ends += (
                [end.output[0]]
                if any(one.op_type == "QuantizeLinear" for one in consumers.get(end.output[0], []))
                else []
            )
    if not ends:
        return None
    guarded = deepcopy(model)
    add_initializers(guarded.graph, {LOWEST: np.asarray(np.finfo(np.float32).min, np.float32)})
    nodes = []
    for node in guarded.graph.node:
        for at, name in enumerate(node.input):
            if name in ends and node.op_type == "QuantizeLinear":
                node.input[at] = f"{name}/guarded"
        nodes.append(node)
        nodes += [
            helper.make_node("Max", [name, LOWEST], [f"{name}/guarded"], name=f"{name}/guard")
            for name in node.output
            if name in ends
        ]
    keep_only(guarded.graph.node, nodes)
    return guarded
