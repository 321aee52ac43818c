"""Which operators run on integers, and behind which tensors a pair stands."""

from collections.abc import Collection
from typing import Any, NamedTuple

from edgewright.compress.network import Network, clip_bounds

# Operators with an integer kernel in most runtimes; the others compute real numbers between two pairs.
COMPUTING = {"Add", "Sub", "Mul", "GlobalAveragePool", "AveragePool", "ReduceMean", "Concat", "Resize", "Relu", "Clip",
             "LeakyRelu", "HardSwish", "HardSigmoid", "Sigmoid"}  # fmt: skip
# Operators that only move numbers: what they give has the steps of what they take.
MOVING = {"MaxPool", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Split", "Pad", "Identity",
          "DepthToSpace", "SpaceToDepth"}  # fmt: skip
FIRST_ONLY = {"Reshape", "Squeeze", "Unsqueeze", "Slice", "Split", "Pad", "Resize", "ReduceMean", "Clip"}
FUSED = {"Relu", "Clip"}


class Regions(NamedTuple):
    """What is quantised.

    Attributes:
        operators: names of the nodes that run on integers.
        tensors: behind each of them stands a pair, in the order in which they are made.
        same: tensor by tensor, the one whose steps it shares because an operator only moved its numbers.
        constants: tensors of constant operands, such as a number that is added.
        fused: an activation's output by the site's output that it stands behind, without a pair between.
    """

    operators: frozenset[str]
    tensors: tuple[str, ...]
    same: dict[str, str]
    constants: tuple[str, ...]
    fused: dict[str, str]


def find_regions(network: Network, kept: Collection[str]) -> Regions:
    """Regions of a network in which the nodes `kept` compute real numbers."""
    operators: set[str] = set()
    whole: set[str] = set()  # tensors made by operators on integers
    for node in network.nodes:
        if node.name in kept or not runs_on_integers(network, node, whole):
            continue
        operators.add(node.name)
        whole.update(name for name in node.output if name)
    fused = find_fused(network, operators)
    wanted: dict[str, None] = {}
    for name in network.inputs:
        if network.is_float(name) and any(reads(network, node, name, operators) for node in network.readers[name]):
            wanted[name] = None
    for node in network.nodes:
        for name in node.output:
            if not name or not network.is_float(name) or name in fused:
                continue
            read = any(reads(network, reader, name, operators) for reader in network.readers[name])
            if read or node.name in operators:
                wanted[name] = None
    same = {
        name: node.input[0]
        for node in network.nodes
        if node.name in operators and node.op_type in MOVING and node.input[0] in wanted
        for name in node.output
        if name in wanted
    }
    constants = [
        name
        for node in network.nodes
        if node.name in operators and node.op_type in COMPUTING
        for name in data_inputs(node)
        if name in network.constants and network.constants[name].dtype == "float32"
    ]
    return Regions(frozenset(operators), tuple(wanted), same, tuple(dict.fromkeys(constants)), fused)


def runs_on_integers(network: Network, node: Any, whole: Collection[str]) -> bool:
    if node.domain not in ("", "ai.onnx"):
        return False
    if node.name in network.sites:
        return True
    if node.op_type not in COMPUTING and node.op_type not in MOVING:
        return False
    data = [name for name in data_inputs(node) if name not in network.constants]
    if not data or not all(network.is_float(name) for name in (*data, *filter(None, node.output[:1]))):
        return False
    if node.op_type in FUSED and clip_bounds(node, network.constants) is None:
        return False
    return any(name in whole or (name in network.inputs and node.op_type in MOVING) for name in data)


def data_inputs(node: Any) -> list[str]:
    """The inputs that are numbers to compute with; the others are parameters."""
    if node.op_type in FIRST_ONLY or node.op_type in ("Conv", "ConvTranspose", "Gemm"):
        return list(node.input[:1])
    return [name for name in node.input if name]


def reads(network: Network, node: Any, name: str, operators: Collection[str]) -> bool:
    return node.name in operators and name in data_inputs(node)


def find_fused(network: Network, operators: Collection[str]) -> dict[str, str]:
    """Outputs of sites that only an activation reads, which runtimes compute in one go with the site."""
    found = {}
    for site in network.sites.values():
        readers = network.readers.get(site.output, [])
        if site.node in operators and len(readers) == 1 and site.output not in network.outputs:
            node = readers[0]
            if node.op_type in FUSED and node.name in operators:
                found[site.output] = node.output[0]
    return found
