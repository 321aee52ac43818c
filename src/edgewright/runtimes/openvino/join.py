"""Mapping of OpenVINO's executed operators to nodes of the source graph."""

import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from edgewright.formats.neighbors import find_producers, find_upstream
from edgewright.runtimes.openvino.profiler import ExecutedOperator, OpenvinoOperator
from edgewright.schema.model import GraphNode

# Operators that OpenVINO inserts between different layouts or types. They compute no source node.
BETWEEN = ("Reorder", "Convert")
PORT = re.compile(r"\.\d+$")  # suffix of the name of an operator with several outputs


def find_source_nodes(
    executed: Sequence[ExecutedOperator], operators: Sequence[OpenvinoOperator], graph: Sequence[GraphNode]
) -> list[tuple[str, ...]]:
    """Return for each executed operator the names of the source nodes that it computes, in the source's order.

    OpenVINO reports the file's operators that each one computes; these are mapped to the source by the tensors' names,
    which the file keeps. An operator that OpenVINO created is a part of the next ones downstream, so a normalization
    has several rows. Source nodes without an operator were folded into the readers of their outputs, or
    dropped because they compute nothing.
    """
    named = _name_sources(operators, graph)
    direct = [_find_named(one.originals, named) for one in executed]
    claimed = {node for nodes in direct for node in nodes}
    order = {node.name: place for place, node in enumerate(graph)}
    result = []
    for place, one in enumerate(executed):
        nodes = direct[place] | _folded_into(direct[place], claimed, graph)
        claimed |= nodes
        if not nodes and one.kind not in BETWEEN:
            nodes = _next_downstream(place, executed, direct)
        result.append(tuple(sorted(nodes, key=order.__getitem__)))
    return result


def _find_named(originals: str, named: Mapping[str, set[str]]) -> set[str]:
    names = split_names(originals, named)
    return {node for name in names for node in named.get(name, set()) or named.get(PORT.sub("", name), set())}


def _next_downstream(place: int, executed: Sequence[ExecutedOperator], direct: Sequence[set[str]]) -> set[str]:
    """Return the source nodes of the nearest downstream operators that have any."""
    seen, left, found = {place}, deque([place]), set[str]()
    while left:
        for reader in executed[left.popleft()].readers:
            found |= direct[reader]
            if not direct[reader] and reader not in seen:
                seen.add(reader)
                left.append(reader)
    return found


def _name_sources(operators: Sequence[OpenvinoOperator], graph: Sequence[GraphNode]) -> dict[str, set[str]]:
    """Return the source nodes by the names of the file's operators."""
    producers = {tensor: node.name for tensor, node in find_producers(graph).items()}
    found: dict[str, set[str]] = {}
    for place, operator in enumerate(operators):
        found.setdefault(operator.name, set()).update(_find_sources(place, operators, producers))
    return found


def _find_sources(place: int, operators: Sequence[OpenvinoOperator], producers: Mapping[str, str]) -> set[str]:
    """Return the nodes that compute the operator's tensors; without such tensors, it is a part of the next ones
    downstream.
    """
    seen, left, found = {place}, deque([place]), set[str]()
    while left:
        operator = operators[left.popleft()]
        own = {producers[tensor] for tensor in operator.tensors if tensor in producers}
        found |= own
        if own or operator.tensors:  # tensors without a producer are inputs and weights
            continue
        left.extend(reader for reader in operator.readers if reader not in seen)
        seen.update(operator.readers)
    return found


def split_names(text: str, known: Iterable[str]) -> list[str]:
    """Return the names in a comma-separated list of names that may contain commas: the longest known one at each
    position."""
    known = set(known)
    parts = text.split(",")
    names, place = [], 0
    while place < len(parts):
        ends = [end for end in range(len(parts), place, -1) if ",".join(parts[place:end]) in known]
        end = ends[0] if ends else place + 1
        names.append(",".join(parts[place:end]))
        place = end
    return [name for name in names if name]


def _folded_into(nodes: set[str], claimed: set[str], graph: Sequence[GraphNode]) -> set[str]:
    """Return the unclaimed source nodes upstream of `nodes`, up to the next claimed ones."""
    producers = {tensor: node for tensor, node in find_producers(graph).items() if node.name not in claimed}
    ends = [tensor for node in graph if node.name in nodes for tensor in node.inputs]
    return {node.name for node in find_upstream(ends, producers)}
