"""Operators that run in integer arithmetic, and tensors with a Q/DQ pair."""

from collections.abc import Collection
from typing import Any, NamedTuple

from edgewright.formats.onnx.attributes import OWN_DOMAINS
from edgewright.quantization.network import FloatNetwork, get_clip_bounds

# Operators with an integer kernel in most runtimes; the others compute floats between two pairs.
COMPUTE_OPS = {"Add", "Sub", "Mul", "GlobalAveragePool", "AveragePool", "ReduceMean", "Concat", "Resize", "Relu",
               "Clip",
             "LeakyRelu", "HardSwish", "HardSigmoid", "Sigmoid"}  # fmt: skip
# Data movement operators: their outputs have the quantization parameters of their inputs.
DATA_MOVEMENT_OPS = {"MaxPool", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Split",
                     "Pad", "Identity",
          "DepthToSpace", "SpaceToDepth"}  # fmt: skip
FIRST_INPUT_OPS = {"Reshape", "Squeeze", "Unsqueeze", "Slice", "Split", "Pad", "Resize", "ReduceMean", "Clip"}
FUSED_OPS = {"Relu", "Clip"}


class QuantizationScope(NamedTuple):
    """What is quantized.

    Attributes:
        operators: names of the nodes that run in integer arithmetic.
        tensors: tensors with a Q/DQ pair, in the order in which they are computed.
        shared_params: for each output of a data movement operator, the tensor whose parameters it has.
        constants: constant operands, such as a number that is added.
        fused: an activation's output by the site's output that it reads, without a pair between.
    """

    operators: frozenset[str]
    tensors: tuple[str, ...]
    shared_params: dict[str, str]
    constants: tuple[str, ...]
    fused: dict[str, str]


def find_quantization_scope(network: FloatNetwork, kept: Collection[str]) -> QuantizationScope:
    """Return the scope of a network in which the nodes `kept` compute floats."""
    operators: set[str] = set()
    integer_tensors: set[str] = set()  # outputs of operators that run in integer arithmetic
    for node in network.nodes:
        if node.name in kept or not _runs_on_integers(network, node, integer_tensors):
            continue
        operators.add(node.name)
        integer_tensors.update(name for name in node.output if name)
    fused = _find_fused_activations(network, operators)
    wanted: dict[str, None] = {}
    for name in network.inputs:
        if network.is_float(name) and any(
            _is_data_input(network, node, name, operators) for node in network.consumers.get(name, ())
        ):
            wanted[name] = None
    for node in network.nodes:
        for name in node.output:
            if not name or not network.is_float(name) or name in fused:
                continue
            read = any(_is_data_input(network, one, name, operators) for one in network.consumers.get(name, ()))
            if read or node.name in operators:
                wanted[name] = None
    shared_params = {
        name: node.input[0]
        for node in network.nodes
        if node.name in operators and node.op_type in DATA_MOVEMENT_OPS and node.input[0] in wanted
        for name in node.output
        if name in wanted
    }
    constants = [
        name
        for node in network.nodes
        if node.name in operators and node.op_type in COMPUTE_OPS
        for name in _get_data_inputs(node)
        if name in network.constants and network.constants[name].dtype == "float32"
    ]
    return QuantizationScope(frozenset(operators), tuple(wanted), shared_params, tuple(dict.fromkeys(constants)), fused)


def find_output_concats(network: FloatNetwork, operators: Collection[str]) -> list[Any]:
    """Return the Concats whose output reaches outputs of the model only by data movement."""

    def reaches_only_outputs(name: str) -> bool:
        consumers = network.consumers.get(name, [])
        return (name in network.outputs or bool(consumers)) and all(
            node.op_type in DATA_MOVEMENT_OPS and all(map(reaches_only_outputs, filter(None, node.output)))
            for node in consumers
        )

    return [
        node
        for node in network.nodes
        if node.op_type == "Concat" and node.name in operators and reaches_only_outputs(node.output[0])
    ]


def _runs_on_integers(network: FloatNetwork, node: Any, integer_tensors: Collection[str]) -> bool:
    if node.domain not in OWN_DOMAINS:
        return False
    if node.name in network.weight_nodes:
        return True
    if node.op_type not in COMPUTE_OPS and node.op_type not in DATA_MOVEMENT_OPS:
        return False
    data = [name for name in _get_data_inputs(node) if name not in network.constants]
    if not data or not all(network.is_float(name) for name in (*data, *filter(None, node.output[:1]))):
        return False
    if node.op_type in FUSED_OPS and get_clip_bounds(node, network.constants) is None:
        return False
    return any(
        name in integer_tensors or (name in network.inputs and node.op_type in DATA_MOVEMENT_OPS) for name in data
    )


def _get_data_inputs(node: Any) -> list[str]:
    """Return the data inputs of a node, without its parameters."""
    if node.op_type in FIRST_INPUT_OPS or node.op_type in ("Conv", "ConvTranspose", "Gemm"):
        return list(node.input[:1])
    return [name for name in node.input if name]


def _is_data_input(network: FloatNetwork, node: Any, name: str, operators: Collection[str]) -> bool:
    return node.name in operators and name in _get_data_inputs(node)


def _find_fused_activations(network: FloatNetwork, operators: Collection[str]) -> dict[str, str]:
    """Return the outputs of sites that only an activation reads, which runtimes fuse with the site."""
    found = {}
    for weight_node in network.weight_nodes.values():
        consumers = network.consumers.get(weight_node.output, [])
        if weight_node.node in operators and len(consumers) == 1 and weight_node.output not in network.outputs:
            node = consumers[0]
            if node.op_type in FUSED_OPS and node.name in operators:
                found[weight_node.output] = node.output[0]
    return found
