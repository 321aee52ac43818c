"""Operators without weights that are kept in float together: those of an expanded function, such as GELU or a layer
normalization, would each round its intermediate values.
"""

from collections.abc import Collection, Set

from edgewright.quantization.network import FloatNetwork
from edgewright.quantization.static.scope import (
    COMPUTE_OPS,
    DATA_MOVEMENT_OPS,
    FUSED_OPS,
    QuantizationScope,
)

FLOAT_KERNEL_OPS = frozenset(
    {"HardSwish", "HardSigmoid"}
)  # of COMPUTE_OPS, those without an integer kernel in most runtimes


def list_unweighted(network: FloatNetwork, scope: QuantizationScope) -> set[str]:
    """Return the operators that compute in integers without weights, except activations fused with a weight node."""
    fused = set(scope.fused.values())
    return {
        node.name
        for node in network.nodes
        if node.name in scope.operators
        and node.op_type in COMPUTE_OPS
        and not (node.op_type in FUSED_OPS and node.output[0] in fused)
    }


def list_expanded(network: FloatNetwork, scope: QuantizationScope, lacking: Collection[str] = frozenset()) -> set[str]:
    """Return the operators of `list_unweighted` that are connected with one that has no integer kernel.

    Args:
        lacking: operators of the scope without an integer kernel, besides all operators outside of the scope.
    """
    open_ones = list_unweighted(network, scope)
    border = {
        node.name
        for node in network.nodes
        if node.name not in network.weight_nodes
        and node.op_type not in DATA_MOVEMENT_OPS
        and (node.op_type in lacking or node.op_type not in COMPUTE_OPS)
    }
    found = open_ones & border
    waiting = list(border)
    while waiting:
        for name in _list_neighbors(network, waiting.pop()) & open_ones - found:
            found.add(name)
            waiting.append(name)
    return found


def _list_neighbors(network: FloatNetwork, name: str) -> Set[str]:
    """Return the names of the nodes that write or read a tensor of this node."""
    node = network.node(name)
    written = {network.producer[one].name for one in node.input if one in network.producer}
    return written | {one.name for out in node.output for one in network.consumers.get(out, ())}
