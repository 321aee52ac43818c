"""The float graph of a QDQ model in a form that MNN's converter handles correctly.

These faults were observed with MNN 3.6.1 on x86-64: products lose their weights in the conversion to INT8, the INT8
kernel of MaxPool reads negative numbers as large ones, and that of AveragePool truncates instead of rounding.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np

from edgewright.formats.neighbors import find_producers
from edgewright.formats.onnx.attributes import keep_only, read_attribute
from edgewright.formats.onnx.constants import add_initializers, read_array, read_static_shapes
from edgewright.formats.onnx.qdq import ActivationQuantParams, ExtractedFloatModel
from edgewright.runtimes.mnn.conversion.int8 import CONVERTED, MnnInt8Layer

# Operators through which MNN propagates quantization parameters to the tensor before them.
PROPAGATING = ("Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")
RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose")
POOLS = ("MaxPool", "AveragePool", "GlobalAveragePool")
PRODUCTS = ("Gemm", "MatMul")


def prepare_int8_graph(extracted: ExtractedFloatModel, layers: Sequence[MnnInt8Layer]) -> Any:
    """Return the float graph as an ONNX model; `extracted` is not changed."""
    model = deepcopy(extracted.model)
    _separate_float_inputs(model.graph, extracted, layers)
    _remove_redundant_bounds(model.graph, layers)
    _keep_pools_in_float(model.graph, extracted.output_params)
    _convert_products(model.graph, {layer.node for layer in layers})
    return model


def _remove_redundant_bounds(graph: Any, layers: Iterable[MnnInt8Layer]) -> None:
    """Remove the bounds that are also the limits of INT8 layers' integers."""
    producers = find_producers(graph.node)
    graph_outputs = {value.name for value in graph.output}
    for layer in layers:
        inner, *behind = layer.tensors
        if behind and inner not in graph_outputs and _is_own_bound(producers[behind[0]], layer.output_params, graph):
            producers[inner].output[0] = behind[0]
            graph.node.remove(producers[behind[0]])


def _separate_float_inputs(graph: Any, extracted: ExtractedFloatModel, layers: Sequence[MnnInt8Layer]) -> None:
    """Insert a maximum with the range's lower end between a float activation or pool and the layer that reads it.

    That changes no value, and stops the propagation of the layer's quantization parameters to the tensor before.
    """
    known = {*extracted.output_params, *(tensor for layer in layers for tensor in layer.tensors)}
    producers = find_producers(graph.node)
    for source, quant_params in {layer.source: layer.input_params for layer in layers}.items():
        if not _is_behind_float(source, producers, known):
            continue
        producer = producers[source]
        producer.output[0] = f"{source}__float"
        place = next(at for at, node in enumerate(graph.node) if node.output[0] == producer.output[0])
        graph.node.insert(place + 1, _at_least(graph, producer.output[0], source, quant_params.floor))


def _is_behind_float(tensor: str, producers: Mapping[str, Any], known: Collection[str]) -> bool:
    """Return whether an activation or pool of a float tensor made this one, directly or before it was reshaped."""
    while (producer := producers.get(tensor)) is not None and producer.op_type in (*PROPAGATING, *RESHAPES):
        if producer.input[0] in known:
            return False
        if producer.op_type in PROPAGATING:
            return True
        tensor = producer.input[0]
    return False


def _is_own_bound(node: Any, quant_params: ActivationQuantParams, graph: Any) -> bool:
    """Return whether a Clip has the bounds of the quantization range."""
    if node.op_type != "Clip" or len(node.input) < 3:
        return False
    ends = [one for name in node.input[1:3] for one in graph.initializer if one.name == name]
    given = [read_array(one).item() for one in ends]  # some exporters add an axis
    return len(given) == 2 and bool(np.allclose(given, (quant_params.floor, quant_params.ceiling)))


def _keep_pools_in_float(graph: Any, output_params: Mapping[str, ActivationQuantParams]) -> None:
    """Insert a maximum with the range's lower end before and after each pool of a quantized tensor.

    That changes no value. MNN propagates quantization parameters through pools, and also through a Clip, from either
    side, but not through a maximum. So the pool's tensors have no quantization parameters, and it runs in
    float.
    """
    nodes = []
    for node in graph.node:
        quant_params = output_params.get(node.input[0]) if node.op_type in POOLS else None
        if quant_params is None:
            nodes.append(node)
            continue
        source, result = node.input[0], node.output[0]
        node.input[0], node.output[0] = f"{result}__before", f"{result}__behind"
        nodes += [
            _at_least(graph, source, node.input[0], quant_params.floor),
            node,
            _at_least(graph, node.output[0], result, quant_params.floor),
        ]
    keep_only(graph.node, nodes)


def _at_least(graph: Any, source: str, result: str, least: float) -> Any:
    from onnx import helper

    name = f"{result}__least"
    add_initializers(graph, {name: np.asarray(least, np.float32)})
    return helper.make_node("Max", [source, name], [result], name=f"{result}__bound")


def _convert_products(graph: Any, quantized: Iterable[str]) -> None:
    """Replace each quantized product with a matrix by a 1×1 convolution, as MNN does too."""
    names = set(quantized)
    sizes = read_static_shapes(graph)
    nodes = []
    for node in graph.node:
        transposed = node.op_type in PRODUCTS and node.name in names
        nodes += _as_convolution(graph, node, sizes.get(node.output[0], ())) if transposed else [node]
    keep_only(graph.node, nodes)


def _as_convolution(graph: Any, node: Any, sizes: Sequence[int]) -> list[Any]:
    from onnx import helper

    result, held = node.output[0], next(one for one in graph.initializer if one.name == node.input[1])
    matrix = read_array(held)
    transposed = node.op_type == "Gemm" and bool(read_attribute(node, "transB"))
    matrix = np.ascontiguousarray(matrix if transposed else matrix.T)
    outputs, inputs = matrix.shape
    flat, made = f"{result}__flat", f"{result}{CONVERTED}"
    constants = {
        f"{result}__matrix": matrix.reshape(outputs, inputs, 1, 1),
        f"{result}__into": np.array([-1, inputs, 1, 1], np.int64),
        f"{result}__back": np.array([*sizes[:-1], outputs] if len(sizes) > 2 else [-1, outputs], np.int64),
    }
    add_initializers(graph, constants)
    weights, into, back = constants
    return [
        helper.make_node("Reshape", [node.input[0], into], [flat], name=f"{node.name}__into"),
        helper.make_node("Conv", [flat, weights, *node.input[2:]], [made], name=node.name, kernel_shape=[1, 1]),
        helper.make_node("Reshape", [made, back], [result], name=f"{node.name}__back"),
    ]
